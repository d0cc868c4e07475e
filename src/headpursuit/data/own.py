"""Records of a user's own: rows of a file or of a list, their fields named by the recipe."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headpursuit.data.entries import Entry
from headpursuit.data.records import Record, content_key
from headpursuit.errors import HeadPursuitError, shown
from headpursuit.model.image_files import as_image
from headpursuit.model.rows import as_text, as_texts, field_names, field_value
from headpursuit.model.samples import Sample, folder_of, numbered_rows

Rows = str | Path | Iterable[Any]


def own_entries(rows: Rows, *, fields: Mapping[str, str]) -> Iterator[Entry]:
    """Rows as entries without splits: their halves for selection and test are told apart by a hash of what they hold.

    Args:
        rows: the path of a file; or mappings, samples, records or texts, see :func:`headpursuit.model.samples.as_samples`.
        fields: which field of a mapping holds the ``text``, the ``answers``, the ``image`` and the ``references``; a dot leads
            into a nested one (``prompt.text``).

    Raises:
        HeadPursuitError: a row without text and image, or with a value that cannot be one; names the row and its fields.
    """
    for where, row in numbered_rows(rows, noun="row", start=1):
        record = _record(row, fields, folder=folder_of(rows), where=where)
        yield Entry.of(record, key=repr(content_key(record)))


def _record(row: Any, fields: Mapping[str, str], *, folder: Path | None, where: str) -> Record:
    if isinstance(row, Record):
        return row
    if isinstance(row, Sample):
        answers = (row.target,) if row.target else ()
        return Record(text=row.text, image=row.image, answers=answers, where=row.where or where)  # type: ignore[arg-type]
    if isinstance(row, str):
        return Record(text=row, where=where)
    if not isinstance(row, Mapping):
        raise HeadPursuitError(f"{where}: expected an object with fields, got {shown(row)}")
    found = {name: field_value(row, field) for name, field in fields.items()}
    text = as_text(found.get("text"), field=fields["text"], where=where)
    image = as_image(found.get("image"), folder=folder, where=where)
    if not text and image is None:
        raise HeadPursuitError(
            f'{where}: no field {fields["text"]!r} with a text; it has {field_names(row)}: name the right one (text = "…")'
        )
    record = Record(
        text=text or "",
        image=image,  # type: ignore[arg-type]
        answers=as_texts(found.get("answers"), field=fields["answers"], where=where),
        references=as_texts(found.get("references"), field=fields["references"], where=where),
        where=where,
    )
    # What a sample may hold is checked in one place.
    Sample(text=record.text, image=record.image, where=where)
    return record
