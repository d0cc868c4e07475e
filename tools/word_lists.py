"""The word lists that are drawn from libraries, for src/headpursuit/concepts/lists.json: ``python -m tools.word_lists``."""

import json
import tomllib
from functools import cache
from pathlib import Path

import babel
import inflect
import webcolors
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from headpursuit.concepts.builtin import word_list
from headpursuit.files import write_text

HERE = Path(__file__).parent
LISTS = HERE.parent / "src" / "headpursuit" / "concepts" / "lists.json"
_RULES = tomllib.loads((HERE / "word_lists.toml").read_text(encoding="utf-8"))
STRONG_VALENCE = 2.0
STRONGEST = 500
_DERIVED = ("ness", "nesses", "ly", "er", "ers", "est", "ier", "iest", "ily", "ive", "ists", "ist", "ments")


def _rule(name: str) -> tuple[str, ...]:
    return tuple(_RULES[name].split())


def _colours() -> tuple[str, ...]:
    names = {name.lower() for spec in ("css21", "css3") for name in webcolors.names(spec)}
    # CSS writes compounds in one word (darkred, seagreen, powderblue): no caption does.
    colours = {name for name in names if not _is_compound(name, names)}
    return tuple(sorted(colours.difference(_rule("css_names_nobody_says")) | set(_rule("colours_beyond_css"))))


def _is_compound(name: str, names: set[str]) -> bool:
    parts = [other for other in names if other != name and len(other) > 2]
    return any(name.startswith(part) or name.endswith(part) for part in parts)


def _countries() -> tuple[str, ...]:
    territories = babel.Locale("en").territories
    words: dict[str, None] = {}
    for code in sorted(code for code in territories if len(code) == 2 and code.isalpha()):
        if code not in _rule("not_countries"):
            for name in _RULES["common_country_names"].get(code) or (territories[code],):
                words.setdefault(name)
    return tuple(words)


def _months() -> tuple[str, ...]:
    names = babel.Locale("en").months["format"]["wide"]
    return tuple(names[number] for number in range(1, 13))


def _weekdays() -> tuple[str, ...]:
    names = babel.Locale("en").days["format"]["wide"]
    return tuple(names[number] for number in range(7))


def _numbers() -> tuple[str, ...]:
    spell = inflect.engine().number_to_words
    small = [str(spell(number)) for number in (*range(21), *range(30, 100, 10))]
    # "one hundred" is a phrase; its last word is the number word.
    large = [str(spell(10**power)).split()[-1] for power in (2, 3, 6, 9)]
    return (*small, *large)


def _quantity() -> tuple[str, ...]:
    return (*_numbers(), *word_list("quantifiers"))


@cache
def _lexicon() -> dict[str, float]:
    lexicon: dict[str, float] = SentimentIntensityAnalyzer().lexicon
    return lexicon


def _strongest(sign: int) -> tuple[str, ...]:
    strong = {word: sign * value for word, value in _lexicon().items() if sign * value >= STRONG_VALENCE}
    plain = [word for word in strong if _is_plain_word(word) and not _is_derived(word, strong)]
    return tuple(sorted(plain, key=lambda word: (-strong[word], word))[:STRONGEST])


def _is_plain_word(word: str) -> bool:
    if not (word.isascii() and word.isalpha() and word.islower()) or word.removesuffix("s") in word_list("rude"):
        return False
    return word in _rule("short_feelings") or (len(word) > 4 and not word.startswith(_rule("not_feelings")))


def _is_derived(word: str, words: dict[str, float]) -> bool:
    stems = [word.removesuffix(suffix) for suffix in _DERIVED if word.endswith(suffix)]
    return any(candidate in words for stem in stems for candidate in (stem, stem + "e", stem + "y"))


def _positive() -> tuple[str, ...]:
    return (*word_list("moods_positive"), *_strongest(1))


def _negative() -> tuple[str, ...]:
    return (*word_list("moods_negative"), *_strongest(-1))


def _all_sentiments() -> tuple[str, ...]:
    return (*_positive(), *_negative(), *word_list("moods_other"))


def lists() -> dict[str, tuple[str, ...]]:
    """Every list, by its concept's name."""
    return {
        "colours": _colours(),
        "countries": _countries(),
        "months": _months(),
        "weekdays": _weekdays(),
        "numbers": _numbers(),
        "quantity": _quantity(),
        "sentiments": _all_sentiments(),
        "sentiments_positive": _positive(),
        "sentiments_negative": _negative(),
        "digits": tuple("0123456789"),
    }


if __name__ == "__main__":
    write_text(LISTS, json.dumps(lists(), ensure_ascii=False, indent=0) + "\n")
