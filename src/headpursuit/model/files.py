"""Reading a user's text files, with messages that name file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headpursuit.errors import HeadPursuitError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        HeadPursuitError: the file cannot be read, or is not UTF-8 (names the line).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HeadPursuitError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HeadPursuitError(f"{path} line {line}: not UTF-8; save the file as UTF-8") from error


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each line stands (``questions.jsonl line 7``) and the value on it; blank lines are passed over.

    Raises:
        HeadPursuitError: a line is not JSON.
    """
    # Not splitlines: it also breaks at separators that JSON allows inside a string.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path.name} line {number}"
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                raise HeadPursuitError(f"{where}: not JSON ({error.msg}); write one object a line") from error


def inside(folder: Path, name: str, *, what: str, where: str) -> Path:
    """A file that another file names, which must lie in that file's folder.

    Args:
        folder: the folder.
        name: the file's name as it was written.
        what: what it is, for the message ("image").
        where: where it was written, for the message.

    Raises:
        HeadPursuitError: the file lies outside the folder.
    """
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError) as error:
        raise HeadPursuitError(f"{where}: {name!r:.80} is no path of the {what} ({error})") from error
    if not path.is_relative_to(folder.resolve()):
        raise HeadPursuitError(f"{where}: the {what} {path} lies outside {folder}; move it inside that folder")
    return path
