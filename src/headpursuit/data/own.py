"""Records of a user's own: rows of a file or of a list, their fields named by the recipe."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headpursuit.data.entries import Entry
from headpursuit.data.records import Record, content_key
from headpursuit.errors import HeadPursuitError
from headpursuit.files import inside
from headpursuit.model.samples import Sample, read_rows

Rows = str | Path | Iterable[Any]


def own_entries(rows: Rows, *, fields: Mapping[str, str]) -> Iterator[Entry]:
    """Rows as entries without splits: their halves for selection and test are told apart by a hash of what they hold.

    Args:
        rows: the path of a ``.jsonl``, ``.csv``, ``.parquet`` or ``.txt`` file; or mappings, samples, records or texts.
        fields: which field of a mapping holds the ``text``, the ``answers``, the ``image`` and the ``references``; a dot leads
            into a nested one (``prompt.text``).

    Raises:
        HeadPursuitError: a row without text and image, or with a value that cannot be one; names the row and its fields.
    """
    folder = Path(rows).expanduser().parent if isinstance(rows, str | Path) else None
    for where, row in _numbered(rows):
        record = _record(row, fields, folder=folder, where=where)
        yield Entry.of(record, key=repr(content_key(record)))


def _numbered(rows: Rows) -> Iterator[tuple[str, Any]]:
    if isinstance(rows, str | Path):
        yield from read_rows(Path(rows).expanduser())
    else:
        yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))


def _record(row: Any, fields: Mapping[str, str], *, folder: Path | None, where: str) -> Record:
    if isinstance(row, Record):
        return row
    if isinstance(row, Sample):
        answers = (row.target,) if row.target else ()
        return Record(text=row.text, image=row.image, answers=answers, where=row.where or where)  # type: ignore[arg-type]
    if isinstance(row, str):
        return Record(text=row, where=where)
    if not isinstance(row, Mapping):
        raise HeadPursuitError(f"{where}: expected an object with fields, got {row!r:.60}")
    found = {name: _lookup(row, field) for name, field in fields.items()}
    text, image = found.get("text"), found.get("image")
    if text in (None, "") and image in (None, ""):
        raise HeadPursuitError(
            f"{where}: no field {fields['text']!r} with a text; it has {', '.join(map(str, row))}: name the right one "
            '(text = "…")'
        )
    if isinstance(image, str | Path) and folder is not None:
        image = inside(folder, str(image), what="image", where=where)
    return Record(
        text="" if text is None else str(text),
        image=image or None,
        answers=_texts(found.get("answers"), fields["answers"], where),
        references=_texts(found.get("references"), fields["references"], where),
        where=where,
    )


def _lookup(row: Mapping[str, Any], field: str) -> Any:
    if field in row:
        return row[field]
    head, _, rest = field.partition(".")
    inner = row.get(head)
    return _lookup(inner, rest) if rest and isinstance(inner, Mapping) else None


def _texts(value: Any, field: str, where: str) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str | int | float):
        return (str(value),)
    if isinstance(value, Sequence) or hasattr(value, "tolist"):
        found = list(value)
        if all(isinstance(one, str | int | float) for one in found):
            return tuple(map(str, found))
    raise HeadPursuitError(f"{where}: the field {field!r} is {value!r:.60}; give a text, or a list of texts")
