"""Ways to choose heads beside each other: every method's edits at every k and scale, and what they reach at equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from headpursuit.activations.measures import contrast_measure
from headpursuit.concepts.texts import FEWEST, Texts, telling_words
from headpursuit.editing.edit import HeadEdit
from headpursuit.engines import LOCAL, Engine
from headpursuit.errors import HeadPursuitError, check_counts
from headpursuit.evaluation.cells import Cells, Task
from headpursuit.evaluation.curves import AtCost, Curve, CurvePoint, area
from headpursuit.evaluation.intervals import interval, resampled_means
from headpursuit.evaluation.metrics import DIVERGENCE, Metric
from headpursuit.evaluation.prepare import Prepared, PreparedConcept
from headpursuit.evaluation.rankings import stored_ranking
from headpursuit.evaluation.recipe import MethodSpec, SelectSpec
from headpursuit.evaluation.results import ConceptResult
from headpursuit.evaluation.teacher_forced_tasks import divergence_task, log_odds_metric, speaking, teacher_forced_task
from headpursuit.model.head_model import HeadModel
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.samples import Sample, fingerprint
from headpursuit.model.tokenize import token_fingerprint
from headpursuit.ranking.cost import Cost
from headpursuit.ranking.equal_cost import effect_at
from headpursuit.ranking.methods import CALIBRATED, METHODS
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.select import options_of, select
from headpursuit.versions import versions

Kind = Literal["suppress", "enhance"]
RANDOM = "random"
# Passes of the methods whose number of passes cannot be chosen; a pass backward is one, too.
_PASSES: dict[str, int] = {
    **dict.fromkeys((CALIBRATED, *METHODS), 1),
    "cosine": 3,
    "attribution": 2,
    "fusion": 6,
    "contest": 84,
}
# Options of methods that the comparison gives them all.
_GIVEN = {"acts", "batch_size", "engine", "limit", "metric", "neutral", "out", "progress", "seed", "without"}
# Each head is in one of so many sets of heads, if they are edited by twentieths.
_FEWEST_MASKS = 20


@dataclass(frozen=True)
class TaskMetric:
    """A metric of a task as knock-outs take one: the mean over its samples, whatever has to be generated for it.

    Attributes:
        task: the task, on selection data.
        metric: the metric.
        seed: seed of sampling.
    """

    task: Task
    metric: Metric
    seed: int

    @property
    def name(self) -> str:
        """What units are called by."""
        return self.metric.name

    @property
    def fingerprint(self) -> Any:
        """What its values depend on beside the model, in plain values."""
        return {"task": self.task.depends_on, "metric": self.metric.name, "seed": self.seed}

    def __call__(self, model: HeadModel) -> float:
        """The mean, under whatever edit is applied."""
        return Cells(model, {self.task.name: self.task}, seed=self.seed).value(replace(self.metric, task=self.task.name), None)


@dataclass(frozen=True)
class _Ground:
    """What one concept's heads are chosen and tried on.

    Attributes:
        prepared: the concept.
        asked: selection samples for captures, None for a concept of texts.
        answered: selection samples with targets that speak of the concept, likewise.
        metric: of the test task, what edits should move.
        own: the same on selection data for knock-outs, where it is no measure that has a derivative.
    """

    prepared: PreparedConcept
    asked: Sequence[Sample] | None
    answered: Sequence[Sample] | None
    metric: Metric
    own: TaskMetric | None

    @property
    def can_be_halved(self) -> bool:
        """Whether heads can be chosen on each half of the samples; not for a metric, whose samples are scored together."""
        texts = self.prepared.concept.texts
        if texts is not None:
            return min(len(texts.with_), len(texts.without)) >= 2 * FEWEST
        return self.own is None and len(self.answered or ()) >= 2


def compare_selectors(
    prepared: Prepared, model: HeadModel, *, out: Path, engine: Engine = LOCAL, seed: int = 0, progress: bool = True
) -> tuple[tuple[Curve, ...], tuple[ConceptResult, ...]]:
    """Compare ways to choose heads for every concept of a recipe.

    Args:
        prepared: what the recipe runs on.
        model: the model.
        out: where rankings, knock-outs and cells are kept.
        engine: where cells and knock-outs are run.
        seed: seed of every drawing.
        progress: show progress bars.

    Returns:
        A curve for each concept, direction and method, and the concepts with their rankings.

    Raises:
        HeadPursuitError: a budget below what a method needs, more heads than the model has, what a method refuses.
    """
    spec = prepared.recipe.select
    assert spec is not None
    heads = len(model.anatomy.heads())
    if max(spec.k) > heads:
        raise HeadPursuitError(f"select.k: there are {heads} heads, no {max(spec.k)}: choose fewer")
    for method in spec.methods:
        method_options(method, spec, heads=heads)
    cells = Cells(model, prepared.tasks, seed=seed, folder=out / "cells", engine=engine)
    grounds = [_ground(prepared, concept, cells, seed=seed) for concept in prepared.concepts]
    tasks = [_test_task(prepared, ground, cells) for ground in grounds if not ground.prepared.spec.target]
    tasks.append(divergence_task(model, prepared.neutral))
    cells = replace(cells, tasks={**prepared.tasks, **{task.name: task for task in tasks}})
    curves: list[Curve] = []
    concepts = []
    directions = _directions(spec.scales)
    for ground in grounds:
        rankings: dict[str, HeadRanking] = {}
        for kind, scales in directions.items():
            ways = []
            for method in tqdm(spec.methods, desc=f"{kind} {ground.prepared.name}", disable=not progress, leave=False):
                options: dict[str, Any] = {"scale": scales[-1], "seed": seed, "out": out, "engine": engine}
                options["progress"] = progress
                ranking = _ranking(model, prepared, ground, method, half=None, **options)
                halves = [
                    set(_ranking(model, prepared, ground, method, half=half, **options).edit(max(spec.k)).heads)
                    for half in ((0, 1) if spec.halves and ground.can_be_halved else ())
                ]
                ways.append((method.label, ranking, len(halves[0] & halves[1]) / max(spec.k) if halves else None))
                rankings[method.label if len(directions) == 1 else f"{method.label}, {kind}"] = ranking
            curves += _curves(spec, ground, cells, ways, kind=kind, scales=scales, seed=seed, progress=progress)
        own, metric = ground.prepared, ground.metric
        words, counted = own.concept.words, own.counted.words
        concepts.append(ConceptResult(own.name, metric.task, metric.name, words=words, counted=counted, rankings=rankings))
    return tuple(curves), tuple(concepts)


def method_options(method: MethodSpec, spec: SelectSpec, *, heads: int) -> dict[str, Any]:
    """The options with which a method spends what the budget allows, those of the recipe above all.

    Raises:
        HeadPursuitError: it needs more passes, or takes no such option.
    """
    name, budget = method.method, spec.budget
    settable = options_of(name) - _GIVEN
    for key in method.options:
        if key not in settable:
            known = ", ".join(sorted(settable)) or "none"
            raise HeadPursuitError(f"select.methods: {name} takes no {key}: its options are {known}")
    most = max(spec.k)
    chosen: dict[str, dict[str, Any]] = {
        "greedy": {"k": most},
        "integrated": {"steps": max(1, min(8, budget // 2))},
        "natural": {"passes": 2},
        "knockout": {"masks": max(min(heads, _FEWEST_MASKS), min(heads, budget - 1))},
        "fusion": {"best": min(0.1, max(1, (budget - 4) // 2) / heads)},
        "contest": {"k": most, "cost": spec.costs[len(spec.costs) // 2]},
    }
    made: dict[str, Any] = {**chosen.get(name, {}), **method.options}
    check_counts(**{key: made[key] for key in ("k", "steps", "groups", "passes", "masks") if key in made})
    passes: int = {
        **_PASSES,
        "greedy": 2 * made.get("k", 0),
        "integrated": 2 * made.get("steps", 0) * made.get("groups", 1),
        "natural": 2 + 2 * made.get("passes", 0),
        "knockout": 1 + made.get("masks", 0),
    }[name]
    if budget < passes:
        raise HeadPursuitError(
            f"select.budget: {name} needs {passes} passes, {budget} are allowed: allow more, or leave it out"
        )
    return made


def _directions(scales: Sequence[float]) -> dict[Kind, list[float]]:
    """The scales that suppress and those that enhance, each from the nearest to 1 on."""
    both: dict[Kind, list[float]] = {
        "suppress": sorted((scale for scale in scales if scale < 1), reverse=True),
        "enhance": sorted(scale for scale in scales if scale > 1),
    }
    return {kind: own for kind, own in both.items() if own}


def _ground(prepared: Prepared, concept: PreparedConcept, cells: Cells, *, seed: int) -> _Ground:
    if concept.concept.texts is not None:
        return _Ground(concept, None, None, _contrast_metric(concept.name), None)
    task = prepared.selection[concept.name]
    answered = speaking(cells.model, task, concept.concept.words, seed=seed)
    if not concept.spec.target:
        return _Ground(concept, task.samples, answered, log_odds_metric(concept.name), None)
    metric = next(one for one in prepared.tasks[concept.spec.task].metrics if one.name == concept.spec.target)
    return _Ground(concept, task.samples, answered, metric, TaskMetric(task, metric, seed))


def _contrast_metric(concept: str) -> Metric:
    return Metric(f"{concept}, texts", f"likelihood of {concept} texts", unit="nats a token", compared_by="change")


def _test_task(prepared: Prepared, ground: _Ground, cells: Cells) -> Task:
    concept, texts = ground.prepared, ground.prepared.counted.texts
    if texts is None:
        task = prepared.tasks[concept.spec.task]
        records = prepared.records[task.name]
        return teacher_forced_task(concept.counted, task, records, cells, multi_token=concept.spec.multi_token)
    measure = contrast_measure(texts.with_, texts.without)
    weights = measure.weights * len(measure.samples)  # so that the mean over all texts is the contrast
    metric = ground.metric
    return Task(
        metric.task,
        measure.samples,
        (metric,),
        identity={"with": len(texts.with_)},
        measure=lambda model: {metric.name: weights * measure.each(model)},
    )


def _ranking(
    model: HeadModel,
    prepared: Prepared,
    ground: _Ground,
    method: MethodSpec,
    *,
    half: int | None,
    scale: float,
    seed: int,
    out: Path,
    engine: Engine,
    progress: bool,
) -> HeadRanking:
    """The heads by one method, on all selection samples or on a half of them, from ``out`` where they lie there."""
    spec, recipe = ground.prepared.spec, prepared.recipe.select
    assert recipe is not None
    part = slice(half, None, 1 if half is None else 2)
    concept, name = ground.prepared.concept, method.method
    if concept.texts is not None:
        texts = Texts(concept.texts.with_[part], concept.texts.without[part])
        concept = replace(concept, texts=texts, words=telling_words(texts))
    takes = options_of(name)
    given = ground.asked if "acts" in takes else ground.answered
    samples = None if given is None else given[part]
    own = {"positions": spec.positions, "n_atoms": spec.atoms, "multi_token": spec.multi_token, "scale": scale, "seed": seed}
    options: dict[str, Any] = {key: value for key, value in own.items() if key in takes}
    options |= method_options(method, recipe, heads=len(model.anatomy.heads()))
    read = (*concept.texts.with_, *concept.texts.without) if concept.texts is not None else tuple(samples or ())
    about = {
        "model": weights_fingerprint(model.hf),
        "dtype": str(model.hf.dtype),
        "versions": versions(),
        "method": name,
        "options": dict(options),
        "words": concept.words,
        "plurals": concept.plurals,
        "concept": concept.name,
        "texts": None if concept.texts is None else len(concept.texts.with_),
        "samples": fingerprint(read),
        "tokens": token_fingerprint(model, read),
    }
    if "neutral" in takes:
        options["neutral"], about["neutral"] = prepared.quiet, fingerprint(prepared.quiet)
    if name == "knockout":
        options["out"] = out / "knock-outs"
    if "engine" in takes:
        options["engine"] = engine
    if ground.own is not None and "metric" in takes:
        options["metric"], about["metric"] = ground.own, ground.own.fingerprint
    return stored_ranking(out, about, lambda: select(model, samples, concept, method=name, progress=progress, **options))


def _curves(
    spec: SelectSpec,
    ground: _Ground,
    cells: Cells,
    ways: Sequence[tuple[str, HeadRanking, float | None]],
    *,
    kind: Kind,
    scales: Sequence[float],
    seed: int,
    progress: bool,
) -> list[Curve]:
    """A curve for every way to choose, then one for random heads; intervals by bootstrap, paired over samples."""
    heads, rng = cells.model.anatomy.heads(), np.random.default_rng(seed)
    tried = {label: [[ranking.edit(k, scale=scale) for k in spec.k for scale in scales]] for label, ranking, _ in ways}
    drawn = [{k: rng.choice(len(heads), size=k, replace=False) for k in spec.k} for _ in range(spec.draws)]
    tried[RANDOM] = [
        [HeadEdit([heads[index] for index in sets[k]], scale=scale) for k in spec.k for scale in scales] for sets in drawn
    ]
    edits = [edit for lists in tried.values() for one in lists for edit in one]
    keys = ((metric.task, edit) for edit in edits for metric in (ground.metric, DIVERGENCE))
    cells.fill(keys, title=f"{kind} {ground.prepared.name}: edits" if progress else "")
    sign = -1 if kind == "suppress" else 1
    moved = np.stack([sign * (cells.scores(ground.metric, edit) - cells.scores(ground.metric, None)) for edit in edits])
    spent = np.stack([cells.scores(DIVERGENCE, edit) for edit in edits])
    # The first line is of the samples as they are, the others are of resamples.
    effects = np.concatenate([moved.mean(axis=1)[None], resampled_means(moved, seed=seed)])
    costs = np.concatenate([spent.mean(axis=1)[None], resampled_means(spent, seed=seed + 1)])
    shape, most = (len(effects), -1, len(spec.k), len(scales)), max(spec.costs)
    made: list[Curve] = []
    first: dict[float, np.ndarray] = {}
    start, told = 0, {label: (ranking, stability) for label, ranking, stability in ways}
    for label, lists in tried.items():
        own = slice(start, start := start + sum(map(len, lists)))
        e, c = effects[:, own].reshape(shape), costs[:, own].reshape(shape)
        at_costs = []
        for cost in spec.costs:
            reached = effect_at(e, c, cost).mean(axis=1)
            ahead = reached - first.setdefault(cost, reached)
            at_costs.append(AtCost(cost, *_with_interval(reached), *_with_interval(ahead)))
        points = [
            CurvePoint(k, scale, float(one), float(other))
            for (k, scale), one, other in zip(product(spec.k, scales), e[0].mean(0).ravel(), c[0].mean(0).ravel(), strict=True)
        ]
        curve = Curve(
            ground.prepared.name,
            kind,
            label,
            ground.metric.unit,
            tuple(points),
            tuple(at_costs),
            _with_interval(area(e, c, most).mean(axis=1)),
            n=moved.shape[1],
        )
        made.append(_with_choice(curve, *told[label], k=max(spec.k)) if label in told else curve)
    return made


def _with_choice(curve: Curve, ranking: HeadRanking, stability: float | None, *, k: int) -> Curve:
    """A curve with what the choice of its heads took."""
    cost, n = ranking.cost or Cost(), max(1, ranking.n)
    return replace(
        curve,
        heads=tuple(head.name for head in ranking.edit(k).heads),
        forward=cost.forward / n,
        backward=cost.backward / n,
        seconds=cost.seconds,
        stability=stability,
    )


def _with_interval(values: Float[np.ndarray, " b"]) -> tuple[float, float, float]:
    """The first of some values, and the interval of the others."""
    low, high = interval(values[1:]) or (np.nan, np.nan)
    return float(values[0]), low, high
