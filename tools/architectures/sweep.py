"""One row of the table: build a tiny model of a type, find its heads, hold it to the contracts."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging

from architectures.contracts import BrokenContractError, check_all
from architectures.shrink import MAPPINGS, small_model
from headpursuit.errors import HeadPursuitError
from headpursuit.model.architectures import PARTLY, REFUSED, SUPPORTED, UNTESTED, Architecture
from headpursuit.model.finding import find_anatomy
from headpursuit.model.head_model import HeadModel, ModelSource
from headpursuit.model.selfcheck import proven


def examine(model_type: str, mapping: str) -> Architecture:
    """Find out what holds for a type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hf = small_model(model_type, mapping)
    except Exception as error:
        return _row(
            model_type, mapping, UNTESTED, f"no tiny model can be built from its configuration: {_first_line(error)}"
        )
    reasons: list[str] = []
    parts: list[str] = []
    for part in ("text", "cross"):
        try:
            claimed = find_anatomy(hf, part=part)
        except HeadPursuitError as error:
            if part == "text":
                return _row(model_type, mapping, REFUSED, str(error))
            continue
        source = ModelSource(id=model_type, revision=None, architecture=type(hf).__name__, folder=None)
        model = HeadModel(hf=hf, processor=None, anatomy=claimed, source=source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = model.with_anatomy(proven(model))
                check_all(model)
        except HeadPursuitError as error:
            if part == "text":
                return _row(model_type, mapping, REFUSED, str(error))
            reasons.append(f'part="cross": {error}')
            continue
        except BrokenContractError as error:
            return _row(model_type, mapping, PARTLY, f"broken: {error}")
        except Exception as error:
            return _row(
                model_type, mapping, UNTESTED, f"transformers does not run it on made-up inputs: {_first_line(error)}"
            )
        parts.append(part)
        reasons.extend(sorted({layer.reason for layer in model.anatomy.skipped}))
    if reasons:
        return _row(model_type, mapping, PARTLY, ", ".join(reasons))
    return _row(
        model_type, mapping, SUPPORTED, 'cross-attention has heads too: part="cross"' if "cross" in parts else ""
    )


def examine_all() -> Iterator[Architecture]:
    """Every type of both mappings, in the mappings' order."""
    transformers_logging.set_verbosity(logging.CRITICAL)
    for mapping, names in MAPPINGS.items():
        for model_type in names:
            yield examine(model_type, mapping)


def _row(model_type: str, mapping: str, state: str, reason: str) -> Architecture:
    return Architecture(type=model_type, mapping=mapping, state=state, reason=reason)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:160]}" if lines else type(error).__name__
