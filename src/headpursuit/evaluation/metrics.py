"""Metrics: what a number is, and the functions that make it of an answer, one value a sample.

One value a sample, so that anything can be averaged, paired or resampled later.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from headpursuit.data.answers import normalise_answer
from headpursuit.optional import optional_import

WORD_COUNTING = "whole words, case ignored, also with a plural in s or es"
CIDER_TOKENISER = "lower-cased runs of letters, digits and apostrophes"
_THOUGHT, _THOUGHT_ENDS = (
    re.compile(rf"<{slash}(?:think|thinking|thought|reasoning)>|\[{slash}THINK\]") for slash in ("", "/")
)
_PREFIX = re.compile(r"^(?:the\s+)?answer\s*(?:is\b\s*:?|:)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Metric:
    """One number of a task: its name, its unit, which way is better, and how an edited model's value is compared.

    Attributes:
        task: the task's name.
        name: the metric's name.
        unit: what it counts or measures, such as ``words an answer``; empty for a share.
        better: whether higher or lower values are better; None for what is neither, such as a count of words.
        compared_by: ``ratio`` divides an edited model's value by the unedited one's, ``change`` subtracts it: a
            log-probability has no meaningful ratio.
        concept: the concept whose presence it tells, if it tells one's.
    """

    task: str
    name: str
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    compared_by: Literal["ratio", "change"] = "ratio"
    concept: str | None = None

    def __str__(self) -> str:
        return f"{self.name} of {self.task}"

    def as_ratio(self, unedited: float) -> bool:
        """Whether values are shown relative to the unedited model's: where a ratio has a meaning, and it is not 0."""
        return self.compared_by == "ratio" and unedited != 0

    def has_effect(self, unedited: float) -> bool:
        """Whether an edit's effect can be told: nothing can be lost or won of a ratio whose unedited value is 0."""
        return self.compared_by == "change" or unedited != 0


NEUTRAL_TASK = "neutral text"
# What an edit costs where no concept is spoken of; a divergence, which is never below 0, cannot be lucky.
LIKELIHOOD = Metric(NEUTRAL_TASK, "negative log-likelihood", unit="nats a token", better="lower", compared_by="change")
DIVERGENCE = Metric(NEUTRAL_TASK, "divergence", unit="nats a token", better="lower", compared_by="change")


def parse_answer(written: str) -> str:
    """The answer in what a model wrote: its first line that is not blank, without "Answer:" or "The answer is" before it.

    What is thought aloud (``<think>…</think>``, and as other models call it) is no answer, nor is a thought that was cut off.

    >>> parse_answer("The answer is: Paris\\nIt lies on the Seine.")
    'Paris'
    """
    behind = _THOUGHT.split(_THOUGHT_ENDS.split(written)[-1])[0]
    said = _PREFIX.sub("", behind.strip())
    return next((line.strip() for line in said.splitlines() if line.strip()), "")


def trivia_exact_match(answer: str, accepted: Collection[str]) -> float:
    """1 if the answer is one of the accepted ones after TriviaQA's normalisation, else 0."""
    return float(normalise_answer(answer) in {normalise_answer(text) for text in accepted})


def trivia_f1(answer: str, accepted: Collection[str]) -> float:
    """TriviaQA's F1: the overlap of answer and accepted answer as bags of words, of the best alias, between 0 and 1.

    The official script prints 100 times the mean over questions.

    >>> trivia_f1("the city of Paris", ["Paris", "Paris, France"])
    0.5
    """
    return max((_overlap(normalise_answer(answer).split(), normalise_answer(text).split()) for text in accepted), default=0)


def contains(answer: str, accepted: Collection[str]) -> float:
    """1 if one of the accepted answers occurs in the answer, as whole words after TriviaQA's normalisation, else 0.

    >>> contains("It must be Paris, I think.", ["paris"])
    1.0
    """
    said = f" {normalise_answer(answer)} "
    return float(any(f" {normalise_answer(text)} " in said for text in accepted if normalise_answer(text)))


def exact_match(answer: str, target: str) -> float:
    """1 if the answer is the target, but for case, punctuation at the ends and blanks; else 0."""
    return float(_plain(answer) == _plain(target))


def cider(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Float[np.ndarray, " n"]:
    """CIDEr-D of each caption by pycocoevalcap's scorer, times 10 as everybody reports it, shape ``(n,)``.

    Texts are tokenised as ``CIDER_TOKENISER`` says, not by the Stanford tokeniser, so that no Java is needed.

    Raises:
        MissingExtraError: pycocoevalcap is not installed.
    """
    hypotheses = {index: [_tokenise(answer)] for index, answer in enumerate(answers)}
    truths = {index: [_tokenise(text) for text in texts] for index, texts in enumerate(references)}
    return np.asarray(cider_scorer().compute_score(truths, hypotheses)[1], dtype=float)


def cider_scorer() -> Any:
    """pycocoevalcap's CIDEr-D, which needs no Java; asked for early, nothing is generated in vain where it is missing.

    Raises:
        MissingExtraError: pycocoevalcap is not installed.
    """
    return optional_import("pycocoevalcap.cider.cider", extra="metrics", purpose="CIDEr").Cider()


# What a recipe may ask of the answers to its own questions, each from an answer and the accepted ones to a number.
ANSWER_METRICS: Mapping[str, Callable[[str, Collection[str]], float]] = {
    "contains": contains,
    "exact": trivia_exact_match,
    "f1": trivia_f1,
}


def _overlap(said: list[str], wanted: list[str]) -> float:
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def _tokenise(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def _plain(text: str) -> str:
    return " ".join(text.lower().strip(string.punctuation + string.whitespace).split())
