"""What an edit is wished to do: how strong it should be, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from headpursuit.editing.edit import HeadEdit
    from headpursuit.evaluation.cells import Bench, Measure


@dataclass(frozen=True)
class Limit:
    """How much of something an edit may cost.

    Attributes:
        measure: what should stay.
        at_most: the loss that is allowed: a share of the unedited model's value where that is compared as a ratio (0.05 is
            five percent), else the rise of the value itself (0.05 nats of negative log-likelihood).
    """

    measure: Measure
    at_most: float

    def __post_init__(self) -> None:
        if not self.at_most > 0:
            raise HeadPursuitError(f"{self.measure.metric}: a limit of {self.at_most}: allow a loss above 0")

    def loss(self, bench: Bench, edit: HeadEdit | None) -> float:
        """What the edit costs, in the unit of ``at_most``; below 0 where the value became better.

        Raises:
            HeadPursuitError: the unedited model scores 0.
        """
        found = _effect(bench, self.measure, edit)
        return 1 - found if self.measure.compared_by == "ratio" else found


@dataclass(frozen=True)
class Goal:
    """What is wished of an edit of one concept's heads.

    Attributes:
        concept: the concept's name.
        target: what should fall, or rise.
        limits: what should stay.
        rises: whether the target should rise.
        reach: how far the target should come, as a share of the unedited model's value (or as a change where a ratio says
            nothing). With it the cheapest edit that comes so far is wished for, without it the strongest within the limits.
    """

    concept: str
    target: Measure
    limits: tuple[Limit, ...]
    rises: bool = False
    reach: float | None = None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The target and all that should stay."""
        return (self.target, *(limit.measure for limit in self.limits))

    def effect(self, bench: Bench, edit: HeadEdit | None) -> float:
        """What becomes of the target: its share of the unedited model's value, or its change.

        Raises:
            HeadPursuitError: the unedited model scores 0 on it.
        """
        return _effect(bench, self.target, edit)

    def cost(self, bench: Bench, edit: HeadEdit | None) -> float:
        """The largest loss, as a share of what is allowed: at most 1 keeps every limit."""
        return max(limit.loss(bench, edit) / limit.at_most for limit in self.limits)

    def cost_bound(self, bench: Bench, edit: HeadEdit | None) -> float:
        """The cost with every loss one standard error larger, as it may well be on other samples."""
        return max(
            (limit.loss(bench, edit) + standard_error(bench, limit.measure, edit)) / limit.at_most
            for limit in self.limits
        )

    def weakness_bound(self, bench: Bench, edit: HeadEdit | None) -> float:
        """The weakness of the effect, one standard error larger."""
        return self.weakness(self.effect(bench, edit)) + standard_error(bench, self.target, edit)

    def weakness(self, effect: float) -> float:
        """The effect with its sign such that less is stronger."""
        return -effect if self.rises else effect


def standard_error(bench: Bench, measure: Measure, edit: HeadEdit | None) -> float:
    """Standard error over samples of an edit's effect, paired with the unedited model's values on the same samples.

    Of a ratio ``Σa / Σb`` it is that of ``a − ratio·b``, divided by the mean of ``b`` (the delta method).
    """
    edited, base = bench.scores(measure, edit), bench.scores(measure, None)
    ratio = bench.ratio(measure, edit)
    rest, unit = (edited - base, 1.0) if ratio is None else (edited - ratio * base, bench.value(measure, None))
    return float(rest.std(ddof=1) / np.sqrt(len(rest)) / unit)


def _effect(bench: Bench, measure: Measure, edit: HeadEdit | None) -> float:
    ratio = bench.ratio(measure, edit)
    if ratio is not None:
        return ratio
    if measure.compared_by == "ratio":
        raise HeadPursuitError(
            f"the unedited model scores 0 on {measure.metric} of {measure.task}, so nothing can be lost or tuned there: choose "
            "samples on which it does better"
        )
    return bench.value(measure, edit) - bench.value(measure, None)
