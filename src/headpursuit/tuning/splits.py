"""What an edit is tuned on: a tuning split, a test split that shares nothing with it, and the goal for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from headpursuit.activations.positions import ALL, check_positions
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.answers import trivia_f1
from headpursuit.evaluation.cells import Measure, Task
from headpursuit.evaluation.demo import demo_experiments, demo_tasks
from headpursuit.evaluation.goals import Goal, Limit
from headpursuit.evaluation.metrics import WORD_COUNTING, count_words, without_words
from headpursuit.evaluation.prepare import neutral_texts
from headpursuit.evaluation.teacher_forced_tasks import LIKELIHOOD, NEUTRAL_TASK, neutral_task
from headpursuit.model.samples import as_samples, fingerprint

if TYPE_CHECKING:
    from headpursuit.activations.capture import Samples
    from headpursuit.activations.positions import Positions
    from headpursuit.concepts import Concept
    from headpursuit.evaluation.cells import Scores
    from headpursuit.evaluation.protocol import Experiment
    from headpursuit.model.head_model import HeadModel
    from headpursuit.model.samples import Sample

ANSWERS = "answers"
_FEWEST = 4


@dataclass(frozen=True)
class TuningData:
    """Two splits and a goal.

    Attributes:
        concept: the word list.
        goal: what is wished.
        tuning: tasks of the tuning split, by name.
        test: the same tasks of the test split.
        positions: which tokens heads are ranked on.
        experiment: the demo's experiment, which says what its fixed edit is, or None.
    """

    concept: Concept
    goal: Goal
    tuning: Mapping[str, Task] = field(repr=False)
    test: Mapping[str, Task] = field(repr=False)
    positions: Positions
    experiment: Experiment | None = None

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the tasks that the goal speaks of."""
        return tuple(dict.fromkeys(measure.task for measure in self.goal.measures))

    @property
    def ranked_on(self) -> Task:
        """The task of the tuning split on whose samples heads are ranked."""
        return self.tuning[self.goal.target.task]


def read_data(
    model: HeadModel,
    concept: Concept,
    samples: Samples | None,
    *,
    neutral: Samples | None,
    positions: Positions,
    max_loss: float,
    max_nats: float,
    enhance: bool,
    limit: int | None,
    seed: int,
) -> TuningData:
    """The splits of one's own samples, or where none are given those of the demo; arguments as for `tune`.

    Raises:
        HeadPursuitError: as :func:`sample_data` and :func:`demo_data`.
    """
    if samples is None:
        return demo_data(model, concept, max_loss=max_loss, enhance=enhance, limit=limit, seed=seed)
    limits = {"max_loss": max_loss, "max_nats": max_nats}
    return sample_data(
        model, concept, samples, neutral=neutral, positions=positions, **limits, enhance=enhance, limit=limit, seed=seed
    )


def demo_data(
    model: HeadModel, concept: Concept, *, max_loss: float, enhance: bool, limit: int | None, seed: int
) -> TuningData:
    """The demo's own splits and measures for one of its concepts.

    Raises:
        HeadPursuitError: another model, or a concept that the demo does not measure or cannot enhance.
    """
    if model.source.id != "demo":
        raise HeadPursuitError(f"{model.source.id}: give samples to tune on; only the demo brings its own")
    found = {one.concept.name: one for one in demo_experiments()}
    if concept.name not in found:
        raise HeadPursuitError(
            f"the demo has no measure of {concept.name!r}: choose one of {', '.join(found)}, or give samples"
        )
    experiment = found[concept.name]
    target, kept = experiment.target, experiment.kept
    if enhance:
        if experiment.enhancement is None:
            possible = ", ".join(name for name, one in found.items() if one.enhancement is not None)
            raise HeadPursuitError(f"the demo does not enhance {concept.name}: choose one of {possible}")
        target, kept = experiment.enhancement.target, (experiment.enhancement.quality, *kept[1:])
    limits = tuple(Limit(measure, max_loss) for measure in kept)
    return TuningData(
        concept=experiment.concept,
        goal=Goal(concept.name, target, limits, rises=enhance),
        tuning=demo_tasks("selection", limit=limit, seed=seed),
        test=demo_tasks("test", limit=limit, seed=seed),
        positions=experiment.positions,
        experiment=None if enhance else experiment,
    )


def sample_data(
    model: HeadModel,
    concept: Concept,
    samples: Samples,
    *,
    neutral: Samples | None,
    positions: Positions,
    max_loss: float,
    max_nats: float,
    enhance: bool,
    limit: int | None,
    seed: int,
) -> TuningData:
    """Two halves of one's own samples, drawn by the seed.

    The target is the mean count of the concept's words in what the model writes. Quality is the likelihood of neutral text, and
    the overlap (TriviaQA's F1) of what the model writes with the sample's target, or with what it wrote unedited where the
    sample has none, the concept's words left out of both.

    Raises:
        HeadPursuitError: too few samples, or neutral texts that all speak of the concept.
    """
    check_positions(positions)
    if positions == ALL:
        raise HeadPursuitError(
            "positions='all': the rows of single tokens cannot be compared by the paper's criterion; choose others"
        )
    chosen = list({fingerprint([one]): one for one in as_samples(samples)}.values())
    order = np.random.default_rng(seed).permutation(len(chosen))
    at_most = len(chosen) // 2 if limit is None else min(limit, len(chosen) // 2)
    if at_most < _FEWEST:
        raise HeadPursuitError(
            f"{len(chosen)} distinct samples: give at least {2 * _FEWEST}, half to tune on, half to test"
        )
    halves = [[chosen[index] for index in part] for part in (order[:at_most], order[-at_most:])]
    texts = neutral_texts(neutral, concept.words, limit=None if limit is None else 2 * limit)
    middle = len(texts) // 2
    if not middle:
        raise HeadPursuitError("neutral: fewer than two texts do not speak of the concept; give others")
    quiet = [neutral_task(part) for part in (texts[:middle], texts[middle:])]
    tuning, test = (
        {ANSWERS: _answers(model, concept, half), NEUTRAL_TASK: one} for half, one in zip(halves, quiet, strict=True)
    )
    target = Measure(ANSWERS, f"{concept.name} words")
    limits = (
        Limit(Measure(ANSWERS, f"agreement beside {concept.name}"), max_loss),
        Limit(Measure(NEUTRAL_TASK, LIKELIHOOD, compared_by="difference"), max_nats),
    )
    return TuningData(concept, Goal(concept.name, target, limits, rises=enhance), tuning, test, positions)


def _answers(model: HeadModel, concept: Concept, samples: Sequence[Sample]) -> Task:
    options: dict[str, Any] = {"max_new_tokens": 32}
    wanted = [sample.target or "" for sample in samples]
    if not all(wanted):
        own = model.generate(list(samples), **options)
        wanted = [target or answer for target, answer in zip(wanted, own, strict=True)]
    references = [without_words(text, concept.words) for text in wanted]

    def score(answers: Sequence[str]) -> Scores:
        return {
            f"{concept.name} words": np.array([count_words(one, concept.words) for one in answers], dtype=float),
            f"agreement beside {concept.name}": np.array(
                [
                    trivia_f1(without_words(one, concept.words), [text])
                    for one, text in zip(answers, references, strict=True)
                ]
            ),
        }

    identity = {"words": list(concept.words), "scoring": WORD_COUNTING, "references": references}
    return Task(ANSWERS, samples, score, options, identity)
