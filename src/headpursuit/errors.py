"""The one exception family of the package: every message says what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class HeadPursuitError(Exception):
    """A mistake that its reader can mend; the command line prints it as one line and exits with 1."""


class MissingExtraError(HeadPursuitError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'headpursuit[{extra}]'")


def shown(value: object) -> str:
    """A value as a few words of one line, for a message."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of more digits than Python writes
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is spelled most like another, with a space behind it; empty where none is like it.

    >>> did_you_mean("colourz", ["colours", "numbers"])
    "did you mean 'colours'? "
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
