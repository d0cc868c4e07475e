"""What a recipe would run, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headpursuit.evaluation.teacher_forced import negative_log_likelihood
from headpursuit.evaluation.teacher_forced_tasks import NEUTRAL_TASK, neutral_task, read_along_name

if TYPE_CHECKING:
    from headpursuit.evaluation.cells import Task
    from headpursuit.evaluation.prepare import Aim, Material
    from headpursuit.model.head_model import HeadModel

# A trial is long enough to be timed and short enough to be waited for.
_TRIAL = 16


def tried_on(material: Material, aim: Aim) -> dict[str, tuple[float, ...]]:
    """The tasks on which a concept's heads are tried, each with the scales that are."""
    edit = material.recipe.edit
    scales = () if edit is None else edit.scales
    own = {
        task.name: tuple(scale for scale in scales if task.scales is None or scale in task.scales)
        for task in material.recipe.tasks
    }
    if edit is not None and edit.where == "generated":
        return own  # a text that is read along is no generated one: the edit would not reach it
    return {**own, read_along_name(aim): scales, NEUTRAL_TASK: scales}


def count_cells(material: Material) -> dict[str, int]:
    """Cells of each task at most: head sets that coincide are run once."""
    edit = material.recipe.edit
    if edit is None:
        return {}
    counts: dict[str, int] = {}
    for aim in material.aims:
        for task, scales in tried_on(material, aim).items():
            counts.setdefault(task, 1)
            counts[task] += len(scales) * len(edit.k) * (len(edit.methods) + edit.draws)
    return counts


def time_left(left: Sequence[str], seconds: dict[str, list[float]]) -> str:
    """An estimate from the cells of each task so far; tasks differ too much for one pace."""
    if not set(left) <= set(seconds):
        return "time left not known yet"
    return f"{in_words(sum(sum(seconds[task]) / len(seconds[task]) for task in left))} left"


def in_words(seconds: float) -> str:
    """A duration, roughly."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def trial_seconds(material: Material, model: HeadModel) -> dict[str, float]:
    """Seconds that one cell of each task takes here, from a few of its samples under no edit.

    Args:
        material: the recipe's data.
        model: the model.
    """
    found = {name: task_seconds(task, model) for name, task in material.tasks.items()}
    read = {read_along_name(aim): material.tasks[aim.spec.task].samples for aim in material.aims}
    for name, samples in {**read, NEUTRAL_TASK: material.neutral}.items():
        few = [one for one in samples if one.target] or list(material.neutral)
        found[name] = task_seconds(neutral_task(few), model) * len(samples) / len(few)
    return found


def task_seconds(task: Task, model: HeadModel) -> float:
    """Seconds that one cell of a task takes here, from a few of its samples under no edit."""
    few = list(task.samples[:_TRIAL])
    started = time.perf_counter()
    if task.score is None:
        negative_log_likelihood(model, few)
    else:
        model.generate(few, **task.options)
    return (time.perf_counter() - started) * len(task.samples) / len(few)
