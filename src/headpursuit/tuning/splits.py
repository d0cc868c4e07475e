"""Data to tune an edit on: a tuning split, a test split that shares nothing with it, and the goal for both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from headpursuit.activations.positions import Positions, RowPositions
from headpursuit.concepts import Concept
from headpursuit.concepts.counting import count_words, neutral_texts, without_words
from headpursuit.errors import HeadPursuitError, check_choice, check_finite
from headpursuit.evaluation.cells import Scores, Task
from headpursuit.evaluation.demo import DEMO_RECIPES
from headpursuit.evaluation.evaluate import gather
from headpursuit.evaluation.goals import Goal, Limit
from headpursuit.evaluation.metrics import DIVERGENCE, LIKELIHOOD, NEUTRAL_TASK, WORD_COUNTING, Metric, trivia_f1
from headpursuit.evaluation.recipe import load_recipe
from headpursuit.evaluation.teacher_forced_tasks import divergence_task, neutral_task
from headpursuit.evaluation.verdicts import wishes
from headpursuit.model.head_model import HeadModel
from headpursuit.model.samples import Sample, Samples, as_samples, fingerprint

ANSWERS = "answers"
# The losses that an edit may bring where nothing else is said: a share of the answers' quality, and nats a token of divergence.
LIMITS: Mapping[str, float] = {"answers": 0.05, "neutral": 0.1}
# On the demo's own data neutral text is kept as its recipes say: by its likelihood, in nats a token.
DEMO_LIMITS: Mapping[str, float] = {**LIMITS, "neutral": 0.05}
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
        quiet: texts that do not speak of the concept, of the tuning split, for methods that tell what heads cost.
    """

    concept: Concept
    goal: Goal
    tuning: Mapping[str, Task] = field(repr=False)
    test: Mapping[str, Task] = field(repr=False)
    positions: Positions
    ranked_on: Task = field(repr=False)
    quiet: Sequence[Sample] = field(repr=False)

    def __post_init__(self) -> None:
        self.goal.check_samples(self.tuning)
        self.goal.check_samples(self.test)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the tasks that the goal speaks of."""
        return tuple(dict.fromkeys(metric.task for metric in self.goal.metrics))


def check_limits(limits: Mapping[str, float] | None) -> None:
    """Refuse names of losses that there are none of, and losses that allow nothing.

    Raises:
        HeadPursuitError: naming the loss.
    """
    for name, loss in (limits or {}).items():
        check_choice(LIMITS, limits=name)
        check_finite(**{f"limits[{name}]": loss})
        if not loss > 0:
            raise HeadPursuitError(f"limits[{name}]={loss}: allow a loss above 0")


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
    check_limits(limits)
    losses = {**DEMO_LIMITS, **(limits or {})}
    kept = tuple(Limit(one.metric, losses["neutral" if one.metric == LIKELIHOOD else "answers"]) for one in goal.limits)
    goal = replace(goal, limits=kept, reach=None, scale=None)
    test = {**prepared.tasks, NEUTRAL_TASK: neutral_task(prepared.neutral)}
    ranked_on = prepared.selection[own.name]
    return TuningData(own.concept, goal, prepared.kept, test, own.spec.positions, ranked_on, prepared.quiet)


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

    The target is the mean count of the concept's words in what the model writes. What is kept is the model itself on neutral
    texts (their divergence), and where all samples have targets the overlap (TriviaQA's F1) of what the model writes with them,
    the concept's words left out of both. Without targets nothing says what a good answer is: an edit that changes a word may
    have every later one come out otherwise, and no worse.

    Raises:
        HeadPursuitError: too few samples, a limit of answers for samples without targets, or neutral texts that all speak of
            the concept.
    """
    check_choice(get_args(RowPositions), positions=positions)
    check_limits(limits)
    losses = {**LIMITS, **(limits or {})}
    chosen = list({fingerprint([one]): one for one in as_samples(samples)}.values())
    order = np.random.default_rng(seed).permutation(len(chosen))
    at_most = len(chosen) // 2 if limit is None else min(limit, len(chosen) // 2)
    if at_most < _FEWEST:
        raise HeadPursuitError(f"{len(chosen)} distinct samples: give at least {2 * _FEWEST}, half to tune on, half to test")
    judged = all(sample.target for sample in chosen)
    if not judged and ANSWERS in (limits or {}):
        raise HeadPursuitError(
            "limits[answers]: there are samples without a target, which says what a good answer is: give all of them one, or "
            "limit neutral alone"
        )
    halves = [[chosen[index] for index in part] for part in (order[:at_most], order[-at_most:])]
    texts = neutral_texts(neutral, concept.words, limit=None if limit is None else 2 * limit)
    middle = len(texts) // 2
    if not middle:
        raise HeadPursuitError("neutral: fewer than two texts do not speak of the concept; give others")
    quiet = (texts[:middle], texts[middle:])
    tuning, test = (
        {ANSWERS: _answers(concept, half, judged=judged), NEUTRAL_TASK: divergence_task(model, part)}
        for half, part in zip(halves, quiet, strict=True)
    )
    target, *kept = tuning[ANSWERS].metrics
    limits_kept = (*(Limit(one, losses[ANSWERS]) for one in kept), Limit(DIVERGENCE, losses["neutral"]))
    goal = Goal(concept.name, target, limits_kept, rises=enhance)
    return TuningData(concept, goal, tuning, test, positions, tuning[ANSWERS], quiet[0])


def _answers(concept: Concept, samples: Sequence[Sample], *, judged: bool) -> Task:
    """What the model writes: how often it speaks of the concept, and if it is judged how near that is to the targets."""
    target = Metric(ANSWERS, f"{concept.name} words", unit="words an answer", concept=concept.name)
    agreement = Metric(ANSWERS, f"agreement beside {concept.name}", better="higher")
    references = [without_words(sample.target or "", concept.words) for sample in samples] if judged else []

    def score(answers: Sequence[str]) -> Scores:
        scores = {target.name: np.array([count_words(one, concept.words) for one in answers], dtype=float)}
        if judged:
            pairs = zip(answers, references, strict=True)
            scores[agreement.name] = np.array([trivia_f1(without_words(one, concept.words), [text]) for one, text in pairs])
        return scores

    metrics = (target, agreement) if judged else (target,)
    identity = {"words": list(concept.words), "scoring": WORD_COUNTING, "references": references}
    return Task(ANSWERS, samples, metrics, score, {"max_new_tokens": 32}, identity)
