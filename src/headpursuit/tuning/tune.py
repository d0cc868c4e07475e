"""Tune an edit: search on one split, and report on another what was found, beside a fixed edit and random heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from headpursuit.editing.edit import Factor, HeadEdit
from headpursuit.editing.where import ALL, as_where
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cell_files import CellStore
from headpursuit.evaluation.cells import Bench
from headpursuit.evaluation.effects import comparison, row
from headpursuit.evaluation.prepare import Aim
from headpursuit.evaluation.protocol import choose_k
from headpursuit.evaluation.rankings import stored_rankings
from headpursuit.evaluation.recipe import ConceptSpec
from headpursuit.evaluation.results import Comparison, Results, Row, Selection
from headpursuit.ranking.controls import random_controls
from headpursuit.tuning.search import Space, Trial, choose, front, measured, search
from headpursuit.tuning.splits import read_data
from headpursuit.versions import versions

if TYPE_CHECKING:
    from headpursuit.activations.capture import Samples
    from headpursuit.activations.positions import Positions
    from headpursuit.concepts import Concept
    from headpursuit.editing.where import TokenGroup
    from headpursuit.evaluation.cells import Measure
    from headpursuit.evaluation.goals import Goal
    from headpursuit.model.head_model import HeadModel
    from headpursuit.model.heads import Head
    from headpursuit.ranking.ranking import HeadRanking
    from headpursuit.tuning.splits import TuningData

_SCALES = {False: (-2.0, 0.75), True: (1.25, 8.0)}


@dataclass(frozen=True)
class Point:
    """An edit of the trade-off, on both splits.

    Attributes:
        trial: the edit, and what it did on the tuning split.
        effect: what became of the target on the test split.
        cost: the largest loss there, as a share of what is allowed.
    """

    trial: Trial
    effect: float
    cost: float


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        edit: the edit that was chosen.
        fixed: the edit that it stands beside: the fewest best heads of SOMP at one scale, chosen on the tuning split.
        goal: what was wished.
        trials: every edit that was tried, on the tuning split.
        front: the trade-off among them, cheapest first, with what each does on the test split.
        results: rows and comparisons of the test split.
        misses: limits that the edit does not keep on the test split, in words.
        computed: cells that were run now; others were there from before.
    """

    edit: HeadEdit
    fixed: HeadEdit
    goal: Goal
    trials: tuple[Trial, ...] = field(repr=False)
    front: tuple[Point, ...] = field(repr=False)
    results: Results = field(repr=False)
    misses: tuple[str, ...]
    computed: int


@dataclass(frozen=True)
class Options:
    """How a search is done.

    Attributes:
        trials: edits to try.
        k: most heads.
        scales: smallest and largest scale; by default −2 to 0.75, or 1.25 to 8 for enhancing.
        places: tokens at which the edit may hold.
        methods: how heads are put in order, see :func:`headpursuit.evaluation.rankings.stored_rankings`.
        per_head: whether heads may have scales of their own.
        fixed_ks: numbers of heads of the fixed edit, of which the tuning split chooses one.
        fixed_scale: its scale; by default −1, or 4 for enhancing.
        draws: random head sets.

    Raises:
        HeadPursuitError: an unknown method or place.
    """

    trials: int = 60
    k: int = 8
    scales: tuple[float, float] | None = None
    places: tuple[TokenGroup, ...] = (ALL,)
    methods: tuple[Selection, ...] = ("somp",)
    per_head: bool = True
    fixed_ks: tuple[int, ...] = (1, 2, 3)
    fixed_scale: float | None = None
    draws: int = 10

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in ("somp", "logit_lens", "attribution"):
                raise HeadPursuitError(f"method {method!r}: choose among somp, logit_lens and attribution")
        if not self.methods:
            raise HeadPursuitError("no method: choose among somp, logit_lens and attribution")
        for where in self.places:
            as_where(where)


def tune(
    model: HeadModel,
    concept: Concept,
    samples: Samples | None = None,
    *,
    out: str | Path,
    enhance: bool = False,
    reach: float | str | None = None,
    max_loss: float = 0.05,
    max_nats: float = 0.05,
    neutral: Samples | None = None,
    positions: Positions = "mean",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Tuned:
    """Choose heads and scales for a concept under limits, on a tuning split, and measure them on a test split.

    Args:
        model: the model.
        concept: the word list.
        samples: prompts, which are split in two halves; left out, the embedded demo's own two splits of its own data.
        out: where captures, rankings and cells are kept; a search that was cut off goes on where it stopped.
        enhance: the concept should be spoken of more, not less.
        reach: a share of the unedited model's value that the target should come to, at the least loss; ``"fixed"`` is what the
            fixed edit reaches. Left out, the strongest edit within the limits is looked for.
        max_loss: largest loss of quality, as a share of the unedited model's.
        max_nats: largest rise of the negative log-likelihood of neutral text, in nats a token.
        neutral: neutral texts; by default packaged sentences.
        positions: which tokens heads are ranked on, see :func:`headpursuit.capture`.
        limit: samples a task and split at most.
        seed: seed of splitting, sampling, search, draws and resampling.
        progress: show progress bars.
        **options: see :class:`Options`.

    Raises:
        HeadPursuitError: no concept word is ever said, limits or ranges that make no sense, too few samples.
        MissingExtraError: optuna is not installed.
    """
    data = read_data(
        model,
        concept,
        samples,
        neutral=neutral,
        positions=positions,
        max_loss=max_loss,
        max_nats=max_nats,
        enhance=enhance,
        limit=limit,
        seed=seed,
    )
    return run_tuning(model, data, Options(**options), out=Path(out), reach=reach, seed=seed, progress=progress)


def run_tuning(
    model: HeadModel,
    data: TuningData,
    options: Options,
    *,
    out: Path,
    reach: float | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Tuned:
    """Search on one split and report on the other; arguments as for :func:`tune`."""
    ran: list[str] = []
    store = CellStore(out / "cells")
    tuning = Bench(model, data.tuning, seed=seed, tick=ran.append, store=store)
    test = Bench(model, data.test, seed=seed, tick=ran.append, store=store)
    rises = data.goal.rises
    rankings = _rankings(model, data, options, out, progress)
    orders: dict[str, Sequence[Head]] = {method: rankings[method].order() for method in options.methods}
    most = min(options.k, *map(len, orders.values()))
    low, high = options.scales or _SCALES[rises]
    space = Space(orders, most, low, high, places=options.places, per_head=options.per_head)
    scale = (4.0 if rises else -1.0) if options.fixed_scale is None else options.fixed_scale
    ks = [k for k in options.fixed_ks if k <= most] or [most]
    fixed_edits = [HeadEdit(rankings["somp"].top(k), scale=scale) for k in ks]
    if data.experiment is None:
        fixed = _fixed(data.goal, tuning, fixed_edits)
    else:
        fixed = fixed_edits[ks.index(choose_k(data.experiment, tuning, rankings["somp"], ks=ks, scale=scale))]
    goal = replace(data.goal, reach=_reach(reach, data.goal, tuning, fixed))
    trials = search(goal, tuning, space, trials=options.trials, first=fixed_edits, seed=seed, progress=progress)
    edit = choose(goal, trials).edit
    wanted = goal.effect(test, fixed) if reach == "fixed" else goal.reach
    points = _on_test(goal, test, front(goal, trials), progress=progress)
    controls = _controls(edit, model, draws=options.draws, seed=seed)
    rows, comparisons = _table(goal, test, edit, fixed, controls, seed=seed)
    results = Results(
        recipe=f"tune {goal.concept}",
        model=model.identity,
        versions=versions(),
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        about={
            "edit": edit.to_dict(),
            "fixed": fixed.to_dict(),
            "goal": {
                "reach": goal.reach,
                "rises": rises,
                "limits": {one.measure.metric: one.at_most for one in goal.limits},
            },
            "options": {**vars(options), "low": low, "high": high},
            "tuning": {name: task.depends_on for name, task in data.tuning.items()},
            "test": {name: task.depends_on for name, task in data.test.items()},
            "seed": seed,
        },
    )
    return Tuned(
        edit, fixed, goal, tuple(trials), tuple(points), results, tuple(_misses(goal, test, edit, wanted)), len(ran)
    )


def count_cells(data: TuningData, options: Options) -> dict[str, int]:
    """Cells of each task at most, on both splits, unedited ones included; points of the trade-off aside."""
    tries = options.trials + len(options.fixed_ks) + 1
    counts = {f"{name}, tuning": tries for name in data.used}
    counts |= {f"{name}, test": 3 + (options.draws if name == data.goal.target.task else 0) for name in data.used}
    return counts


def _rankings(
    model: HeadModel, data: TuningData, options: Options, out: Path, progress: bool
) -> dict[Selection, HeadRanking]:
    spec = ConceptSpec(
        words=data.goal.concept,
        task=data.goal.target.task,
        target=data.goal.target.metric,
        positions=data.positions,  # type: ignore[arg-type]
    )
    aim = Aim(spec, data.concept, data.concept)
    methods = tuple(dict.fromkeys(("somp", *options.methods)))
    return stored_rankings(model, aim, data.ranked_on, methods=methods, folder=out, progress=progress)


def _fixed(goal: Goal, bench: Bench, edits: Sequence[HeadEdit]) -> HeadEdit:
    """The fixed edit that a sweep over k would settle on: the strongest within the limits, or else the cheapest."""
    tried = [measured(goal, bench, edit, number=number, method="fixed") for number, edit in enumerate(edits)]
    return choose(replace(goal, reach=None), tried).edit


def _reach(reach: float | str | None, goal: Goal, bench: Bench, fixed: HeadEdit) -> float | None:
    if reach is None or isinstance(reach, int | float):
        return reach
    if reach != "fixed":
        raise HeadPursuitError(f"reach={reach!r}: give a number, or 'fixed' for what the fixed edit reaches")
    return goal.effect(bench, fixed)


def _on_test(goal: Goal, bench: Bench, trials: Sequence[Trial], *, progress: bool) -> list[Point]:
    bar = tqdm(trials, desc="trade-off on the test split", unit="edit", disable=not progress, leave=False)
    return [Point(trial, goal.effect(bench, trial.edit), goal.cost(bench, trial.edit)) for trial in bar]


def _controls(edit: HeadEdit, model: HeadModel, *, draws: int, seed: int) -> list[HeadEdit]:
    """Random heads with the edit's own scales, as many in each layer."""
    factors = sorted(edit.factors, key=lambda factor: factor.head)
    sets = random_controls(edit.heads, model.anatomy.heads(), draws=draws, seed=seed)
    return [
        HeadEdit.of(Factor(head, factor.scale, factor.where) for head, factor in zip(heads, factors, strict=True))
        for heads in sets
    ]


def _table(
    goal: Goal, test: Bench, edit: HeadEdit, fixed: HeadEdit, controls: Sequence[HeadEdit], *, seed: int
) -> tuple[list[Row], list[Comparison]]:
    rows, comparisons = [], []
    for measure in goal.measures:
        named: dict[str, Any] = {"concept": goal.concept, "seed": seed}
        rows.append(row(test, measure, [None], selection="none", **named))
        rows.append(row(test, measure, [fixed], selection="somp", scale=fixed.scale, **named))
        rows.append(row(test, measure, [edit], selection="tuned", scale=_mean_scale(edit), **named))
        others: dict[Selection, Sequence[HeadEdit | None]] = {"none": [None], "somp": [fixed]}
        if measure.task == goal.target.task:  # every other task would be as many runs again
            rows.append(row(test, measure, controls, selection="random", scale=_mean_scale(edit), **named))
            others["random"] = controls
        comparisons += [
            comparison(
                test,
                measure,
                edit,
                edits,
                against=other,
                scale=_mean_scale(edit),
                wanted=_wanted(goal, measure),
                **named,
            )
            for other, edits in others.items()
        ]
    return rows, comparisons


def _wanted(goal: Goal, measure: Measure) -> Any:
    if measure != goal.target:
        return "same"
    return "more" if goal.rises else "less"


def _mean_scale(edit: HeadEdit) -> float:
    return sum(factor.scale for factor in edit.factors) / len(edit.factors)


def _misses(goal: Goal, bench: Bench, edit: HeadEdit, wanted: float | None) -> Iterator[str]:
    for limit in goal.limits:
        loss, named = limit.loss(bench, edit), f"{limit.measure.metric} of {limit.measure.task}"
        if loss > limit.at_most:
            yield f"{named} lost {loss:.3f} on the test split, {limit.at_most:g} was allowed"
    if wanted is not None:
        effect = goal.effect(bench, edit)
        if goal.weakness(effect) > goal.weakness(wanted):
            yield f"{goal.target.metric} came to {effect:.3f} on the test split, {wanted:.3f} was wanted"
