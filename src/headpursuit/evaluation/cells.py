"""Cells: what a task gives under an edit; each is run once, and kept on disk beyond the process.

A cell's file is named after everything that its numbers depend on, and is there whole or not at all, so that a run which
was killed goes on with the next cell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from headpursuit.editing.edit import HeadEdit
from headpursuit.engines import LOCAL, Engine, LostPartError, mapped
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.metrics import Metric
from headpursuit.files import digest, read_kept, write_sealed
from headpursuit.model.head_model import HeadModel
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.load import setup_for
from headpursuit.model.samples import Sample, fingerprint
from headpursuit.model.tokenize import token_fingerprint
from headpursuit.versions import versions

FORMAT = 1
Scores = Mapping[str, np.ndarray]
# A cell by its task and its edit, None for the unedited model.
Key = tuple[str, HeadEdit | None]


@dataclass(frozen=True)
class Task:
    """Questions for a model, and how its answers are scored.

    Attributes:
        name: what rows call it.
        samples: what is asked.
        metrics: what is measured.
        score: from the answers to one value a sample for each metric, arrays of shape ``(n,)``; None where nothing is
            generated.
        options: options of :meth:`headpursuit.HeadModel.generate`.
        identity: what the numbers depend on besides model and options, as plain values: the template, the data's
            fingerprint, the scorers. Two results compare only where this is equal.
        measure: where nothing is generated, from the (edited) model to one value a sample for each metric.
    """

    name: str
    samples: Sequence[Sample] = field(repr=False)
    metrics: tuple[Metric, ...]
    score: Callable[[Sequence[str]], Scores] | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict, repr=False)
    measure: Callable[[HeadModel], Scores] | None = field(default=None, repr=False)

    @cached_property
    def depends_on(self) -> dict[str, Any]:
        """Everything that its results depend on beside the model and the edit, as plain values."""
        return {
            "name": self.name,
            "samples": fingerprint(self.samples),
            "options": dict(self.options),
            "metrics": [metric.name for metric in self.metrics],
            **self.identity,
        }


@dataclass(frozen=True)
class Cell:
    """One task's answers and scores under one edit.

    Attributes:
        scores: for each metric one value a sample, shape ``(n,)``.
        answers: what the model wrote, one a sample; empty where nothing was generated.
        seconds: how long it took.
    """

    scores: Scores
    answers: tuple[str, ...]
    seconds: float


@dataclass
class Cells:
    """Cells of some tasks, run when they are first asked for, since many rows ask for the same one.

    Attributes:
        model: the model.
        tasks: the tasks of one split, by name.
        seed: seed of sampling.
        folder: where cells are kept beyond this process, or None.
        tick: called once for every run, with what it is.
        engine: where cells are run.
    """

    model: HeadModel
    tasks: Mapping[str, Task]
    seed: int
    folder: Path | None = None
    tick: Callable[[str], None] = lambda text: None
    engine: Engine = LOCAL
    _held: dict[Key, Cell] = field(default_factory=dict, repr=False)
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)

    def cell(self, task: str, edit: HeadEdit | None) -> Cell:
        """The answers and scores of a task under an edit (None for the unedited model), from the folder where it lies there."""
        if (task, edit) not in self._held:
            path = self._path(task, edit)
            if path is not None and path.is_file():
                self._held[task, edit] = _read(path)
            else:
                self.fill([(task, edit)])
        return self._held[task, edit]

    def fill(
        self, wanted: Iterable[Key], *, title: str = "", done: Callable[[Key, Cell], object] = lambda key, cell: None
    ) -> None:
        """Run those cells that are missing, side by side where there are workers, and keep each as soon as it is there.

        Args:
            wanted: cells by task and edit.
            title: what a progress bar says; none is shown when empty.
            done: called with each that was run.

        Raises:
            LostPartError: workers died of some cells; names each of them, once all others were run.
        """
        keys = dict.fromkeys(wanted)
        missing = [key for key in keys if not self.is_known(*key)]
        if not missing:
            return
        tasks = {name: self.tasks[name] for name, _ in missing}
        setup = setup_for(partial(_run, tasks=tasks, seed=self.seed), self.model, engine=self.engine)
        lost: list[LostPartError] = []
        known = len(keys) - len(missing)
        with tqdm(total=len(keys), initial=known, desc=title, unit="cell", disable=not title, leave=False) as bar:
            for key, found in mapped(missing, setup, engine=self.engine, name=_called):
                if isinstance(found, LostPartError):
                    lost.append(found)
                    continue
                self.tick(_called(key))
                if (path := self._path(*key)) is not None:
                    _write(path, found, about=self.about(*key))
                self._held[key] = found
                bar.update()
                done(key, found)
        if lost:
            raise LostPartError(
                f"{'; '.join(map(str, lost))}: all other cells were run; give workers more memory, or engine='local'"
            )

    def is_known(self, task: str, edit: HeadEdit | None) -> bool:
        """Whether a cell needs no run."""
        path = self._path(task, edit)
        return (task, edit) in self._held or (path is not None and path.is_file())

    def about(self, task: str, edit: HeadEdit | None) -> dict[str, Any]:
        """Everything that a cell depends on."""
        return {
            **self._common,
            "task": self.tasks[task].depends_on,
            "tokens": self._tokens_of(task),
            "edit": None if edit is None else asdict(edit),
            "seed": self.seed,
        }

    def answers(self, task: str, edit: HeadEdit | None) -> Sequence[str]:
        """The model's answers under an edit."""
        return self.cell(task, edit).answers

    def scores(self, metric: Metric, edit: HeadEdit | None) -> np.ndarray:
        """A metric's value for every sample, shape ``(n,)``.

        Raises:
            HeadPursuitError: the task gives no such metric.
        """
        found = self.cell(metric.task, edit).scores
        if metric.name not in found:
            known = ", ".join(map(repr, found))
            raise HeadPursuitError(f"{metric.task} has no metric {metric.name!r}: choose one of {known}")
        return found[metric.name]

    def value(self, metric: Metric, edit: HeadEdit | None) -> float:
        """Mean of a metric over the task's samples."""
        return float(np.mean(self.scores(metric, edit)))

    def as_ratio(self, metric: Metric) -> bool:
        """Whether an edit's effect on a metric is shown relative to the unedited model, or as a change."""
        return metric.as_ratio(self.value(metric, None))

    def has_effect(self, metric: Metric) -> bool:
        """Whether an edit's effect on a metric can be told; not for a ratio on which the unedited model scores 0."""
        return metric.has_effect(self.value(metric, None))

    def effect(self, metric: Metric, edit: HeadEdit | None) -> float:
        """The number that is shown of an edit: relative to the unedited model where that says something, else the change."""
        value, base = self.value(metric, edit), self.value(metric, None)
        return value / base if self.as_ratio(metric) else value - base

    @cached_property
    def _common(self) -> dict[str, Any]:
        return {"model": weights_fingerprint(self.model.hf), "dtype": str(self.model.hf.dtype), "versions": versions()}

    def _tokens_of(self, task: str) -> str:
        if task not in self._tokens:
            self._tokens[task] = token_fingerprint(self.model, self.tasks[task].samples)
        return self._tokens[task]

    def _path(self, task: str, edit: HeadEdit | None) -> Path | None:
        return None if self.folder is None else self.folder / f"{digest(self.about(task, edit))}.json"


def _called(key: Key) -> str:
    task, edit = key
    return f"{task}: {'unedited' if edit is None else edit}"


def _run(model: HeadModel, key: Key, *, tasks: Mapping[str, Task], seed: int) -> Cell:
    name, edit = key
    task, started = tasks[name], time.perf_counter()
    scores: dict[str, np.ndarray] = {}
    answers: list[str] = []
    with nullcontext() if edit is None else edit.applied(model):
        if task.score is not None:
            answers = model.generate(list(task.samples), seed=seed, **task.options)
        if task.measure is not None:
            scores.update(task.measure(model))
    if task.score is not None:
        scores.update(task.score(answers))
    return Cell(scores=scores, answers=tuple(answers), seconds=time.perf_counter() - started)


def _read(path: Path) -> Cell:
    stored = read_kept(path, format=FORMAT, what="cell", remedy="delete it, and the next run computes it anew")
    scores = {metric: np.array(values, dtype=float) for metric, values in stored["scores"].items()}
    return Cell(scores=scores, answers=tuple(stored["answers"]), seconds=stored["seconds"])


def _write(path: Path, cell: Cell, *, about: Mapping[str, Any]) -> None:
    scores = {metric: np.asarray(values, dtype=float).tolist() for metric, values in cell.scores.items()}
    content = {"format": FORMAT, "about": about, "seconds": cell.seconds, "scores": scores, "answers": cell.answers}
    write_sealed(path, content, indent=None)
