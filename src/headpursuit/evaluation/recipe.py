"""Recipes: an experiment written down in TOML, checked key by key before anything is loaded."""

from __future__ import annotations

import difflib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headpursuit.activations.positions import RowPositions
from headpursuit.editing.where import ALL, TokenGroup
from headpursuit.errors import HeadPursuitError

CLASSES = "classes"
NEUTRAL = "text"
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSpec(_Table):
    """One task that edits are tried on.

    Attributes:
        name: what rows call it.
        data: a data set of ``headpursuit.data``, or one of the demo's.
        limit: test samples at most, drawn by the seed.
        answers: ``about`` keeps questions with one of the first concept's words as an answer, ``other`` the rest.
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
    answers: Literal["about", "other"] | None = None
    template: Name | None = None
    max_new_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Count | None = None
    classifier: str = "s-nlp/roberta_toxicity_classifier"
    count: tuple[Name, ...] = ()
    scales: tuple[float, ...] | None = None

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
        target: that metric.
        positions: which tokens make a sample's row.
        limit: selection samples at most.
        atoms: pursuit steps.
        multi_token: what becomes of words of several tokens.
        held_out: share of the words that is kept from the ranking and used to count with alone.
    """

    words: Name
    task: Name
    target: Name
    name: Name | None = None
    positions: RowPositions = "mean"
    limit: Count | None = None
    atoms: Count = 50
    multi_token: Literal["skip", "first", "mean"] = "skip"
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0


class EditSpec(_Table):
    """What is done to the heads.

    Attributes:
        k: numbers of heads.
        scales: factors of their contribution; below 1 the target should fall, above 1 rise.
        draws: random control sets for each k.
        methods: how heads are chosen, SOMP among them; ``attribution`` needs memory for a backward pass.
        where: the tokens at which the edits hold, see :class:`headpursuit.HeadEdit`.
    """

    k: Annotated[tuple[Count, ...], Field(min_length=1)]
    scales: Annotated[tuple[float, ...], Field(min_length=1)] = (-1.0,)
    draws: Annotated[int, Field(ge=2)] = 10
    methods: tuple[Literal["somp", "logit_lens", "attribution"], ...] = ("somp", "logit_lens")
    where: TokenGroup = ALL

    @model_validator(mode="after")
    def _compares_somp(self) -> EditSpec:
        if "somp" not in self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError("methods: name each once, and somp, which the others are compared with")
        return self


class DescribeSpec(_Table):
    """Heads that are named, without an edit.

    Attributes:
        task: name of the task whose selection data is read.
        positions: which tokens make a sample's row.
        limit: samples at most.
        atoms: tokens a head.
        heads: which heads; all when left out.
    """

    task: Name
    positions: RowPositions = "mean"
    limit: Count | None = None
    atoms: Count = 5
    heads: tuple[Name, ...] = ()


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
        describe: heads to be named instead.
        neutral: texts whose likelihood should stay: ``text`` (packaged sentences), a text file, or one of the demo's data sets,
            whose answers are read along.
    """

    name: Name
    title: Name
    model: Name
    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    paper: str = ""
    checkpoints: tuple[Name, ...] = ()
    concepts: tuple[ConceptSpec, ...] = ()
    edit: EditSpec | None = None
    describe: DescribeSpec | None = None
    neutral: str = NEUTRAL

    def task(self, name: str) -> TaskSpec:
        """The task with that name."""
        return next(task for task in self.tasks if task.name == name)

    @model_validator(mode="after")
    def _hangs_together(self) -> Recipe:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("tasks: two have one name; name each once")
        if self.describe is None and (self.edit is None or not self.concepts):
            raise ValueError("edit: there is nothing to do; give [[concepts]] and [edit], or [describe]")
        if self.describe is not None and (self.edit is not None or self.concepts):
            raise ValueError("describe: stands beside [[concepts]] or [edit]; make two recipes of it")
        wanted = {f"concepts[{number}].task": spec.task for number, spec in enumerate(self.concepts)}
        if self.describe is not None:
            wanted["describe.task"] = self.describe.task
        for place, task in wanted.items():
            if task not in names:
                raise ValueError(f"{place}: no task {task!r}; there are {', '.join(names)}")
        return self


def recipe_names() -> tuple[str, ...]:
    """Names of the packaged recipes."""
    return tuple(sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml")))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a packaged recipe by its name, or one from a TOML file.

    Raises:
        HeadPursuitError: neither name nor file, no TOML, or a key that is unknown, missing or wrong; one line naming it.
    """
    text, path = _read(name_or_path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HeadPursuitError(f"{name_or_path} is not TOML: {error}") from error
    try:
        recipe = Recipe(**{"name": Path(str(name_or_path)).stem, **content})
    except ValidationError as error:
        raise HeadPursuitError(f"{name_or_path}: {_in_words(error)}") from error
    return recipe if path is None else _from_folder(recipe, path.parent)


def _read(name_or_path: str | Path) -> tuple[str, Path | None]:
    path = Path(name_or_path).expanduser()
    if str(name_or_path) in recipe_names():
        return (_folder() / f"{name_or_path}.toml").read_text(encoding="utf-8"), None
    if not path.is_file():
        near = difflib.get_close_matches(str(name_or_path), recipe_names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise HeadPursuitError(
            f"no recipe {name_or_path}: {hint}give the path of a .toml file or one of {', '.join(recipe_names())}"
        )
    try:
        return path.read_text(encoding="utf-8"), path
    except UnicodeDecodeError as error:
        raise HeadPursuitError(f"{path} is not UTF-8: save the file as UTF-8") from error


def _from_folder(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the files that it names found beside it, from wherever it is run."""

    def beside(name: str) -> str:
        return str(folder / name) if (folder / name).is_file() else name

    concepts = tuple(spec.model_copy(update={"words": beside(spec.words)}) for spec in recipe.concepts)
    return recipe.model_copy(update={"concepts": concepts, "neutral": beside(recipe.neutral)})


def _folder() -> Any:
    return resources.files("headpursuit.evaluation") / "recipes"


def _in_words(error: ValidationError) -> str:
    """The first mistake in one line: the key, what is wrong with it, what may stand there."""
    first = error.errors()[0]
    place = ""
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f"{'.' if place else ''}{part}"
    if first["type"] == "extra_forbidden":
        known = _keys_at(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{place} is no key of a recipe; {hint}the keys there are {', '.join(known)}"
    if first["type"] == "missing":
        return f"{place} is missing; give it"
    message = first["msg"].removeprefix("Value error, ")
    more = len(error.errors()) - 1
    return f"{place}{': ' if place else ''}{message}{f' (and {more} more)' if more else ''}"


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    tables: dict[str, type[_Table]] = {
        "tasks": TaskSpec,
        "concepts": ConceptSpec,
        "edit": EditSpec,
        "describe": DescribeSpec,
    }
    return list((tables[str(place[0])] if place else Recipe).model_fields)
