"""Files of users and of our own: read with errors that name file and line, written whole, kept inside their folder."""

import gzip
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from headpursuit.errors import HeadPursuitError
from headpursuit.optional import optional_import
from headpursuit.stores import address, named, on_this_machine, put, reachable, sent, tried

LONGEST_LINE = 64 * 2**20  # bytes
DEEPEST_JSON = 100  # lists and objects inside one another

Schema = TypeVar("Schema", bound=BaseModel)
_SEAL = "sha256"
_LOCK = ".lock"
_SEALED = re.compile("[0-9a-f]{64}")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        HeadPursuitError: the file cannot be read, or is not UTF-8 (names the line).
    """
    if address(path):
        data = tried(str(path), reachable(path).read_bytes)
    else:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise HeadPursuitError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HeadPursuitError(f"{path} line {line}: not UTF-8; save the file as UTF-8") from error


def parse_json(text: str, *, where: str, one_line: bool = False, as_written: bool = False) -> Any:
    """The value that a text holds as JSON.

    Args:
        text: the text.
        where: where it stands, for the message (``questions.jsonl``).
        one_line: the text is one line of a file, which ``where`` names.
        as_written: give numbers as the text that they are written with, since ``1.10`` is no other answer than ``1.10``.

    Raises:
        HeadPursuitError: the text is not JSON (names the line), nested more than ``DEEPEST_JSON`` levels deep, or with a number
            of more digits than Python reads.
    """
    try:
        value = json.loads(text, **AS_WRITTEN if as_written else {})
    except json.JSONDecodeError as error:
        if one_line:
            raise HeadPursuitError(f"{where}: not JSON ({error.msg}); write one object a line") from error
        raise HeadPursuitError(f"{where}, line {error.lineno}: not valid JSON ({error.msg})") from error
    except RecursionError as error:
        raise too_deep(where) from error
    except ValueError as error:
        digits = f"a number of more than {sys.get_int_max_str_digits()} digits"
        raise HeadPursuitError(f"{where}: not valid JSON ({digits}); write it shorter, or as a text") from error
    # Counting brackets is cheap, and nearly every file has fewer.
    if text.count("[") + text.count("{") > DEEPEST_JSON:
        check_depth(value, where=where)
    return value


# Options of `json` that keep numbers as the text that they are written with.
AS_WRITTEN: Mapping[str, Any] = {"parse_int": str, "parse_float": str}


def check_depth(value: Any, *, where: str) -> None:
    """Refuse what is nested deeper than the functions that walk through it can go.

    Raises:
        HeadPursuitError: it is nested more than ``DEEPEST_JSON`` levels deep.
    """
    level, depth = [value], 0
    while level := [
        inner
        for one in level
        if isinstance(one, dict | list)
        for inner in (one.values() if isinstance(one, dict) else one)
        if isinstance(inner, dict | list)
    ]:
        depth += 1
        if depth >= DEEPEST_JSON:
            raise too_deep(where)


def too_deep(where: str) -> HeadPursuitError:
    """The error for JSON that is nested too deeply."""
    return HeadPursuitError(f"{where}: JSON nested more than {DEEPEST_JSON} levels deep; make it flatter")


def read_json(path: Path) -> Any:
    """The value that a UTF-8 file holds as JSON.

    Raises:
        HeadPursuitError: the file cannot be read, or is not JSON (names the line).
    """
    return parse_json(read_text(path), where=str(path))


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line of a UTF-8 file, each read when it is needed; ``.gz`` and ``.zst`` are unpacked.

    A line ends at a line feed, a carriage return or both, which it keeps, and at nothing else that Unicode calls a separator.

    Raises:
        HeadPursuitError: the file cannot be read, is not UTF-8, or has a line of more than ``LONGEST_LINE`` bytes.
        MissingExtraError: pyarrow, which unpacks ``.zst``, is not installed.
    """
    number = 0
    with open_packed(path) as file:
        while raw := file.readline(LONGEST_LINE + 1):
            if len(raw) > LONGEST_LINE:
                raise HeadPursuitError(f"{path} line {number + 1}: more than {LONGEST_LINE >> 20} MiB long; break it up")
            # Bytes are split at line feeds and carriage returns alone.
            for line in raw.splitlines(keepends=True):
                number += 1
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise HeadPursuitError(f"{path} line {number}: not UTF-8; save the file as UTF-8") from error
                yield number, text


@contextmanager
def open_packed(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked where its name ends in ``.gz`` or ``.zst``.

    Raises:
        HeadPursuitError: the file cannot be read, here or in the ``with`` block.
        MissingExtraError: pyarrow, which unpacks ``.zst``, is not installed.
    """
    try:
        with _unpacking(path) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise HeadPursuitError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except (HeadPursuitError, ValueError):  # what is read in the block says itself what is wrong with it
        raise
    except Exception as error:
        if address(path) is None:
            raise
        raise HeadPursuitError(f"cannot read {path}: the store does not answer any more ({error}); run again") from error


def _unpacking(path: Path) -> Any:
    # A store's file is opened by its own library, whatever that raises.
    whole: Any = io.BufferedReader(tried(str(path), partial(path.open, "rb"))) if address(path) else path.open("rb")
    suffix = named(path).suffix.lower()
    if suffix == ".gz":
        return gzip.open(whole)
    if suffix == ".zst":
        arrow = optional_import("pyarrow", extra="data", purpose="reading .zst files")
        return io.BufferedReader(arrow.CompressedInputStream(whole, "zstd"))
    return whole


@contextmanager
def drafted(path: str | Path) -> Iterator[Path]:
    """A draft beside a file, which takes the file's name once the block is left and it lies safely on the disk.

    Left by an error, or cut off, it leaves an older file as it was. The file's folder is made if needed.

    Raises:
        HeadPursuitError: the disk is full, or the file cannot be written.
    """
    if where := address(path):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / Path(path).name
            put(Path(folder) / Path(path).name, where)
        return
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
        sent(path)
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


def csv_text(frame: Any, **options: Any) -> str:
    """A DataFrame as CSV in which no text is a formula to a spreadsheet: one that could be begins with an apostrophe.

    Args:
        frame: the DataFrame.
        options: those of ``DataFrame.to_csv``.
    """
    safe = frame.map(_no_formula)
    safe.columns = [_no_formula(name) for name in frame.columns]
    safe.index = frame.index.map(_no_formula)
    return str(safe.to_csv(**options))


# What spreadsheets take for a formula, but for numbers and intervals, which hold nothing that could be called.
_FORMULA = re.compile(r"[=@\t\n]|[+-](?![\d\s.,\[\]()%e±+−–-]*$)")


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # A carriage return alone is not put in quotes, and what follows it would begin a cell.
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) else text


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


def read_kept(path: Path, *, format: int, what: str, remedy: str) -> dict[str, Any]:
    """A sealed object that lies under the :func:`digest` of its ``about``, by which it is found again.

    Raises:
        HeadPursuitError: as :func:`read_sealed`, or it is about something else than its name says.
    """
    content = read_sealed(path, format=format, what=what, remedy=remedy)
    if digest(content.get("about") or {}) != path.stem:
        raise HeadPursuitError(f"{path} holds another {what} than its name says: {remedy}")
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
    on_this_machine(folder)
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
            # A system that deletes no open file keeps it, which does no harm.
            with suppress(OSError):
                lock.unlink()


def digest(about: Mapping[str, Any]) -> str:
    """A name for what a result depends on: 24 hexadecimal digits of SHA-256 over its JSON."""
    text = json.dumps(about, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def expanded(path: str | Path) -> Path:
    """A path with its user's home folder for ``~``, as it is where there is no such user; in a store one that reaches there."""
    if address(path):
        return reachable(path)
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
