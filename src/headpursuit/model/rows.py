"""Rows of files, with one reader for each format that reads a row when it is needed, and the fields of rows."""

import csv
import io
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from numbers import Number
from pathlib import Path
from typing import Any, TextIO

from headpursuit.errors import HeadPursuitError, shown
from headpursuit.files import AS_WRITTEN, LONGEST_LINE, check_depth, open_packed, parse_json, read_lines, too_deep
from headpursuit.optional import optional_import
from headpursuit.stores import address, named, tried

FORMATS = ".txt, .csv, .tsv, .json, .jsonl (also as .gz or .zst) or .parquet"
# Rows that are turned into Python's values together; they can hold images.
_PARQUET_ROWS = 64


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row of a file, behind where it stands (``questions.jsonl line 7``), read when it is needed.

    A row of a ``.csv``, ``.tsv``, ``.json``, ``.jsonl`` or ``.parquet`` file is a mapping from fields to values, a line of a
    ``.txt`` file one with the field ``text``; blank lines are passed over. Numbers in JSON stay the text that they are written
    with.

    Raises:
        HeadPursuitError: the file is missing, of another format, not UTF-8, or a row cannot be read (named by line).
        MissingExtraError: pyarrow, which reads ``.parquet`` and ``.zst``, is not installed.
    """
    if not exists(path):
        raise HeadPursuitError(
            f"there is no file {str(path)!r:.80}: give the path of a {FORMATS} file or a folder; "
            "a text is given in a list, [text]"
        )
    if _is_empty(path):
        return iter(())
    suffixes = [suffix.lower() for suffix in named(path).suffixes]
    packed = suffixes[-1:] in ([".gz"], [".zst"])
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    if suffix == [".txt"]:
        return ((f"{path.name} line {number}", {"text": line.strip()}) for number, line in read_lines(path) if line.strip())
    if suffix in ([".jsonl"], [".ndjson"]):
        return json_lines(path)
    if suffix == [".json"]:
        return json_items(path)
    if suffix == [".csv"]:
        return csv_rows(path)
    if suffix == [".tsv"]:
        return csv_rows(path, delimiter="\t")
    if suffix == [".parquet"] and not packed:
        return _parquet_rows(path)
    raise HeadPursuitError(f"{path}: samples are read from {FORMATS} files or a folder of images")


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; a text that no file can be called is no error."""
    if address(path):
        return tried(str(path), path.exists)
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a file's name, or with a zero byte in it
        return False


def _is_empty(path: Path) -> bool:
    """Whether a file has no byte, and so no row in whatever format; what cannot be known is not."""
    try:
        return tried(str(path), path.stat).st_size == 0 if address(path) else path.stat().st_size == 0 and path.is_file()
    except (OSError, HeadPursuitError):
        return False


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The value on each line of a file; blank lines are passed over.

    Raises:
        HeadPursuitError: a line is not JSON.
    """
    for number, line in read_lines(path):
        if line.strip():
            where = f"{path.name} line {number}"
            yield where, parse_json(line, where=where, one_line=True, as_written=True)


def json_items(path: Path, *, under: str = "") -> Iterator[tuple[str, Any]]:
    """Each item of a file that holds one JSON list, of which no more is read than is needed.

    Args:
        path: the file.
        under: the file holds an object, and the list stands under this key; what follows the list is not read.

    Raises:
        HeadPursuitError: the file holds no list, or an item that is not JSON.
    """
    decoder = json.JSONDecoder(**AS_WRITTEN)
    opening = rf'\s*\{{\s*(?:{_PLAIN_KEY}\s*,\s*)*"{under}"\s*:\s*\[' if under else r"\s*\["
    opened, empty = re.compile(rf"{opening}\s*"), re.compile(rf"{opening}\s*\]\s*")
    with open_packed(path) as packed, io.TextIOWrapper(packed, encoding="utf-8-sig") as file:
        text, at, number = "", 0, 1
        while not (empty if number == 1 else _CLOSED).match(text, at):
            where, problem = f"{path.name} item {number}", "the list does not end"
            before = (opened if number == 1 else _COMMA).match(text, at)
            if before is None and text[at:].strip():
                wanted = "a comma"
                if number == 1:
                    wanted = f'a list under "{under}"' if under else _LIST
                raise HeadPursuitError(f"{where}: not JSON (expected {wanted})")
            try:
                item, end = decoder.raw_decode(text, before.end()) if before else (None, len(text))
            except json.JSONDecodeError as error:
                end, problem = len(text), error.msg
            except RecursionError as error:
                raise too_deep(where) from error
            if end < len(text):  # else the item may go on
                check_depth(item, where=where)
                yield where, item
                at, number = end, number + 1
                continue
            # What is not understood yet doubles, so that a long item is not begun again too often.
            part = _read(file, max(2**16, len(text) - at), path)
            text, at = text[at:] + part, 0
            if not part or len(text) > LONGEST_LINE:
                raise HeadPursuitError(f"{where}: not JSON ({f'more than {LONGEST_LINE:,} characters' if part else problem})")


_COMMA, _CLOSED = (re.compile(rf"\s*{sign}\s*") for sign in (",", r"\]"))
_LIST = "a list of prompts or records; call a file of one object a line .jsonl"
# A key of a text or a number, which may stand in front of a list's.
_PLAIN_KEY = r'"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)'


def _read(file: TextIO, size: int, path: Path) -> str:
    try:
        return file.read(size)
    except UnicodeDecodeError as error:
        raise HeadPursuitError(f"{path}: not UTF-8; save the file as UTF-8") from error


def csv_rows(path: Path, *, delimiter: str | None = None) -> Iterator[tuple[str, dict[str, str | None]]]:
    """The rows below the first one of a table, which names the fields; a cell that is not there is None.

    Raises:
        HeadPursuitError: the file is not readable as CSV, names a field twice, or has a row of more cells than fields.
    """
    table = read_table(path, delimiter=delimiter)
    header = [cell.strip() for cell in next(table, (0, []))[1]]
    if twice := [name for name in dict.fromkeys(header) if name and header.count(name) > 1]:
        raise HeadPursuitError(f"{path}: two columns are called {twice[0]!r}; rename one")
    for line, cells in table:
        where = f"{path.name} line {line}"
        if any(cell.strip() for cell in cells[len(header) :]):
            raise HeadPursuitError(
                f"{where}: {len(cells)} fields, where the first line names {len(header)}; put a text with commas in quotes"
            )
        yield where, dict(zip_longest(header, cells[: len(header)]))


def read_table(path: Path, *, delimiter: str | None = None, skip_blanks: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Last line and cells of each row of a CSV file; line breaks in quotes stay, blank lines are passed over.

    Args:
        path: the file.
        delimiter: what parts cells; the comma when left out, or the semicolon or tab where the first line has no comma.
        skip_blanks: pass over blanks behind a delimiter.

    Raises:
        HeadPursuitError: the file is not readable as CSV.
    """
    lines = (line for _, line in read_lines(path))
    first = next(lines, "")
    delimiter = delimiter or next((one for one in ",;\t" if one in first), ",")
    rows = csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=skip_blanks, strict=True)
    while True:
        limit = csv.field_size_limit(LONGEST_LINE)  # it holds for the whole process
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise HeadPursuitError(f"{path}, line {rows.line_num}: not readable as CSV ({error})") from error
        finally:
            csv.field_size_limit(limit)
        if row is None:
            return
        if row:
            yield rows.line_num, row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    arrow = optional_import("pyarrow", extra="data", purpose="reading Parquet")
    parquet = optional_import("pyarrow.parquet", package="pyarrow", extra="data", purpose="reading Parquet")
    number = 0
    try:
        with open_packed(path) as whole, parquet.ParquetFile(whole) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name} row {number}", row
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise HeadPursuitError(f"{path}: not a readable Parquet file ({' '.join(str(error).split())})") from error


def field_names(row: Mapping[Any, Any]) -> str:
    """The fields of a row, for a message."""
    return textwrap.shorten(", ".join(map(str, row)), 100, placeholder=" …") or "no field"


def has_field(row: Mapping[Any, Any], field: str) -> bool:
    """Whether a row has a field; a dot leads into a nested one (``prompt.text``)."""
    head, _, rest = field.partition(".")
    inner = row.get(head)
    return field in row or (bool(rest) and isinstance(inner, Mapping) and has_field(inner, rest))


def field_value(row: Mapping[Any, Any], field: str) -> Any:
    """The value of a field, None where there is none; a dot leads into a nested one (``prompt.text``)."""
    if field in row:
        return row[field]
    head, _, rest = field.partition(".")
    inner = row.get(head)
    return field_value(inner, rest) if rest and isinstance(inner, Mapping) else None


def as_texts(value: Any, *, field: str, where: str) -> tuple[str, ...]:
    """The texts that a field holds: none for None and an empty text, several for a list; numbers as they are written.

    Raises:
        HeadPursuitError: it holds something else, or a number that is none (NaN); names where it stands and the field.
    """
    if value is None or (isinstance(value, str) and not value):
        return ()
    listed = value.tolist() if hasattr(value, "tolist") else value
    found = listed if isinstance(listed, list | tuple) else [listed]
    if not all(isinstance(one, str | bool | Number) and _is_written(one) for one in found):
        raise HeadPursuitError(f"{where}: the field {field!r} is {shown(value)}; give a text, or a list of texts")
    return tuple(map(str, found))


def as_text(value: Any, *, field: str, where: str) -> str | None:
    """The one text that a field holds, None for none.

    Raises:
        HeadPursuitError: it holds several, or something else; names where it stands and the field.
    """
    found = as_texts(value, field=field, where=where)
    if len(found) > 1:
        raise HeadPursuitError(f"{where}: the field {field!r} is a list of {len(found)} texts; give the one that counts")
    return found[0] if found else None


def _is_written(value: Any) -> bool:
    if isinstance(value, str):
        return True
    try:
        return str(value).lstrip("+-").lower() not in {"nan", "inf", "infinity"}
    except ValueError:  # more digits than Python writes
        return False
