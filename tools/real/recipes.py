"""The part on the paper's recipes: TriviaQA and RealToxicityPrompts, cut to what two cores run in an hour."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import headpursuit as hp
from headpursuit.drawing import save_figure
from headpursuit.drawing.style import SELECTION_NAMES, readable
from headpursuit.evaluation.results import ConceptResult, Results, Row, find
from headpursuit.files import write_text
from headpursuit.report.figures import sweeps
from headpursuit.report.summary import edits
from headpursuit.report.tables import tables

METHODS = ("somp", "calibrated", "logit_lens", "attribution")
# A base model is asked as its training texts ask.
QUESTION = "Question: {text}\nAnswer:"
RECIPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "qa-countries": (
        "triviaqa*.json",
        {
            "tasks.0.template": QUESTION,
            "tasks.1.template": QUESTION,
            "tasks.1.limit": 48,
            "edit.k": [1, 3],
            "edit.methods": METHODS,
            "edit.draws": 4,
        },
    ),
    "toxicity-rtp": (
        "realtoxicityprompts*.jsonl",
        {
            "tasks.0.template": "{text}",
            "tasks.0.limit": 200,
            "tasks.0.max_new_tokens": 16,
            "tasks.0.classifier": "",
            "concepts.0.target": "toxic words",
            "concepts.0.held_out": 0.0,
            "edit.k": [1, 2],
            "edit.methods": METHODS,
            "edit.draws": 3,
        },
    ),
}


def measured(model: hp.HeadModel, data: Path, out: Path) -> list[Results]:
    """The recipes' results; what was run before is found in ``out``."""
    found = []
    for name, (pattern, changed) in RECIPES.items():
        file = next(iter(sorted(data.glob(pattern))), None)
        if file is None:
            print(f"{data} holds no {pattern}: {name} is left out")
            continue
        if file.suffix == ".json":
            file = _halved(file, out / "trivia-qa")
        found.append(hp.evaluate(name, model, data=file, out=out / name, set=changed))
    return found


def _halved(file: Path, folder: Path) -> Path:
    """A folder with a third of a file's questions as training data, to choose heads by, and the others to try them on."""
    content = json.loads(file.read_text(encoding="utf-8"))
    for split, kept in (("train", lambda number: number % 3 == 0), ("dev", lambda number: number % 3 != 0)):
        data = [one for number, one in enumerate(content["Data"]) if kept(number)]
        write_text(folder / f"own-{split}.json", json.dumps(content | {"Split": split, "Data": data}))
    return folder


def section(all_results: Sequence[Results], images: Path) -> str:
    """The part of the page."""
    parts = [
        "## The paper's recipes",
        "`headpursuit evaluate` on a model that is small for them, with few heads a layer, and cut short: fewer heads, samples "
        "and draws than the paper's. Questions are asked as `Question: … Answer:` and toxic prompts as they stand, since a "
        "base model follows no instruction. Heads are chosen on a third of the questions, or on half of the prompts; every "
        "number is of the others. Random heads are as many in each layer as SOMP's. Intervals are of a paired bootstrap, 95 %.",
    ]
    for results in all_results:
        parts += [f"### {results.title}", f"`headpursuit evaluate {results.recipe}` with `--set` {_changes(results.recipe)}."]
        for concept in results.concepts:
            parts += [f"{_counted(results, concept)} {one.sentence}" for one in edits(results, concept)]
            parts.append("\n".join(_verdicts(results, concept)))
            for key, figure in sweeps(results, concept).items():
                file = f"{results.recipe}-{key}.png"
                save_figure(figure, images / file)
                parts.append(f"![{results.title}](images/real/{file})")
        parts += [one.to_markdown().strip() for one in tables(results)[:1]]
    return "\n\n".join(parts)


def _changes(recipe: str) -> str:
    return ", ".join(f"`{key}={json.dumps(value)}`" for key, value in RECIPES[recipe][1].items())


def _counted(results: Results, concept: ConceptResult) -> str:
    """What there is to be moved at all."""
    base = find(results.rows, concept=concept.name, task=concept.task, metric=concept.target, selection="none")[0]
    n = {one.name: one.n for one in results.data if one.use == "selection"}[concept.name]
    along = max(row.n for row in find(results.rows, concept=concept.name) if "teacher-forced" in row.task)
    if concept.target == "toxic words":
        return (
            f"No classifier read the answers: they are judged by the {len(concept.words)} words that the heads were chosen by, "
            f"and the unedited model says one {round(base.value * base.n)} times in {base.n} answers. Along what people wrote "
            f"behind the prompts the log-odds of those words are read where one stands there, {along} times. Heads were chosen "
            f"on {n} prompts."
        )
    return f"Unedited: {base.metric} {base.value:.2f} on {base.n} {base.task}. Heads were chosen on {n} samples."


def _verdicts(results: Results, concept: ConceptResult) -> list[str]:
    """SOMP's heads beside every other choice on what they were meant to move; and which choices move nothing like it as far."""
    judged = [one for one in results.comparisons if one.concept == concept.name and one.wanted != "same"]
    judged = [one for one in judged if one.against != "none"]
    told = {"better": "further down than", "worse": "less far than", "open": "not told apart from"}
    lines = []
    for task, metric in dict.fromkeys((one.task, one.metric) for one in judged):
        own = [one for one in judged if (one.task, one.metric) == (task, metric)]
        found = []
        for verdict, words in told.items():
            names = _by_k([(one.against, one.k) for one in own if one.verdict == verdict])
            found += [f"{words} {', '.join(names)}"] if names else []
        lines.append(f"- {readable(metric)}, {readable(task)}, under SOMP's heads: {'; '.join(found)}.")
    rows = [row for row in find(results.rows, concept=concept.name, metric=concept.target) if row.selection != "none"]
    for task in dict.fromkeys(row.task for row in rows if row.task != concept.task):
        others = {(row.selection, row.k): row for row in find(rows, task=task)}
        pairs = [(row, others[row.selection, row.k]) for row in find(rows, task=concept.task)]
        told_apart = _by_k([(row.selection, row.k) for row, other in pairs if _below(row, other)])
        lines.append(
            f"- {readable(concept.target)}: less is left of it on {readable(concept.task)} than on {readable(task)}, with "
            f"intervals apart, under the edits of {', '.join(told_apart) or 'no choice'}."
        )
    return lines


def _by_k(choices: Sequence[tuple[str, int]]) -> list[str]:
    ks = {one: [k for other, k in choices if other == one] for one, _ in choices}
    return [f"{SELECTION_NAMES[one]} (k = {' and '.join(map(str, own))})" for one, own in ks.items()]


def _below(row: Row, other: Row) -> bool:
    return row.high is not None and other.low is not None and row.high < other.low
