"""Parts of a vocabulary that heads may be named by: whole words, one script, or what some texts are made of."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

from headpursuit.errors import HeadPursuitError
from headpursuit.model.token_text import BLANK_MARKS, written_texts

# A script by the word with which Unicode's names of its letters begin.
SCRIPTS = {
    name: name.upper()
    for name in (
        *("arabic", "armenian", "bengali", "cyrillic", "devanagari", "ethiopic", "georgian", "greek", "gujarati", "hangul"),
        *("hebrew", "hiragana", "kannada", "katakana", "khmer", "lao", "latin", "malayalam", "myanmar", "sinhala", "tamil"),
        *("telugu", "thai", "tibetan"),
    )
} | {"han": "CJK"}
_CONTINUES = "##"
# The share of a vocabulary that begins in a way by which whole words are told.
_SOME = 0.02


def parts_of(choice: str) -> list[str] | None:
    """The parts of a vocabulary that ``words+latin+seen:FILE`` names; None where a text names something else."""
    before, colon, file = choice.partition("seen:")
    parts = [*filter(None, before.split("+")), *([f"seen:{file}"] if colon else [])]
    known = {"all", "words", "seen", *SCRIPTS}
    return parts if parts and all(part.partition(":")[0] in known for part in parts) else None


def part_of_vocabulary(
    names: Collection[str], tokenizer: Any, *, known: Collection[int], seen: Collection[int] | None = None
) -> list[int]:
    """The token ids that belong to all of some parts.

    Args:
        names: ``all``; ``words``, tokens that are a whole word of letters alone: behind a blank where the vocabulary writes
            one (``▁``, ``Ġ``), without ``##`` in WordPiece; ``seen``; or a script, to which all letters of a token belong.
        tokenizer: a Hugging Face tokenizer.
        known: the ids to choose from.
        seen: the ids that were seen, for ``seen``.

    Returns:
        Ids in the order of ``known``.

    Raises:
        HeadPursuitError: no token is left.
    """
    chosen = list(known)
    texts = dict(zip(chosen, written_texts(tokenizer.convert_ids_to_tokens(chosen)), strict=True))
    for name in names:
        if name == "seen":
            among = set(seen or ())
            chosen = [token for token in chosen if token in among]
        elif name == "words":
            is_word = _word_test(tokenizer)
            chosen = [token for token in chosen if is_word(texts[token])]
        elif name in SCRIPTS:
            chosen = [token for token in chosen if _written_in(SCRIPTS[name], texts[token])]
    if not chosen:
        raise HeadPursuitError(f"no token of this vocabulary is {' and '.join(names)}: choose another part, such as words")
    return chosen


def _word_test(tokenizer: Any) -> Callable[[str], bool]:
    """How a whole word is told in this vocabulary, by a text of `written_texts`."""
    spellings = list(tokenizer.get_vocab())
    # A few tokens prove nothing: a vocabulary with blanks may hold the "##" of a heading.
    if sum(len(one) > 1 and one[0] in {*BLANK_MARKS, " "} for one in spellings) > _SOME * len(spellings):
        return lambda text: text[:1] == " " and _letters_alone(text[1:])
    if sum(one.startswith(_CONTINUES) for one in spellings) > _SOME * len(spellings):
        return lambda text: not text.startswith(_CONTINUES) and _letters_alone(text)
    return _letters_alone


def _letters_alone(text: str) -> bool:
    # Scripts of India and South-East Asia write vowels as marks, which `str.isalpha` takes for no letters.
    return text[:1].isalpha() and all(unicodedata.category(character)[0] in "LM" for character in text)


def _written_in(script: str, text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and all(_named(letter).startswith(script) for letter in letters)


@cache
def _named(letter: str) -> str:
    return unicodedata.name(letter, "")
