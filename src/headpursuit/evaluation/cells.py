"""Tasks, and the bench that runs them under edits: one cell for each pair, computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cell_files import Cell, CellStore
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.samples import fingerprint
from headpursuit.versions import versions

if TYPE_CHECKING:
    from headpursuit.editing.edit import HeadEdit
    from headpursuit.model.head_model import HeadModel
    from headpursuit.model.samples import Sample

Scores = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Something to ask a model, and how it is scored.

    Attributes:
        name: what rows call it.
        samples: what is asked.
        score: from the answers to one value a sample for each metric, arrays of shape ``(n,)``; None where nothing is
            generated.
        options: options of :meth:`headpursuit.HeadModel.generate`.
        identity: what the numbers hang on besides model and options, as plain values: the template, the data's fingerprint,
            the scorers. Two results compare only where this is equal.
        forced: measures of the model itself, from the (edited) model to one value a sample, shape ``(n,)``.
    """

    name: str
    samples: Sequence[Sample] = field(repr=False)
    score: Callable[[Sequence[str]], Scores] | None = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict, repr=False)
    forced: Mapping[str, Callable[[HeadModel], np.ndarray]] = field(default_factory=dict, repr=False)

    @cached_property
    def depends_on(self) -> dict[str, Any]:
        """Everything that its results depend on beside the model and the edit, as plain values."""
        return {
            "name": self.name,
            "samples": fingerprint(self.samples),
            "options": dict(self.options),
            "forced": sorted(self.forced),
            **self.identity,
        }


@dataclass(frozen=True)
class Measure:
    """A metric of a task.

    Attributes:
        task: the task's name.
        metric: the metric's name.
        compared_by: whether an edited model's value is divided by the unedited one's, or that is subtracted; a
            log-probability has no meaningful ratio.
    """

    task: str
    metric: str
    compared_by: str = "ratio"


@dataclass
class Bench:
    """Runs tasks under edits and remembers each cell, since many rows ask for the same one.

    Attributes:
        model: the model.
        tasks: the tasks of one split, by name.
        seed: seed of sampling.
        tick: called once for every run, with what it was.
        store: where cells are kept beyond this process, or None.
    """

    model: HeadModel
    tasks: Mapping[str, Task]
    seed: int
    tick: Callable[[str], None] = lambda text: None
    store: CellStore | None = None
    _cells: dict[tuple[str, HeadEdit | None], Cell] = field(default_factory=dict, repr=False)

    def cell(self, task: str, edit: HeadEdit | None) -> Cell:
        """What a task gives under an edit; from the store where it lies there."""
        if (task, edit) not in self._cells:
            about = None if self.store is None else self.about(task, edit)
            found = None if self.store is None or about is None else self.store.load(about)
            if found is None:
                self.tick(f"{task}: {'unedited' if edit is None else edit}")
                found = self._run(self.tasks[task], edit)
                if self.store is not None and about is not None:
                    self.store.save(about, found)
            self._cells[task, edit] = found
        return self._cells[task, edit]

    def about(self, task: str, edit: HeadEdit | None) -> dict[str, Any]:
        """Everything that a cell depends on."""
        return {
            **self._common,
            "task": self.tasks[task].depends_on,
            "edit": None if edit is None else asdict(edit),
            "seed": self.seed,
        }

    def is_known(self, task: str, edit: HeadEdit | None) -> bool:
        """Whether a cell needs no run."""
        return (task, edit) in self._cells or (self.store is not None and self.about(task, edit) in self.store)

    def answers(self, task: str, edit: HeadEdit | None) -> Sequence[str]:
        """What the model answers under an edit."""
        return self.cell(task, edit).answers

    def scores(self, measure: Measure, edit: HeadEdit | None) -> np.ndarray:
        """A metric's value for every sample, shape ``(n,)``.

        Raises:
            HeadPursuitError: the task has no such metric.
        """
        found = self.cell(measure.task, edit).scores
        if measure.metric not in found:
            raise HeadPursuitError(
                f"{measure.task} has no metric {measure.metric!r}: choose one of {', '.join(map(repr, found))}"
            )
        return found[measure.metric]

    def value(self, measure: Measure, edit: HeadEdit | None) -> float:
        """Mean of a metric over the task's samples."""
        return float(np.mean(self.scores(measure, edit)))

    def ratio(self, measure: Measure, edit: HeadEdit | None) -> float | None:
        """That, divided by the unedited model's; None where that is 0 or where a ratio says nothing."""
        base = self.value(measure, None)
        return None if base == 0 or measure.compared_by != "ratio" else self.value(measure, edit) / base

    def size(self, measure: Measure) -> int:
        """Number of samples behind a measure."""
        return len(self.tasks[measure.task].samples)

    @cached_property
    def _common(self) -> dict[str, Any]:
        return {"model": weights_fingerprint(self.model.hf), "dtype": str(self.model.hf.dtype), "versions": versions()}

    def _run(self, task: Task, edit: HeadEdit | None) -> Cell:
        started = time.perf_counter()
        with nullcontext() if edit is None else edit.applied(self.model):
            answers: list[str] = []
            if task.score is not None:
                answers = self.model.generate(list(task.samples), seed=self.seed, **task.options)
            scores = {metric: measure(self.model) for metric, measure in task.forced.items()}
        if task.score is not None:
            scores = {**task.score(answers), **scores}
        return Cell(scores=scores, answers=tuple(answers), seconds=time.perf_counter() - started)
