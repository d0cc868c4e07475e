"""Tasks that need no generation: the concept's log-odds along given answers, and the likelihood of neutral text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from headpursuit.concepts import resolve
from headpursuit.evaluation.cells import Task
from headpursuit.evaluation.metrics import count_words
from headpursuit.evaluation.teacher_forced import concept_log_odds, negative_log_likelihood, with_targets

if TYPE_CHECKING:
    from headpursuit.data.records import Record
    from headpursuit.evaluation.cells import Bench
    from headpursuit.evaluation.prepare import Aim, Material
    from headpursuit.model.head_model import HeadModel
    from headpursuit.model.samples import Sample

NEUTRAL_TASK = "neutral text"
LIKELIHOOD = "negative log-likelihood"


def read_along_name(aim: Aim) -> str:
    """What rows call the task in which a concept's answers are given."""
    return f"{aim.name}, teacher-forced"


def log_odds_name(aim: Aim) -> str:
    """What rows call the concept's log-odds."""
    return f"log-odds of {aim.name}"


def read_along_task(aim: Aim, material: Material, bench: Bench) -> Task:
    """The log-odds of a concept's tokens where they could be said.

    What is read along is, for each test record, its first reference (or answer, or label) that has a word of the concept; where
    the data has none, the unedited model's own answer. Records that do not speak of the concept are left out, if any does.

    Args:
        aim: the concept; its counted words are looked for.
        material: the recipe's data.
        bench: where the unedited model's answers are found.
    """
    name = aim.spec.task
    words = aim.counted.words
    texts = [_text(record, words) for record in material.records[name]]
    if not all(texts):
        own = bench.answers(name, None)
        texts = [text or answer for text, answer in zip(texts, own, strict=True)]
    samples = with_targets(material.tasks[name].samples, _only_speaking(texts, words))
    tokens = resolve(aim.counted, bench.model.tokenizer, multi_token=aim.spec.multi_token).token_ids
    measure = partial(concept_log_odds, samples=samples, tokens=tokens)
    identity = {"tokens": list(tokens)}
    return Task(read_along_name(aim), samples, None, identity=identity, forced={log_odds_name(aim): measure})


def speaking(model: HeadModel, task: Task, words: Sequence[str]) -> list[Sample]:
    """A task's samples with targets that have one of the words, or all with targets where none has.

    Targets are the data's own, or the model's own answer where a sample has none.

    Args:
        model: the unedited model.
        task: the samples, and how they are asked.
        words: the words.
    """
    texts = [sample.target or "" for sample in task.samples]
    if not all(texts):
        own = model.generate(list(task.samples), **task.options)
        texts = [text or answer for text, answer in zip(texts, own, strict=True)]
    return with_targets(task.samples, _only_speaking(texts, words))


def neutral_task(samples: Sequence[Sample]) -> Task:
    """The negative log-likelihood of texts that do not speak of any concept, or of their answers where they have some."""
    return Task(NEUTRAL_TASK, samples, None, forced={LIKELIHOOD: partial(negative_log_likelihood, samples=samples)})


def _only_speaking(texts: Sequence[str], words: Sequence[str]) -> Sequence[str]:
    """The texts with those blanked that have none of the words, if any text has one."""
    spoken = [text if count_words(text, words) else "" for text in texts]
    return spoken if any(spoken) else texts


def _text(record: Record, words: Sequence[str]) -> str:
    choices = (*record.answers, *([record.label] if record.label else []), *record.references)
    return next((text for text in choices if count_words(text, words)), choices[0] if choices else "")
