"""Names of classes as a person writes them: those of the paper's data sets, and how a folder's name becomes one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from headpursuit.errors import HeadPursuitError

DIGITS: tuple[str, ...] = tuple("0123456789")
_EUROSAT = (
    "annual crop, forest, herbaceous vegetation, highway, industrial, pasture, permanent crop, residential, river, sea lake"
)
# The data set numbers its signs and gives no names; these are ours, in the order of its numbers.
_GTSRB = (
    "speed limit 20, speed limit 30, speed limit 50, speed limit 60, speed limit 70, speed limit 80, end of speed "
    "limit 80, speed limit 100, speed limit 120, no passing, no passing for trucks, priority at the next crossing, "
    "priority road, yield, stop, no vehicles, no trucks, no entry, danger, curve to the left, curve to the right, "
    "double curve, bumpy road, slippery road, road narrows, road work, traffic lights, pedestrians, children, "
    "bicycles, ice or snow, wild animals, end of all limits, turn right, turn left, straight ahead, straight or "
    "right, straight or left, keep right, keep left, roundabout, end of no passing, end of no passing for trucks"
)
_RESISC45 = (
    "airplane, airport, baseball diamond, basketball court, beach, bridge, chaparral, church, circular farmland, "
    "cloud, commercial area, dense residential, desert, forest, freeway, golf course, ground track field, harbor, "
    "industrial area, intersection, island, lake, meadow, medium residential, mobile home park, mountain, overpass, "
    "palace, parking lot, railway, railway station, rectangular farmland, river, roundabout, runway, sea ice, ship, "
    "snowberg, sparse residential, stadium, storage tank, tennis court, terrace, thermal power station, wetland"
)
_DTD = (
    "banded, blotchy, braided, bubbly, bumpy, chequered, cobwebbed, cracked, crosshatched, crystalline, dotted, "
    "fibrous, flecked, freckled, frilly, gauzy, grid, grooved, honeycombed, interlaced, knitted, lacelike, lined, "
    "marbled, matted, meshed, paisley, perforated, pitted, pleated, polka-dotted, porous, potholed, scaly, smeared, "
    "spiralled, sprinkled, stained, stratified, striped, studded, swirly, veined, waffled, woven, wrinkled, zigzagged"
)
EUROSAT: tuple[str, ...] = tuple(_EUROSAT.split(", "))
GTSRB: tuple[str, ...] = tuple(_GTSRB.split(", "))
RESISC45: tuple[str, ...] = tuple(_RESISC45.split(", "))
DTD: tuple[str, ...] = tuple(_DTD.split(", "))


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
    near = difflib.get_close_matches(text, classes, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the data set has {len(classes)}, such as {classes[0]!r}"
    raise HeadPursuitError(f"{where}: {str(raw)!r} is no class of this data set; {hint}")
