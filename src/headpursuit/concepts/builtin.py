"""Built-in concepts: their descriptions, and their packaged words."""

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

_HERE = resources.files("headpursuit.concepts")


@dataclass(frozen=True)
class BuiltIn:
    """One built-in concept beside its words."""

    description: str
    source: str
    plurals: bool = False
    aliases: tuple[str, ...] = ()


def canonical_name(name: str) -> str | None:
    """Return the name of a built-in concept for a name or alias in any case, or None."""
    key = name.strip().lower().replace("-", "_")
    return next((n for n, entry in BUILTIN.items() if key == n or key in entry.aliases), None)


@cache
def word_list(name: str) -> tuple[str, ...]:
    """A packaged list: of ``words.toml``, written for this package, or of ``lists.json``, drawn from libraries by a tool.

    >>> word_list("moods_other")[:3]
    ('surprised', 'astonished', 'amazed')
    """
    own = tomllib.loads((_HERE / "words.toml").read_text(encoding="utf-8"))
    drawn = json.loads((_HERE / "lists.json").read_text(encoding="utf-8"))
    return tuple(own[name].split()) if name in own else tuple(drawn[name])


_OWN = "written for headpursuit"
_VADER = f"the 500 strongest plain words (|valence| ≥ 2) of the VADER lexicon (Hutto and Gilbert 2014); mood words {_OWN}"

BUILTIN: dict[str, BuiltIn] = {
    "colours": BuiltIn("basic colour names", "CSS colour names of one word, from webcolors", plurals=True, aliases=("colors",)),
    "countries": BuiltIn("countries by their common English names", "Unicode CLDR, from babel"),
    "nationalities": BuiltIn("adjectives of nationality", _OWN, plurals=True, aliases=("demonyms",)),
    "months": BuiltIn("months of the year", "Unicode CLDR, from babel"),
    "weekdays": BuiltIn("days of the week", "Unicode CLDR, from babel", plurals=True),
    "numbers": BuiltIn("number words from zero to billion", "inflect"),
    "quantity": BuiltIn("number words and quantifiers", f"inflect; quantifiers {_OWN}"),
    "sentiments": BuiltIn("words of mood and strong feeling, of either sign", f"both signs: {_VADER}"),
    "sentiments_positive": BuiltIn("words of strong positive feeling", _VADER),
    "sentiments_negative": BuiltIn("words of strong negative feeling", _VADER),
    "rude": BuiltIn("mild insults", _OWN, plurals=True, aliases=("rude_words",)),
    "digits": BuiltIn("the ten numerals", "0 to 9"),
}
