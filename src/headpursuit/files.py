"""Files of users and of our own: read with errors that name file and line, written whole, kept inside their folder."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
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


def parse_json(text: str, *, where: str) -> Any:
    """The value that a text holds as JSON.

    Args:
        text: the text.
        where: where it stands, for the message (``questions.jsonl``).

    Raises:
        HeadPursuitError: the text is not JSON (names the line).
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise HeadPursuitError(f"{where}, line {error.lineno}: not valid JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise HeadPursuitError(f"{where}: not valid JSON ({type(error).__name__})") from error


def read_json(path: Path) -> Any:
    """The value that a UTF-8 file holds as JSON.

    Raises:
        HeadPursuitError: the file cannot be read, or is not JSON (names the line).
    """
    return parse_json(read_text(path), where=str(path))


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Each line's name (``questions.jsonl line 7``) and the value on it; blank lines are passed over.

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


def write_text(path: str | Path, text: str) -> Path:
    """Write a file such that it is there whole or not at all, even after a power cut; its folder is made if needed.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # Generated text can hold half a surrogate pair, which has no UTF-8.
        with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_json(path: str | Path, content: Any, *, indent: int | None = 1) -> Path:
    """Write plain values as JSON, whole or not at all.

    Returns:
        The path written.
    """
    return write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def digest(about: Mapping[str, Any]) -> str:
    """A name for what a result depends on: 24 hexadecimal digits of SHA-256 over its JSON."""
    text = json.dumps(about, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def expanded(path: str | Path) -> Path:
    """A path with its user's home folder for ``~``; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def inside(folder: Path, name: str, *, what: str, where: str) -> Path:
    """The path of a file that another file names, which must lie in that file's folder.

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
