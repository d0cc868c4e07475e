"""The needs of a recipe beside a model: concepts, test tasks, and selection samples that share nothing with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headpursuit.concepts import Concept, as_concept
from headpursuit.concepts.counting import neutral_texts
from headpursuit.concepts.texts import as_texts
from headpursuit.data import DATASETS, load_records
from headpursuit.data.demo import DEMO_DATA, demo_records
from headpursuit.data.entries import pick
from headpursuit.data.own import Rows, own_entries
from headpursuit.data.records import Record, data_fingerprint, split_by_answer, without
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Task
from headpursuit.evaluation.goals import Limit
from headpursuit.evaluation.metrics import LIKELIHOOD, NEUTRAL_TASK, Metric
from headpursuit.evaluation.recipe import CLASSES, NEUTRAL, ConceptSpec, KeepSpec, Recipe, TaskSpec
from headpursuit.evaluation.results import DataUsed
from headpursuit.evaluation.tasks import (
    PLAIN_TEMPLATE,
    captioning,
    classification,
    own_questions,
    question_answering,
    toxic_continuation,
)
from headpursuit.evaluation.teacher_forced_tasks import neutral_task
from headpursuit.evaluation.toxicity import load_classifier
from headpursuit.model.samples import Sample, as_samples, fingerprint

OWN = "own questions"


@dataclass(frozen=True)
class PreparedConcept:
    """A concept of a recipe.

    Attributes:
        spec: what the recipe says of it.
        concept: the words that heads are ranked with.
        counted: the words that are counted in answers: the held-out ones, or all; of a concept that is made of texts the one of
            those that edits are tried on.
    """

    spec: ConceptSpec
    concept: Concept
    counted: Concept

    @property
    def name(self) -> str:
        """What rows call it."""
        return self.concept.name


@dataclass(frozen=True)
class Prepared:
    """Everything that a recipe runs on, loaded and checked.

    Attributes:
        recipe: the recipe.
        concepts: its concepts.
        tasks: its tasks, on test data.
        records: the records behind them, by task.
        selection: tasks of the samples that heads are ranked on, by concept (or ``describe``); none is a test prompt.
        kept: tasks of selection samples on which a number of heads is settled, by the name of a task of the goal; neutral text
            has none where it comes in one piece.
        limits: what the goal keeps, in the recipe's order.
        neutral: texts whose likelihood should stay.
        quiet: others of the kind, for choosing heads by what they cost; empty where there is one set of texts, and the recipe
            compares no ways to choose.
        data: fingerprints and sizes of all data.
    """

    recipe: Recipe
    concepts: tuple[PreparedConcept, ...]
    tasks: Mapping[str, Task] = field(repr=False)
    records: Mapping[str, Sequence[Record]] = field(repr=False)
    selection: Mapping[str, Task] = field(repr=False)
    kept: Mapping[str, Task] = field(repr=False)
    limits: tuple[Limit, ...]
    neutral: Sequence[Sample] = field(repr=False)
    quiet: Sequence[Sample] = field(repr=False)
    data: tuple[DataUsed, ...] = field(repr=False)


@dataclass(frozen=True)
class Source:
    """The origin of a run's data.

    Attributes:
        path: a file or folder in place of the Hub, or None.
        rows: rows that were given in Python, by the name that the recipe calls them.
        limit: records a task and split at most, over what the recipe says.
        seed: seed of every drawing.
        trust_remote_code: run code that comes with a classifier.
    """

    path: Path | None = None
    rows: Mapping[str, Rows] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    trust_remote_code: bool = False

    def at_most(self, limit: int | None) -> int | None:
        """The smaller of two limits."""
        return min((number for number in (limit, self.limit) if number is not None), default=None)


def prepare(recipe: Recipe, source: Source) -> Prepared:
    """Load what a recipe runs on.

    Raises:
        HeadPursuitError: data that cannot be read, a target that the task does not measure, selection data that is all
            test data.
    """
    check_data(recipe, source)
    tests = {task.name: _records(recipe, task, "test", limit=task.limit, source=source) for task in recipe.tasks}
    concepts = _distinct([_concept(recipe, spec, source, tests.get(spec.task, ())) for spec in recipe.concepts])
    tasks = {task.name: _task(recipe, task, tests[task.name], concepts, source) for task in recipe.tasks}
    of_words = [concept for concept in concepts if not concept.spec.of_texts]
    for number, concept in enumerate(concepts):
        if concept.spec.target:
            _metric(f"concepts[{number}].target", concept.spec.task, tasks[concept.spec.task].metrics, concept.spec.target)
    data = [DataUsed("test", name, len(records), data_fingerprint(records)) for name, records in tests.items()]
    tested = [record for records in tests.values() for record in records]
    selection: dict[str, Task] = {}
    wanted = [(concept.name, concept.spec.task, concept.spec.limit) for concept in of_words]
    if recipe.describe is not None:
        wanted.append(("describe", recipe.describe.task, recipe.describe.limit))
    for name, task, limit in wanted:
        # Heads are ranked on questions of every kind, those too that "only" leaves out.
        found = _read(recipe, recipe.task(task), "selection", limit=source.at_most(limit), source=source)
        selection[name], used = _selection(recipe, recipe.task(task), concepts, found, tested, source)
        data.append(DataUsed("selection", name, *used))
    kept: dict[str, Task] = {}
    limits: list[Limit] = []
    goal_data: dict[str, int | None] = {}
    for number, keep in enumerate(() if recipe.goal is None else recipe.goal.keep):
        metrics = (LIKELIHOOD,) if keep.task == NEUTRAL_TASK else tasks[keep.task].metrics
        limits.append(_limit(f"goal.keep[{number}]", keep, metrics))
        if keep.task != NEUTRAL_TASK:
            goal_data[keep.task] = recipe.task(keep.task).limit
        elif recipe.neutral in DEMO_DATA:
            kept[NEUTRAL_TASK] = neutral_task(_neutral(recipe, source, concepts, split="selection"))
    for concept in of_words if recipe.goal is not None else ():
        for spec in recipe.tasks:
            if same_questions(recipe, concept.spec.task, spec.name):
                goal_data.setdefault(spec.name, concept.spec.limit)
    for name, limit in goal_data.items():
        found = _records(recipe, recipe.task(name), "selection", limit=limit, source=source)
        kept[name], _ = _selection(recipe, recipe.task(name), concepts, found, tested, source)
    for concept in concepts:
        for use, made in (("selection", concept.concept), ("test", concept.counted)):
            if made.texts is not None:
                texts = (*made.texts.with_, *made.texts.without)
                data.append(DataUsed(use, concept.name, len(texts), fingerprint(texts)))  # type: ignore[arg-type]
    neutral, quiet = _neutral(recipe, source, concepts, split="test"), []
    if recipe.neutral in DEMO_DATA:
        quiet = _neutral(recipe, source, concepts, split="selection")
    elif recipe.select is not None:
        neutral, quiet = neutral[1::2], neutral[::2]
        if not neutral:
            raise HeadPursuitError("neutral: one text alone cannot be for choosing and for trying; give more")
    return Prepared(recipe, concepts, tasks, tests, selection, kept, tuple(limits), neutral, quiet, tuple(data))


def same_questions(recipe: Recipe, one: str, other: str) -> bool:
    """Whether two tasks of a recipe ask about the same data, so that a target of one is a target of the other."""
    own, its = recipe.task(one), recipe.task(other)
    return (own.data, own.only) == (its.data, its.only)


def check_data(recipe: Recipe, source: Source) -> None:
    """Check names and paths of all data without reading any.

    Raises:
        HeadPursuitError: an unknown data set, a file that is not there.
    """
    for number, task in enumerate(recipe.tasks):
        if _own(task, source):
            if not task.metric:
                raise HeadPursuitError(f'tasks[{number}].metric: say how own data is scored, such as metric = "contains"')
        elif task.data not in DATASETS and task.data not in DEMO_DATA:
            raise HeadPursuitError(
                f"tasks[{number}].data: no data set or file {task.data!r}; there are {', '.join((*DATASETS, *DEMO_DATA))}"
            )
        elif task.metric:
            raise HeadPursuitError(f"tasks[{number}].metric: {task.data} has metrics of its own; leave it out")
        _path(recipe, task, source)
    for number, spec in enumerate(recipe.concepts):
        for key in ("positive", "negative") if spec.of_texts else ():
            if getattr(spec, key) not in source.rows and not Path(getattr(spec, key)).is_file():
                raise HeadPursuitError(f"concepts[{number}].{key}: there is no file {getattr(spec, key)}; give one with texts")
    if recipe.neutral not in (NEUTRAL, *DEMO_DATA, *source.rows) and not Path(recipe.neutral).is_file():
        raise HeadPursuitError(
            f"neutral: there is no file {recipe.neutral}; give a text file, {NEUTRAL!r} for the packaged sentences, or one of "
            f"{', '.join(DEMO_DATA)}"
        )


def known_concepts(recipe: Recipe, source: Source) -> tuple[PreparedConcept, ...]:
    """The concepts whose words are known before any data is read.

    Raises:
        HeadPursuitError: no such concept or file, or two of one name; names the key.
    """
    return _distinct(
        [
            _concept(recipe, spec, source, ())
            for spec in recipe.concepts
            if not spec.of_texts and (spec.words != CLASSES or _classes(recipe.task(spec.task)))
        ]
    )


def _own(task: TaskSpec, source: Source) -> bool:
    return task.data in source.rows or (task.data not in DATASETS and Path(task.data).is_file())


def _distinct(concepts: Sequence[PreparedConcept]) -> tuple[PreparedConcept, ...]:
    for number, concept in enumerate(concepts):
        if concept.name in [other.name for other in concepts[:number]]:
            raise HeadPursuitError(f"concepts: two are called {concept.name!r}; give one of them another name")
    return tuple(concepts)


def _concept(recipe: Recipe, spec: ConceptSpec, source: Source, records: Sequence[Record]) -> PreparedConcept:
    if spec.of_texts:
        return _concept_of_texts(recipe, spec, source)
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
        whole = replace(found, name=spec.name or found.name)
    held = round(len(whole) * spec.held_out)
    if spec.held_out and not 0 < held < len(whole):
        raise HeadPursuitError(
            f"{_key(recipe, spec)}.held_out: {spec.held_out} of {len(whole)} words leaves none to hold out or to rank with; "
            "give more words or another share"
        )
    order = np.random.default_rng(source.seed).permutation(len(whole))
    counted = tuple(whole.words[index] for index in sorted(order[:held])) or whole.words
    ranked = tuple(whole.words[index] for index in sorted(order[held:]))
    return PreparedConcept(spec, replace(whole, words=ranked), replace(whole, words=counted))


def _concept_of_texts(recipe: Recipe, spec: ConceptSpec, source: Source) -> PreparedConcept:
    """A concept of half of both sets of texts, and one of the other halves, drawn by the seed."""
    halves: list[list[Sample]] = [[], [], [], []]
    most = source.at_most(spec.limit)
    whole = [as_samples(source.rows.get(name, name)) for name in (spec.positive, spec.negative)]
    try:
        as_texts(*whole)
    except HeadPursuitError as error:
        raise HeadPursuitError(f"{_key(recipe, spec)}.positive: {error}") from error
    for number, given in enumerate(whole):
        texts = list(dict.fromkeys(given))
        order = np.random.default_rng(source.seed).permutation(len(texts))
        for half in (0, 1):
            halves[2 * half + number] = [texts[index] for index in order[half::2]][:most]
    name = spec.name or Path(spec.positive).stem
    try:
        return PreparedConcept(spec, *(Concept.from_texts(*halves[first : first + 2], name=name) for first in (0, 2)))
    except HeadPursuitError as error:
        raise HeadPursuitError(f"{_key(recipe, spec)}.positive: half of the texts: {error}") from error


def _key(recipe: Recipe, spec: ConceptSpec) -> str:
    return f"concepts[{recipe.concepts.index(spec)}]"


def _classes(task: TaskSpec) -> tuple[str, ...]:
    known = DATASETS.get(task.data) or DEMO_DATA.get(task.data)
    return () if known is None else known.classes


def _path(recipe: Recipe, task: TaskSpec, source: Source) -> Path | None:
    if source.path is None or _own(task, source):
        return None
    if task.data in DEMO_DATA:
        raise HeadPursuitError(f"data: {task.data} is drawn and not read; leave the path out")
    if not source.path.exists():
        raise HeadPursuitError(f"data: there is no {source.path}; give {DATASETS[task.data].files}")
    own = source.path / task.data
    if own.exists():
        return own
    sets = sorted({one.data for one in recipe.tasks})
    if len(sets) > 1:
        raise HeadPursuitError(
            f"data: {source.path} has no folder {task.data}; the recipe reads {', '.join(sets)}, each from one of its name"
        )
    return source.path


def _read(recipe: Recipe, task: TaskSpec, split: Any, *, limit: int | None, source: Source) -> list[Record]:
    if _own(task, source):
        rows = source.rows.get(task.data, task.data)
        found = pick(own_entries(rows, fields=task.fields), split, limit=limit, seed=source.seed)
        if not found:
            raise HeadPursuitError(f"{task.name}: nothing of {task.data} belongs to the {split} half; give more rows")
        return found
    if task.data in DEMO_DATA:
        return demo_records(task.data, split=split, limit=limit, seed=source.seed)
    path = _path(recipe, task, source)
    return load_records(task.data, path=path, split=split, limit=limit, seed=source.seed)


def _records(
    recipe: Recipe, task: TaskSpec, split: Literal["selection", "test"], *, limit: int | None, source: Source
) -> list[Record]:
    """The records that a task asks about, without those that it leaves out."""
    limit = source.at_most(limit)
    if task.only is None:
        return _read(recipe, task, split, limit=limit, source=source)
    words = as_concept(recipe.concepts[0].words).words
    about, others = split_by_answer(_read(recipe, task, split, limit=None, source=source), words)
    found = about if task.only == "about" else others
    if not found:
        raise HeadPursuitError(
            f"{task.name}: no question of {task.data} has {'such' if task.only == 'about' else 'another'} answer; "
            "give more questions"
        )
    order = np.random.default_rng(source.seed).permutation(len(found))
    return [found[index] for index in order[:limit]]


def _selection(
    recipe: Recipe,
    spec: TaskSpec,
    concepts: Sequence[PreparedConcept],
    found: Sequence[Record],
    tested: Sequence[Record],
    source: Source,
) -> tuple[Task, tuple[int, str, int]]:
    """A task on selection data that shares nothing with the test data; its size, fingerprint, and how many were left out."""
    kept = without(found, tested)
    if not kept:
        raise HeadPursuitError(
            f"{spec.name}: all {len(found)} selection samples of {spec.data} are test samples too, so heads would be chosen on "
            "what they are judged by: give data with separate parts"
        )
    return _task(recipe, spec, kept, concepts, source), (len(kept), data_fingerprint(kept), len(found) - len(kept))


def _kind(spec: TaskSpec) -> str:
    known = DATASETS.get(spec.data) or DEMO_DATA.get(spec.data)
    return OWN if known is None else known.task


def _task(
    recipe: Recipe, spec: TaskSpec, records: Sequence[Record], concepts: Sequence[PreparedConcept], source: Source
) -> Task:
    known, kind = DATASETS.get(spec.data), _kind(spec)
    # Words of a class or a country say nothing in a caption or a toxic answer.
    of_words = [concept for concept in concepts if not concept.spec.of_texts]
    akin = [concept.counted for concept in of_words if _kind(recipe.task(concept.spec.task)) == kind]
    counted = list({concept.name: concept for concept in (*map(as_concept, spec.count), *akin)}.values())
    template = spec.template or (known.template if known is not None else PLAIN_TEMPLATE)
    common: dict[str, Any] = {"template": template, "name": spec.name, **spec.options}
    if kind == OWN:
        return own_questions(records, metrics=spec.metric, concepts=counted, **common)
    if kind == "question answering":
        return question_answering(records, **common)
    if kind == "classification":
        noun = known.noun if known is not None else "object"
        return classification(records, classes=_classes(spec) or None, noun=noun, **common)
    if kind == "captioning":
        return captioning(records, concepts=counted, **common)
    words = [word for concept in akin for word in concept.words]
    return toxic_continuation(records, classifier=_classifier(spec.classifier, source.trust_remote_code), words=words, **common)


@cache
def _classifier(name: str, trust_remote_code: bool) -> Any:
    return load_classifier(name, trust_remote_code=trust_remote_code) if name else None


def _metric(key: str, task: str, metrics: Sequence[Metric], name: str) -> Metric:
    known = {metric.name: metric for metric in metrics}
    if name not in known:
        raise HeadPursuitError(f"{key}: {task} measures no {name!r}; it measures {', '.join(known)}")
    return known[name]


def _limit(key: str, keep: KeepSpec, metrics: Sequence[Metric]) -> Limit:
    """The limit of something to keep: a share of what is compared as a ratio, a change of what is compared by its change."""
    metric = _metric(f"{key}.metric", keep.task, metrics, keep.metric)
    if metric.compared_by == "change":
        if keep.at_most is None:
            raise HeadPursuitError(f"{key}.at_least: {metric} has no share that could remain; give at_most, in {metric.unit}")
        return Limit(metric, keep.at_most)
    if keep.at_least is None:
        raise HeadPursuitError(f"{key}.at_most: {metric} is compared as a ratio; give at_least, the share that must remain")
    return Limit(metric, 1 - keep.at_least)


def _neutral(
    recipe: Recipe, source: Source, concepts: Sequence[PreparedConcept], *, split: Literal["selection", "test"]
) -> list[Sample]:
    most = source.at_most(recipe.edit.read_limit if recipe.edit is not None and split == "test" else None)
    if recipe.neutral in DEMO_DATA:
        spec = TaskSpec(name="neutral", data=recipe.neutral)
        records = _read(recipe, spec, split, limit=most, source=source)
        return list(_task(recipe, spec, records, concepts, source).samples)
    # Words that tell sets of texts apart may be as common as a full stop.
    lists = [concept for concept in concepts if not concept.spec.of_texts]
    words = [word for concept in lists for word in (*concept.concept.words, *concept.counted.words)]
    given: Any = source.rows.get(recipe.neutral, None if recipe.neutral == NEUTRAL else Path(recipe.neutral))
    both = 2 if recipe.select is not None else 1  # one half is for choosing
    found = neutral_texts(given, words, limit=None if most is None else both * most)
    if not found and concepts:
        raise HeadPursuitError("neutral: every text speaks of a concept of the recipe; give others")
    return found
