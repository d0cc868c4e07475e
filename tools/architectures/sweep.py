"""One row of the table: build a tiny model of a type, find its heads, hold it to the contracts."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import torch
from transformers.utils import logging as transformers_logging

from architectures.contracts import BrokenContractError, check_all
from architectures.shrink import small_model
from headpursuit.errors import HeadPursuitError
from headpursuit.model.architectures import PARTLY, REFUSED, SUPPORTED, UNTESTED, Architecture
from headpursuit.model.finding import find_anatomy
from headpursuit.model.head_model import HeadModel
from headpursuit.model.loaded import ModelSource
from headpursuit.model.selfcheck import proven

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headpursuit.model.heads import Part


def examine(model_type: str, mapping: str) -> Architecture:
    """Find out what holds for a type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hf = small_model(model_type, mapping)
    except Exception as error:
        return _row(model_type, mapping, UNTESTED, f"no tiny model can be built from its configuration: {_first_line(error)}")
    reasons: list[str] = []
    parts: list[str] = []
    both: tuple[Part, ...] = ("text", "cross")
    for part in both:
        try:
            model = claimed(hf, model_type, part)
        except HeadPursuitError as error:
            if part == "text":
                return _row(model_type, mapping, REFUSED, str(error))
            continue
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
            return _row(model_type, mapping, UNTESTED, f"transformers does not run it on made-up inputs: {_first_line(error)}")
        parts.append(part)
        reasons.extend(sorted({layer.reason for layer in model.anatomy.skipped}))
    if reasons:
        return _row(model_type, mapping, PARTLY, ", ".join(reasons))
    return _row(model_type, mapping, SUPPORTED, 'cross-attention has heads too: part="cross"' if "cross" in parts else "")


def claimed(hf: PreTrainedModel, model_type: str, part: Part) -> HeadModel:
    """A model without a processor, seen with the heads that it seems to have."""
    source = ModelSource(id=model_type, revision=None, architecture=type(hf).__name__, folder=None)
    return HeadModel(hf=hf, processor=None, anatomy=find_anatomy(hf, part=part), source=source)


def quiet() -> None:
    """What a process does before it examines types."""
    torch.set_num_threads(1)
    transformers_logging.set_verbosity(logging.CRITICAL)


def _row(model_type: str, mapping: str, state: str, reason: str) -> Architecture:
    return Architecture(type=model_type, mapping=mapping, state=state, reason=reason)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:160]}" if lines else type(error).__name__
