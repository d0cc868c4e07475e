"""Numbers and generated texts as a reader sees them: rounded, and with the words of a concept found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from headpursuit.concepts.counting import word_pattern
from headpursuit.drawing.style import printable
from headpursuit.evaluation.metrics import exact_match
from headpursuit.evaluation.results import Example, Row

# A longer reference, such as a caption, is one of many right answers.
_SHORT_ANSWER = 4


def number(value: float | None, spread: tuple[float, float] | None = None) -> str:
    """A number with two decimals, and its interval or quartiles; empty where there is none.

    >>> number(0.061, (0.0, 0.132))
    '0.06 [0.00, 0.13]'
    """
    if value is None or not math.isfinite(value):
        return ""
    beside = "" if spread is None else f" [{spread[0]:.2f}, {spread[1]:.2f}]"
    return f"{value:.2f}{beside}".replace("-", "−")


def shown(row: Row | None) -> str:
    """The effect of a row with its spread; empty where nothing was measured."""
    return "" if row is None else number(row.effect, row.spread)


def percent(share: float | None) -> str:
    """A share as a percentage, rounded to one; empty where there is none."""
    return "" if share is None or not math.isfinite(share) else f"{100 * share:.0f} %".replace("-", "−")


def marked(text: str, words: Sequence[str], *, later: str | None = None) -> list[tuple[str, str]]:
    """A text in pieces, each with ``word`` for a word that is counted, ``gone`` for one that a later text lost, or nothing.

    >>> marked("a red dog", ["red"], later="a dog")
    [('a ', ''), ('red', 'gone'), (' dog', '')]
    """
    text = printable(text)
    if not words:
        return [(text, "")]
    pattern = word_pattern(tuple(words))
    left = None if later is None else Counter(found.lower() for found in pattern.findall(later))
    pieces, end = [], 0
    for match in pattern.finditer(text):
        kind = "word"
        if left is not None:
            kind = "word" if left[match.group().lower()] > 0 else "gone"
            left[match.group().lower()] -= 1
        pieces += [(text[end : match.start()], ""), (match.group(), kind)]
        end = match.end()
    return [piece for piece in (*pieces, (text[end:], "")) if piece[0]]


def is_right(answer: str, example: Example) -> bool | None:
    """Whether an answer is the expected one; None where there is none, or one that can be said in many ways."""
    reference = example.reference
    if reference is None or not 0 < len(reference.split()) <= _SHORT_ANSWER:
        return None
    return bool(exact_match(answer, reference))
