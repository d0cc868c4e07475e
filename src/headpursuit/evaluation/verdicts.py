"""The goals of a recipe: which number of heads they settle on, on selection data, and what came of it on test data."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.goals import Goal
from headpursuit.evaluation.metrics import Metric
from headpursuit.evaluation.plan import tried_on
from headpursuit.evaluation.prepare import Prepared, PreparedConcept, same_questions
from headpursuit.evaluation.results import Kept, Row, Verdict, find
from headpursuit.ranking.methods import Selection
from headpursuit.ranking.ranking import HeadRanking

# Random heads that leave the target within this share of the unedited value count as a quiet control.
QUIET = 0.1
# Standard errors from missing a goal that are enough.
_SURE = 2.0


def wishes(prepared: Prepared, concept: PreparedConcept) -> tuple[Goal, ...]:
    """The goals of one concept, suppression first: each at the scales of the edit that serve it, where a task is tried so.

    Raises:
        HeadPursuitError: a goal that no scale of the edit serves, or something to keep that is not tried at one of a goal's
            scales; names the key.
    """
    recipe, tried_at = prepared.recipe, tried_on(prepared, concept)
    if recipe.goal is None or recipe.edit is None:
        return ()
    asked = [task for name, task in prepared.tasks.items() if same_questions(recipe, concept.spec.task, name)]
    targets = [metric for task in asked for metric in task.metrics if metric.name == concept.spec.target]
    found: list[Goal] = []
    for rises, reach, key in ((False, recipe.goal.at_most, "at_most"), (True, recipe.goal.at_least, "at_least")):
        if reach is None:
            continue
        scales = [scale for scale in recipe.edit.scales if scale != 1 and (scale > 1) == rises]
        served = [(scale, target) for scale in scales for target in targets if scale in tried_at[target.task]]
        if not served:
            side = "above" if rises else "below"
            raise HeadPursuitError(f"goal.{key}: no scale of the edit is {side} 1 on {concept.spec.task}; add one")
        for scale, target in served:
            limits = tuple(limit for limit in prepared.limits if scale in tried_at.get(limit.metric.task, ()))
            found.append(Goal(concept.name, target, limits, rises=rises, reach=reach, scale=scale))
    for number, limit in enumerate(prepared.limits):
        if not any(limit in goal.limits for goal in found):
            raise HeadPursuitError(
                f"goal.keep[{number}]: {limit.metric.task} is not tried at a scale of the goal"
                f"{' on generated tokens, as it is given' if recipe.edit.where == 'generated' else ''}; leave it out"
            )
    return tuple(found)


def selection_goal(goal: Goal, selection: Cells) -> Goal | None:
    """A goal on selection data, with the limits that can be seen there; None where the unedited model scores 0 on something."""
    goal = replace(goal, limits=tuple(limit for limit in goal.limits if limit.metric.task in selection.tasks))
    return goal if all(map(selection.has_effect, goal.metrics)) else None


def settle(goals: Sequence[Goal], ranking: HeadRanking, ks: Sequence[int], selection: Cells, *, where: str) -> int:
    """The number of heads with which most goals can be expected to be reached on other samples.

    A goal that is some standard errors from a miss on selection data is reached with the probability that a normal variable
    falls below them. Two are sure enough: beyond them fewer heads are better than a wider margin.

    Args:
        goals: those of one concept, on selection data.
        ranking: the order of heads.
        ks: the numbers to choose from.
        selection: the split.
        where: the tokens at which the edit holds.
    """

    def edit(goal: Goal, k: int) -> HeadEdit:
        return HeadEdit(ranking.top(k), scale=goal.scale, where=where)  # type: ignore[arg-type]

    def expected(k: int) -> tuple[float, int]:
        margins = (goal.margin(selection, edit(goal, k)) for goal in goals)
        return sum(NormalDist().cdf(min(margin, _SURE)) for margin in margins), -k

    if len(ks) == 1:
        return ks[0]
    selection.fill(key for goal in goals for key in goal.keys(edit(goal, k) for k in ks))
    return max(ks, key=expected)


def judge(goal: Goal, rows: Sequence[Row], *, k: int, selection: Selection, settled: bool = True) -> Verdict:
    """The verdict of test data on a goal, from the table's rows.

    Args:
        goal: the goal, with its scale.
        rows: the rows of the concept.
        k: the number of heads.
        selection: how they were chosen.
        settled: whether the number was chosen on selection data.
    """
    assert goal.scale is not None
    own = [row for row in rows if row.selection == "none" or row.scale == goal.scale]
    left = _effects(own, goal.target, selection)
    effect, control = left.get(k), _effects(own, goal.target, "random").get(k)
    held = effect is not None and goal.came_to(effect)
    furthest = min(left, key=lambda size: (goal.weakness(left[size]), size), default=k)
    kept = []
    for limit in goal.limits:
        remains = _effects(own, limit.metric, selection).get(k)
        within = None if remains is None else limit.loss_of(remains) <= limit.at_most
        kept.append(Kept(limit.metric.task, limit.metric.name, limit=limit.at_most, effect=remains, held=within))
    return Verdict(
        kind="enhance" if goal.rises else "suppress",
        task=goal.target.task,
        metric=goal.target.name,
        scale=goal.scale,
        k=k,
        wanted=float(goal.reach or 0),
        effect=effect,
        held=held,
        control=control,
        control_held=control is None or abs(control - 1) <= QUIET,
        kept=tuple(kept),
        best=None if held or furthest == k else (furthest, left[furthest]),
        settled=settled,
    )


def _effects(rows: Sequence[Row], metric: Metric, selection: Selection) -> dict[int, float]:
    """The effects on a metric of edits of some heads, by their number; empty where nothing can be told."""
    own = find(rows, task=metric.task, metric=metric.name)
    if not all(metric.has_effect(row.value) for row in find(own, selection="none")):
        return {}
    return {row.k: row.effect for row in find(own, selection=selection) if row.effect is not None}
