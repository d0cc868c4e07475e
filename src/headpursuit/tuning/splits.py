"""Data to tune an edit on: a tuning split, a test split that shares nothing with it, and the goal for both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np

from headpursuit.activations.positions import Positions, RowPositions
from headpursuit.concepts import Concept
from headpursuit.concepts.counting import count_words, neutral_texts, without_words
from headpursuit.errors import HeadPursuitError, check_choice, check_finite
from headpursuit.evaluation.cells import Scores, Task
from headpursuit.evaluation.demo import DEMO_RECIPES
from headpursuit.evaluation.evaluate import gather
from headpursuit.evaluation.goals import Goal, Limit
from headpursuit.evaluation.metrics import LIKELIHOOD, NEUTRAL_TASK, WORD_COUNTING, Metric, trivia_f1
from headpursuit.evaluation.recipe import load_recipe
from headpursuit.evaluation.teacher_forced_tasks import neutral_task
from headpursuit.evaluation.verdicts import wishes
from headpursuit.model.head_model import HeadModel
from headpursuit.model.samples import Sample, Samples, as_samples, fingerprint

ANSWERS = "answers"
# The losses that an edit may bring where nothing else is said: a share of the answers' quality, and nats a token.
LIMITS: Mapping[str, float] = {"answers": 0.05, "neutral": 0.05}
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
        ranked_on: the samples of the tuning split that heads are ranked on, as they are asked.
    """

    concept: Concept
    goal: Goal
    tuning: Mapping[str, Task] = field(repr=False)
    test: Mapping[str, Task] = field(repr=False)
    positions: Positions
    ranked_on: Task = field(repr=False)

    def __post_init__(self) -> None:
        self.goal.check_samples(self.tuning)
        self.goal.check_samples(self.test)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the tasks that the goal speaks of."""
        return tuple(dict.fromkeys(metric.task for metric in self.goal.metrics))


def check_limits(limits: Mapping[str, float] | None) -> dict[str, float]:
    """The allowed losses by name, with the defaults for those that are not given.

    Raises:
        HeadPursuitError: a name that is none.
    """
    for name, loss in (limits or {}).items():
        check_choice(LIMITS, limits=name)
        check_finite(**{f"limits[{name}]": loss})
        if not loss > 0:
            raise HeadPursuitError(f"limits[{name}]={loss}: allow a loss above 0")
    return {**LIMITS, **(limits or {})}


def demo_data(
    model: HeadModel, concept: Concept, *, limits: Mapping[str, float] | None, enhance: bool, limit: int | None, seed: int
) -> TuningData:
    """The splits, the target and what should stay of the demo's own recipe for one of its concepts.

    Raises:
        HeadPursuitError: another model, or a concept that the demo does not measure or cannot enhance.
    """
    if model.source.id != "demo":
        raise HeadPursuitError(f"{model.source.id}: give samples to tune on; only the demo brings its own")
    recipes = {}
    for name in DEMO_RECIPES:
        recipe = load_recipe(name)
        recipes.update({spec.name or spec.words: recipe for spec in recipe.concepts})
    if concept.name not in recipes:
        raise HeadPursuitError(
            f"the demo has no measure of {concept.name!r}: choose one of {', '.join(recipes)}, or give samples"
        )
    prepared = gather(recipes[concept.name], model, limit=limit, seed=seed)
    (own,) = prepared.concepts
    goal = next((one for one in wishes(prepared, own) if one.rises == enhance), None)
    if goal is None:
        kind = "enhance" if enhance else "suppress"
        raise HeadPursuitError(f"the demo does not {kind} {concept.name}: its recipe has no such goal")
    losses = check_limits(limits)
    kept = tuple(Limit(one.metric, losses["neutral" if one.metric == LIKELIHOOD else "answers"]) for one in goal.limits)
    goal = replace(goal, limits=kept, reach=None, scale=None)
    test = {**prepared.tasks, NEUTRAL_TASK: neutral_task(prepared.neutral)}
    return TuningData(own.concept, goal, prepared.kept, test, own.spec.positions, prepared.selection[own.name])


def sample_data(
    model: HeadModel,
    samples: Samples,
    concept: Concept,
    *,
    neutral: Samples | None,
    positions: Positions,
    limits: Mapping[str, float] | None,
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
    check_choice(get_args(RowPositions), positions=positions)
    losses = check_limits(limits)
    chosen = list({fingerprint([one]): one for one in as_samples(samples)}.values())
    order = np.random.default_rng(seed).permutation(len(chosen))
    at_most = len(chosen) // 2 if limit is None else min(limit, len(chosen) // 2)
    if at_most < _FEWEST:
        raise HeadPursuitError(f"{len(chosen)} distinct samples: give at least {2 * _FEWEST}, half to tune on, half to test")
    halves = [[chosen[index] for index in part] for part in (order[:at_most], order[-at_most:])]
    texts = neutral_texts(neutral, concept.words, limit=None if limit is None else 2 * limit)
    middle = len(texts) // 2
    if not middle:
        raise HeadPursuitError("neutral: fewer than two texts do not speak of the concept; give others")
    quiet = [neutral_task(part) for part in (texts[:middle], texts[middle:])]
    tuning, test = (
        {ANSWERS: _answers(model, concept, half), NEUTRAL_TASK: one} for half, one in zip(halves, quiet, strict=True)
    )
    target, agreement = tuning[ANSWERS].metrics
    goal = Goal(
        concept.name, target, (Limit(agreement, losses["answers"]), Limit(LIKELIHOOD, losses["neutral"])), rises=enhance
    )
    return TuningData(concept, goal, tuning, test, positions, tuning[ANSWERS])


def _answers(model: HeadModel, concept: Concept, samples: Sequence[Sample]) -> Task:
    options: dict[str, Any] = {"max_new_tokens": 32}
    target = Metric(ANSWERS, f"{concept.name} words", unit="words an answer", concept=concept.name)
    agreement = Metric(ANSWERS, f"agreement beside {concept.name}", better="higher")
    wanted = [sample.target or "" for sample in samples]
    if not all(wanted):
        own = model.generate(list(samples), **options)
        wanted = [target or answer for target, answer in zip(wanted, own, strict=True)]
    references = [without_words(text, concept.words) for text in wanted]

    def score(answers: Sequence[str]) -> Scores:
        pairs = [(without_words(one, concept.words), [text]) for one, text in zip(answers, references, strict=True)]
        return {
            target.name: np.array([count_words(one, concept.words) for one in answers], dtype=float),
            agreement.name: np.array([trivia_f1(*pair) for pair in pairs]),
        }

    identity = {"words": list(concept.words), "scoring": WORD_COUNTING, "references": references}
    return Task(ANSWERS, samples, (target, agreement), score, options, identity)
