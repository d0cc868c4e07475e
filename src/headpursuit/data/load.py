"""Load a data set's records: from local files in its official format, or from the Hub, by the same code."""

from collections.abc import Iterable
from pathlib import Path

from headpursuit.data.entries import SPLITS, Entry, Split, pick
from headpursuit.data.hub import read_hub
from headpursuit.data.records import Record
from headpursuit.data.registry import Dataset, dataset_named
from headpursuit.errors import SEEDS, HeadPursuitError, check_choice, check_counts
from headpursuit.files import expanded


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
        path: a file or folder in the data set's official format, or a local copy of its Hub repository (Parquet files); the Hub
            itself when left out.
        split: ``selection`` (its training data) to choose heads on, ``test`` to measure on, ``all`` for both and whatever
            else there is. Data without splits of its own is halved, see :func:`headpursuit.data.entries.pick`.
        limit: so many records, drawn by ``seed``; all when left out.
        seed: seed of the drawing.
        revision: commit of the Hub repository, instead of the one that is pinned.

    Raises:
        HeadPursuitError: no such data set, split or file, a file that is not in the official format (names file and line), or
            nothing is in the split.
        MissingExtraError: the Hub is asked for and ``datasets`` is not installed.
    """
    entry = dataset_named(dataset)
    check_choice(SPLITS, split=split)
    check_counts(limit=limit)
    check_counts(*SEEDS, seed=seed)
    found = _entries(entry, path, split, revision)
    records = pick(found, split, limit=limit, seed=seed)
    if not records:
        raise HeadPursuitError(f"{dataset}: nothing belongs to the split {split!r} in {path or 'the Hub repository'}")
    return records


def _entries(dataset: Dataset, path: str | Path | None, split: Split, revision: str | None) -> Iterable[Entry]:
    if path is None:
        if dataset.hub is None:
            raise HeadPursuitError(f"{dataset.name} is not on the Hub: give the path of {dataset.files}")
        return read_hub(dataset.hub, split, revision=revision)
    place = expanded(path)
    if not place.exists():
        raise HeadPursuitError(f"{dataset.name}: there is no {place}; give {dataset.files}")
    if dataset.hub is not None and place.is_dir() and next(place.rglob("*.parquet"), None) is not None:
        return read_hub(dataset.hub, split, folder=place)
    return dataset.read(place, split)
