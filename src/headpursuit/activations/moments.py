"""Streaming moments: how much of a capture the L2 pursuit needs, in memory that does not grow with the samples.

Energies see only ``zᵀz`` (docs/pursuit.md), so every token of any number of samples fits in ``l·h·e²`` numbers. Whatever looks
at single samples has the rows of a draw of them, where such were kept.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.captured import Captured
from headpursuit.activations.head_activations import HeadActivations
from headpursuit.errors import HeadPursuitError


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HeadMoments(Captured):
    """Counts, sums and second moments of every head's activation, over tokens or over the samples' rows.

    Attributes:
        count: number of tokens, or of rows.
        total: for each layer the sum of ``z``, shape ``(h, e)``, float64.
        second: for each layer ``Σ zᵀz``, shape ``(h, e, e)``, float64.
        rows: the samples of a seeded draw (``keep_rows``), a row each: for ``positions="all"`` the mean over their tokens.
        ranks: for each of these rows the number by which it was drawn; the lowest of all are.

    >>> moments = hp.capture(model, samples, positions="all", progress=False)
    >>> moments.second[0].shape, moments.centered(0).shape
    (torch.Size([20, 16, 16]), torch.Size([20, 16, 16]))
    """

    count: int
    total: Mapping[int, Float[Tensor, "h e"]]
    second: Mapping[int, Float[Tensor, "h e e"]]
    rows: HeadActivations | None = None
    ranks: tuple[int, ...] = ()

    def __repr__(self) -> str:
        kept = f", rows of {len(self.ranks)} samples" if self.rows is not None else ""
        return f"{super().__repr__().removesuffix(')')}{kept})"

    @property
    def n(self) -> int:
        """Number of rows that were added up."""
        return self.count

    @property
    def head_counts(self) -> dict[int, int]:
        """Number of heads of each layer."""
        return {layer: total.shape[0] for layer, total in self.total.items()}

    def of_layer(self, layer: int) -> Self:
        """The capture of one layer alone, without rows."""
        return replace(self, total={layer: self.total[layer]}, second={layer: self.second[layer]}, rows=None, ranks=())

    def mean(self, layer: int) -> Float[Tensor, "h e"]:
        """Mean of ``z`` over the tokens or rows."""
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
            raise HeadPursuitError("one token or row has no variance, so there is nothing to explain: give more text")

    def centered(self, layer: int) -> Float[Tensor, "h e e"]:
        """``Σ (z − z̄)ᵀ(z − z̄)``, what :func:`headpursuit.pursuit.somp_moments` takes."""
        total = self.total[layer]
        return self.second[layer] - total[:, :, None] * total[:, None, :] / self.count


class KeptRowsWarning(UserWarning):
    """Something looks at the samples whose rows were kept, and not at all that were captured."""


def rows_of(acts: HeadActivations | HeadMoments, *, what: str) -> HeadActivations:
    """The rows of a capture: all of them, or those that a capture of moments kept.

    Args:
        acts: the capture.
        what: what needs them, the first words of the messages.

    Raises:
        HeadPursuitError: none were kept.

    Warns:
        KeptRowsWarning: how many samples are looked at, where that is not all.
    """
    if acts.rows is None:
        raise HeadPursuitError(
            f"{what} need rows of samples, and this capture of moments kept none: capture again with keep_rows=2000 "
            "(--keep-rows 2000)"
        )
    total = acts.about["n_samples"] - len(acts.about.get("skipped", ()))
    if acts.rows is not acts and acts.rows.n < total:
        warnings.warn(
            f"{what} look at the {acts.rows.n} of {total} samples whose rows were kept", KeptRowsWarning, stacklevel=3
        )
    return acts.rows


def merge_moments(parts: Iterable[HeadMoments]) -> HeadMoments:
    """Add up moments that were taken of parts of the data, on one machine or many.

    Of the rows that all of them kept, those stay that a draw from the whole would have kept.

    Raises:
        HeadPursuitError: there are none, or they are of different models, positions or numbers of kept rows.

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
    rows, ranks = _drawn_of_both(left, right)
    return replace(
        left,
        count=left.count + right.count,
        about={**left.about, "n_samples": left.about["n_samples"] + right.about["n_samples"]},
        rows=rows,
        ranks=ranks,
        total={layer: total + right.total[layer] for layer, total in left.total.items()},
        second={layer: second + right.second[layer] for layer, second in left.second.items()},
    )


def _drawn_of_both(left: HeadMoments, right: HeadMoments) -> tuple[HeadActivations | None, tuple[int, ...]]:
    """The rows that a draw from both would have kept: the lowest in rank, in the order of their samples."""
    if left.about.get("keep_rows") != right.about.get("keep_rows"):
        raise HeadPursuitError("these moments kept rows of draws of other sizes or seeds: merge parts of one capture only")
    if left.rows is None or right.rows is None:
        return None, ()
    ranks = torch.tensor([*left.ranks, *right.ranks])
    chosen = ranks.argsort(stable=True)[: left.about["keep_rows"]["n"]].sort().values
    z = {layer: torch.cat([rows, right.rows.z[layer]])[chosen] for layer, rows in left.rows.z.items()}
    before = left.about["n_samples"]
    numbers = [*(left.rows.numbers or ()), *(before + number for number in right.rows.numbers or ())]
    kept = replace(left.rows, z=z, numbers=tuple(numbers[row] for row in chosen.tolist()))
    return kept, tuple(ranks[chosen].tolist())
