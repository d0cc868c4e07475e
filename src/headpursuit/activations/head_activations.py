"""The result of a capture: one row per sample for every head, and the weights that give them meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jaxtyping import Float
    from torch import Tensor

    from headpursuit.model.weights import HeadWeights


@dataclass(frozen=True)
class HeadActivations:
    """Head activations ``z`` of every head, one row per sample.

    Attributes:
        z: for each layer index a tensor ``(n, h, e)`` in float32.
        positions: which tokens each row is the mean of.
        weights: output projections and unembedding.
        tokenizer: names the rows of the unembedding and resolves concepts.
        model: ``{"id", "revision", "architecture", "fingerprint"}``.
        about: what is needed to capture again: data fingerprint, versions, options, samples that were skipped.
    """

    z: Mapping[int, Float[Tensor, "n h e"]] = field(repr=False)
    positions: str
    weights: HeadWeights = field(repr=False)
    tokenizer: Any = field(repr=False)
    model: Mapping[str, Any]
    about: Mapping[str, Any]

    @property
    def n(self) -> int:
        """Number of samples."""
        return next(iter(self.z.values())).shape[0]

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the layers that have heads."""
        return tuple(self.z)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a layer × head table."""
        return max(self.z) + 1, max(z.shape[1] for z in self.z.values())

    def heads(self) -> tuple[Head, ...]:
        """Every head, layer by layer."""
        return tuple(Head(layer, head) for layer, z in self.z.items() for head in range(z.shape[1]))

    def require(self, heads: Iterable[Head]) -> None:
        """Check that every head was captured.

        Raises:
            HeadPursuitError: naming the first that was not.
        """
        for head in heads:
            if head.layer not in self.z or not 0 <= head.head < self.z[head.layer].shape[1]:
                known = self.heads()
                raise HeadPursuitError(
                    f"there is no head {head} in this capture: its heads lie in {known[0]} to {known[-1]}"
                )

    def check(self) -> None:
        """Check that the activations can be explained.

        Raises:
            HeadPursuitError: values that are not finite (naming layer and head), or no variance over samples.
        """
        for layer, z in self.z.items():
            finite = torch.isfinite(z).all(dim=2)
            if not finite.all():
                row, head = (int(index) for index in (~finite).nonzero()[0])
                raise HeadPursuitError(
                    f"{Head(layer, head)} wrote a NaN or infinite value at sample {row}: "
                    "load the model in float32 or bfloat16 and capture again"
                )
        if all(bool((z == z[:1]).all()) for z in self.z.values()):
            raise HeadPursuitError(
                f"no head varies over the {self.n} sample(s), so there is nothing to explain: give samples that differ"
            )
