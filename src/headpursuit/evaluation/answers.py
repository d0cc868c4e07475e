"""Reading an answer out of what a model wrote, and TriviaQA's scores of it by the official normalisation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from headpursuit.data.answers import normalise_answer

_PREFIX = re.compile(r"^(?:the\s+)?answer\s*(?:is\b\s*:?|:)\s*", re.IGNORECASE)


def parse_answer(written: str) -> str:
    """The answer in what a model wrote: its first line that is not blank, without "Answer:" or "The answer is" before it."""
    said = _PREFIX.sub("", written.strip())
    return next((line.strip() for line in said.splitlines() if line.strip()), "")


def trivia_exact_match(answer: str, accepted: Collection[str]) -> float:
    """1 if the answer is one of the accepted ones after TriviaQA's normalisation, else 0."""
    return float(normalise_answer(answer) in {normalise_answer(text) for text in accepted})


def trivia_f1(answer: str, accepted: Collection[str]) -> float:
    """TriviaQA's F1: the overlap of answer and accepted answer as bags of words, of the best alias, between 0 and 1.

    The official script prints 100 times the mean over questions.
    """
    return max(
        (_overlap(normalise_answer(answer).split(), normalise_answer(text).split()) for text in accepted), default=0
    )


def _overlap(said: list[str], wanted: list[str]) -> float:
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0
