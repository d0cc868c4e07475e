"""What a reader finds in a data set before anything is picked: which part an item belongs to, and how to make it."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from headpursuit.data.records import Record

Split = Literal["selection", "test", "all"]
SPLITS: tuple[Split, ...] = ("selection", "test", "all")


@dataclass(frozen=True)
class Entry:
    """One item of a data set.

    Attributes:
        key: what it is known by in its data set; the second item of one key is dropped.
        part: the split that the data set itself puts it in: ``selection`` (its training data), ``test``, ``other``
            (validation data that neither uses), or None where it has no splits.
        make: makes the record; images are opened or built only for what was picked.
    """

    key: str
    part: Literal["selection", "test", "other"] | None
    make: Callable[[], Record]

    @classmethod
    def of(cls, record: Record, *, key: str) -> Self:
        """The entry of a record that is there, of data without splits."""
        return cls(key, None, lambda: record)


def pick(entries: Iterable[Entry], split: Split, *, limit: int | None, seed: int) -> list[Record]:
    """The records of a split: all in order, or ``limit`` of them drawn without replacement, the same for the same seed.

    A smaller limit gives the first of a larger one's records. Data without splits of its own is halved by a hash of the keys,
    so that no item is in both halves, whatever file or order it comes in.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        if split == "all" or _part(entry) == split:
            found.setdefault(entry.key, entry)
    chosen = list(found.values())
    if limit is not None:
        chosen = [chosen[index] for index in np.random.default_rng(seed).permutation(len(chosen))[:limit]]
    return [entry.make() for entry in chosen]


def wanted(part: str | None, split: Split) -> bool:
    """Whether something of that part (None: any) may be in the split, so that a reader can pass over a whole file."""
    return split == "all" or part in (split, None)


def _part(entry: Entry) -> str:
    if entry.part is not None:
        return entry.part
    return "selection" if hashlib.sha256(entry.key.encode()).digest()[0] < 128 else "test"
