"""The result of a capture: one row per sample for every head, and the weights that give them meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.captured import Captured
from headpursuit.errors import HeadPursuitError

# Relative to their size, activations of one text run twice differ by less: several threads add in another order.
_ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HeadActivations(Captured):
    """Head activations ``z`` of every head, one row per sample.

    Attributes:
        z: for each layer index a tensor ``(n, h, e)`` in float32.
        numbers: which of the captured samples the rows are of, where they are not those of all.

    >>> acts
    HeadActivations(demo, n=24, positions='last': 120 text heads in 6 layers)
    >>> acts.z[2].shape, acts.shape
    (torch.Size([24, 20, 16]), (6, 20))
    """

    z: Mapping[int, Float[Tensor, "n h e"]]
    numbers: tuple[int, ...] | None = None

    @property
    def rows(self) -> Self:
        """Itself: every row is there."""
        return self

    def of_layer(self, layer: int) -> Self:
        """The capture of one layer alone."""
        return replace(self, z={layer: self.z[layer]})

    @property
    def n(self) -> int:
        """Number of samples."""
        return next(iter(self.z.values())).shape[0]

    @property
    def head_counts(self) -> dict[int, int]:
        """Number of heads of each layer."""
        return {layer: z.shape[1] for layer, z in self.z.items()}

    def mean(self, layer: int) -> Float[Tensor, "h e"]:
        """Mean of ``z`` over the samples."""
        return self.z[layer].mean(dim=0)

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
                    f"{self.head(layer, head)} wrote a NaN or infinite value at sample {row}: "
                    "load the model in float32 or bfloat16 and capture again"
                )
        if all(bool((z - z.mean(dim=0)).norm() <= _ROUNDING * z.norm()) for z in self.z.values()):
            raise HeadPursuitError(
                f"no head varies over the {self.n} sample(s), so there is nothing to explain: give samples that differ"
            )
