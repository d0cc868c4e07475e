"""The output projection, cut into one block of rows a head."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from headpursuit.model.anatomy import stores_input_first

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


def split_heads(weight: Float[Tensor, "a b"], *, n_heads: int, input_first: bool) -> Float[Tensor, "h e d"]:
    """Cut an output projection's weight into heads, ``W_h`` of Head Pursuit, section 3.

    Args:
        weight: ``(d, h·e)`` as ``nn.Linear`` stores it, or ``(h·e, d)`` as GPT-2's ``Conv1D`` does.
        n_heads: number of heads ``h``.
        input_first: which of the two.

    Returns:
        A view in the weight's own dtype, shape ``(h, e, d)``.
    """
    rows = weight if input_first else weight.T
    return rows.unflatten(0, (n_heads, rows.shape[0] // n_heads))


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a linear map or an embedding, detached."""
    return cast("Tensor", module.weight).detach()


def module_heads(projection: nn.Module, n_heads: int) -> Float[Tensor, "h e d"]:
    """``W_h`` of a loaded output projection, in float32, shape ``(h, e, d)``."""
    return split_heads(weight_of(projection), n_heads=n_heads, input_first=stores_input_first(projection)).float()


def head_outputs_sum(projection: nn.Module, z: Float[Tensor, "... he"], n_heads: int) -> Float[Tensor, "... d"]:
    """Σ_h z_h W_h + bias, head by head in float64, shape ``(..., d)``."""
    heads = module_heads(projection, n_heads).double()
    outputs = torch.einsum("...he,hed->...hd", z.double().unflatten(-1, heads.shape[:2]), heads)
    total = outputs.sum(dim=-2)
    bias = cast("Tensor | None", getattr(projection, "bias", None))
    return total if bias is None else total + bias.detach().double()
