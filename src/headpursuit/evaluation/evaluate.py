"""Run a recipe: every concept's heads, chosen three ways, at every k and scale, on every task; cell by cell.

The paper's protocol (section 4): the unedited model, SOMP, the logit lens, and random heads, as many in each layer as SOMP
chose and none of them. Heads are chosen on selection data; every number is of test data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from headpursuit.editing.edit import HeadEdit
from headpursuit.evaluation.cell_files import CellStore
from headpursuit.evaluation.cells import Bench, Measure
from headpursuit.evaluation.effects import comparison, row
from headpursuit.evaluation.plan import time_left, tried_on
from headpursuit.evaluation.rankings import stored_rankings
from headpursuit.evaluation.results import Comparison, Results, Row, Selection
from headpursuit.evaluation.teacher_forced_tasks import NEUTRAL_TASK, neutral_task, read_along_name, read_along_task
from headpursuit.ranking.controls import random_controls
from headpursuit.versions import versions

if TYPE_CHECKING:
    from headpursuit.evaluation.effects import Wanted
    from headpursuit.evaluation.prepare import Aim, Material
    from headpursuit.model.head_model import HeadModel
    from headpursuit.ranking.ranking import HeadRanking

CONTROL: Selection = "random"
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


@dataclass(frozen=True)
class Choice:
    """Heads of one concept, chosen one way, scaled by one factor.

    Attributes:
        aim: the concept.
        selection: how they were chosen.
        k: how many.
        scale: their factor.
        edits: the edit, or those of all random draws.
    """

    aim: Aim
    selection: Selection
    k: int
    scale: float
    edits: tuple[HeadEdit, ...] = field(repr=False)


@dataclass(frozen=True)
class Swept:
    """A recipe's results.

    Attributes:
        results: all rows and comparisons.
        rankings: by concept and method.
        computed: cells that were run now.
        found: cells that were there from before.
    """

    results: Results
    rankings: dict[str, dict[Selection, HeadRanking]] = field(repr=False)
    computed: int
    found: int


def sweep(material: Material, model: HeadModel, *, out: Path, seed: int = 0, progress: bool = True) -> Swept:
    """Run all cells that are not there yet, and make the table.

    Args:
        material: see :func:`headpursuit.evaluation.prepare.gather`; of a recipe with edits.
        model: the model.
        out: where captures, rankings and cells are kept; a run that was cut off goes on.
        seed: seed of sampling, draws and resampling.
        progress: show progress bars with the time that is left.
    """
    tasks = dict(material.tasks)
    ran: list[str] = []
    bench = Bench(model, tasks, seed=seed, tick=ran.append, store=CellStore(out / "cells"))
    edit = material.recipe.edit
    assert edit is not None
    rankings = {
        aim.name: stored_rankings(
            model, aim, material.selection[aim.name], methods=edit.methods, folder=out, progress=progress
        )
        for aim in material.aims
    }
    choices = [choice for aim in material.aims for choice in _choices(material, aim, rankings[aim.name], model, seed)]
    # Texts to read along may be the unedited model's own answers, so that those come first.
    for aim in material.aims:
        tasks[read_along_name(aim)] = read_along_task(aim, material, bench)
    tasks[NEUTRAL_TASK] = neutral_task(material.neutral)
    cells = _cells(material, choices)
    _fill(bench, cells, progress=progress)
    rows, comparisons = _table(material, bench, choices, seed)
    results = Results(
        recipe=material.recipe.name,
        model=model.identity,
        versions=versions(),
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        about=_about(material, bench, rankings),
    )
    return Swept(results, rankings, computed=len(ran), found=len(cells) - len(ran))


def _choices(
    material: Material, aim: Aim, rankings: dict[Selection, HeadRanking], model: HeadModel, seed: int
) -> Iterator[Choice]:
    edit = material.recipe.edit
    assert edit is not None
    for k in edit.k:
        controls = random_controls(rankings["somp"].top(k), model.anatomy.heads(), draws=edit.draws, seed=seed)
        for scale in edit.scales:
            for method in edit.methods:
                chosen = HeadEdit(rankings[method].top(k), scale=scale, where=edit.where)
                yield Choice(aim, method, k, scale, (chosen,))
            drawn = tuple(HeadEdit(heads, scale=scale, where=edit.where) for heads in controls)
            yield Choice(aim, CONTROL, k, scale, drawn)


def _cells(material: Material, choices: Sequence[Choice]) -> list[tuple[str, HeadEdit | None]]:
    """All cells in the order in which they are run: the unedited model's first, since all others are compared with them."""
    tasks = dict.fromkeys(task for aim in material.aims for task in tried_on(material, aim))
    cells: dict[tuple[str, HeadEdit | None], None] = {(task, None): None for task in tasks}
    for choice in choices:
        for task, scales in tried_on(material, choice.aim).items():
            if choice.scale in scales:
                cells.update({(task, edit): None for edit in choice.edits})
    return list(cells)


def _fill(bench: Bench, cells: Sequence[tuple[str, HeadEdit | None]], *, progress: bool) -> None:
    """Run what is missing."""
    missing = [cell for cell in cells if not bench.is_known(*cell)]
    left = [task for task, _ in missing]
    seconds: dict[str, list[float]] = {}
    bar = tqdm(total=len(cells), initial=len(cells) - len(missing), desc="cells", bar_format=_BAR, disable=not progress)
    with bar:
        for task, edit in missing:
            bar.set_postfix_str(f"{task}, {time_left(left, seconds)}")
            seconds.setdefault(task, []).append(bench.cell(task, edit).seconds)
            left.remove(task)
            bar.update()


def _table(
    material: Material, bench: Bench, choices: Sequence[Choice], seed: int
) -> tuple[list[Row], list[Comparison]]:
    edit = material.recipe.edit
    assert edit is not None
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    for aim in material.aims:
        own = {(one.selection, one.k, one.scale): one for one in choices if one.aim is aim}
        for task, scales in tried_on(material, aim).items():
            for measure in _measures(bench, task):
                rows.append(row(bench, measure, [None], concept=aim.name, selection="none", seed=seed))
                for (selection, k, scale), choice in own.items():
                    if scale not in scales:
                        continue
                    named: dict[str, Any] = {"concept": aim.name, "scale": scale, "seed": seed}
                    rows.append(row(bench, measure, choice.edits, selection=selection, **named))
                    if selection != "somp":
                        continue
                    others: dict[Selection, Sequence[HeadEdit | None]] = {"none": [None]}
                    others |= {
                        other: own[other, k, scale].edits for other in (*edit.methods, CONTROL) if other != "somp"
                    }
                    wanted = _wanted(material, aim, measure, scale)
                    comparisons += [
                        comparison(bench, measure, choice.edits[0], edits, against=other, wanted=wanted, **named)
                        for other, edits in others.items()
                    ]
    return rows, comparisons


def _measures(bench: Bench, task: str) -> list[Measure]:
    by = "difference" if bench.tasks[task].score is None else "ratio"
    return [Measure(task, metric, compared_by=by) for metric in bench.cell(task, None).scores]


def _wanted(material: Material, aim: Aim, measure: Measure, scale: float) -> Wanted:
    """The target is the concept's metric wherever its own data is asked, and its log-odds; all else should stay."""
    if measure.task != read_along_name(aim):
        if measure.metric != aim.spec.target:
            return "same"
        own, other = (material.recipe.task(name) for name in (aim.spec.task, measure.task))
        if (own.data, own.answers) != (other.data, other.answers):
            return "same"
    return "less" if scale < 1 else "more"


def _about(material: Material, bench: Bench, rankings: dict[str, dict[Selection, HeadRanking]]) -> dict[str, Any]:
    recipe = material.recipe
    assert recipe.edit is not None
    return {
        "recipe": recipe.model_dump(),
        "data": material.about,
        "tasks": {name: bench.tasks[name].depends_on for name in bench.tasks},
        "heads": {
            name: {method: [head.name for head in one.top(max(recipe.edit.k))] for method, one in both.items()}
            for name, both in rankings.items()
        },
        "words": {aim.name: {"ranked": aim.concept.words, "counted": aim.counted.words} for aim in material.aims},
    }
