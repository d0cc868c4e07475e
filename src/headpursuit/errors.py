"""The one exception family of the package: every message says what is wrong, where, and what to do."""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real


class HeadPursuitError(Exception):
    """A mistake that its reader can mend; the command line prints it as one line and exits with 1."""


class ChoiceError(HeadPursuitError):
    """A value that is none of those that there are; on the command line that is wrong usage, and exits with 2."""


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


# NumPy's older generators, which libraries draw with, take no larger seed.
SEEDS = (0, 2**32 - 1)


def check_choice(choices: Iterable[str], among: str = "", /, **given: object) -> None:
    """Refuse values that are none of some names.

    Raises:
        ChoiceError: naming the argument, its value and the choices.

    >>> check_choice(("mean", "last"), positions="first")
    Traceback (most recent call last):
    headpursuit.errors.ChoiceError: positions='first': choose one of mean, last
    """
    known = list(choices)
    for name, value in given.items():
        if not (isinstance(value, str) and value in known):
            raise ChoiceError(
                f"{name}={shown(value)}: {among}{did_you_mean(str(value), known)}choose one of {', '.join(known)}"
            )


def check_counts(least: int = 1, most: int | None = None, /, **given: object) -> None:
    """Refuse what is not a whole number, or lies below the least or above the most one; None is left alone.

    Raises:
        HeadPursuitError: naming the argument, its value and what it may be.

    >>> check_counts(limit=0)
    Traceback (most recent call last):
    headpursuit.errors.HeadPursuitError: limit=0: give at least 1
    """
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, Integral):
            raise HeadPursuitError(f"{name}={shown(value)}: give a whole number")
        if int(value) < least or (most is not None and int(value) > most):
            limits = f"give at least {least}" if most is None else f"choose between {least} and {most}"
            raise HeadPursuitError(f"{name}={value}: {limits}")


def check_finite(**given: object) -> None:
    """Refuse what is not a finite number; None is left alone.

    Raises:
        HeadPursuitError: naming the argument and its value.
    """
    for name, value in given.items():
        if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
            raise HeadPursuitError(f"{name}={shown(value)}: give a finite number")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is spelled most like another, with a space behind it; empty where none is like it.

    >>> did_you_mean("colourz", ["colours", "numbers"])
    "did you mean 'colours'? "
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
