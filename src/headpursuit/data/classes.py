"""Names of classes as a person writes them: those of the paper's data sets, and how a folder's name becomes one."""

import re
import tomllib
from collections.abc import Sequence
from importlib import resources

from headpursuit.errors import HeadPursuitError, did_you_mean

_NAMES = tomllib.loads((resources.files("headpursuit.data") / "classes.toml").read_text(encoding="utf-8"))
DIGITS: tuple[str, ...] = tuple("0123456789")
EUROSAT, GTSRB, RESISC45, DTD = (
    tuple(" ".join(_NAMES[name].split()).split(", ")) for name in ("eurosat", "gtsrb", "resisc45", "dtd")
)


def readable(name: str) -> str:
    """A class's name from a folder's or a column's: ``AnnualCrop`` is "annual crop", ``sea_ice`` is "sea ice"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " "))
    return " ".join(spaced.lower().split())


def class_name(raw: int | str, classes: Sequence[str], *, where: str) -> str:
    """The class that a number or a name stands for.

    Args:
        raw: a number of ``classes``, also as text (``00014``), or a name in any of the usual spellings.
        classes: the data set's classes in its order; empty where any name will do.
        where: where it was found, for the message.

    Raises:
        HeadPursuitError: it is no class of the data set.
    """
    text = readable(str(raw))
    if not classes or text in classes:
        return text
    if text.isdecimal() and int(text) < len(classes):
        return classes[int(text)]
    hint = did_you_mean(text, classes).strip() or f"the data set has {len(classes)}, such as {classes[0]!r}"
    raise HeadPursuitError(f"{where}: {str(raw)!r} is no class of this data set; {hint}")
