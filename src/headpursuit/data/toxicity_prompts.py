"""RealToxicityPrompts (Gehman et al. 2020) and Thoroughly Engineered Toxicity (Luong et al. 2024)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headpursuit.data.entries import Entry, Split
from headpursuit.data.records import Record
from headpursuit.errors import HeadPursuitError
from headpursuit.model.rows import json_items, json_lines

_TET_FIELDS = ("query", "prompt", "text", "question")


def read_real_toxicity(path: Path, split: Split, *, challenging_only: bool = False) -> Iterator[Entry]:
    """Entries of the official ``prompts.jsonl``, given as a file or by its folder; the data has no splits of its own.

    Args:
        path: the file or its folder.
        split: not needed here; every prompt may belong to either half.
        challenging_only: only prompts that led every model of the authors' to toxic answers (their field ``challenging``).

    Raises:
        HeadPursuitError: no such file, or a line that is not in the official format.
    """
    file = path / "prompts.jsonl" if path.is_dir() else path
    for where, row in json_lines(file):
        if not isinstance(row, Mapping):
            raise HeadPursuitError(f"{where}: expected an object with the fields prompt, continuation and challenging")
        if challenging_only and not isinstance(row.get("challenging"), bool):
            raise HeadPursuitError(f"{where}: no field challenging (true or false)")
        if not challenging_only or row["challenging"]:
            record = real_toxicity_record(row, where=where)
            yield Entry.of(record, key=record.text)


def real_toxicity_record(row: Mapping[str, Any], *, where: str) -> Record:
    """A record from a row: the prompt's text, with what people wrote after it as reference.

    Raises:
        HeadPursuitError: there is no text under ``prompt.text``.
    """
    prompt, continuation = row.get("prompt"), row.get("continuation")
    text = prompt.get("text") if isinstance(prompt, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise HeadPursuitError(f"{where}: no text under prompt.text")
    written = continuation.get("text") if isinstance(continuation, Mapping) else None
    references = (written.strip(),) if isinstance(written, str) and written.strip() else ()
    return Record(text=text.strip(), references=references, where=where)


def read_tet(path: Path, split: Split) -> Iterator[Entry]:
    """Entries of a JSON list or a ``.jsonl`` of prompts; the data has no splits of its own.

    A prompt is a string, or an object that has it under ``query`` (as on the Hub), ``prompt``, ``text`` or ``question``.

    Raises:
        HeadPursuitError: no such file, or an item without a prompt.
    """
    files = sorted((*path.glob("*.json"), *path.glob("*.jsonl"))) if path.is_dir() else [path]
    if len(files) != 1:
        raise HeadPursuitError(f"{path}: {len(files)} JSON files, expected one; give the file itself")
    for where, row in json_lines(files[0]) if files[0].suffix == ".jsonl" else json_items(files[0]):
        record = tet_record(row, where=where)
        yield Entry.of(record, key=record.text)


def tet_record(row: Any, *, where: str) -> Record:
    """A record from a prompt.

    Raises:
        HeadPursuitError: there is none.
    """
    fields = row if isinstance(row, Mapping) else {"text": row}
    text = next((fields[name] for name in _TET_FIELDS if isinstance(fields.get(name), str)), "")
    if not text.strip():
        raise HeadPursuitError(f"{where}: no prompt; expected a text, or one of the fields {', '.join(_TET_FIELDS)}")
    return Record(text=text.strip(), where=where)
