"""Tasks that need no generation: the concept's log-odds along given answers, and what edits do to neutral text."""

from collections.abc import Callable, Sequence

import numpy as np

from headpursuit.activations.measures import Divergence, concept_log_odds, negative_log_likelihood, with_targets
from headpursuit.concepts import Concept, MultiToken, resolve
from headpursuit.concepts.counting import count_words
from headpursuit.data.records import Record
from headpursuit.evaluation.cells import Cells, Scores, Task
from headpursuit.evaluation.metrics import DIVERGENCE, LIKELIHOOD, Metric
from headpursuit.model.head_model import HeadModel
from headpursuit.model.samples import Sample


def teacher_forced_task_name(concept: str) -> str:
    """The name of the task in which a concept's answers are given."""
    return f"{concept}, teacher-forced"


def log_odds_metric(concept: str) -> Metric:
    """The concept's log-odds where it could be said."""
    return Metric(
        teacher_forced_task_name(concept), f"log-odds of {concept}", unit="nats", compared_by="change", concept=concept
    )


def teacher_forced_task(
    concept: Concept,
    task: Task,
    records: Sequence[Record],
    cells: Cells,
    *,
    multi_token: MultiToken = "skip",
    limit: int | None = None,
) -> Task:
    """The log-odds of a concept's tokens where they could be said.

    The given answer is, for each test record, its first reference (or answer, or label) that has a word of the concept; where
    the data has none, the unedited model's own answer. Records that do not speak of the concept are left out, if any does.

    Args:
        concept: the words that are looked for.
        task: the task on whose samples the model is asked.
        records: the records behind them.
        cells: where the unedited model's answers are found.
        multi_token: what becomes of words of several tokens.
        limit: only the first so many of these answers.
    """
    texts = [_text(record, concept.words) for record in records]
    if not all(texts):
        own = cells.answers(task.name, None)
        texts = [text or answer for text, answer in zip(texts, own, strict=True)]
    samples = with_targets(task.samples, _only_speaking(texts, concept.words))[:limit]
    tokens = resolve(concept, cells.model.tokenizer, multi_token=multi_token).token_ids
    return _task(
        log_odds_metric(concept.name),
        samples,
        lambda model: concept_log_odds(model, samples, tokens=tokens),
        identity={"tokens": list(tokens)},
    )


def neutral_task(samples: Sequence[Sample]) -> Task:
    """The negative log-likelihood of texts that do not speak of any concept, or of their answers where they have some."""
    return _task(LIKELIHOOD, samples, lambda model: negative_log_likelihood(model, samples), identity={})


def divergence_task(model: HeadModel, samples: Sequence[Sample]) -> Task:
    """How far an edit takes the model from itself, as it is now, on such texts."""
    return _task(DIVERGENCE, samples, Divergence(model, samples).each, identity={})


def speaking(model: HeadModel, task: Task, words: Sequence[str], *, seed: int = 0) -> list[Sample]:
    """A task's samples with targets that have one of the words, or all with targets where none has.

    Targets are the data's own, or the model's own answer where a sample has none.

    Args:
        model: the unedited model.
        task: the samples, and how they are asked.
        words: the words.
        seed: seed of sampling.
    """
    texts = [sample.target or "" for sample in task.samples]
    if not all(texts):
        own = model.generate(list(task.samples), seed=seed, **task.options)
        texts = [text or answer for text, answer in zip(texts, own, strict=True)]
    return with_targets(task.samples, _only_speaking(texts, words))


def _task(
    metric: Metric, samples: Sequence[Sample], measure: Callable[[HeadModel], np.ndarray], *, identity: dict[str, object]
) -> Task:
    def scores(model: HeadModel) -> Scores:
        return {metric.name: measure(model)}

    return Task(metric.task, samples, (metric,), identity=identity, measure=scores)


def _only_speaking(texts: Sequence[str], words: Sequence[str]) -> Sequence[str]:
    """The texts with those blanked that have none of the words, if any text has one."""
    spoken = [text if count_words(text, words) else "" for text in texts]
    return spoken if any(spoken) else texts


def _text(record: Record, words: Sequence[str]) -> str:
    choices = (*record.answers, *([record.label] if record.label else []), *record.references)
    return next((text for text in choices if count_words(text, words)), choices[0] if choices else "")
