"""Goals of an edit: a reach for its target, limits of its cost; and the one of several edits that comes nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Cells, Key, Task
from headpursuit.evaluation.metrics import Metric


@dataclass(frozen=True)
class Limit:
    """The most of something that an edit may cost.

    Attributes:
        metric: what should stay.
        at_most: the loss that is allowed: a share of the unedited model's value where that is compared as a ratio (0.05 is
            five percent), else the change for the worse of the value itself (0.05 nats of negative log-likelihood).

    Raises:
        HeadPursuitError: the allowed loss is not above 0.
    """

    metric: Metric
    at_most: float

    def __post_init__(self) -> None:
        if not self.at_most > 0:
            raise HeadPursuitError(f"{self.metric.name}: a limit of {self.at_most}: allow a loss above 0")

    def loss_of(self, effect: float) -> float:
        """The loss that an effect means, in the unit of ``at_most``; below 0 where the value became better."""
        gained = effect - 1 if self.metric.compared_by == "ratio" else effect
        return gained if self.metric.better == "lower" else -gained

    def loss(self, cells: Cells, edit: HeadEdit | None) -> float:
        """The loss that an edit brings, in the unit of ``at_most``.

        Raises:
            HeadPursuitError: the unedited model scores 0.
        """
        return self.loss_of(_effect(cells, self.metric, edit))


@dataclass(frozen=True)
class Goal:
    """The wish for an edit of one concept's heads.

    Attributes:
        concept: the concept's name.
        target: what should fall, or rise.
        limits: what should stay.
        rises: whether the target should rise.
        reach: how far the target should come, as a share of the unedited model's value (or as a change where a ratio says
            nothing). With it the cheapest edit that comes so far is wished for, without it the strongest; both within the
            limits.
        scale: the factor of the edit, where it is given.
    """

    concept: str
    target: Metric
    limits: tuple[Limit, ...]
    rises: bool = False
    reach: float | None = None
    scale: float | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The target and all that should stay."""
        return (self.target, *(limit.metric for limit in self.limits))

    def keys(self, edits: Iterable[HeadEdit | None]) -> Iterator[Key]:
        """The cells that tell how far edits come, the unedited model's first."""
        return ((metric.task, edit) for edit in (None, *edits) for metric in self.metrics)

    def check_samples(self, tasks: Mapping[str, Task]) -> None:
        """Check that what an edit is chosen on has standard errors.

        Raises:
            HeadPursuitError: a task of the goal has a single sample; names it.
        """
        for metric in self.metrics:
            if metric.task in tasks and len(tasks[metric.task].samples) < 2:
                raise HeadPursuitError(f"{metric.task}: one sample to choose an edit by has no standard error; give at least 2")

    def effect(self, cells: Cells, edit: HeadEdit | None) -> float:
        """The share of the target's unedited value that an edit leaves, or the target's change.

        Raises:
            HeadPursuitError: the unedited model scores 0 on it.
        """
        return _effect(cells, self.target, edit)

    def cost(self, cells: Cells, edit: HeadEdit | None) -> float:
        """The largest loss, as a share of what is allowed: at most 1 keeps every limit; 0 without limits."""
        return max((limit.loss(cells, edit) / limit.at_most for limit in self.limits), default=0.0)

    def moves(self, cells: Cells, edit: HeadEdit | None) -> bool:
        """Whether an edit moves the target as wished, however little."""
        return self.weakness(cells.value(self.target, edit)) < self.weakness(cells.value(self.target, None))

    def margin(self, cells: Cells, edit: HeadEdit) -> float:
        """How far an edit is from missing its reach or a limit, whichever is nearer, in standard errors; below 0 it misses.

        The bare effect of a goal without a reach counts for nothing.
        """
        found = [(limit.at_most - limit.loss(cells, edit), limit.metric) for limit in self.limits]
        if self.reach is not None:
            found.append((self.weakness(self.reach) - self.weakness(self.effect(cells, edit)), self.target))
        return min((_in_errors(room, standard_error(cells, metric, edit)) for room, metric in found), default=np.inf)

    def weakness(self, effect: float) -> float:
        """The effect with its sign such that less is stronger."""
        return -effect if self.rises else effect

    def came_to(self, effect: float) -> bool:
        """Whether an effect reaches what was wished; True where no reach was."""
        return self.reach is None or self.weakness(effect) <= self.weakness(self.reach)


@dataclass(frozen=True)
class Trial:
    """One edit that was tried under a goal.

    Attributes:
        number: when.
        edit: the edit.
        method: how its heads were put in order.
        effect: what it left of the target, see :meth:`Goal.effect`.
        cost: its largest loss as a share of what is allowed.
        weakness_bound: the weakness of the effect, one standard error larger, as it may well be on other samples.
        cost_bound: the cost with every loss one standard error larger.
    """

    number: int
    edit: HeadEdit
    method: str
    effect: float
    cost: float
    weakness_bound: float
    cost_bound: float


@dataclass(frozen=True)
class GoalJudge:
    """Measures edits by a goal on a split, as :func:`headpursuit.ranking.contest.contest` asks: the target, and the cost.

    Attributes:
        goal: the goal.
        cells: the split.
    """

    goal: Goal
    cells: Cells

    @property
    def about(self) -> dict[str, Any]:
        """Everything that what is measured depends on beside model and edit, as plain values."""
        limits = [[limit.metric.task, limit.metric.name, limit.at_most] for limit in self.goal.limits]
        asked = dict.fromkeys(metric.task for metric in self.goal.metrics)
        tasks = [self.cells.tasks[task].depends_on for task in asked]
        return {
            "target": [self.goal.target.task, self.goal.target.name],
            "limits": limits,
            "tasks": tasks,
            "seed": self.cells.seed,
        }

    def __call__(
        self, edits: Iterable[HeadEdit | None], *, done: Callable[[], object]
    ) -> dict[HeadEdit | None, tuple[float, float]]:
        """The target's value under each edit, and its largest loss as a share of what is allowed.

        Edits that do not move the target as wished reach nothing, whatever they cost: that is not measured, and 0 stands there.
        """
        wanted, target = list(edits), self.goal.target
        self.cells.fill((target.task, edit) for edit in (None, *wanted))
        moved = dict.fromkeys(edit for edit in wanted if self.goal.moves(self.cells, edit))
        last = self.goal.metrics[-1].task
        for edit in wanted:
            if edit not in moved or self.cells.is_known(last, edit):
                done()
        self.cells.fill(self.goal.keys(moved), done=lambda key, _: done() if key[0] == last and key[1] in moved else None)
        costs = {edit: self.goal.cost(self.cells, edit) for edit in moved}
        return {edit: (self.cells.value(target, edit), costs.get(edit, 0.0)) for edit in wanted}


def tried(goal: Goal, cells: Cells, edit: HeadEdit, *, number: int, method: str) -> Trial:
    """The trial of an edit on a split: its effect and its cost."""
    cells.fill(goal.keys([edit]))
    effect = goal.effect(cells, edit)
    costs = ((limit.loss(cells, edit) + standard_error(cells, limit.metric, edit)) / limit.at_most for limit in goal.limits)
    return Trial(
        number,
        edit,
        method,
        effect=effect,
        cost=goal.cost(cells, edit),
        weakness_bound=goal.weakness(effect) + standard_error(cells, goal.target, edit),
        cost_bound=max(costs, default=0.0),
    )


def choose(goal: Goal, trials: Sequence[Trial]) -> Trial:
    """The edit that comes nearest to what is wished, judged by what may well be on other samples: one standard error worse.

    Within the limits it is the strongest, or with a reach the cheapest that reaches it; where no edit keeps the limits, the
    cheapest. The best of many tries is in part the luckiest, against which the one-standard-error rule guards (Breiman et
    al. 1984, section 3.4.3).
    """

    def judged(trial: Trial) -> tuple[float, ...]:
        weak, cost = trial.weakness_bound, trial.cost_bound
        if cost > 1:
            return (1.0, cost, weak)
        return (0.0, weak, cost) if goal.reach is None else (0.0, max(weak, goal.weakness(goal.reach)), cost)

    return min(trials, key=lambda trial: (*judged(trial), trial.number))


def standard_error(cells: Cells, metric: Metric, edit: HeadEdit | None) -> float:
    """Standard error over samples of an edit's effect, paired with the unedited model's values on the same samples.

    Of a ratio ``Σa / Σb`` it is that of ``a − ratio·b``, divided by the mean of ``b`` (the delta method).
    """
    edited, base = cells.scores(metric, edit), cells.scores(metric, None)
    as_ratio = cells.as_ratio(metric)
    rest = edited - cells.effect(metric, edit) * base if as_ratio else edited - base
    return float(rest.std(ddof=1) / np.sqrt(len(rest)) / (cells.value(metric, None) if as_ratio else 1.0))


def _in_errors(room: float, error: float) -> float:
    return room / error if error > 0 else float(np.copysign(np.inf, room))


def _effect(cells: Cells, metric: Metric, edit: HeadEdit | None) -> float:
    if not cells.has_effect(metric):
        raise HeadPursuitError(
            f"the unedited model scores 0 on {metric}, so nothing can be lost or tuned there: choose samples on which it does "
            "better, or more of them"
        )
    return cells.effect(metric, edit)
