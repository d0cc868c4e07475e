"""What an edit is wished to do: how strong it should be, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from headpursuit.editing.edit import HeadEdit
    from headpursuit.evaluation.bench import Bench, Measure


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
        """What the edit costs, in the unit of ``at_most``; below 0 where the value became better."""
        ratio = bench.ratio(self.measure, edit)
        if ratio is not None:
            return 1 - ratio
        if self.measure.compared_by == "ratio":
            raise HeadPursuitError(
                f"the unedited model scores 0 on {self.measure.metric} of {self.measure.task}, so nothing can be lost there: "
                "choose samples that it answers"
            )
        return bench.value(self.measure, edit) - bench.value(self.measure, None)


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
        ratio = bench.ratio(self.target, edit)
        if ratio is not None:
            return ratio
        if self.target.compared_by == "ratio":
            raise HeadPursuitError(
                f"{self.concept}: the unedited model scores 0 on {self.target.metric}, so nothing can be tuned; choose samples "
                "on which it speaks of the concept"
            )
        return bench.value(self.target, edit) - bench.value(self.target, None)

    def cost(self, bench: Bench, edit: HeadEdit | None) -> float:
        """The largest loss, as a share of what is allowed: at most 1 keeps every limit."""
        return max(limit.loss(bench, edit) / limit.at_most for limit in self.limits)

    @property
    def aim(self) -> float:
        """What a search tries to reach: the reach with a fifth to spare, since another split never says the same."""
        assert self.reach is not None
        if self.target.compared_by == "ratio":
            return 1 + 1.2 * (self.reach - 1) if self.rises else 0.8 * self.reach
        return 1.2 * self.reach

    def weakness(self, effect: float) -> float:
        """The effect with its sign such that less is stronger."""
        return -effect if self.rises else effect
