"""What a recipe needs beside a model: concepts, test tasks, and selection samples that share nothing with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headpursuit.concepts import Concept, as_concept
from headpursuit.data import DATASETS, load_records
from headpursuit.data.demo import DEMO_DATA, demo_records
from headpursuit.data.records import Record, data_fingerprint, split_by_answer, without
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.metrics import count_words
from headpursuit.evaluation.recipe import CLASSES, NEUTRAL, ConceptSpec, Recipe, TaskSpec
from headpursuit.evaluation.tasks import (
    PLAIN_TEMPLATE,
    captioning,
    classification,
    question_answering,
    toxic_continuation,
)
from headpursuit.evaluation.toxicity import load_classifier
from headpursuit.model.samples import Sample, as_samples

if TYPE_CHECKING:
    from headpursuit.activations.capture import Samples
    from headpursuit.evaluation.cells import Task

_PACKAGED_TEXT = Path(__file__).parent / "recipes" / "neutral.txt"


@dataclass(frozen=True)
class Aim:
    """A concept of a recipe.

    Attributes:
        spec: what the recipe says of it.
        concept: the words that heads are ranked with.
        counted: the words that are counted in answers: the held-out ones, or all.
    """

    spec: ConceptSpec
    concept: Concept
    counted: Concept

    @property
    def name(self) -> str:
        """What rows call it."""
        return self.concept.name


@dataclass(frozen=True)
class Material:
    """Everything that a recipe runs on, loaded and checked.

    Attributes:
        recipe: the recipe.
        aims: its concepts.
        tasks: its tasks, on test data.
        records: the records behind them, by task.
        selection: tasks of the samples that heads are ranked on, by concept (or ``describe``); none is a test prompt.
        neutral: texts whose likelihood should stay.
        about: fingerprints and sizes of all data, for the result.
    """

    recipe: Recipe
    aims: tuple[Aim, ...]
    tasks: Mapping[str, Task] = field(repr=False)
    records: Mapping[str, Sequence[Record]] = field(repr=False)
    selection: Mapping[str, Task] = field(repr=False)
    neutral: Sequence[Sample] = field(repr=False)
    about: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Source:
    """Where the data of a run comes from.

    Attributes:
        samples: a file or folder in place of the Hub, or None.
        limit: records a task and split at most, over what the recipe says.
        seed: seed of every drawing.
    """

    samples: Path | None = None
    limit: int | None = None
    seed: int = 0

    def at_most(self, limit: int | None) -> int | None:
        """The smaller of two limits."""
        return min((number for number in (limit, self.limit) if number is not None), default=None)


def gather(recipe: Recipe, source: Source) -> Material:
    """Load what a recipe runs on.

    Raises:
        HeadPursuitError: data that cannot be read, a target that the task does not measure, selection data that is all
            test data.
    """
    check_data(recipe, source)
    tests = {task.name: _test_records(recipe, task, source) for task in recipe.tasks}
    aims = _distinct([_aim(recipe, spec, source, tests[spec.task]) for spec in recipe.concepts])
    tasks = {task.name: _task(recipe, task, tests[task.name], aims) for task in recipe.tasks}
    for place, aim in enumerate(aims):
        _check_target(place, aim, tasks[aim.spec.task])
    data: dict[str, Any] = {
        name: {"n": len(records), "data": data_fingerprint(records)} for name, records in tests.items()
    }
    chosen_on: dict[str, Any] = {}
    selection: dict[str, Task] = {}
    wanted = [(aim.name, aim.spec.task, aim.spec.limit) for aim in aims]
    if recipe.describe is not None:
        wanted.append(("describe", recipe.describe.task, recipe.describe.limit))
    for name, task, limit in wanted:
        spec = recipe.task(task)
        found = _read(recipe, spec, "selection", limit=source.at_most(limit), source=source)
        kept = without(found, [record for records in tests.values() for record in records])
        if not kept:
            raise HeadPursuitError(
                f"{name}: all {len(found)} selection samples of {spec.data} are test samples too, so heads would be chosen on "
                "what they are judged by: give data with separate parts"
            )
        selection[name] = _task(recipe, spec, kept, aims)
        chosen_on[name] = {"n": len(kept), "left_out": len(found) - len(kept), "data": data_fingerprint(kept)}
    neutral = _neutral(recipe, source, aims)
    return Material(recipe, aims, tasks, tests, selection, neutral, {"test": data, "selection": chosen_on})


def check_data(recipe: Recipe, source: Source) -> None:
    """Check names and places of all data without reading any.

    Raises:
        HeadPursuitError: an unknown data set, a file that is not there.
    """
    for number, task in enumerate(recipe.tasks):
        if task.data not in DATASETS and task.data not in DEMO_DATA:
            raise HeadPursuitError(
                f"tasks[{number}].data: no data set {task.data!r}; there are {', '.join((*DATASETS, *DEMO_DATA))}"
            )
        _place(recipe, task, source)
    if recipe.neutral not in (NEUTRAL, *DEMO_DATA) and not Path(recipe.neutral).is_file():
        raise HeadPursuitError(
            f"neutral: there is no file {recipe.neutral}; give a text file, {NEUTRAL!r} for the packaged sentences, or one of "
            f"{', '.join(DEMO_DATA)}"
        )


def known_aims(recipe: Recipe, source: Source) -> tuple[Aim, ...]:
    """The concepts whose words are known before any data is read.

    Raises:
        HeadPursuitError: no such concept or file, or two of one name; names the key.
    """
    return _distinct(
        [
            _aim(recipe, spec, source, ())
            for spec in recipe.concepts
            if spec.words != CLASSES or _classes(recipe.task(spec.task))
        ]
    )


def _distinct(aims: Sequence[Aim]) -> tuple[Aim, ...]:
    for number, aim in enumerate(aims):
        if aim.name in [other.name for other in aims[:number]]:
            raise HeadPursuitError(f"concepts: two are called {aim.name!r}; give one of them another name")
    return tuple(aims)


def _aim(recipe: Recipe, spec: ConceptSpec, source: Source, records: Sequence[Record]) -> Aim:
    task = recipe.task(spec.task)
    if spec.words == CLASSES:
        names = _classes(task) or tuple(sorted({record.label for record in records if record.label}))
        if not names:
            raise HeadPursuitError(f"{_key(recipe, spec)}.words: {task.data} has no classes; name a concept or a file")
        whole = Concept(spec.name or task.data, names, source=f"class names of {task.data}", plurals=False)
    else:
        try:
            found = as_concept(spec.words)
        except HeadPursuitError as error:
            raise HeadPursuitError(f"{_key(recipe, spec)}.words: {error}") from error
        whole = _with_words(found, found.words, name=spec.name or found.name)
    held = round(len(whole) * spec.held_out)
    if spec.held_out and not 0 < held < len(whole):
        raise HeadPursuitError(
            f"{_key(recipe, spec)}.held_out: {spec.held_out} of {len(whole)} words leaves none to hold out or to rank with; "
            "give more words or another share"
        )
    order = np.random.default_rng(source.seed).permutation(len(whole))
    counted = [whole.words[index] for index in sorted(order[:held])] or list(whole.words)
    ranked = [whole.words[index] for index in sorted(order[held:])]
    return Aim(spec, _with_words(whole, ranked), _with_words(whole, counted))


def _with_words(concept: Concept, words: Sequence[str], *, name: str | None = None) -> Concept:
    return Concept(name or concept.name, tuple(words), concept.description, concept.source, concept.plurals)


def _key(recipe: Recipe, spec: ConceptSpec) -> str:
    return f"concepts[{recipe.concepts.index(spec)}]"


def _classes(task: TaskSpec) -> tuple[str, ...]:
    return (DATASETS[task.data] if task.data in DATASETS else DEMO_DATA[task.data]).classes


def _place(recipe: Recipe, task: TaskSpec, source: Source) -> Path | None:
    if source.samples is None:
        return None
    if task.data in DEMO_DATA:
        raise HeadPursuitError(f"--samples: {task.data} is drawn and not read; leave it out")
    if not source.samples.exists():
        raise HeadPursuitError(f"--samples: there is no {source.samples}; give {DATASETS[task.data].files}")
    own = source.samples / task.data
    if own.exists():
        return own
    sets = sorted({one.data for one in recipe.tasks})
    if len(sets) > 1:
        raise HeadPursuitError(
            f"--samples: {source.samples} has no folder {task.data}; the recipe reads {', '.join(sets)}, each from one of its "
            "name"
        )
    return source.samples


def _read(recipe: Recipe, task: TaskSpec, split: Any, *, limit: int | None, source: Source) -> list[Record]:
    if task.data in DEMO_DATA:
        return demo_records(task.data, split=split, limit=limit, seed=source.seed)
    place = _place(recipe, task, source)
    return load_records(task.data, path=place, split=split, limit=limit, seed=source.seed)


def _test_records(recipe: Recipe, task: TaskSpec, source: Source) -> list[Record]:
    limit = source.at_most(task.limit)
    if task.answers is None:
        return _read(recipe, task, "test", limit=limit, source=source)
    words = as_concept(recipe.concepts[0].words).words
    about, others = split_by_answer(_read(recipe, task, "test", limit=None, source=source), words)
    found = about if task.answers == "about" else others
    if not found:
        raise HeadPursuitError(
            f"{task.name}: no question of {task.data} has {'such' if task.answers == 'about' else 'another'} answer; "
            "give more questions"
        )
    order = np.random.default_rng(source.seed).permutation(len(found))
    return [found[index] for index in order[:limit]]


def _kind(spec: TaskSpec) -> str:
    return (DATASETS[spec.data] if spec.data in DATASETS else DEMO_DATA[spec.data]).task


def _task(recipe: Recipe, spec: TaskSpec, records: Sequence[Record], aims: Sequence[Aim]) -> Task:
    known, kind = DATASETS.get(spec.data), _kind(spec)
    # Words of a class or a country say nothing in a caption or a toxic answer.
    akin = [aim.counted for aim in aims if _kind(recipe.task(aim.spec.task)) == kind]
    template = spec.template or (known.template if known is not None else PLAIN_TEMPLATE)
    common: dict[str, Any] = {"template": template, "name": spec.name, **spec.options}
    if kind == "question answering":
        return question_answering(records, **common)
    if kind == "classification":
        noun = known.noun if known is not None else "object"
        return classification(records, classes=_classes(spec) or None, noun=noun, **common)
    if kind == "captioning":
        counted = {concept.name: concept for concept in (*map(as_concept, spec.count), *akin)}
        return captioning(records, concepts=list(counted.values()), **common)
    words = [word for concept in akin for word in concept.words]
    return toxic_continuation(records, classifier=_classifier(spec.classifier), words=words, **common)


@cache
def _classifier(name: str) -> Any:
    return load_classifier(name) if name else None


def _check_target(place: int, aim: Aim, task: Task) -> None:
    assert task.score is not None
    metrics = task.score([""] * len(task.samples))
    if aim.spec.target not in metrics:
        raise HeadPursuitError(
            f"concepts[{place}].target: {task.name} measures no {aim.spec.target!r}; it measures {', '.join(metrics)}"
        )


def _neutral(recipe: Recipe, source: Source, aims: Sequence[Aim]) -> list[Sample]:
    if recipe.neutral in DEMO_DATA:
        spec = TaskSpec(name="neutral", data=recipe.neutral, limit=source.at_most(None))
        return list(_task(recipe, spec, _read(recipe, spec, "test", limit=spec.limit, source=source), aims).samples)
    words = [word for aim in aims for word in (*aim.concept.words, *aim.counted.words)]
    found = neutral_texts(
        None if recipe.neutral == NEUTRAL else Path(recipe.neutral), words, limit=source.at_most(None)
    )
    if not found and aims:
        raise HeadPursuitError("neutral: every text speaks of a concept of the recipe; give others")
    return found


def neutral_texts(texts: Samples | None, words: Sequence[str], *, limit: int | None) -> list[Sample]:
    """Texts that have none of the words, as plain text without a chat template; the packaged ones when left out."""
    found = as_samples(_PACKAGED_TEXT if texts is None else texts)
    quiet = [Sample(text=one.text, chat=False, where=one.where) for one in found if not count_words(one.text, words)]
    return quiet[:limit]
