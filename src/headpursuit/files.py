"""Files of users and of our own: read with errors that name file and line, written whole, kept inside their folder."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from headpursuit.errors import HeadPursuitError

Schema = TypeVar("Schema", bound=BaseModel)
_SEAL = "sha256"
_LOCK = ".lock"
_SEALED = re.compile("[0-9a-f]{64}")


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


@contextmanager
def drafted(path: str | Path) -> Iterator[Path]:
    """A draft beside a file, which takes the file's name once the block is left and it lies safely on the disk.

    Left by an error, or cut off, it leaves an older file as it was. The file's folder is made if needed.

    Raises:
        HeadPursuitError: the disk is full, or the file cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise HeadPursuitError(
            f"{path} could not be written ({error.strerror or error}): an older one is as it was; make room, or choose another "
            "folder"
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def write_text(path: str | Path, text: str) -> Path:
    """Write a file such that it is there whole or not at all, even after a power cut; its folder is made if needed.

    Returns:
        The path written.
    """
    # Generated text can hold half a surrogate pair, which has no UTF-8.
    with drafted(path) as draft, draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        file.write(text)
    return Path(path)


def write_json(path: str | Path, content: Any, *, indent: int | None = 1) -> Path:
    """Write plain values as JSON, whole or not at all.

    Returns:
        The path written.
    """
    return write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def write_sealed(path: str | Path, content: Mapping[str, Any], *, indent: int | None = 1) -> Path:
    """Write a JSON object with a seal over its text, by which :func:`read_sealed` sees every later change.

    Returns:
        The path written.
    """
    text = json.dumps({**content, _SEAL: ""}, indent=indent, ensure_ascii=False) + "\n"
    head, _, tail = text.rpartition(f'"{_SEAL}": ""')
    # Hashed as it is written: see write_text.
    seal = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return write_text(path, f'{head}"{_SEAL}": "{seal}"{tail}')


def read_sealed(path: Path, *, format: int, what: str, remedy: str, by_hand: bool = False) -> dict[str, Any]:
    """The object that :func:`write_sealed` wrote.

    Args:
        path: the file.
        format: the number of the format that is read, under ``format``.
        what: what the file should be, for messages.
        remedy: what to do about a file that cannot be used, for messages.
        by_hand: take an object without format and seal, too, such as a user writes.

    Raises:
        HeadPursuitError: the file cannot be read, is in another format, or is not as it was written.
    """
    text = read_text(path)
    content = parse_json(text, where=str(path))
    if not isinstance(content, dict):
        raise HeadPursuitError(f"{path} cannot be read, it is no {what}: {remedy}")
    if by_hand and not content.keys() & {"format", _SEAL}:
        return content
    seal = content.get(_SEAL)
    if isinstance(seal, str) and _SEALED.fullmatch(seal):
        bare = text.replace(f'"{_SEAL}": "{seal}"', f'"{_SEAL}": ""')
        sealed = hashlib.sha256(bare.encode()).hexdigest() == seal
    else:
        sealed = False
    if content.get("format") != format:
        raise HeadPursuitError(f"{path} has format {content.get('format')!r:.20}, this version reads {format}: {remedy}")
    if not sealed:
        yourself = " (without the keys format and sha256 it counts as written by hand)" if by_hand else ""
        raise HeadPursuitError(f"{path} is not as it was written, it was changed or damaged: {remedy}{yourself}")
    return content


def checked(schema: type[Schema], content: Any, *, what: str, remedy: str) -> Schema:
    """Content read from a file, in the shape that a schema asks for.

    Args:
        schema: the shape.
        content: plain values.
        what: the file and what it should be, the first words of the error.
        remedy: what to do about it.

    Raises:
        HeadPursuitError: it has another shape (names the key).
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise HeadPursuitError(f"{what} ({key:.80}: {first['msg']}): {remedy}") from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits.

    Raises:
        HeadPursuitError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HeadPursuitError(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def locked(folder: Path, *, beside: bool = False) -> Iterator[None]:
    """Hold a folder for this process alone while it is written; the folder is made if needed.

    Args:
        folder: the folder.
        beside: keep the lock beside the folder, which is not made then.

    Raises:
        HeadPursuitError: another process holds it, or it cannot be written.
    """
    lock = folder.with_name(f".{folder.name}{_LOCK}") if beside else folder / _LOCK
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=0).acquire()
    except Timeout as error:
        raise HeadPursuitError(
            f"{folder} is being written by another process: wait until it is done, or choose another folder"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HeadPursuitError(f"{folder} could not be written ({reason}): choose another folder") from error
    with held:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def digest(about: Mapping[str, Any]) -> str:
    """A name for what a result depends on: 24 hexadecimal digits of SHA-256 over its JSON."""
    text = json.dumps(about, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


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
