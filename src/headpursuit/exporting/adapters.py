"""An edit as a PEFT adapter beside an unchanged model: exactly a LoRA, or exactly an IA3.

Both are written as PEFT reads them, so that PEFT is not needed to make one. A LoRA of rank (edited heads × head width) picks
the edited columns of the projection's input and adds ``(α − 1) W_h``; IA3 with the projection as a feed-forward module scales
the input itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.projections import EditedProjection, ExportSource
from headpursuit.files import write_json
from headpursuit.model.checkpoint_files import write_tensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# vLLM serves no LoRA of a higher rank.
SERVING_RANK = 512
_PREFIX = "base_model.model."


def write_lora(draft: Path, source: ExportSource, edited: Sequence[EditedProjection], *, max_rank: int) -> int:
    """Write a LoRA that is the edit, with one rank for all its modules.

    One rank, filled up with zeros where a layer needs less, is read alike by everything that takes PEFT's files; ranks of
    their own would be scaled differently by those that know only one.

    Returns:
        The rank.

    Raises:
        HeadPursuitError: it would be above ``max_rank``.
    """
    worst = max(edited, key=lambda one: len(one.changed))
    rank, width = len(worst.changed), worst.layer.head_width
    if rank > max_rank:
        raise HeadPursuitError(
            f"L{worst.layer.index} needs a LoRA of rank {rank} ({rank // width} heads × width {width}), above the limit of "
            f"{max_rank}: export a checkpoint or IA3, edit at most {max_rank // width} heads of a layer, or raise the limit "
            "(--max-rank) for servers that allow it"
        )
    own = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "bias": "none"}
    _write(draft, source, edited, adapter_tensors(edited, format="lora"), own)
    return rank


def write_ia3(draft: Path, source: ExportSource, edited: Sequence[EditedProjection]) -> None:
    """Write an IA3 that is the edit."""
    own = {"peft_type": "IA3", "feedforward_modules": _names(edited)}
    _write(draft, source, edited, adapter_tensors(edited, format="ia3"), own)


def adapter_tensors(edited: Sequence[EditedProjection], *, format: str) -> dict[str, Tensor]:
    """The tensors of an adapter, ``lora`` or ``ia3``, by their names in PEFT's file."""
    if format == "ia3":
        return {f"{_PREFIX}{one.layer.projection}.ia3_l": one.columns[None].clone() for one in edited}
    rank = max(len(one.changed) for one in edited)
    tensors: dict[str, Tensor] = {}
    for one in edited:
        weight, chosen = one.weight(), one.changed
        picks = torch.zeros(rank, weight.shape[1], dtype=weight.dtype)
        picks[torch.arange(len(chosen)), chosen] = 1
        writes = torch.zeros(weight.shape[0], rank, dtype=weight.dtype)
        wide = weight[:, chosen].to(torch.promote_types(weight.dtype, torch.float32))
        writes[:, : len(chosen)] = (wide * (one.columns[chosen] - 1).to(wide.dtype)).to(weight.dtype)
        tensors[f"{_PREFIX}{one.layer.projection}.lora_A.weight"] = picks
        tensors[f"{_PREFIX}{one.layer.projection}.lora_B.weight"] = writes
    return tensors


def _write(
    draft: Path, source: ExportSource, edited: Sequence[EditedProjection], tensors: dict[str, Tensor], own: dict[str, Any]
) -> None:
    base = source.hub_id or (None if source.path is None else str(source.path.resolve()))
    config = {
        **own,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": source.identity["revision"],
        "target_modules": _names(edited),
        "fan_in_fan_out": edited[0].input_first,
        "inference_mode": True,
    }
    write_json(draft / CONFIG, config)
    write_tensors(draft / WEIGHTS, tensors, metadata={"format": "pt"})


def _names(edited: Sequence[EditedProjection]) -> list[str]:
    # Whole paths, since an image tower's projections may be called the same.
    return [one.layer.projection for one in edited]
