"""Recipes: an experiment written down in TOML or as a mapping, checked key by key before anything is loaded."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from headpursuit.activations.positions import RowPositions
from headpursuit.editing.where import ALL, TokenGroup
from headpursuit.errors import HeadPursuitError, did_you_mean, shown
from headpursuit.evaluation.metrics import ANSWER_METRICS, LIKELIHOOD, NEUTRAL_TASK
from headpursuit.files import expanded, read_text
from headpursuit.ranking.methods import SELECTORS, Order, method_key
from headpursuit.ranking.own_metrics import function_name

CLASSES = "classes"
NEUTRAL = "text"
# Beyond these a number or a text is a mistake, and would end in the middle of the work.
Count = Annotated[int, Field(ge=1, le=10**9)]
Name = Annotated[str, Field(min_length=1, max_length=4096)]


def _as_metric(value: Any) -> Any:
    if not callable(value) and value not in (*ANSWER_METRICS, "words"):
        raise ValueError(f"{shown(value)}: choose among {', '.join(ANSWER_METRICS)} and words, or give a function")
    return value


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any, info: ValidationInfo) -> Any:
        several = get_origin(cls.model_fields[str(info.field_name)].annotation) is tuple
        return (value,) if several and (isinstance(value, str) or callable(value)) else value


class TaskSpec(_Table):
    """One task that edits are tried on.

    Attributes:
        name: what rows call it.
        data: a data set of ``headpursuit.data``, or one of the demo's.
        limit: test samples at most, drawn by the seed.
        only: ``about`` keeps questions with one of the first concept's words as an answer, ``other`` the rest.
        metric: for own data, what answers are scored by, see :func:`headpursuit.evaluation.tasks.own_questions`.
        text: for own data, the field of the question; a dot leads into a nested one.
        answers: for own data, the field of the accepted answers.
        image: for own data, the field of the image.
        template: the prompt; the task's own when left out.
        max_new_tokens: how much is written at most; the task's own when left out.
        temperature: 0 writes the likeliest text.
        batch_size: samples that run together.
        classifier: for continuations, a toxicity classifier (Hub name or folder), or "" for words alone.
        count: for captions, built-in concepts whose words are counted beside the recipe's own.
        scales: which of the edits' factors are tried on this task; all when left out.
    """

    name: Name
    data: Name
    limit: Count | None = None
    only: Literal["about", "other"] | None = None
    metric: tuple[Annotated[Any, AfterValidator(_as_metric)], ...] = ()
    text: Name = "text"
    answers: Name = "answers"
    image: Name = "image"
    template: Name | None = None
    max_new_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Count | None = None
    classifier: str = "s-nlp/roberta_toxicity_classifier"
    count: tuple[Name, ...] = ()
    scales: tuple[float, ...] | None = None

    @property
    def fields(self) -> dict[str, str]:
        """The fields of own data, by what they hold."""
        return {name: getattr(self, name) for name in ("text", "answers", "image")} | {"references": "references"}

    @property
    def options(self) -> dict[str, Any]:
        """Options of generation, those that were given."""
        drawing = {"do_sample": True, "temperature": self.temperature, "top_k": 0} if self.temperature else {}
        given = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size}
        return {**{key: value for key, value in given.items() if value is not None}, **drawing}


class ConceptSpec(_Table):
    """One concept whose heads are looked for.

    Attributes:
        words: a built-in concept, a file of words, or ``classes`` for the class names of the task's data.
        name: what rows call it; by default the concept's own name, or the data set's for classes.
        task: name of the task on whose selection data heads are ranked, and whose metric they should move.
        target: that metric; a recipe that compares ways to choose heads moves the concept's log-odds where it is left out.
        positive: in such a recipe, a file of texts with the concept, in place of words and task.
        negative: texts without it, which else are alike.
        positions: which tokens make a sample's row.
        limit: selection samples at most; of texts so many of each set, to choose by and to try on.
        atoms: pursuit steps.
        multi_token: what becomes of words of several tokens.
        held_out: share of the words that is kept from the ranking and used to count with alone.
    """

    words: str = ""
    task: str = ""
    target: str = ""
    positive: str = ""
    negative: str = ""
    name: Name | None = None
    positions: RowPositions = "mean"
    limit: Count | None = None
    atoms: Count = 50
    multi_token: Literal["skip", "first", "mean"] = "skip"
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def of_texts(self) -> bool:
        """Whether the concept is made of texts and not of words."""
        return bool(self.positive or self.negative)

    @model_validator(mode="after")
    def _of_words_or_texts(self) -> ConceptSpec:
        if self.of_texts:
            given = [key for key in ("words", "task", "target", "held_out") if getattr(self, key)]
            if not (self.positive and self.negative) or given:
                raise ValueError(f"give positive and negative, both{f', and leave {given[0]} out' if given else ''}")
        else:
            for key in ("words", "task"):
                if not getattr(self, key):
                    raise ValueError(f"{key} is missing; give it")
        return self


class EditSpec(_Table):
    """The edits of the heads.

    Attributes:
        k: numbers of heads.
        scales: factors of their contribution; below 1 the target should fall, above 1 rise.
        draws: random control sets for each k.
        methods: how heads are chosen, the paper's SOMP among them. The first is asked for the goals, compared with the others
            and controlled by random heads of its layers; ``attribution`` and ``contest`` need memory for a backward pass.
        where: the tokens at which the edits hold, see :class:`headpursuit.HeadEdit`.
        read_limit: how many test texts are read along at most under every edit: neutral ones (of a file the first), and answers
            that speak of the concept; all when left out. Heads are chosen with all.
    """

    k: Annotated[tuple[Count, ...], Field(min_length=1)]
    scales: Annotated[tuple[float, ...], Field(min_length=1)] = (-1.0,)
    draws: Annotated[int, Field(ge=2, le=10**6)] = 10
    methods: tuple[Annotated[Order, BeforeValidator(method_key)], ...] = ("somp", "logit_lens")
    where: TokenGroup = ALL
    # One alone has no standard error.
    read_limit: Annotated[int, Field(ge=2, le=10**9)] | None = None

    @model_validator(mode="after")
    def _compares_somp(self) -> EditSpec:
        if "somp" not in self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError("name each method once, and somp, the paper's, among them")
        return self


class MethodSpec(_Table):
    """One way to choose heads.

    Attributes:
        method: a method of :func:`headpursuit.select`.
        name: what rows call it; by default the method's name with its options.
        options: options of the method, beside those that the comparison gives it.
    """

    method: Annotated[str, BeforeValidator(method_key)]
    name: Name | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """What rows call it."""
        options = ", ".join(f"{key} {value}".replace("_", " ") for key, value in self.options.items())
        return self.name or self.method + (f" ({options})" if options else "")

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exists(self) -> MethodSpec:
        if self.method not in SELECTORS:
            raise ValueError(f"method {self.method!r}: choose among {', '.join(SELECTORS)}")
        return self


class SelectSpec(_Table):
    """A comparison of ways to choose heads, by what their edits move at equal cost.

    Attributes:
        methods: the ways, each a method's name or a table; the others are compared with the first.
        k: numbers of heads.
        scales: factors that are tried of each, from the nearest to 1 on; those below 1 suppress, those above enhance.
        costs: divergences on neutral text, in nats a token, at which effects are compared; the area goes up to the largest.
        budget: passes forward and backward over the selection samples that a way may take.
        draws: random control sets for each k.
        halves: choose once more on each half of the selection samples, to see whether they agree.
    """

    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    k: Annotated[tuple[Count, ...], Field(min_length=1)]
    scales: Annotated[tuple[float, ...], Field(min_length=1)] = (0.5, 0.0, -0.5, -1.0)
    costs: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.05, 0.1, 0.2)
    budget: Count = 200
    draws: Annotated[int, Field(ge=2, le=10**6)] = 5
    halves: bool = True

    @model_validator(mode="after")
    def _each_once(self) -> SelectSpec:
        labels = [one.label for one in self.methods]
        if len(set(labels)) < len(labels) or "random" in labels:
            raise ValueError("methods: name each once, and none random, which is always there")
        if 1.0 in self.scales:
            raise ValueError("scales: 1 changes nothing; leave it out")
        for key in ("k", "scales", "costs"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: name each once")
        if list(self.costs) != sorted(self.costs):
            raise ValueError("costs: name the smallest first")
        return self


class KeepSpec(_Table):
    """Something that an edit should leave alone.

    Attributes:
        task: the task; for the likelihood of neutral text leave task and metric out.
        metric: the metric.
        at_least: the share of the unedited model's value that must remain.
        at_most: for what has no ratio, the change for the worse that is allowed, in the metric's own unit.
    """

    task: Name = NEUTRAL_TASK
    metric: Name = LIKELIHOOD.name
    at_least: Annotated[float, Field(gt=0, lt=1)] | None = None
    at_most: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _bounded_once(self) -> KeepSpec:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give at_least (a share) or at_most (a change), one of them")
        return self


class GoalSpec(_Table):
    """The wish for the edit of every concept's heads, so that a run settles on a number of heads and judges itself.

    The number of heads is chosen on selection data, among those of the edit; the verdict is of test data.

    Attributes:
        at_most: share of the unedited model's target that may be left by a suppressing edit.
        at_least: share that an enhancing edit should reach.
        keep: what should stay, at the scales that its task is tried with.
    """

    at_most: Annotated[float, Field(ge=0, lt=1)] | None = None
    at_least: Annotated[float, Field(gt=1)] | None = None
    keep: tuple[KeepSpec, ...] = ()

    @model_validator(mode="after")
    def _wishes_something(self) -> GoalSpec:
        if self.at_most is None and self.at_least is None:
            raise ValueError("give at_most (suppress), at_least (enhance), or both")
        return self


class DescribeSpec(_Table):
    """Heads that are named, without an edit.

    Attributes:
        task: name of the task whose selection data is read.
        positions: which tokens make a sample's row.
        limit: samples at most.
        atoms: tokens a head.
        heads: which heads; all when left out.
        dictionary: what may name a head, see :func:`headpursuit.describe`.
        significance: random turns that names by SOMP are tested against; 0 for no test.
    """

    task: Name
    positions: RowPositions = "mean"
    limit: Count | None = None
    atoms: Count = 5
    heads: tuple[Name, ...] = ()
    dictionary: Name = "all"
    significance: Annotated[int, Field(ge=0, le=10**6)] = 0


class Recipe(_Table):
    """An experiment.

    Attributes:
        name: the file's name.
        title: one line.
        paper: which tables and figures of the paper it is.
        model: the checkpoint it runs on when no other is given.
        checkpoints: the paper's checkpoints; published numbers stand beside ours for these alone.
        tasks: what edits are tried on; every concept's heads on every task.
        concepts: whose heads.
        edit: what is done to them.
        goal: what is wished of that.
        describe: heads to be named instead.
        select: ways to choose heads that are compared instead.
        neutral: texts whose likelihood should stay: ``text`` (packaged sentences), a text file, or one of the demo's data sets,
            whose answers are read along.
    """

    name: Name
    title: Name
    model: Name
    tasks: tuple[TaskSpec, ...] = ()
    paper: str = ""
    checkpoints: tuple[Name, ...] = ()
    concepts: tuple[ConceptSpec, ...] = ()
    edit: EditSpec | None = None
    goal: GoalSpec | None = None
    describe: DescribeSpec | None = None
    select: SelectSpec | None = None
    neutral: str = NEUTRAL

    def task(self, name: str) -> TaskSpec:
        """The task with that name."""
        return next(task for task in self.tasks if task.name == name)

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("tasks: two have one name; name each once")
        for name in names:
            if name == NEUTRAL_TASK or name.endswith(", teacher-forced"):
                raise ValueError(f"tasks: {name!r} is the name of a measure that every recipe has; choose another")
        if self.describe is None and ((self.edit is None and self.select is None) or not self.concepts):
            raise ValueError("edit: there is nothing to do; give [[concepts]] and [edit] or [select], or [describe]")
        if self.describe is not None and (self.edit is not None or self.concepts or self.select is not None):
            raise ValueError("describe: stands beside [[concepts]], [edit] or [select]; make two recipes of it")
        if self.select is not None and self.edit is not None:
            raise ValueError("select: stands beside [edit]; make two recipes of it")
        if self.goal is not None and self.edit is None:
            raise ValueError("goal: is wished of an edit; give [edit], too")
        if not self.tasks and not all(spec.of_texts for spec in self.concepts):
            raise ValueError("tasks: there is none; give at least one")
        for number, spec in enumerate(self.concepts if self.select is None else ()):
            if spec.of_texts:
                raise ValueError(f"concepts[{number}].positive: texts are for a recipe with [select]; give words and task")
            if not spec.target:
                raise ValueError(f"concepts[{number}].target is missing; give it")
        wanted = {f"concepts[{number}].task": spec.task for number, spec in enumerate(self.concepts) if not spec.of_texts}
        for number, kept in enumerate(() if self.goal is None else self.goal.keep):
            if kept.task != NEUTRAL_TASK:
                wanted[f"goal.keep[{number}].task"] = kept.task
        if self.describe is not None:
            wanted["describe.task"] = self.describe.task
        for number, one in enumerate(self.tasks):
            if one.only is not None and (not self.concepts or self.concepts[0].words == CLASSES):
                raise ValueError(
                    f"tasks[{number}].only: needs a first concept with words of its own; give one, or leave it out"
                )
        for key, task in wanted.items():
            if task not in names:
                raise ValueError(f"{key}: no task {task!r}; there are {', '.join(names)}")
        return self


def recipe_names() -> tuple[str, ...]:
    """Names of the packaged recipes."""
    return tuple(sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml")))


def load_recipe(recipe: str | Path | Mapping[str, Any] | Recipe, *, set: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by its packaged name, from a TOML file, or from a mapping with the same keys.

    Args:
        recipe: a name of :func:`recipe_names`, the path of a ``.toml`` file, a mapping, or a recipe.
        set: values of keys that are changed, by their path (``{"edit.k": [1, 2], "tasks.0.limit": 50}``).

    Raises:
        HeadPursuitError: neither name nor file, no TOML, or a key that is unknown, missing or wrong; one line naming it.

    >>> load_recipe("demo-digits", set={"edit.k": [2]}).edit.k
    (2,)
    """
    folder = None
    if isinstance(recipe, Recipe):
        name, content = recipe.name, recipe.model_dump()
    elif isinstance(recipe, Mapping):
        name, content = "recipe", copy.deepcopy({"name": "own", **recipe})
    elif not isinstance(recipe, str | Path):
        raise HeadPursuitError(f"{shown(recipe)} is no recipe: give a name, a .toml file or a mapping")
    else:
        name, folder = str(recipe), None if str(recipe) in recipe_names() else expanded(recipe).parent
        content = {"name": Path(name).stem, **_read(name)}
    if not isinstance(set, Mapping | None):
        raise HeadPursuitError(f"set={shown(set)}: give a mapping from keys to values, such as {{'edit.k': [1, 2]}}")
    for key, value in (set or {}).items():
        _change(content, key, value)
    try:
        made = Recipe.model_validate(content)
    except ValidationError as error:
        raise HeadPursuitError(f"{name}: {_in_words(error)}") from error
    unfit = made.name in (".", "..") or not made.name.isprintable() or "/" in made.name or "\\" in made.name
    if unfit or len(made.name.encode()) > 200:
        raise HeadPursuitError(
            f"{name}: name: {made.name!r:.200} is no name; folders are called by it, so leave slashes out and keep it short"
        )
    return made if folder is None else _from_folder(made, folder)


def parse_set(text: str) -> tuple[str, Any]:
    """A key and its value, from ``edit.k=[1,2,4]``; the value is read as JSON, or else as text.

    Raises:
        HeadPursuitError: there is no ``=``.

    >>> parse_set("edit.k=[1, 2]"), parse_set("neutral=demo-facts")
    (('edit.k', [1, 2]), ('neutral', 'demo-facts'))
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise HeadPursuitError(f"--set {text}: write KEY=VALUE, such as edit.k=[1,2,4]")
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return key.strip(), value.strip()


def show_recipe(recipe: Recipe) -> str:
    """A recipe as JSON, defaults included."""
    return json.dumps(plain(recipe), indent=1, ensure_ascii=False)


def plain(settings: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    """A recipe, or other settings, as the plain values that are read back; a function is called by its name."""
    content = settings.model_dump() if isinstance(settings, Recipe) else settings
    return json.loads(json.dumps(content, default=lambda value: function_name(value) if callable(value) else str(value)))


def _change(content: dict[str, Any], key: str, value: Any) -> None:
    if not isinstance(key, str):
        raise HeadPursuitError(f"set: {shown(key)} is no key: write the path of one, such as edit.k")
    *path, last = key.split(".")
    inner: Any = content
    for part in path:
        step = int(part) if isinstance(inner, list | tuple) and part.isdecimal() else part
        if isinstance(inner, dict) and inner.get(step) is None:
            inner[step] = {}
        try:
            inner[step] = list(inner[step]) if isinstance(inner[step], tuple) else inner[step]
            inner = inner[step]
        except (IndexError, TypeError, KeyError) as error:
            raise HeadPursuitError(f"{key}: the recipe has no {part!r} there; show it to see its keys") from error
    try:
        inner[int(last) if isinstance(inner, list) and last.isdecimal() else last] = value
    except (IndexError, TypeError) as error:
        raise HeadPursuitError(f"{key}: the recipe has no {last!r} there; show it to see its keys") from error


def _read(name: str) -> dict[str, Any]:
    path = expanded(name)
    if name in recipe_names():
        text = (_folder() / f"{name}.toml").read_text(encoding="utf-8")
    elif path.is_file():
        text = read_text(path)
    else:
        hint = did_you_mean(name, recipe_names())
        raise HeadPursuitError(f"no recipe {name}: {hint}give the path of a .toml file or one of {', '.join(recipe_names())}")
    try:
        return tomllib.loads(text)
    # A number of thousands of digits is a plain ValueError.
    except (ValueError, RecursionError) as error:
        raise HeadPursuitError(f"{name} is not TOML: {error}") from error


def _from_folder(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the files that it names found beside it, from wherever it is run."""

    def beside(name: str) -> str:
        return str(folder / name) if (folder / name).is_file() else name

    files = ("words", "positive", "negative")
    concepts = tuple(
        spec.model_copy(update={key: beside(getattr(spec, key)) for key in files if getattr(spec, key)})
        for spec in recipe.concepts
    )
    tasks = tuple(task.model_copy(update={"data": beside(task.data)}) for task in recipe.tasks)
    return recipe.model_copy(update={"concepts": concepts, "tasks": tasks, "neutral": beside(recipe.neutral)})


def _folder() -> Any:
    return resources.files("headpursuit.evaluation") / "recipes"


# What may stand where a value was refused, by the kinds of pydantic's errors.
_WANTED = {
    "tuple_type": "a list, with [ ] around it",
    "model_type": "a table",
    "too_short": "a list of at least {min_length}",
    "string_too_short": "a text that is not empty",
    "string_too_long": "a text of at most {max_length} characters",
    "string_type": "a text",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "{le:.12g} or less",
    "literal_error": "{expected}",
    "invalid_key": "a key that is a text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
}


def _in_words(error: ValidationError) -> str:
    """The first mistake in one line: the key, its value, and what may stand there."""
    first = error.errors()[0]
    key = ""
    for part in first["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
    if first["type"] == "extra_forbidden":
        known = _keys_at(first["loc"][:-1])
        hint = did_you_mean(str(first["loc"][-1]), known)
        return f"{key} is no key of a recipe; {hint}the keys there are {', '.join(known)}"
    if first["type"] == "missing":
        return f"{key} is missing; give it"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in _WANTED:
        message = f"{shown(first['input'])}: give {_WANTED[first['type']].format(**first.get('ctx', {}))}"
    return f"{key}{': ' if key else ''}{message}"


def _keys_at(key: tuple[int | str, ...]) -> list[str]:
    tables: dict[str, type[_Table]] = {"tasks": TaskSpec, "concepts": ConceptSpec, "edit": EditSpec, "describe": DescribeSpec}
    tables |= {"goal": GoalSpec, "keep": KeepSpec, "select": SelectSpec, "methods": MethodSpec}
    named = [part for part in key if isinstance(part, str)]
    return list((tables[named[-1]] if named else Recipe).model_fields)
