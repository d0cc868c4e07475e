"""Bounds on how far a number computed in low precision lies from the true one: constants and norms of the proof.

`docs/pursuit.md` derives where each of these enters. All of them are upper bounds, none is an estimate.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

# A float32 accumulator rounds each addition by at most 2^-24 of the result; tensor cores truncate, which doubles it.
ACCUMULATE = {"cpu": 2.0**-24, "cuda": 2.0**-23}

# Float64 arithmetic is exact for our purposes, up to this relative slack that absorbs every rounding of it.
SLACK = 1e-9


def rounding(dtype: torch.dtype) -> float:
    """The largest relative error of rounding a normal number to the nearest of a dtype."""
    return torch.finfo(dtype).eps / 2


def accumulation(terms: int, device: torch.device) -> float:
    """Higham's γ: the relative error of a float32 sum of products, over the sum of their absolute values."""
    unit = ACCUMULATE.get(device.type, 2.0**-23)
    return terms * unit / (1 - terms * unit)


def spectral_bound(gram: Float[Tensor, "p m m"]) -> Float[Tensor, " p"]:
    """Upper bounds on the largest singular value of matrices ``X``, from ``X Xᵀ`` (or ``Xᵀ X``).

    For a positive semidefinite ``M``, ``λ_max ≤ (tr M⁸)^(1/8) = ‖M⁴‖_F^(1/4)``: two products instead of a decomposition.
    """
    scale = gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(torch.finfo(gram.dtype).tiny)
    # Scaled to trace one, float32 errs by less than the slack below for any m in use.
    unit = (gram / scale[:, None, None]).float()
    square = torch.bmm(unit, unit)
    largest = torch.linalg.matrix_norm(torch.bmm(square, square)).double().pow(0.25) * scale
    return largest.sqrt() * (1 + 1e-3)


def screening_dtype(device: torch.device, source: torch.dtype) -> torch.dtype:
    """The cheapest dtype whose matrix products this device runs natively with float32 accumulators."""
    if source == torch.float16:
        # Half the range of exponents is missing there: an overflow has no error bound.
        source = torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or (source == torch.bfloat16 and _has_avx512_bf16())):
        return torch.bfloat16
    return torch.float32


def _has_avx512_bf16() -> bool:
    """Whether bfloat16 products are native: twice as fast as float32 here, which pays where no row has to be rounded for it."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()


@contextmanager
def stated_precision() -> Iterator[None]:
    """Products accumulate as the bounds assume, whatever speed-ups the caller has switched on."""
    matmul = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision(), matmul.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        matmul.allow_bf16_reduced_precision_reduction = before[1]
