"""The goals of a recipe: which number of heads they settle on, on selection data, and what came of it on test data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Cells, Task
from headpursuit.evaluation.goals import Goal, Limit, choose, tried
from headpursuit.evaluation.metrics import LIKELIHOOD, NEUTRAL_TASK
from headpursuit.evaluation.prepare import Prepared, PreparedConcept, same_questions
from headpursuit.evaluation.results import Kept, Row, Verdict, find
from headpursuit.ranking.ranking import HeadRanking

# Random heads that leave the target within this share of the unedited value count as a quiet control.
QUIET = 0.1


@dataclass(frozen=True)
class Wish:
    """A goal with the factor that an edit is to reach it by.

    Attributes:
        kind: ``suppress`` or ``enhance``.
        goal: the target, its reach, and what should stay.
        scale: the factor.
    """

    kind: Literal["suppress", "enhance"]
    goal: Goal
    scale: float


def wishes(prepared: Prepared, concept: PreparedConcept, tasks: Mapping[str, Task]) -> tuple[Wish, ...]:
    """The goals of one concept, suppression first: each at the scales of the edit that serve it, where a task is tried so.

    Raises:
        HeadPursuitError: a goal that no scale of the edit serves; names the key.
    """
    recipe = prepared.recipe
    if recipe.goal is None or recipe.edit is None:
        return ()
    found: list[Wish] = []
    for kind, reach, key in (("suppress", recipe.goal.at_most, "at_most"), ("enhance", recipe.goal.at_least, "at_least")):
        if reach is None:
            continue
        scales = [scale for scale in recipe.edit.scales if (scale < 1) == (kind == "suppress") and scale != 1]
        served = [
            (scale, task.name)
            for scale in scales
            for task in recipe.tasks
            if (task.scales is None or scale in task.scales) and same_questions(recipe, concept.spec.task, task.name)
        ]
        if not served:
            side = "below" if kind == "suppress" else "above"
            raise HeadPursuitError(f"goal.{key}: no scale of the edit is {side} 1 on {concept.spec.task}; add one")
        for scale, name in served:
            target = tasks[name].metric(concept.spec.target)
            limits = tuple(_limits(prepared, tasks, scale))
            goal = Goal(concept.name, target, limits, rises=kind == "enhance", reach=reach)
            found.append(Wish(kind, goal, scale))  # type: ignore[arg-type]
    return tuple(found)


def settle(wish: Wish, ranking: HeadRanking, ks: Sequence[int], selection: Cells, *, where: str) -> int:
    """The number of heads that a goal settles on, on selection data; the smallest where nothing can be told there."""
    limits = tuple(limit for limit in wish.goal.limits if limit.metric.task in selection.tasks)
    goal = replace(wish.goal, limits=limits)
    edits = [HeadEdit(ranking.top(k), scale=wish.scale, where=where) for k in ks]  # type: ignore[arg-type]
    try:
        trials = [tried(goal, selection, edit, number=number, method="somp") for number, edit in enumerate(edits)]
    except HeadPursuitError:  # the unedited model never says it on these samples
        return min(ks)
    return ks[choose(goal, trials).number]


def judge(wish: Wish, k: int, rows: Sequence[Row]) -> Verdict:
    """The verdict of test data on a goal, from the table's rows.

    Args:
        wish: the goal.
        k: the number of heads that it settled on.
        rows: the rows of the concept.
    """
    goal = wish.goal
    own = [row for row in rows if row.scale == wish.scale]
    of_target = find(own, task=goal.target.task, metric=goal.target.name)
    somp = {row.k: row.normalized for row in find(of_target, selection="somp")}
    effect = somp[k]
    held = effect is not None and goal.came_to(effect)
    control = next((row.normalized for row in find(of_target, selection="random", k=k)), None)
    best = None
    if effect is not None and not held:
        weakest, furthest = min((goal.weakness(value), size) for size, value in somp.items() if value is not None)
        best = (furthest, -weakest if goal.rises else weakest) if furthest != k else None
    kept = []
    for limit in goal.limits:
        (row,) = find(own, task=limit.metric.task, metric=limit.metric.name, selection="somp", k=k)
        left = row.effect if row.normalized is not None or limit.metric.compared_by == "change" else None
        kept.append(
            Kept(
                limit.metric.task,
                limit.metric.name,
                limit=limit.at_most,
                effect=left,
                held=left is None or limit.loss_of(left) <= limit.at_most,
            )
        )
    return Verdict(
        kind=wish.kind,
        task=goal.target.task,
        metric=goal.target.name,
        scale=wish.scale,
        k=k,
        wanted=float(goal.reach or 0),
        effect=effect,
        held=held,
        control=control,
        control_held=control is None or abs(control - 1) <= QUIET,
        kept=tuple(kept),
        best=best,
    )


def _limits(prepared: Prepared, tasks: Mapping[str, Task], scale: float) -> Iterator[Limit]:
    goal = prepared.recipe.goal
    assert goal is not None
    for keep in goal.keep:
        if keep.task == NEUTRAL_TASK:
            yield Limit(LIKELIHOOD, keep.loss)
            continue
        spec = prepared.recipe.task(keep.task)
        if spec.scales is None or scale in spec.scales:
            yield Limit(tasks[keep.task].metric(keep.metric), keep.loss)
