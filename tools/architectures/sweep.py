"""One row of the table: build a tiny model of a type, find its heads, hold it to the contracts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from architectures.contracts import BrokenContractError, check_all
from architectures.shrink import small_model
from headpursuit.errors import HeadPursuitError
from headpursuit.model.finding import find_anatomy
from headpursuit.model.head_model import HeadModel, ModelSource
from headpursuit.model.selfcheck import proven


@dataclass(frozen=True)
class Row:
    type: str
    mapping: str
    state: str
    reason: str = ""


def examine(model_type: str, mapping: str) -> Row:
    try:
        hf = small_model(model_type, mapping)
    except Exception as error:
        return Row(model_type, mapping, "unbuilt", f"{type(error).__name__}: {error}".splitlines()[0][:200])
    try:
        anatomy = find_anatomy(hf)
        source = ModelSource(id=model_type, revision=None, architecture=type(hf).__name__, folder=None)
        model = HeadModel(hf=hf, processor=None, anatomy=anatomy, source=source)
        model = replace(model, anatomy=proven(model))
    except HeadPursuitError as error:
        return Row(model_type, mapping, "refused", str(error))
    try:
        check_all(model)
    except BrokenContractError as error:
        return Row(model_type, mapping, "broken", str(error))
    return Row(
        model_type,
        mapping,
        "partly" if model.anatomy.skipped else "supported",
        "; ".join(sorted({o.reason for o in model.anatomy.skipped})),
    )
