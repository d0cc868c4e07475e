"""Generated text made fit to be shown: readable tokens, no control characters, the concept's words found."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence


def printable(text: str) -> str:
    """Replace control characters and lone surrogates, which no page may hold, even escaped."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in text)


def token(text: str) -> str:
    """Make a token readable: its leading space is no part of a name, a token that is only a blank is shown."""
    return text.strip() or {"": "∅", " ": "␣", "\n": "↵", "\t": "⇥"}.get(text, repr(text))


def readable(name: str) -> str:
    """Turn the key of a metric, task or concept into words."""
    return name.replace("_", " ").strip()


def signed(number: float) -> str:
    """Write a number with a real minus sign and without idle decimals."""
    return f"{number:g}".replace("-", "−")


def word_finder(words: Sequence[str]) -> Callable[[str], list[tuple[str, bool]]]:
    """Make a function that splits a text at a concept's words.

    Args:
        words: the words, or labels of tokens; one with a capital counts only as it is written (May, Turkey), any other
            in every case; a plural in -s counts.

    Returns:
        From a text to its pieces in order, each with whether it is one of the words.
    """
    cleaned = sorted({word.strip() for word in words if word.strip()}, key=lambda word: (-len(word), word))
    if not cleaned:
        return lambda text: [(printable(text), False)]
    choices = "|".join(re.escape(w) if w != w.lower() else f"(?i:{re.escape(w)})" for w in cleaned)
    pattern = re.compile(rf"(?<!\w)((?:{choices})(?:e?s)?)(?!\w)")

    def find(text: str) -> list[tuple[str, bool]]:
        # A split at one group alternates: what lies between, what matched.
        pieces = pattern.split(printable(text))
        return [(piece, bool(i % 2)) for i, piece in enumerate(pieces) if piece]

    return find
