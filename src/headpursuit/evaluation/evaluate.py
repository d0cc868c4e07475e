"""One evaluation: every concept's heads, chosen several ways, at every k and scale, on every task; cell by cell.

The paper's protocol (section 4): the unedited model, SOMP, the logit lens, and random heads, as many in each layer as SOMP
chose and none of them. Heads are chosen on selection data; every number is of test data.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from headpursuit.data.own import Rows
from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.checks import check_heads, check_words
from headpursuit.evaluation.describe import describe_heads
from headpursuit.evaluation.effects import Wanted, comparison, row
from headpursuit.evaluation.metrics import NEUTRAL_TASK, Metric, count_words
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
from headpursuit.evaluation.recipe import Recipe, load_recipe, plain
from headpursuit.evaluation.results import (
    RESULTS,
    Comparison,
    ConceptResult,
    DataUsed,
    Example,
    Results,
    Row,
    Selection,
    Verdict,
)
from headpursuit.evaluation.teacher_forced_tasks import forced_task, forced_task_name, neutral_task
from headpursuit.evaluation.verdicts import judge, settle, wishes
from headpursuit.files import locked, read_json
from headpursuit.model.head_model import HeadModel
from headpursuit.model.inputs import token_fingerprint
from headpursuit.model.load import load
from headpursuit.ranking.controls import random_controls
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.versions import versions

CONTROL: Selection = "random"
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
_EXAMPLES = 6
# What a run leaves behind that was cut off before its table.
_PARTS = {"cells", "captures", "rankings", "descriptions"}


def evaluate(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    model: HeadModel | str | Path | None = None,
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
        out: folder for captures, cells and results; a run that was cut off there goes on. Nothing is kept when left out.
        set: keys of the recipe that are changed, by their path (``{"edit.k": [1, 2, 4]}``).
        limit: only the first so many samples of each task and split, in the order that the seed draws them in.
        seed: seed of sampling, draws and resampling.
        progress: show progress bars with the time that is left.
        **options: options of :func:`headpursuit.load`, where the model is not in memory.

    Returns:
        Rows, comparisons, rankings, verdicts and examples; saved in ``out``, too.

    Raises:
        HeadPursuitError: a recipe, data, heads or words that do not fit, or an ``out`` that holds something else.

    >>> results = hp.evaluate("demo-digits", model, set={"edit.k": [1], "edit.draws": 2}, limit=8, progress=False)
    >>> results.selections
    ('somp', 'logit_lens', 'attribution', 'random')
    """
    chosen = load_recipe(recipe, set=set)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_folder(folder, chosen.name)
    name = model if isinstance(model, HeadModel) else str(chosen.model if model is None else model)
    prepared = gather(chosen, name, data=data, limit=limit, seed=seed, **options)
    loaded = name if isinstance(name, HeadModel) else load(name, **options)
    if folder is not None:
        with locked(folder):
            results = run(prepared, loaded, out=folder, seed=seed, progress=progress)
            results.save(folder)
        return results
    with tempfile.TemporaryDirectory() as made:
        return run(prepared, loaded, out=Path(made), seed=seed, progress=progress)


def gather(
    recipe: Recipe,
    model: HeadModel | str,
    *,
    data: str | Path | Mapping[str, Rows] | None = None,
    limit: int | None = None,
    seed: int = 0,
    revision: str | None = None,
    trust_remote_code: bool = False,
    **_: Any,
) -> Prepared:
    """Load and check all that a recipe needs, before any weight is read.

    Raises:
        HeadPursuitError: data, heads or words that do not fit; names the recipe's key.
    """
    rows = data if isinstance(data, Mapping) else {}
    path = None if data is None or isinstance(data, Mapping) else Path(data)
    source = Source(path=path, rows=rows, limit=limit, seed=seed, trust_remote_code=trust_remote_code)
    check_data(recipe, source)
    check_heads(recipe, model, revision=revision, trust_remote_code=trust_remote_code)
    known = known_concepts(recipe, source)
    loading: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    check_words(recipe, known, model, **loading)
    prepared = prepare(recipe, source)
    others = [concept for concept in prepared.concepts if concept not in known]
    check_words(recipe, others, model, **loading)
    for concept in prepared.concepts:
        wishes(prepared, concept, prepared.tasks)  # refuses a goal that no scale serves
    return prepared


def check_folder(folder: Path, recipe: str) -> None:
    """Check that a folder may take a recipe's results: it is new, or holds earlier ones of the same recipe.

    Raises:
        HeadPursuitError: it holds something else.
    """
    stored = folder / RESULTS
    if stored.is_file():
        try:
            content = read_json(stored)
        except HeadPursuitError:
            return  # cut off while it was written
        other = content.get("recipe", "something else") if isinstance(content, dict) else "something else"
        if other != recipe:
            raise HeadPursuitError(f"{folder} holds results of {other}: choose another folder for {recipe}")
    elif folder.exists() and (
        not folder.is_dir() or not {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= _PARTS
    ):
        raise HeadPursuitError(f"{folder} is not empty: choose a new folder, or one with cells of an earlier run")


@dataclass(frozen=True)
class Choice:
    """Heads of one concept, chosen one way, scaled by one factor.

    Attributes:
        concept: the concept.
        selection: how they were chosen.
        k: how many.
        scale: their factor.
        edits: the edit, or those of all random draws.
    """

    concept: PreparedConcept
    selection: Selection
    k: int
    scale: float
    edits: tuple[HeadEdit, ...] = field(repr=False)


def run(prepared: Prepared, model: HeadModel, *, out: Path, seed: int = 0, progress: bool = True) -> Results:
    """Run all cells that are not there yet, and make the table.

    Args:
        prepared: see :func:`gather`.
        model: the model.
        out: where captures, rankings and cells are kept.
        seed: seed of sampling, draws and resampling.
        progress: show progress bars with the time that is left.
    """
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
        return Results(descriptions=describe_heads(prepared, model, out=out, progress=progress), **common)
    assert recipe.edit is not None
    tasks = dict(prepared.tasks)
    cells = Cells(model, tasks, seed=seed, folder=out / "cells")
    rankings = {
        concept.name: stored_rankings(
            model,
            concept.concept,
            prepared.selection[concept.name],
            positions=concept.spec.positions,
            n_atoms=concept.spec.atoms,
            multi_token=concept.spec.multi_token,
            methods=recipe.edit.methods,
            folder=out,
            progress=progress,
        )
        for concept in prepared.concepts
    }
    wished = {concept.name: wishes(prepared, concept, tasks) for concept in prepared.concepts}
    choices = [
        choice for concept in prepared.concepts for choice in _choices(prepared, concept, rankings[concept.name], model, seed)
    ]
    # Given answers may be the unedited model's own, so that its cells come first.
    for concept in prepared.concepts:
        name = concept.spec.task
        tasks[forced_task_name(concept.name)] = forced_task(
            concept.counted, tasks[name], prepared.records[name], cells, multi_token=concept.spec.multi_token
        )
    tasks[NEUTRAL_TASK] = neutral_task(prepared.neutral)
    _fill(cells, _wanted_cells(prepared, choices), progress=progress)
    rows, comparisons = _table(prepared, cells, choices, seed)
    selection = Cells(model, prepared.kept, seed=seed, folder=out / "cells")
    concepts = []
    for concept in tqdm(prepared.concepts, desc="goals", disable=not (progress and any(wished.values())), leave=False):
        own = [one for one in rows if one.concept == concept.name]
        somp = rankings[concept.name]["somp"]
        verdicts: list[Verdict] = []
        for wish in wished[concept.name]:
            # One number of heads serves a concept: what suppresses it is what is raised.
            k = verdicts[0].k if verdicts else settle(wish, somp, recipe.edit.k, selection, where=recipe.edit.where)
            verdicts.append(judge(wish, k, own))
        concepts.append(_concept_result(prepared, concept, rankings[concept.name], tuple(verdicts), cells))
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


def _data_used(prepared: Prepared, model: HeadModel) -> tuple[DataUsed, ...]:
    samples = {("selection", name): task.samples for name, task in prepared.selection.items()}
    samples |= {("test", name): task.samples for name, task in prepared.tasks.items()}
    samples["test", NEUTRAL_TASK] = prepared.neutral
    return tuple(replace(one, tokens=token_fingerprint(model, samples[one.use, one.name])) for one in prepared.data)


def _choices(
    prepared: Prepared, concept: PreparedConcept, rankings: Mapping[str, HeadRanking], model: HeadModel, seed: int
) -> Iterator[Choice]:
    edit = prepared.recipe.edit
    assert edit is not None
    for k in edit.k:
        controls = random_controls(rankings["somp"].top(k), model.anatomy.heads(), draws=edit.draws, seed=seed)
        for scale in edit.scales:
            for method in edit.methods:
                chosen = HeadEdit(rankings[method].top(k), scale=scale, where=edit.where)
                yield Choice(concept, method, k, scale, (chosen,))
            drawn = tuple(HeadEdit(heads, scale=scale, where=edit.where) for heads in controls)
            yield Choice(concept, CONTROL, k, scale, drawn)


def _wanted_cells(prepared: Prepared, choices: Sequence[Choice]) -> list[tuple[str, HeadEdit | None]]:
    """All cells in the order in which they are run: the unedited model's first, since all others are compared with them."""
    tasks = dict.fromkeys(task for concept in prepared.concepts for task in tried_on(prepared, concept))
    cells: dict[tuple[str, HeadEdit | None], None] = {(task, None): None for task in tasks}
    for choice in choices:
        for task, scales in tried_on(prepared, choice.concept).items():
            if choice.scale in scales:
                cells.update({(task, edit): None for edit in choice.edits})
    return list(cells)


def _fill(cells: Cells, wanted: Sequence[tuple[str, HeadEdit | None]], *, progress: bool) -> None:
    """Run what is missing."""
    missing = [cell for cell in wanted if not cells.is_known(*cell)]
    left = [task for task, _ in missing]
    seconds: dict[str, list[float]] = {}
    known = len(wanted) - len(missing)
    with tqdm(total=len(wanted), initial=known, desc="cells", bar_format=_BAR, disable=not progress) as bar:
        for task, edit in missing:
            bar.set_postfix_str(f"{task}, {time_left(left, seconds)}")
            seconds.setdefault(task, []).append(cells.cell(task, edit).seconds)
            left.remove(task)
            bar.update()


def _table(prepared: Prepared, cells: Cells, choices: Sequence[Choice], seed: int) -> tuple[list[Row], list[Comparison]]:
    edit = prepared.recipe.edit
    assert edit is not None
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    for concept in prepared.concepts:
        own = {(one.selection, one.k, one.scale): one for one in choices if one.concept is concept}
        for task, scales in tried_on(prepared, concept).items():
            for metric in cells.tasks[task].metrics:
                rows.append(row(cells, metric, [None], concept=concept.name, selection="none", seed=seed))
                for (selection, k, scale), choice in own.items():
                    if scale not in scales:
                        continue
                    named: dict[str, Any] = {"concept": concept.name, "scale": scale, "seed": seed}
                    rows.append(row(cells, metric, choice.edits, selection=selection, **named))
                    if selection != "somp":
                        continue
                    others: dict[Selection, Sequence[HeadEdit | None]] = {"none": [None]}
                    others |= {other: own[other, k, scale].edits for other in (*edit.methods, CONTROL) if other != "somp"}
                    wanted = _wanted(prepared, concept, metric, scale)
                    comparisons += [
                        comparison(cells, metric, choice.edits[0], edits, against=other, wanted=wanted, **named)
                        for other, edits in others.items()
                    ]
    return rows, comparisons


def _wanted(prepared: Prepared, concept: PreparedConcept, metric: Metric, scale: float) -> Wanted:
    """The target is the concept's metric wherever its own data is asked, and its log-odds; all else should stay."""
    if metric.task != forced_task_name(concept.name):
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
    return ConceptResult(**{**vars(found), "examples": tuple(_examples(prepared, concept, found, cells))})


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
