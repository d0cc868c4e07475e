"""Built-in concepts: their descriptions, and their words drawn from libraries only when asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from headpursuit.concepts.wordlists import common_country_names, word_list
from headpursuit.optional import optional_import

STRONG_VALENCE = 2.0
STRONGEST = 500
_DERIVED = ("ness", "nesses", "ly", "er", "ers", "est", "ier", "iest", "ily", "ive", "ists", "ist", "ments")


@dataclass(frozen=True)
class BuiltIn:
    """One built-in concept before its words are loaded."""

    description: str
    source: str
    words: Callable[[], tuple[str, ...]]
    plurals: bool = False
    aliases: tuple[str, ...] = ()


def canonical_name(name: str) -> str | None:
    """Return the name of a built-in concept for a name or alias in any case, or None."""
    key = name.strip().lower().replace("-", "_")
    return next((n for n, entry in BUILTIN.items() if key == n or key in entry.aliases), None)


@cache
def built_in_words(name: str) -> tuple[str, ...]:
    """Return the words of a built-in concept by its canonical name."""
    return BUILTIN[name].words()


def _colours() -> tuple[str, ...]:
    webcolors = optional_import("webcolors", extra="concepts", purpose="the concept 'colours'")
    names = {name.lower() for spec in ("css21", "css3") for name in webcolors.names(spec)}
    # CSS writes compounds in one word (darkred, seagreen, powderblue): no caption does.
    colours = {name for name in names if not _is_compound(name, names)}
    return tuple(sorted(colours.difference(word_list("css_names_nobody_says")) | set(word_list("colours_beyond_css"))))


def _is_compound(name: str, names: set[str]) -> bool:
    parts = [other for other in names if other != name and len(other) > 2]
    return any(name.startswith(part) or name.endswith(part) for part in parts)


def _countries() -> tuple[str, ...]:
    babel = optional_import("babel", extra="concepts", purpose="the concept 'countries'")
    territories = babel.Locale("en").territories
    words: dict[str, None] = {}
    for code in sorted(code for code in territories if len(code) == 2 and code.isalpha()):
        if code not in word_list("not_countries"):
            for name in common_country_names(code) or (territories[code],):
                words.setdefault(name)
    return tuple(words)


def _months() -> tuple[str, ...]:
    babel = optional_import("babel", extra="concepts", purpose="the concept 'months'")
    names = babel.Locale("en").months["format"]["wide"]
    return tuple(names[number] for number in range(1, 13))


def _weekdays() -> tuple[str, ...]:
    babel = optional_import("babel", extra="concepts", purpose="the concept 'weekdays'")
    names = babel.Locale("en").days["format"]["wide"]
    return tuple(names[number] for number in range(7))


def _numbers() -> tuple[str, ...]:
    inflect = optional_import("inflect", extra="concepts", purpose="the concept 'numbers'")
    spell = inflect.engine().number_to_words
    small = [str(spell(number)) for number in (*range(21), *range(30, 100, 10))]
    # "one hundred" is a phrase; its last word is the number word.
    large = [str(spell(10**power)).split()[-1] for power in (2, 3, 6, 9)]
    return (*small, *large)


def _quantity() -> tuple[str, ...]:
    return (*built_in_words("numbers"), *word_list("quantifiers"))


def _lexicon() -> dict[str, float]:
    vader = optional_import("vaderSentiment.vaderSentiment", extra="concepts", purpose="the built-in lists of sentiments")
    lexicon: dict[str, float] = vader.SentimentIntensityAnalyzer().lexicon
    return lexicon


def _strongest(sign: int) -> tuple[str, ...]:
    strong = {word: sign * value for word, value in _lexicon().items() if sign * value >= STRONG_VALENCE}
    plain = [word for word in strong if _is_plain_word(word) and not _is_derived(word, strong)]
    return tuple(sorted(plain, key=lambda word: (-strong[word], word))[:STRONGEST])


def _is_plain_word(word: str) -> bool:
    if not (word.isascii() and word.isalpha() and word.islower()) or word.removesuffix("s") in word_list("rude"):
        return False
    return word in word_list("short_feelings") or (len(word) > 4 and not word.startswith(word_list("not_feelings")))


def _is_derived(word: str, words: dict[str, float]) -> bool:
    stems = [word.removesuffix(suffix) for suffix in _DERIVED if word.endswith(suffix)]
    return any(candidate in words for stem in stems for candidate in (stem, stem + "e", stem + "y"))


def _positive() -> tuple[str, ...]:
    return (*word_list("moods_positive"), *_strongest(1))


def _negative() -> tuple[str, ...]:
    return (*word_list("moods_negative"), *_strongest(-1))


def _all_sentiments() -> tuple[str, ...]:
    return (*_positive(), *_negative(), *word_list("moods_other"))


_OWN = "written for headpursuit"
_VADER = (
    f"the {STRONGEST} strongest plain words (|valence| ≥ {STRONG_VALENCE:g}) of the VADER lexicon "
    f"(Hutto and Gilbert 2014); mood words {_OWN}"
)

BUILTIN: dict[str, BuiltIn] = {
    "colours": BuiltIn(
        "basic colour names", "CSS colour names of one word, from webcolors", _colours, plurals=True, aliases=("colors",)
    ),
    "countries": BuiltIn("countries by their common English names", "Unicode CLDR, from babel", _countries),
    "nationalities": BuiltIn(
        "adjectives of nationality", _OWN, lambda: word_list("nationalities"), plurals=True, aliases=("demonyms",)
    ),
    "months": BuiltIn("months of the year", "Unicode CLDR, from babel", _months),
    "weekdays": BuiltIn("days of the week", "Unicode CLDR, from babel", _weekdays, plurals=True),
    "numbers": BuiltIn("number words from zero to billion", "inflect", _numbers),
    "quantity": BuiltIn("number words and quantifiers", f"inflect; quantifiers {_OWN}", _quantity),
    "sentiments": BuiltIn("words of mood and strong feeling, of either sign", f"both signs: {_VADER}", _all_sentiments),
    "sentiments_positive": BuiltIn("words of strong positive feeling", _VADER, _positive),
    "sentiments_negative": BuiltIn("words of strong negative feeling", _VADER, _negative),
    "rude": BuiltIn("mild insults", _OWN, lambda: word_list("rude"), plurals=True, aliases=("rude_words",)),
    "digits": BuiltIn("the ten numerals", "0 to 9", lambda: tuple("0123456789")),
}
