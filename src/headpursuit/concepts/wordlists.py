"""Words that no library lists for us, from ``words.toml``."""

import tomllib
from functools import cache
from importlib import resources

_WORDS = tomllib.loads((resources.files("headpursuit.concepts") / "words.toml").read_text(encoding="utf-8"))


@cache
def word_list(name: str) -> tuple[str, ...]:
    """The list of that name.

    >>> word_list("moods_other")[:3]
    ('surprised', 'astonished', 'amazed')
    """
    return tuple(_WORDS[name].split())


def common_country_names(code: str) -> tuple[str, ...]:
    """Names by which English text calls a country, by its CLDR code; empty where the CLDR's own name is the usual one."""
    return tuple(_WORDS["common_country_names"].get(code, ()))
