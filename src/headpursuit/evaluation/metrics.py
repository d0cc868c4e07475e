"""Numbers on generated text, one value a sample, so that anything can be averaged, paired or resampled later."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from headpursuit.errors import MissingExtraError

if TYPE_CHECKING:
    from jaxtyping import Float

WORD_COUNTING = "whole words, case ignored, also with a plural in s or es"
CIDER_TOKENISER = "lower-cased runs of letters, digits and apostrophes"


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


def count_words(text: str, words: Collection[str]) -> int:
    """Count the concept's words in a text (Head Pursuit, section 4.3).

    Whole words only, case ignored; a plural in "s" or "es" counts, no other inflection does.
    """
    return len(word_pattern(tuple(words)).findall(text))


def without_words(text: str, words: Collection[str]) -> str:
    """A text with the words left out that :func:`count_words` counts."""
    return word_pattern(tuple(words)).sub(" ", text)


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
    try:
        from pycocoevalcap.cider.cider import Cider
    except ImportError as error:
        raise MissingExtraError("pycocoevalcap", extra="metrics", purpose="CIDEr") from error
    return Cider()


def _tokenise(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def _plain(text: str) -> str:
    return " ".join(text.lower().strip(string.punctuation + string.whitespace).split())


@lru_cache(maxsize=256)
def word_pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """The pattern that finds the words which :func:`count_words` counts; at least one word."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?:s|es)?(?!\w)", re.IGNORECASE)
