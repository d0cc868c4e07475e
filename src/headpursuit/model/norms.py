"""The two factors of a norm: its gain, which is fixed, and its scale, which is each token's own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def gain_of(norm: nn.Module, width: int, *, like: Tensor | None = None) -> Float[Tensor, " d"]:
    """The gain of a norm: its factor on each of ``width`` numbers, in float32.

    It is applied to ±1, whose mean is 0 and mean square 1, so that neither kind of norm scales it; a gain that is stored as
    ``1 + γ`` comes out right without a list of models.

    Args:
        norm: an RMSNorm or a LayerNorm.
        width: ``d``.
        like: a tensor whose dtype and device the norm takes; its own weight's when left out.
    """
    reference = next(norm.parameters(), torch.ones(())) if like is None else like
    probe = torch.ones(width, dtype=reference.dtype, device=reference.device)
    probe[::2] = -1
    with torch.no_grad():
        return ((norm(probe[None]) - norm(-probe[None]))[0] / (2 * probe)).float()


def true_scale(
    given: Float[Tensor, "... d"], returned: Float[Tensor, "... d"], gain: Float[Tensor, " d"]
) -> Float[Tensor, ...]:
    """The factor that a norm without centering applied to each token, apart from its gain: one over the root mean square.

    It is taken from what the norm returned, so that its epsilon and its rounding are in it.
    """
    plain = given.float() * gain.to(given.device)
    return (returned.float() * plain).sum(dim=-1) / plain.square().sum(dim=-1).clamp_min(1e-30)
