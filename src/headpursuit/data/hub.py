"""Data sets from the Hub (or a local copy of a repository), by the library datasets, as the same entries as local files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headpursuit.data.entries import Entry, Split, wanted
from headpursuit.data.records import Record
from headpursuit.errors import HeadPursuitError
from headpursuit.optional import optional_import


@dataclass(frozen=True)
class HubSource:
    """A data set on the Hub.

    Attributes:
        name: repository.
        parts: the Hub's splits, each with the part that it is to us (see :class:`Entry`).
        record: makes a record from a row; called with the row and ``where``.
        config: configuration, or None for the only one.
        revision: the commit that is pinned, or None where none is known to us; the commit that was read is named in each
            record's ``where``.
        columns: the columns that ``key`` needs, none of them an image.
        key: what a row is known by, from those columns, or None to leave it out; a row's place when it is left out itself.
        named_labels: a number in the column ``label`` is replaced by its class's name, where the Hub numbers classes in an
            order of its own.
    """

    name: str
    parts: Mapping[str, Literal["selection", "test", "other"] | None]
    record: Callable[..., Record] = field(repr=False)
    config: str | None = None
    revision: str | None = None
    columns: tuple[str, ...] = ()
    key: Callable[[Mapping[str, Any]], str | None] | None = field(default=None, repr=False)
    named_labels: bool = False


def read_hub(source: HubSource, split: Split, *, revision: str | None = None, folder: Path | None = None) -> Iterator[Entry]:
    """Entries of a repository's splits, each row decoded only when it is made.

    Args:
        source: which repository.
        split: those of its splits that may hold something for ours are read.
        revision: commit to take instead of the pinned one.
        folder: a local copy of the repository, to read instead.

    Raises:
        MissingExtraError: datasets is not installed.
        HeadPursuitError: the repository cannot be read, or has other columns.
    """
    datasets = optional_import("datasets", extra="data", purpose="data sets from the Hub")
    parts = {name: part for name, part in source.parts.items() if wanted(part, split)}
    # A copy without the repository's card has no configurations, only files.
    plain = folder is not None and not (folder / "README.md").is_file()
    try:
        builder = datasets.load_dataset_builder(
            str(folder or source.name),
            None if plain else source.config,
            revision=None if folder else (revision or source.revision),
        )
        builder.download_and_prepare()
        tables = {name: builder.as_dataset(split=name) for name in parts}
    # The Hub's client raises its transport's errors, which have no common base.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise HeadPursuitError(
            f"{folder or source.name} could not be read as a data set ({reason}): check the connection and the revision, or "
            "give the path of local files"
        ) from error
    for name, table in tables.items():
        origin = f"{folder or source.name}@{builder.hash} {name}"
        for row, key in enumerate(_keys(source, table, origin)):
            if key is not None:
                where = f"{origin} row {row}"
                yield Entry(key=key or where, part=parts[name], make=partial(_make, source, table, row, where))


def _keys(source: HubSource, table: Any, origin: str) -> list[str | None]:
    missing = set(source.columns) - set(table.column_names)
    if missing:
        raise HeadPursuitError(
            f"{origin}: no column {sorted(missing)[0]!r} (it has {', '.join(table.column_names)}); give another revision"
        )
    if source.key is None:
        return [f"{table.split}/{row}" for row in range(len(table))]
    return [source.key(row) for row in table.select_columns(list(source.columns))]


def _make(source: HubSource, table: Any, row: int, where: str) -> Record:
    fields = table[row]
    try:
        if source.named_labels and hasattr(table.features["label"], "int2str"):
            fields = {**fields, "label": table.features["label"].int2str(fields["label"])}
        return source.record(fields, where=where)
    except KeyError as error:
        raise HeadPursuitError(f"{where}: no column {error} (it has {', '.join(fields)}); give another revision") from error
