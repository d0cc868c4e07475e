"""Data sets from the Hub, by the library datasets, as the same entries as those of local files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from headpursuit.errors import HeadPursuitError, MissingExtraError
from headpursuit.evaluation.data.entries import Entry, Split
from headpursuit.evaluation.records import Record

if TYPE_CHECKING:
    from headpursuit.evaluation.data.registry import HubSource


def read_hub(source: HubSource, *, split: Split, revision: str | None = None) -> Iterator[Entry]:
    """Entries of those of a repository's splits that may hold something for ours; rows are decoded only when they are made.

    Args:
        source: where.
        split: which of ours.
        revision: commit to take instead of the pinned one.

    Raises:
        MissingExtraError: datasets is not installed.
        HeadPursuitError: the repository cannot be read.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", extra="data", purpose="data sets from the Hub") from error
    for name, part in source.parts.items():
        if split != "all" and part not in (split, None):
            continue
        try:
            table = datasets.load_dataset(source.name, source.config, split=name, revision=revision or source.revision)
        except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise HeadPursuitError(
                f"{source.name} could not be read from the Hub ({reason}): check the connection and the revision, or give "
                "the path of local files"
            ) from error
        keys = [f"{name}/{row}" for row in range(len(table))] if source.key is None else table[source.key]
        origin = f"{source.name}@{revision or source.revision or 'main'} {name}"
        for row, key in enumerate(keys):
            yield Entry(key=str(key), part=part, make=partial(_make, source, table, row, f"{origin} row {row}"))


def _make(source: HubSource, table: Any, row: int, where: str) -> Record:
    return source.record(table[row], where=where)
