"""The cells that a recipe would run, and the time that they take."""

import time
from collections.abc import Sequence

from headpursuit.activations.measures import negative_log_likelihood
from headpursuit.evaluation.cells import Task
from headpursuit.evaluation.metrics import NEUTRAL_TASK
from headpursuit.evaluation.prepare import Prepared, PreparedConcept
from headpursuit.evaluation.teacher_forced_tasks import neutral_task, teacher_forced_task_name
from headpursuit.model.head_model import HeadModel

# A trial is long enough to be timed and short enough to be waited for.
_TRIAL = 16


def tried_on(prepared: Prepared, concept: PreparedConcept) -> dict[str, tuple[float, ...]]:
    """The tasks on which a concept's heads are tried, each with the scales that are."""
    edit = prepared.recipe.edit
    scales = () if edit is None else edit.scales
    own = {
        task.name: tuple(scale for scale in scales if task.scales is None or scale in task.scales)
        for task in prepared.recipe.tasks
    }
    if edit is not None and edit.where == "generated":
        return own  # a given answer is no generated text: the edit would not reach it
    return {**own, teacher_forced_task_name(concept.name): scales, NEUTRAL_TASK: scales}


def count_cells(prepared: Prepared) -> dict[str, int]:
    """Cells of each task at most: head sets that coincide are run once."""
    edit = prepared.recipe.edit
    if edit is None:
        return {}
    counts: dict[str, int] = {}
    for concept in prepared.concepts:
        for task, scales in tried_on(prepared, concept).items():
            counts.setdefault(task, 1)
            counts[task] += len(scales) * len(edit.k) * (len(edit.methods) + edit.draws)
    return counts


def time_left(left: Sequence[str], seconds: dict[str, list[float]], *, at_once: float = 1.0) -> str:
    """An estimate from the cells of each task so far; tasks differ too much for one pace. So many run at once on average."""
    if not set(left) <= set(seconds):
        return "time left not known yet"
    whole = sum(sum(seconds[task]) / len(seconds[task]) for task in left)
    return f"{in_words(whole / at_once)} left"


def in_words(seconds: float) -> str:
    """A duration, roughly."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def trial_seconds(prepared: Prepared, model: HeadModel) -> dict[str, float]:
    """Seconds that one cell of each task takes here, from a few of its samples under no edit."""
    found = {name: task_seconds(task, model) for name, task in prepared.tasks.items()}
    forced = {
        teacher_forced_task_name(concept.name): prepared.tasks[concept.spec.task].samples for concept in prepared.concepts
    }
    most = None if prepared.recipe.edit is None else prepared.recipe.edit.read_limit
    for name, samples in {**forced, NEUTRAL_TASK: prepared.neutral}.items():
        few = [one for one in samples if one.target] or list(prepared.neutral)
        found[name] = task_seconds(neutral_task(few), model) * len(samples[:most]) / len(few)
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
