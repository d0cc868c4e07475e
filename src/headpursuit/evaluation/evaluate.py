"""One evaluation: every concept's heads, chosen several ways, at every k and scale, on every task; cell by cell.

The paper's protocol (section 4): the unedited model, SOMP, the logit lens, and random heads, as many in each layer as SOMP
chose and none of them. Heads are chosen on selection data; every number is of test data.
"""

import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from headpursuit.concepts.counting import count_words
from headpursuit.data.own import Rows
from headpursuit.editing.edit import HeadEdit
from headpursuit.editing.where import ALL
from headpursuit.engines import LOCAL, Engine, engine_of, held
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.evaluation.cells import Cell, Cells, Key
from headpursuit.evaluation.checks import check_heads, check_words
from headpursuit.evaluation.describe import describe_heads
from headpursuit.evaluation.effects import Wanted, comparison, row
from headpursuit.evaluation.goals import Goal, GoalJudge
from headpursuit.evaluation.metrics import NEUTRAL_TASK, Metric
from headpursuit.evaluation.plan import time_left, tried_on
from headpursuit.evaluation.prepare import (
    Prepared,
    PreparedConcept,
    Source,
    check_data,
    known_concepts,
    prepare,
    same_questions,
)
from headpursuit.evaluation.rankings import stored_rankings
from headpursuit.evaluation.recipe import EditSpec, Recipe, load_recipe, plain
from headpursuit.evaluation.results import RESULTS, Comparison, ConceptResult, DataUsed, Example, Results, Row, Verdict
from headpursuit.evaluation.selectors import compare_selectors
from headpursuit.evaluation.teacher_forced_tasks import neutral_task, teacher_forced_task, teacher_forced_task_name
from headpursuit.evaluation.verdicts import judge, selection_goal, settle, wishes
from headpursuit.files import locked, read_json
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, check_model, load
from headpursuit.model.samples import Sample
from headpursuit.model.tokenize import token_fingerprint
from headpursuit.ranking.controls import most_controlled, random_controls
from headpursuit.ranking.methods import Selection
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.stores import address, on_this_machine, staged
from headpursuit.versions import versions

CONTROL: Selection = "random"
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
_EXAMPLES = 6
# The edits of a concept's heads by how those were chosen, how many they are and their factor; those of all random draws.
Choices = Mapping[tuple[Selection, int, float], tuple[HeadEdit, ...]]
# What a run leaves behind that was cut off before its table.
_PARTS = {
    "cells",
    "captures",
    "rankings",
    "descriptions",
    "images",
    "knock-outs",
    "results.csv",
    "comparisons.csv",
    "curves.csv",
}


def evaluate(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    model: ModelLike | None = None,
    *,
    data: str | Path | Mapping[str, Rows] | None = None,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Results:
    """Run an experiment with its controls (Head Pursuit, section 4).

    Args:
        recipe: a packaged recipe's name, the path of a ``.toml`` file, a mapping with the same keys, or a recipe.
        model: a model in memory, or what :func:`headpursuit.load` takes; the recipe's own when left out.
        data: a file or folder in a data set's official format, in place of the Hub (for several data sets a folder with one of
            each name); or a mapping from the names that the recipe's tasks give as ``data`` to lists of samples, mappings or
            texts.
        out: folder for captures, cells and results, here or in a store (``s3://…``); a run that was cut off there goes on.
            Nothing is kept when left out.
        set: keys of the recipe that are changed, by their path (``{"edit.k": [1, 2, 4]}``).
        limit: only the first so many samples of each task and split, in the order that the seed draws them in.
        seed: seed of sampling, draws and resampling.
        progress: show progress bars with the time that is left.
        **options: options of :func:`headpursuit.load`; none beside a model in memory. And ``engine``, ``workers``,
            ``cpus_per_worker`` and ``gpus_per_worker`` as for :func:`headpursuit.capture`: workers run cells, each a whole one.

    Returns:
        Rows, comparisons, rankings, verdicts and examples; saved in ``out``, too.

    Raises:
        HeadPursuitError: a recipe, data, heads or words that do not fit, or an ``out`` that holds something else.

    >>> results = hp.evaluate("demo-digits", model, set={"edit.k": [1], "edit.draws": 2}, limit=8, progress=False)
    >>> results.selections
    ('contest', 'somp', 'logit_lens', 'random')
    """
    check_counts(2, limit=limit)
    check_counts(*SEEDS, seed=seed)
    engine = engine_of(options)
    if model is not None:
        check_model(model)
    chosen = load_recipe(recipe, set=set)
    if out is not None and address(out):
        with staged(out) as here:
            common: dict[str, Any] = {"data": data, "limit": limit, "seed": seed, "progress": progress}
            return evaluate(chosen, model, out=here, engine=engine, **common, **options)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_folder(folder, chosen.name, settings=plain(chosen))
    name = model if isinstance(model, HeadModel) else str(chosen.model if model is None else model)
    if isinstance(name, str) and options.get("gguf_file") is not None:
        name = f"{name}/{options.pop('gguf_file')}"
    prepared = gather(chosen, name, data=data, limit=limit, seed=seed, **options)
    loaded = name if isinstance(name, HeadModel) else load(name, **options)
    if folder is not None:
        with locked(folder):
            results = run(prepared, loaded, out=folder, engine=engine, seed=seed, progress=progress)
            results.save(folder)
        return results
    with tempfile.TemporaryDirectory() as made:
        return run(prepared, loaded, out=Path(made), engine=engine, seed=seed, progress=progress)


def gather(
    recipe: Recipe,
    model: HeadModel | str,
    *,
    data: str | Path | Mapping[str, Rows] | None = None,
    limit: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Prepared:
    """Load and check all that a recipe needs, before any weight is read; arguments as for :func:`evaluate`.

    Raises:
        HeadPursuitError: data, heads or words that do not fit; names the recipe's key. Options beside a model in memory.
    """
    if options and isinstance(model, HeadModel):
        raise HeadPursuitError(f"{', '.join(options)}: no option of evaluate beside a model in memory; leave it out")
    loading: dict[str, Any] = {
        "revision": options.get("revision"),
        "trust_remote_code": options.get("trust_remote_code", False),
    }
    given = data if isinstance(data, Mapping) else {}
    rows = {name: one if isinstance(one, str | Path) else list(one) for name, one in given.items()}
    path = None if data is None or isinstance(data, Mapping) else Path(data)
    source = Source(path=path, rows=rows, limit=limit, seed=seed, trust_remote_code=loading["trust_remote_code"])
    check_data(recipe, source)
    check_heads(recipe, model, **loading)
    known = known_concepts(recipe, source)
    check_words(recipe, known, model, **loading)
    prepared = prepare(recipe, source)
    others = [concept for concept in prepared.concepts if concept not in known]
    check_words(recipe, others, model, **loading)
    for concept in prepared.concepts:
        for goal in wishes(prepared, concept):
            goal.check_samples(prepared.kept)
    return prepared


def check_folder(folder: Path, recipe: str, *, settings: Mapping[str, Any] | None = None) -> None:
    """Check that a folder may take a recipe's results: it is new, or holds earlier ones of that name, and those settings.

    Raises:
        HeadPursuitError: it holds something else.
    """
    on_this_machine(folder)
    stored = folder / RESULTS
    if stored.is_file():
        try:
            content = read_json(stored)
        except HeadPursuitError:
            return  # cut off while it was written
        other = content.get("recipe", "something else") if isinstance(content, dict) else "something else"
        if other != recipe:
            raise HeadPursuitError(f"{folder} holds results of {other}: choose another folder for {recipe}")
        known = content.get("settings", {})
        changed = [key for key, value in (settings or {}).items() if known.get(key) != value]
        if changed:
            raise HeadPursuitError(
                f"{folder} holds results of {recipe} with other {', '.join(changed)}: choose another folder, or remove its "
                f"{RESULTS} to go on with its cells"
            )
    elif folder.exists() and (
        not folder.is_dir() or not {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= _PARTS
    ):
        raise HeadPursuitError(f"{folder} is not empty: choose a new folder, or one with cells of an earlier run")


def run(
    prepared: Prepared, model: HeadModel, *, out: Path, engine: Engine = LOCAL, seed: int = 0, progress: bool = True
) -> Results:
    """Run all cells that are not there yet, and make the table; arguments as for :func:`gather` and :func:`evaluate`."""
    with held(engine) as workers:
        return _run(prepared, model, out=out, engine=workers, seed=seed, progress=progress)


def _run(prepared: Prepared, model: HeadModel, *, out: Path, engine: Engine, seed: int, progress: bool) -> Results:
    recipe = prepared.recipe
    common: dict[str, Any] = {
        "recipe": recipe.name,
        "title": recipe.title,
        "model": model.identity,
        "versions": versions(),
        "seed": seed,
        "data": _data_used(prepared, model),
        "settings": plain(recipe),
    }
    if recipe.describe is not None:
        described = describe_heads(prepared, model, out=out, engine=engine, seed=seed, progress=progress)
        return Results(descriptions=described, **common)
    if recipe.select is not None:
        curves, compared = compare_selectors(prepared, model, out=out, engine=engine, seed=seed, progress=progress)
        return Results(curves=curves, concepts=compared, draws=recipe.select.draws, **common)
    assert recipe.edit is not None
    cells = Cells(model, prepared.tasks, seed=seed, folder=out / "cells", engine=engine)
    selection = Cells(model, prepared.kept, seed=seed, folder=out / "cells", engine=engine)
    wished = {concept.name: wishes(prepared, concept) for concept in prepared.concepts}
    # One number of heads serves a concept: what suppresses it is what is raised. The first goal alone judges a contest.
    sought = {name: [selection_goal(goal, selection) for goal in goals] for name, goals in wished.items()}
    rankings = {
        concept.name: stored_rankings(
            model,
            concept.concept,
            prepared.selection[concept.name],
            positions=concept.spec.positions,
            n_atoms=concept.spec.atoms,
            multi_token=concept.spec.multi_token,
            methods=recipe.edit.methods,
            neutral=prepared.quiet,
            judge=_judge(sought[concept.name], selection, where=recipe.edit.where),
            k=max(recipe.edit.k),
            seed=seed,
            folder=out,
            engine=engine,
            progress=progress,
        )
        for concept in prepared.concepts
    }
    recipe = _within_the_model(recipe, [found[recipe.edit.methods[0]] for found in rankings.values()])
    assert recipe.edit is not None
    prepared = replace(prepared, recipe=recipe)
    choices = {concept.name: _choices(recipe.edit, rankings[concept.name], model, seed) for concept in prepared.concepts}
    # Given answers may be the unedited model's own, so that its cells come first.
    _fill(cells, [(concept.spec.task, None) for concept in prepared.concepts], progress=progress)
    forced = [
        teacher_forced_task(
            one.counted,
            prepared.tasks[task],
            prepared.records[task],
            cells,
            multi_token=one.spec.multi_token,
            limit=recipe.edit.read_limit,
        )
        for one in prepared.concepts
        for task in (one.spec.task,)
    ]
    given = {task.name: task for task in (*forced, neutral_task(prepared.neutral))}
    cells = replace(cells, tasks={**prepared.tasks, **given})
    _fill(cells, _wanted_cells(prepared, choices), progress=progress)
    rows, comparisons = _table(prepared, cells, choices, seed)
    concepts = []
    for concept in tqdm(prepared.concepts, desc="goals", disable=not (progress and any(wished.values())), leave=False):
        own = [one for one in rows if one.concept == concept.name]
        main = recipe.edit.methods[0]
        goals, ks, order = wished[concept.name], recipe.edit.k, rankings[concept.name][main]
        asked = [goal for goal in sought[concept.name] if goal is not None]
        k = settle(asked, order, ks, selection, where=recipe.edit.where) if asked else min(ks)
        verdicts = tuple(
            judge(goal, own, k=k, selection=main, settled=seen is not None)
            for goal, seen in zip(goals, sought[concept.name], strict=True)
        )
        concepts.append(_concept_result(prepared, concept, rankings[concept.name], verdicts, cells))
    used = dict.fromkeys(metric for name in cells.tasks for metric in cells.tasks[name].metrics)
    measured = {(one.task, one.metric) for one in rows}
    return Results(
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        metrics=tuple(metric for metric in used if (metric.task, metric.name) in measured),
        concepts=tuple(concepts),
        draws=recipe.edit.draws,
        **common,
    )


def _judge(goals: Sequence[Goal | None], selection: Cells, *, where: str) -> GoalJudge | None:
    """What a contest's edits are measured by: the recipe's first goal, if its edits hold at all tokens, as a contest's do."""
    first = next(iter(goals), None)
    return GoalJudge(first, selection) if first is not None and where == ALL else None


def _data_used(prepared: Prepared, model: HeadModel) -> tuple[DataUsed, ...]:
    samples: dict[tuple[str, str], Sequence[Sample]] = {
        (use, concept.name): (*made.texts.with_, *made.texts.without)
        for concept in prepared.concepts
        for use, made in (("selection", concept.concept), ("test", concept.counted))
        if made.texts is not None
    }
    samples |= {("selection", name): task.samples for name, task in prepared.selection.items()}
    samples |= {("test", name): task.samples for name, task in prepared.tasks.items()}
    samples["test", NEUTRAL_TASK] = prepared.neutral
    return tuple(replace(one, tokens=token_fingerprint(model, samples[one.use, one.name])) for one in prepared.data)


def _within_the_model(recipe: Recipe, rankings: Sequence[HeadRanking]) -> Recipe:
    """The recipe with k cut to where each layer has as many other heads for random controls, if it is one of the paper's."""
    edit = recipe.edit
    most = max(1, min(most_controlled(ranking.order()) for ranking in rankings))
    if edit is None or not recipe.paper or max(edit.k) <= most:
        return recipe
    ks = tuple(dict.fromkeys(min(k, most) for k in edit.k))
    warnings.warn(
        f"edit.k: {', '.join(map(str, edit.k))} of {recipe.name} cut to {', '.join(map(str, ks))}: with more of this model's "
        f"{len(rankings[0].order())} heads some layer has too few others for random controls",
        stacklevel=3,
    )
    return recipe.model_copy(update={"edit": edit.model_copy(update={"k": ks})})


def _choices(edit: EditSpec, rankings: Mapping[str, HeadRanking], model: HeadModel, seed: int) -> Choices:
    found: dict[tuple[Selection, int, float], tuple[HeadEdit, ...]] = {}
    for k in edit.k:
        controls = random_controls(rankings[edit.methods[0]].top(k), model.anatomy.heads(), draws=edit.draws, seed=seed)
        for scale in edit.scales:
            for method in edit.methods:
                found[method, k, scale] = (HeadEdit(rankings[method].top(k), scale=scale, where=edit.where),)
            found[CONTROL, k, scale] = tuple(HeadEdit(heads, scale=scale, where=edit.where) for heads in controls)
    return found


def _wanted_cells(prepared: Prepared, choices: Mapping[str, Choices]) -> list[Key]:
    """All cells in the order in which they are run: the unedited model's first, since all others are compared with them."""
    tasks = dict.fromkeys(task for concept in prepared.concepts for task in tried_on(prepared, concept))
    cells: dict[Key, None] = {(task, None): None for task in tasks}
    for concept in prepared.concepts:
        tried = tried_on(prepared, concept)
        for (_, _, scale), edits in choices[concept.name].items():
            cells.update({(task, edit): None for task, scales in tried.items() if scale in scales for edit in edits})
    return list(cells)


def _fill(cells: Cells, wanted: Sequence[Key], *, progress: bool) -> None:
    """Run what is missing."""
    left = [task for task, edit in wanted if not cells.is_known(task, edit)]
    seconds: dict[str, list[float]] = {}
    known, started = len(wanted) - len(left), time.perf_counter()

    def done(key: Key, cell: Cell) -> None:
        seconds.setdefault(key[0], []).append(cell.seconds)
        left.remove(key[0])
        bar.update()
        tell()

    def tell() -> None:
        at_once = sum(map(sum, seconds.values())) / max(time.perf_counter() - started, 1e-9)
        if left:
            bar.set_postfix_str(f"{left[0]}, {time_left(left, seconds, at_once=at_once)}")

    with tqdm(total=len(wanted), initial=known, desc="cells", bar_format=_BAR, disable=not progress) as bar:
        tell()
        cells.fill(wanted, done=done)


def _table(prepared: Prepared, cells: Cells, choices: Mapping[str, Choices], seed: int) -> tuple[list[Row], list[Comparison]]:
    edit = prepared.recipe.edit
    assert edit is not None
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    for concept in prepared.concepts:
        own = choices[concept.name]
        for task, scales in tried_on(prepared, concept).items():
            for metric in cells.tasks[task].metrics:
                rows.append(row(cells, metric, [None], concept=concept.name, selection="none", seed=seed))
                for (selection, k, scale), edits in own.items():
                    if scale not in scales:
                        continue
                    named: dict[str, Any] = {"concept": concept.name, "scale": scale, "seed": seed}
                    rows.append(row(cells, metric, edits, selection=selection, **named))
                    if selection != edit.methods[0]:
                        continue
                    others: dict[Selection, Sequence[HeadEdit | None]] = {"none": [None]}
                    others |= {other: own[other, k, scale] for other in (*edit.methods[1:], CONTROL)}
                    wanted = _wanted(prepared, concept, metric, scale)
                    comparisons += [
                        comparison(cells, metric, edits[0], rest, against=other, wanted=wanted, **named)
                        for other, rest in others.items()
                    ]
    return rows, comparisons


def _wanted(prepared: Prepared, concept: PreparedConcept, metric: Metric, scale: float) -> Wanted:
    """The target is the concept's metric wherever its own data is asked, and its log-odds; all else should stay."""
    if metric.task != teacher_forced_task_name(concept.name):
        if metric.task == NEUTRAL_TASK or metric.name != concept.spec.target:
            return "same"
        if metric.task not in prepared.tasks or not same_questions(prepared.recipe, concept.spec.task, metric.task):
            return "same"
    return "less" if scale < 1 else "more"


def _concept_result(
    prepared: Prepared,
    concept: PreparedConcept,
    rankings: Mapping[str, HeadRanking],
    verdicts: tuple[Verdict, ...],
    cells: Cells,
) -> ConceptResult:
    found = ConceptResult(
        name=concept.name,
        task=concept.spec.task,
        target=concept.spec.target,
        words=concept.concept.words,
        counted=concept.counted.words,
        rankings=rankings,
        verdicts=verdicts,
    )
    return replace(found, examples=tuple(_examples(prepared, concept, found, cells)))


def _examples(prepared: Prepared, concept: PreparedConcept, found: ConceptResult, cells: Cells) -> Iterator[Example]:
    """The first samples on which the unedited model spoke of the concept: on others there is nothing to see."""
    edit = prepared.recipe.edit
    assert edit is not None
    scales = tried_on(prepared, concept)[found.task]
    heads = found.heads(found.k or max(edit.k))
    texts = {
        side: cells.answers(found.task, HeadEdit(heads, scale=scale, where=edit.where))
        for side, scale in (
            ("after", next((scale for scale in scales if scale < 1), None)),
            ("enhanced", next((scale for scale in reversed(scales) if scale > 1), None)),
        )
        if scale is not None
    }
    before = cells.answers(found.task, None)
    words = concept.counted.words
    spoke = [index for index, answer in enumerate(before) if count_words(answer, words)] or range(len(before))
    for index in list(spoke)[:_EXAMPLES] if texts else ():
        sample = cells.tasks[found.task].samples[index]
        yield Example(
            prompt=sample.text,
            before=before[index].strip(),
            after=texts["after"][index].strip() if "after" in texts else None,
            image=sample.open_image(),
            enhanced=texts["enhanced"][index].strip() if "enhanced" in texts else None,
            reference=sample.target,
        )
