"""Streaming moments: how much of a capture the L2 pursuit needs, in memory that does not grow with the samples.

Energies see only ``zᵀz`` (docs/pursuit.md), so every token of any number of samples fits in ``l·h·e²`` numbers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.captured import Captured
from headpursuit.errors import HeadPursuitError


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HeadMoments(Captured):
    """Counts, sums and second moments of every head's activation, over tokens.

    Attributes:
        count: number of tokens.
        total: for each layer the sum of ``z``, shape ``(h, e)``, float64.
        second: for each layer ``Σ zᵀz``, shape ``(h, e, e)``, float64.

    >>> moments = hp.capture(model, samples, positions="all", progress=False)
    >>> moments.second[0].shape, moments.centered(0).shape
    (torch.Size([17, 24, 24]), torch.Size([17, 24, 24]))
    """

    count: int
    total: Mapping[int, Float[Tensor, "h e"]]
    second: Mapping[int, Float[Tensor, "h e e"]]

    @property
    def n(self) -> int:
        """Number of rows that were added up."""
        return self.count

    @property
    def head_counts(self) -> dict[int, int]:
        """Number of heads of each layer."""
        return {layer: total.shape[0] for layer, total in self.total.items()}

    def mean(self, layer: int) -> Float[Tensor, "h e"]:
        """Mean of ``z`` over the tokens."""
        return self.total[layer] / self.count

    def check(self) -> None:
        """Check that the moments can be explained.

        Raises:
            HeadPursuitError: values that are not finite (naming layer and head), or no variance over tokens.
        """
        for layer, second in self.second.items():
            broken = (~torch.isfinite(second)).flatten(1).any(dim=1).nonzero()
            if len(broken):
                raise HeadPursuitError(
                    f"{self.head(layer, int(broken[0]))} wrote a NaN or infinite value: "
                    "load the model in float32 or bfloat16 and capture again"
                )
        if self.count < 2:
            raise HeadPursuitError("one token has no variance, so there is nothing to explain: give more text")

    def centered(self, layer: int) -> Float[Tensor, "h e e"]:
        """``Σ (z − z̄)ᵀ(z − z̄)``, what :func:`headpursuit.pursuit.somp_moments` takes."""
        total = self.total[layer]
        return self.second[layer] - total[:, :, None] * total[:, None, :] / self.count


def merge_moments(parts: Iterable[HeadMoments]) -> HeadMoments:
    """Add up moments that were taken of parts of the data, on one machine or many.

    Raises:
        HeadPursuitError: there are none, or they are of different models or positions.

    >>> parts = [hp.capture(model, part, positions="all", progress=False) for part in (samples[:12], samples[12:])]
    >>> whole = merge_moments(parts)
    >>> whole.n == parts[0].n + parts[1].n
    True
    """
    given = list(parts)
    if not given:
        raise HeadPursuitError("there are no moments to merge: give at least one part")
    return reduce(_add, given)


def _add(left: HeadMoments, right: HeadMoments) -> HeadMoments:
    same = left.model.get("fingerprint") == right.model.get("fingerprint") and left.part == right.part
    if not same or left.positions != right.positions:
        raise HeadPursuitError(
            f"moments of {left.model['id']} ({left.positions}) and {right.model['id']} ({right.positions}) do not add up: "
            "merge parts of one capture only"
        )
    return replace(
        left,
        count=left.count + right.count,
        total={layer: total + right.total[layer] for layer, total in left.total.items()},
        second={layer: second + right.second[layer] for layer, second in left.second.items()},
    )
