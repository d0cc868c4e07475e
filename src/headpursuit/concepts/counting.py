"""Words of a concept in texts: how often they come, and texts that have none of them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from headpursuit.model.samples import Sample, Samples, as_samples

_PACKAGED_TEXT = Path(__file__).parent / "neutral.txt"


def count_words(text: str, words: Collection[str]) -> int:
    """Count the concept's words in a text (Head Pursuit, section 4.3).

    Whole words only, case ignored; a plural in "s" or "es" counts, no other inflection does.

    >>> count_words("Two red boxes on a reddish box", ["red", "box"])
    3
    """
    return len(word_pattern(tuple(words)).findall(text))


def without_words(text: str, words: Collection[str]) -> str:
    """A text with the words left out that :func:`count_words` counts."""
    return word_pattern(tuple(words)).sub(" ", text)


@lru_cache(maxsize=256)
def word_pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """The pattern of the words that :func:`count_words` counts."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?:s|es)?(?!\w)", re.IGNORECASE)


def neutral_texts(texts: Samples | None, words: Sequence[str], *, limit: int | None = None) -> list[Sample]:
    """Texts that have none of the words, as plain text without a chat template; the packaged ones when left out.

    Of a sample with a target the target counts alone, since that is what is read.
    """
    found = as_samples(_PACKAGED_TEXT if texts is None else texts)
    quiet = [replace(one, chat=False) for one in found if not words or not count_words(one.target or one.text, words)]
    return quiet[:limit]
