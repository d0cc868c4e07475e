"""Load a data set's records: from local files in its official format, or from the Hub, by the same code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.data.entries import SPLITS, Entry, Split, pick
from headpursuit.evaluation.data.registry import DATASETS
from headpursuit.evaluation.records import Record


def load_records(
    dataset: str,
    *,
    path: str | Path | None = None,
    split: Split,
    limit: int | None = None,
    seed: int = 0,
    revision: str | None = None,
) -> list[Record]:
    """Records of one split of a data set.

    Args:
        dataset: a name of ``DATASETS``.
        path: a file or folder in the data set's official format; the Hub when left out.
        split: ``selection`` (its training data) to choose heads on, ``test`` to measure on, ``all`` for both and whatever
            else there is. Data without splits of its own is halved, see :func:`headpursuit.evaluation.data.entries.pick`.
        limit: so many records, drawn by ``seed``; all when left out.
        seed: seed of the drawing.
        revision: commit of the Hub repository, instead of the one that is pinned.

    Raises:
        HeadPursuitError: no such data set, split or file, a file that is not in the official format (names file and line), or
            nothing is in the split.
        MissingExtraError: the Hub is asked for and ``datasets`` is not installed.
    """
    if dataset not in DATASETS:
        near = difflib.get_close_matches(dataset, DATASETS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise HeadPursuitError(f"no data set {dataset!r}: {hint}there are {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise HeadPursuitError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
    entry = DATASETS[dataset]
    if path is None:
        if entry.hub is None:
            raise HeadPursuitError(f"{dataset} is not on the Hub: give the path of local files ({entry.files})")
        from headpursuit.evaluation.data.hub import read_hub

        found: Iterable[Entry] = read_hub(entry.hub, split=split, revision=revision)
    else:
        place = Path(path).expanduser()
        if not place.exists():
            raise HeadPursuitError(f"{dataset}: there is no {place}; give {entry.files}")
        found = entry.read(place)
    records = pick(found, split, limit=limit, seed=seed)
    if not records:
        raise HeadPursuitError(f"{dataset}: nothing belongs to the split {split!r} in {path or 'the Hub repository'}")
    return records
