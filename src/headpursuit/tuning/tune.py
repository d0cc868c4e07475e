"""Tune an edit: search on one split, and report on another what was found, beside a fixed edit and random heads."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from headpursuit.activations.positions import Positions, RowPositions
from headpursuit.concepts import as_concept
from headpursuit.concepts.concept import ConceptLike
from headpursuit.drawing import Figure
from headpursuit.editing.edit import HeadEdit, write_edit
from headpursuit.editing.where import ALL, TokenMask, Where, as_where
from headpursuit.engines import LOCAL, Engine, engine_of, held
from headpursuit.errors import SEEDS, ChoiceError, HeadPursuitError, check_choice, check_counts, check_finite
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.effects import Wanted, comparison, row
from headpursuit.evaluation.evaluate import check_folder
from headpursuit.evaluation.goals import Goal, Trial, choose, tried
from headpursuit.evaluation.intervals import interval, resampled_means
from headpursuit.evaluation.metrics import DIVERGENCE, Metric
from headpursuit.evaluation.plan import task_seconds
from headpursuit.evaluation.rankings import stored_rankings
from headpursuit.evaluation.recipe import plain
from headpursuit.evaluation.results import Comparison, ConceptResult, DataUsed, Results, Row
from headpursuit.evaluation.verdicts import judge
from headpursuit.files import checked, csv_text, locked, read_sealed, write_sealed, write_text
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, as_model
from headpursuit.model.samples import Samples
from headpursuit.model.tokenize import token_fingerprint
from headpursuit.ranking.controls import control_edits
from headpursuit.ranking.methods import CALIBRATED, SELECTORS, Selection, method_key
from headpursuit.tuning.search import FIXED, Space, front, search
from headpursuit.tuning.splits import TuningData, check_limits, demo_data, sample_data
from headpursuit.versions import versions

TUNED, EDIT = "tuned.json", "edit.json"
FORMAT = 2
_AGAIN = "tune again"
# What a head writes, what the model makes of it, that beside what it costs, and the order of the fixed edit.
METHODS: tuple[str, ...] = (CALIBRATED, "attribution", "natural", "somp")
_SCALES = {False: (-2.0, 0.75), True: (1.25, 8.0)}


@dataclass(frozen=True)
class Point:
    """An edit of the trade-off, on both splits.

    Attributes:
        trial: the edit, and what it did on the tuning split.
        effect: what it left of the target on the test split.
        cost: the largest loss there, as a share of what is allowed.
    """

    trial: Trial
    effect: float
    cost: float


@dataclass(frozen=True)
class Tuned:
    """The edit that tuning found, and what it stands beside.

    Attributes:
        edit: the edit that was chosen.
        fixed: the edit that it stands beside: the best heads of SOMP at one scale, their number chosen on the tuning split.
        goal: what was wished.
        trials: every edit that was tried, on the tuning split.
        front: the trade-off among those that may be chosen, cheapest first, with what each does on the test split.
        results: rows and comparisons of the test split.
        misses: what the edit did not reach or keep on the test split, in words.
        change: by how much the edit changes the target on the test split, in its unit, and the ends of its 95 % interval.
        computed: cells that were run now; others were there from before.
    """

    edit: HeadEdit
    fixed: HeadEdit
    goal: Goal
    trials: tuple[Trial, ...] = field(repr=False)
    front: tuple[Point, ...] = field(repr=False)
    results: Results = field(repr=False)
    misses: tuple[str, ...]
    change: tuple[float, float, float]
    computed: int = field(default=0, compare=False)

    @property
    def moved(self) -> bool:
        """Whether the target is lower on the test split than without the edit (to enhance: higher), by its whole interval."""
        _, low, high = self.change
        return low > 0 if self.goal.rises else high < 0

    def check_moved(self) -> None:
        """Refuse an edit whose target did not move.

        Raises:
            HeadPursuitError: it did not; with the change, its interval, and what may help.
        """
        if not self.moved:
            change, low, high = self.change
            target, n = self.goal.target, self.results.target_rows()[0].n
            by = f"{change:.3g} [{low:.3g}, {high:.3g}] {target.unit}".rstrip()
            raise HeadPursuitError(
                f"no edit is written: on {n} test samples {target} changes by {by}, no sure "
                f"{'rise' if self.goal.rises else 'fall'}; try more samples (limit), "
                "larger limits of cost, other methods, more heads (k) or trials"
            )

    def to_frame(self) -> pd.DataFrame:
        """One line a trial; those of the trade-off with their numbers on the test split, too."""
        points = {point.trial.number: point for point in self.front}
        return pd.DataFrame(
            {
                "number": trial.number,
                "method": trial.method,
                "k": len(trial.edit.heads),
                "effect": trial.effect,
                "cost": trial.cost,
                "test_effect": getattr(point, "effect", None),
                "test_cost": getattr(point, "cost", None),
                "on_front": point is not None,
                "chosen": trial.edit == self.edit,
                "edit": str(trial.edit),
            }
            for trial in self.trials
            for point in (points.get(trial.number),)
        )

    def plot(self) -> Figure:
        """The trade-off: what every edit does to the target over what it costs.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from headpursuit.drawing import trade_off

        marked = []
        for name, edit in (("fixed", self.fixed), ("tuned", self.edit)):
            trial = next(one for one in self.trials if one.edit == edit)
            marked.append((name, trial.cost, trial.effect))
        return trade_off(
            {
                "tried, tuning split": [(one.cost, one.effect) for one in self.trials],
                "best, tuning split": [(one.trial.cost, one.trial.effect) for one in self.front],
                "the same edits, test split": [(one.cost, one.effect) for one in self.front],
            },
            marked=marked,
            limit=1.0,
            reach=self.goal.reach,
            title=self.results.title,
            xlabel="largest loss, 1 = all that is allowed",
            ylabel=f"{self.goal.target.name}, unedited = 1",
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``edit.json``, ``results.json``, ``results.csv``, ``comparisons.csv``, ``trials.csv`` and ``tuned.json``.

        An edit whose target did not move (:attr:`moved`) is left out, and an ``edit.json`` of an earlier run left alone.

        Returns:
            The path of ``tuned.json``, which is written last.
        """
        folder = Path(folder)
        self.results.save(folder)
        if self.moved:
            write_edit(folder / EDIT, self.edit, model=self.results.model)
        write_text(folder / "trials.csv", csv_text(self.to_frame(), index=False))
        content = {
            "format": FORMAT,
            "edit": self.edit.to_dict(),
            "fixed": self.fixed.to_dict(),
            "goal": asdict(self.goal),
            "trials": [{**vars(one), "edit": one.edit.to_dict()} for one in self.trials],
            "front": [{"number": one.trial.number, "effect": one.effect, "cost": one.cost} for one in self.front],
            "misses": list(self.misses),
            "change": list(self.change),
        }
        return write_sealed(folder / TUNED, content)

    @classmethod
    def load(cls, folder: str | Path) -> Tuned:
        """Read what :meth:`save` wrote.

        Raises:
            HeadPursuitError: the folder holds no tuned edit, or one that cannot be read.
        """
        path = Path(folder) / TUNED
        if not path.is_file():
            raise HeadPursuitError(f"{folder} holds no {TUNED}: give a folder that `headpursuit tune` wrote")
        content, results = read_sealed(path, format=FORMAT, what="tuned edit", remedy=_AGAIN), Results.load(folder)
        stored = checked(_Stored, content, what=f"{path} holds no tuned edit", remedy=_AGAIN)
        part = results.model.get("part", "text")
        trials = {one.number: Trial(**{**dict(one), "edit": HeadEdit.from_dict(one.edit, part=part)}) for one in stored.trials}
        if unknown := [point.number for point in stored.front if point.number not in trials]:
            raise HeadPursuitError(f"{path} holds no tuned edit (front: there is no trial {unknown[0]}): {_AGAIN}")
        return cls(
            edit=HeadEdit.from_dict(stored.edit, part=part),
            fixed=HeadEdit.from_dict(stored.fixed, part=part),
            goal=stored.goal,
            trials=tuple(trials.values()),
            front=tuple(Point(trials[point.number], point.effect, point.cost) for point in stored.front),
            results=results,
            misses=stored.misses,
            change=stored.change,
        )


class _StoredTrial(BaseModel):
    """A :class:`Trial`; its edit checks itself."""

    model_config = ConfigDict(extra="forbid")
    number: int
    edit: dict[str, Any]
    method: str
    effect: float
    cost: float
    weakness_bound: float
    cost_bound: float


class _StoredPoint(BaseModel):
    """A :class:`Point`, its trial by number."""

    model_config = ConfigDict(extra="forbid")
    number: int
    effect: float
    cost: float


class _Stored(BaseModel):
    """The content of ``tuned.json``."""

    model_config = ConfigDict(extra="forbid")
    format: int
    edit: dict[str, Any]
    fixed: dict[str, Any]
    goal: Goal
    trials: tuple[_StoredTrial, ...]
    front: tuple[_StoredPoint, ...]
    misses: tuple[str, ...]
    change: tuple[float, float, float]
    sha256: str


@dataclass(frozen=True)
class Options:
    """The ways of a search; what alone stands for a list is a list of one.

    Attributes:
        trials: edits to try, at least 1.
        k: most heads.
        scales: smallest and largest scale; by default −2 to 0.75, or 1.25 to 8 for enhancing. Heads that hold the concept down
            may be scaled as far on the other side of 1.
        where: tokens at which the edit may hold.
        methods: how heads are put in order: any of :func:`headpursuit.select`, by its name.
        per_head: whether each head may have a scale of its own, whatever its ranking gives it.
        fixed_ks: numbers of heads of the fixed edit, of which the tuning split chooses one.
        fixed_scale: its scale; by default −1, or 4 for enhancing.
        draws: random head sets.

    Raises:
        HeadPursuitError: no trial, an unknown method or choice of tokens.
    """

    trials: int = 60
    k: int = 8
    scales: tuple[float, float] | None = None
    where: tuple[Where, ...] = (ALL,)
    methods: tuple[str, ...] = METHODS
    per_head: bool = True
    fixed_ks: tuple[int, ...] = (1, 2, 3)
    fixed_scale: float | None = None
    draws: int = 10

    def __post_init__(self) -> None:
        check_counts(trials=self.trials, k=self.k, draws=self.draws)
        for name, alone in (("methods", str), ("where", str | TokenMask), ("fixed_ks", int)):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, alone) else tuple(given))
        for name in ("methods", "where", "fixed_ks"):
            if not getattr(self, name):
                raise HeadPursuitError(f"{name}: give at least one")
        for method in self.methods:
            check_choice(SELECTORS, methods=method_key(method))
        object.__setattr__(self, "methods", tuple(dict.fromkeys(map(method_key, self.methods))))
        for where in self.where:
            as_where(where)
        for k in self.fixed_ks:
            check_counts(fixed_ks=k)
        for scale in (*(self.scales or ()), self.fixed_scale):
            check_finite(scale=scale)


def tune(
    model: ModelLike,
    samples: Samples | None,
    concept: ConceptLike,
    *,
    out: str | Path | None = None,
    enhance: bool = False,
    reach: float | str | None = None,
    limits: Mapping[str, float] | None = None,
    neutral: Samples | None = None,
    positions: Positions | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Tuned:
    """Choose heads and scales for a concept under limits, on a tuning split, and measure them on a test split.

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        samples: prompts, which are split in two halves; None for the embedded demo's own two splits of its own data.
        concept: the word list.
        out: folder for captures, rankings, cells and the result; a search that was cut off there goes on where it stopped.
            Nothing is kept when left out.
        enhance: the concept should be spoken of more, not less.
        reach: a share of the unedited model's value that the target should come to, at the least loss; ``"fixed"`` is what the
            fixed edit reaches. Left out, the strongest edit within the limits is looked for.
        limits: largest losses: of the ``answers``' quality where all samples have targets, as a share of the unedited model's
            (0.05 when left out), and the divergence from the unedited model on ``neutral`` text, in nats a token (0.1). On the
            demo's own data, of what its recipes keep (0.05 each).
        neutral: neutral texts beside own samples; by default packaged sentences.
        positions: which tokens of own samples heads are ranked on, see :func:`headpursuit.capture`; ``mean`` when left out.
        limit: samples a task and split at most.
        seed: seed of splitting, sampling, search, draws and resampling.
        progress: show progress bars.
        **options: see :class:`Options`. And ``engine``, ``workers``, ``cpus_per_worker`` and ``gpus_per_worker`` as for
            :func:`headpursuit.capture`: workers capture, and run cells side by side where one does not wait for another.

    Returns:
        The edit that was chosen, beside what else was tried. Whether its target moved at all on the test split says
        :attr:`Tuned.moved`; where it did not, no ``edit.json`` is written.

    Raises:
        HeadPursuitError: no concept word is ever said, limits or ranges that make no sense, too few samples, what a method of
            ranking refuses, or tokens at which no limit sees what an edit costs.
        MissingExtraError: optuna is not installed.
    """
    engine, words = engine_of(options), as_concept(concept)
    chosen = Options(**options)
    check_wishes(reach=reach, positions=positions, limits=limits, limit=limit, seed=seed)
    if out is not None:
        check_folder(Path(out), recipe_name(words.name))
    model = as_model(model)
    data = read_data(
        model, samples, words, neutral=neutral, positions=positions, limits=limits, enhance=enhance, limit=limit, seed=seed
    )
    common: dict[str, Any] = {"reach": reach, "engine": engine, "seed": seed, "progress": progress}
    if out is not None:
        with locked(Path(out)):
            tuned = run_tuning(model, data, chosen, out=Path(out), **common)
            tuned.save(out)
        return tuned
    with tempfile.TemporaryDirectory() as made:
        return run_tuning(model, data, chosen, out=Path(made), **common)


def check_wishes(
    *, reach: float | str | None, positions: str | None, limits: Mapping[str, float] | None, limit: int | None, seed: int
) -> None:
    """Refuse arguments of :func:`tune` that have no meaning, before anything is loaded.

    Raises:
        HeadPursuitError: naming the argument and what it may be.
    """
    check_counts(4, limit=limit)
    check_counts(*SEEDS, seed=seed)
    check_limits(limits)
    if positions is not None:
        check_choice(get_args(RowPositions), positions=positions)
    if reach != "fixed":
        if isinstance(reach, str):
            raise ChoiceError(f"reach={reach!r}: give a number, or 'fixed' for what the fixed edit reaches")
        check_finite(reach=reach)


def read_data(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike,
    *,
    neutral: Samples | None = None,
    positions: Positions | None = None,
    **common: Any,
) -> TuningData:
    """The splits of one's own samples, or where none are given those of the demo; arguments as for :func:`tune`.

    Raises:
        HeadPursuitError: as ``sample_data`` and ``demo_data``; neutral texts or positions beside the demo's own.
    """
    words = as_concept(concept)
    if samples is None:
        for name, given in (("neutral", neutral), ("positions", positions)):
            if given is not None:
                raise HeadPursuitError(f"{name}: the demo's own data brings its own; leave it out, or give samples")
        return demo_data(model, words, **common)
    return sample_data(model, samples, words, neutral=neutral, positions=positions or "mean", **common)


def run_tuning(
    model: HeadModel,
    data: TuningData,
    options: Options,
    *,
    out: Path,
    reach: float | str | None = None,
    engine: Engine = LOCAL,
    seed: int = 0,
    progress: bool = True,
) -> Tuned:
    """Search on one split and report on the other; arguments as for :func:`tune`."""
    with held(engine) as workers:
        return _run_tuning(model, data, options, out=out, reach=reach, engine=workers, seed=seed, progress=progress)


def _run_tuning(
    model: HeadModel,
    data: TuningData,
    options: Options,
    *,
    out: Path,
    reach: float | str | None,
    engine: Engine,
    seed: int,
    progress: bool,
) -> Tuned:
    if all(limit.metric == DIVERGENCE for limit in data.goal.limits) and (unseen := {"image", "generated"} & {*options.where}):
        raise HeadPursuitError(
            f"where={unseen.pop()!r}: neutral texts have no such tokens, so that nothing would say what the edit costs: give "
            "samples with targets, or other tokens"
        )
    ran: list[str] = []
    common: dict[str, Any] = {"seed": seed, "folder": out / "cells", "tick": ran.append, "engine": engine}
    tuning, test = (Cells(model, tasks, **common) for tasks in (data.tuning, data.test))
    # A goal that cannot be judged is told before anything is searched for.
    for cells in (tuning, test):
        cells.fill(data.goal.keys(()))
        data.goal.effect(cells, None)
        data.goal.cost(cells, None)
    rises = data.goal.rises
    scale = (4.0 if rises else -1.0) if options.fixed_scale is None else options.fixed_scale
    rankings = stored_rankings(
        model,
        data.concept,
        data.ranked_on,
        positions=data.positions,
        methods=tuple(dict.fromkeys(("somp", *options.methods))),
        neutral=data.quiet,
        k=options.k,
        scale=scale,
        seed=seed,
        folder=out,
        engine=engine,
        progress=progress,
    )
    most = min(options.k, len(rankings["somp"].order()))
    low, high = options.scales or _SCALES[rises]
    searched = {method: rankings[method] for method in options.methods}
    space = Space(searched, most, low, high, where=options.where, per_head=options.per_head)
    ks = [k for k in options.fixed_ks if k <= most] or [most]
    fixed_edits = [HeadEdit(rankings["somp"].top(k), scale=scale) for k in ks]
    fixed = _fixed(data.goal, tuning, fixed_edits)
    goal = replace(data.goal, reach=_reach(reach, data.goal, tuning, fixed))
    trials = search(goal, tuning, space, trials=options.trials, first=fixed_edits, seed=seed, progress=progress)
    allowed = [trial for trial in trials if space.holds(trial.edit)]
    edit = choose(goal, allowed).edit
    wanted = goal.effect(test, fixed) if reach == "fixed" else goal.reach
    points = _on_test(goal, test, front(goal, allowed), progress=progress)
    controls = control_edits(edit, model.anatomy.heads(), draws=options.draws, seed=seed)
    rows, comparisons = _table(goal, test, edit, fixed, controls, seed=seed)
    words = data.concept.words
    concept = ConceptResult(goal.concept, goal.target.task, goal.target.name, words=words, counted=words, rankings=rankings)
    results = Results(
        recipe=recipe_name(goal.concept),
        title=f"{'Enhance' if rises else 'Suppress'} {goal.concept}: a tuned edit",
        model=model.identity,
        versions=versions(),
        seed=seed,
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        metrics=goal.metrics,
        concepts=(concept,),
        data=_data_used(data, model),
        settings=plain(
            {
                "edit": edit.to_dict(),
                "fixed": fixed.to_dict(),
                "reach": goal.reach,
                "rises": rises,
                "limits": {one.metric.name: one.at_most for one in goal.limits},
                **{key: value for key, value in vars(options).items() if key != "where"},
                "where": [str(where) for where in options.where],
                "scales": [low, high],
                "tuning": {name: task.depends_on for name, task in data.tuning.items()},
                "test": {name: task.depends_on for name, task in data.test.items()},
            }
        ),
        draws=options.draws,
    )
    judged = replace(goal, reach=wanted, scale=_furthest(edit, goal))
    misses = judge(judged, rows, k=len(edit.heads), selection="tuned").misses
    change = _change(test, goal.target, edit, seed=seed)
    return Tuned(edit, fixed, goal, tuple(trials), tuple(points), results, misses, change, computed=len(ran))


def count_cells(data: TuningData, options: Options) -> dict[str, int]:
    """Cells of each task at most, on both splits, unedited ones included; points of the trade-off aside."""
    tries = options.trials + len(options.fixed_ks) + 1
    counts = {f"{name}, tuning": tries for name in data.used}
    counts |= {f"{name}, test": 3 + (options.draws if name == data.goal.target.task else 0) for name in data.used}
    return counts


def trial_seconds(data: TuningData, model: HeadModel) -> dict[str, float]:
    """Seconds that one cell of each task takes here, by the names of :func:`count_cells`."""
    return {
        f"{name}, {split}": task_seconds(tasks[name], model)
        for split, tasks in (("tuning", data.tuning), ("test", data.test))
        for name in data.used
        if name in tasks
    }


def recipe_name(concept: str) -> str:
    """The name that results of tuning an edit for a concept have in the place of a recipe's."""
    return f"tune {concept}"


def _data_used(data: TuningData, model: HeadModel) -> tuple[DataUsed, ...]:
    return tuple(
        DataUsed(
            use,  # type: ignore[arg-type]
            name,
            len(task.samples),
            str(task.depends_on["samples"]),
            tokens=token_fingerprint(model, task.samples),
        )
        for use, tasks in (("test", data.test), ("selection", data.tuning))
        for name, task in tasks.items()
        if name in data.used
    )


def _fixed(goal: Goal, cells: Cells, edits: Sequence[HeadEdit]) -> HeadEdit:
    """The fixed edit that a sweep over k would settle on: the strongest within the limits, or else the cheapest."""
    cells.fill(goal.keys(edits))
    trials = [tried(goal, cells, edit, number=number, method=FIXED) for number, edit in enumerate(edits)]
    return choose(replace(goal, reach=None), trials).edit


def _reach(reach: float | str | None, goal: Goal, cells: Cells, fixed: HeadEdit) -> float | None:
    return goal.effect(cells, fixed) if isinstance(reach, str) else reach


def _on_test(goal: Goal, cells: Cells, trials: Sequence[Trial], *, progress: bool) -> list[Point]:
    cells.fill(goal.keys(trial.edit for trial in trials), title="trade-off on the test split" if progress else "")
    return [Point(trial, goal.effect(cells, trial.edit), goal.cost(cells, trial.edit)) for trial in trials]


def _table(
    goal: Goal, test: Cells, edit: HeadEdit, fixed: HeadEdit, controls: Sequence[HeadEdit], *, seed: int
) -> tuple[list[Row], list[Comparison]]:
    test.fill([*goal.keys([fixed, edit]), *((goal.target.task, control) for control in controls)])
    rows, comparisons = [], []
    for metric in goal.metrics:
        named: dict[str, Any] = {"concept": goal.concept, "seed": seed}
        rows.append(row(test, metric, [None], selection="none", **named))
        rows.append(row(test, metric, [fixed], selection="somp", scale=fixed.scale, **named))
        rows.append(row(test, metric, [edit], selection="tuned", scale=_furthest(edit, goal), **named))
        others: dict[Selection, Sequence[HeadEdit | None]] = {"none": [None], "somp": [fixed]}
        if metric.task == goal.target.task:  # every other task would be as many runs again
            rows.append(row(test, metric, controls, selection="random", scale=_furthest(edit, goal), **named))
            others["random"] = controls
        wanted: Wanted = "same" if metric != goal.target else "more" if goal.rises else "less"
        comparisons += [
            comparison(test, metric, edit, edits, against=other, scale=_furthest(edit, goal), wanted=wanted, **named)
            for other, edits in others.items()
        ]
    return rows, comparisons


def _change(cells: Cells, metric: Metric, edit: HeadEdit, *, seed: int) -> tuple[float, float, float]:
    """A metric's change with its interval, which there is where the unedited model scores 0 on some resample, too."""
    changes = cells.scores(metric, edit) - cells.scores(metric, None)
    low, high = interval(resampled_means(changes[None], seed=seed)[:, 0]) or (np.nan, np.nan)
    return float(changes.mean()), low, high


def _furthest(edit: HeadEdit, goal: Goal) -> float:
    """The scale that is furthest from 1, counted on the side where a head that says the concept is scaled."""
    far = max(abs(factor.scale - 1) for factor in edit.factors)
    return 1 + far if goal.rises else 1 - far
