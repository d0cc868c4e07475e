"""Whether the heads of a type add up in every dtype, behind every kernel that can be watched."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass

import torch

from architectures.shrink import small_model
from architectures.sweep import claimed
from headpursuit.errors import HeadPursuitError
from headpursuit.model.selfcheck import proven

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
KERNELS = ("eager", "sdpa")


@dataclass(frozen=True)
class Outcome:
    """One type in one dtype behind one kernel.

    Attributes:
        type: the configuration's ``model_type``.
        dtype: such as ``bfloat16``.
        kernel: ``eager`` or ``sdpa``.
        offered: whether transformers builds the type with that kernel.
        reason: why it is refused; empty where its heads are proven.
    """

    type: str
    dtype: str
    kernel: str
    offered: bool
    reason: str


def examine_dtypes(model_type: str, mapping: str) -> list[Outcome]:
    """Prove a type's heads in every dtype behind every kernel."""
    outcomes = []
    for dtype, kernel in itertools.product(DTYPES, KERNELS):
        offered, reason = True, ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                hf = small_model(model_type, mapping, attn_implementation=kernel)
            except ValueError as error:
                offered, reason = False, str(error).strip().partition("\n")[0]
            else:
                try:
                    proven(claimed(hf.to(dtype), model_type, "text"))
                except HeadPursuitError as error:
                    reason = str(error)
        outcomes.append(Outcome(model_type, str(dtype).removeprefix("torch."), kernel, offered, reason))
    return outcomes
