"""One experiment with its controls: the paper's comparison of SOMP, logit lens and random heads, for one concept.

Heads are ranked on a selection split and so is the number of heads to edit; every printed number comes from a test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headpursuit.activations.capture import capture
from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Bench, Measure
from headpursuit.evaluation.effects import row
from headpursuit.evaluation.results import Row, Selection
from headpursuit.ranking.controls import random_controls
from headpursuit.ranking.rank import rank

if TYPE_CHECKING:
    from headpursuit.activations.head_activations import HeadActivations
    from headpursuit.activations.moments import HeadMoments
    from headpursuit.activations.positions import RowPositions
    from headpursuit.concepts import Concept
    from headpursuit.model.heads import Head
    from headpursuit.ranking.ranking import HeadRanking

# What just holds on the selection split does not on another.
_MARGIN = 0.05


@dataclass(frozen=True)
class Enhancement:
    """What is expected when the same heads are scaled up.

    Attributes:
        target: what should rise.
        quality: what should stay; both measures of one task.
        scales: factors to try on the selection split.
        at_least: success when the target rises to this share of the unedited model's value, or above.
        keep: share of the quality that must remain.
    """

    target: Measure
    quality: Measure
    scales: tuple[float, ...]
    at_least: float = 1.3
    keep: float = 0.85


@dataclass(frozen=True)
class Experiment:
    """What is expected of the heads of one concept.

    Attributes:
        concept: the word list.
        target: what suppression should lower.
        kept: what it should leave alone.
        positions: which tokens the heads are ranked on.
        at_most: suppression succeeds when the target falls to this share of the unedited model's value, or below.
        keep: share of every kept measure that must remain.
        also: what is reported and not judged.
        enhancement: what is expected of the opposite edit, where there is one.
    """

    concept: Concept
    target: Measure
    kept: tuple[Measure, ...]
    positions: RowPositions
    at_most: float
    keep: float = 0.9
    also: tuple[Measure, ...] = ()
    enhancement: Enhancement | None = None


@dataclass(frozen=True)
class Outcome:
    """One experiment's results.

    Attributes:
        experiment: what was expected.
        acts: the selection split's activations.
        rankings: by selection method, ``somp`` and ``logit_lens``.
        k: number of heads that the selection split settled on.
        scale_up: the enhancing scale that it settled on, or None.
        rows: every number, on the test split.
        answers: the answers behind them, by selection (``none``, ``somp``, ``enhanced``), for the target's task.
        misses: what was not reached, in words; empty when all was.
    """

    experiment: Experiment
    acts: HeadActivations | HeadMoments = field(repr=False)
    rankings: Mapping[Selection, HeadRanking] = field(repr=False)
    k: int
    scale_up: float | None
    rows: tuple[Row, ...] = field(repr=False)
    answers: Mapping[str, Sequence[str]] = field(repr=False)
    misses: tuple[str, ...]

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads that SOMP chose, best first."""
        return self.rankings["somp"].top(self.k)


def run_experiment(
    experiment: Experiment,
    *,
    selection: Bench,
    test: Bench,
    ks: Sequence[int],
    acts: HeadActivations | HeadMoments | None = None,
    scale: float = -1.0,
    draws: int = 10,
    seed: int = 0,
) -> Outcome:
    """Rank on the selection split, settle on k there, and measure on the test split with every control.

    Args:
        experiment: what is expected.
        selection: the selection split.
        test: the test split.
        ks: numbers of heads to try, ascending; each gets a row.
        acts: a capture of the selection split at the experiment's positions; made here when left out.
        scale: the suppressing scale.
        draws: random control sets.
        seed: seed of the draws.
    """
    model = test.model
    if acts is None:
        samples = selection.tasks[experiment.target.task].samples
        acts = capture(model, samples, positions=experiment.positions, progress=False)
    rankings: dict[Selection, HeadRanking] = {
        "somp": rank(acts, experiment.concept, method="somp", progress=False),
        "logit_lens": rank(acts, experiment.concept, method="logit_lens", progress=False),
    }
    k = choose_k(experiment, selection, rankings["somp"], ks=ks, scale=scale)
    scale_up = _choose_scale(experiment, selection, rankings["somp"].top(k))
    down = (experiment.target, *experiment.kept, *experiment.also)
    up = () if experiment.enhancement is None else (experiment.enhancement.target, experiment.enhancement.quality)

    def measured(
        selection: Selection, measures: Sequence[Measure], edits: Sequence[HeadEdit | None], factor: float
    ) -> list[Row]:
        named = {"concept": experiment.concept.name, "selection": selection, "scale": factor, "seed": seed}
        return [row(test, measure, edits, **named) for measure in measures]  # type: ignore[arg-type]

    rows = measured("none", tuple(dict.fromkeys(down + up)), [None], 1.0)
    for method, ranking in rankings.items():
        for size in ks:
            rows += measured(method, down, [HeadEdit(ranking.top(size), scale=scale)], scale)
        if scale_up is not None:
            rows += measured(method, up, [HeadEdit(ranking.top(k), scale=scale_up)], scale_up)
    controls = random_controls(rankings["somp"].top(k), model.anatomy.heads(), draws=draws, seed=seed)
    # Controls stop at what the target's own runs give: every other task would be ten more runs a concept.
    near = [measure for measure in down if measure.task == experiment.target.task]
    for factor, measures in ((scale, near), (scale_up, up)):
        if factor is not None:
            rows += measured("random", measures, [HeadEdit(heads, scale=factor) for heads in controls], factor)
    suppress = HeadEdit(rankings["somp"].top(k), scale=scale)
    answers: dict[str, Sequence[str]] = {
        "none": test.answers(experiment.target.task, None),
        "somp": test.answers(experiment.target.task, suppress),
    }
    if experiment.enhancement is not None and scale_up is not None:
        raised = HeadEdit(suppress.heads, scale=scale_up)
        answers["enhanced"] = test.answers(experiment.enhancement.target.task, raised)
    return Outcome(
        experiment=experiment,
        acts=acts,
        rankings=rankings,
        k=k,
        scale_up=scale_up,
        rows=tuple(rows),
        answers=answers,
        misses=tuple(_misses(experiment, rows, k=k, scale=scale, scale_up=scale_up)),
    )


def choose_k(experiment: Experiment, bench: Bench, ranking: HeadRanking, *, ks: Sequence[int], scale: float) -> int:
    """The fewest heads that reach the goal and keep what must be kept.

    Where none does both, the k that lowers the target most while keeping; where none keeps, the least harmful one.

    Raises:
        HeadPursuitError: the unedited model scores 0 on the target.
    """

    def judged(k: int) -> tuple[bool, float, int]:
        edit = HeadEdit(ranking.top(k), scale=scale)
        kept = min((bench.ratio(measure, edit) or 0.0 for measure in experiment.kept), default=1.0)
        target = bench.ratio(experiment.target, edit)
        if target is None:
            raise HeadPursuitError(
                f"{experiment.concept.name}: the unedited model scores 0 on {experiment.target.metric}, so nothing can be "
                "lowered; choose samples on which it speaks of the concept"
            )
        kept_enough = kept >= experiment.keep
        return (not kept_enough, max(target, experiment.at_most) if kept_enough else -kept, k)

    return min(ks, key=judged)


def _choose_scale(experiment: Experiment, bench: Bench, heads: Sequence[Head]) -> float | None:
    """The enhancing scale that raises the target most while quality stays with a margin; else the one that hurts least."""
    wanted = experiment.enhancement
    if wanted is None:
        return None

    def judged(scale: float) -> tuple[bool, float]:
        edit = HeadEdit(heads, scale=scale)
        quality = bench.ratio(wanted.quality, edit) or 0.0
        kept_enough = quality >= wanted.keep + _MARGIN
        return (not kept_enough, -(bench.ratio(wanted.target, edit) or 0.0) if kept_enough else -quality)

    return min(wanted.scales, key=judged)


def _misses(experiment: Experiment, rows: Sequence[Row], *, k: int, scale: float, scale_up: float | None) -> list[str]:
    def found(measure: Measure, selection: str, factor: float, size: int = k) -> float:
        for one in rows:
            place = (one.task, one.metric, one.selection, one.k, one.scale)
            if place == (measure.task, measure.metric, selection, size, factor):
                return float("nan") if one.normalized is None else one.normalized
        raise KeyError(measure)

    misses = []
    reached = found(experiment.target, "somp", scale)
    if not reached <= experiment.at_most:
        sizes = {one.k for one in rows if one.selection == "somp" and one.scale == scale}
        lowest, size = min((found(experiment.target, "somp", scale, size), size) for size in sizes)
        left = min((found(measure, "somp", scale, size) for measure in experiment.kept), default=1.0)
        why = "" if lowest >= reached else f" (k = {size} reaches {lowest:.2f}, but leaves {left:.2f} of the rest)"
        misses.append(f"suppression reached {reached:.2f} of the unedited value, {experiment.at_most} was wanted{why}")
    for measure in experiment.kept:
        left = found(measure, "somp", scale)
        if not left >= experiment.keep:
            misses.append(f"{measure.metric} of {measure.task} fell to {left:.2f}, {experiment.keep} was wanted")
    control = found(experiment.target, "random", scale)
    if not 0.9 <= control <= 1.1:
        misses.append(f"random heads moved the target to {control:.2f}, 0.9 to 1.1 was wanted")
    if experiment.enhancement is not None and scale_up is not None:
        wanted = experiment.enhancement
        raised, left = (found(measure, "somp", scale_up) for measure in (wanted.target, wanted.quality))
        if not raised >= wanted.at_least:
            misses.append(f"enhancement reached {raised:.2f} of the unedited value, {wanted.at_least} was wanted")
        if not left >= wanted.keep:
            misses.append(f"enhancement left {wanted.quality.metric} at {left:.2f}, {wanted.keep} was wanted")
    return misses
