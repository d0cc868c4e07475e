"""A concept: a named list of words, given in code, built in, or read from a file."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headpursuit.concepts.builtin import BUILTIN, built_in_words, canonical_name
from headpursuit.errors import HeadPursuitError
from headpursuit.files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

# "C#" is a word and "red # warm" is a word with a remark, so a remark needs a blank before it.
_REMARK = re.compile(r"(^|\s)#.*$")
_CSV_HEADERS = frozenset({"word", "words", "concept", "token", "name"})


@dataclass(frozen=True)
class Concept:
    """A named word list; ``resolve`` turns it into rows of a model's dictionary.

    Attributes:
        name: how results and reports call it.
        words: the words as a person writes them; stripped, inner blanks squeezed, without repetitions. A word written
            with a capital is taken for a proper noun and keeps it ("May" is not "may").
        description: one line for listings.
        source: where the words come from.
        plurals: whether resolution may add plurals; off for adjectives, whose "plurals" are other words (kind, kinds).

    Raises:
        HeadPursuitError: no name, no words, or something among the words that is not a string.
    """

    name: str
    words: tuple[str, ...]
    description: str = ""
    source: str = ""
    plurals: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise HeadPursuitError("a concept needs a name, for example Concept('colours', ['red', 'green'])")
        object.__setattr__(self, "name", self.name.strip())
        object.__setattr__(self, "words", _clean(self.name, self.words))

    def __len__(self) -> int:
        return len(self.words)


def concept(name: str) -> Concept:
    """Return a built-in concept.

    Args:
        name: one of ``concept_names()``, or an alias such as ``colors``; case does not matter.

    Returns:
        The concept with its description and source.

    Raises:
        HeadPursuitError: there is no such concept.
        MissingExtraError: its words come from a library that is not installed.
    """
    key = canonical_name(name)
    if key is None:
        near = difflib.get_close_matches(name.lower(), BUILTIN, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise HeadPursuitError(f"no built-in concept {name!r}: {hint}there are {', '.join(BUILTIN)}")
    entry = BUILTIN[key]
    return Concept(key, built_in_words(key), entry.description, entry.source, entry.plurals)


def concept_names() -> tuple[str, ...]:
    """Return the names of the built-in concepts, without loading their words."""
    return tuple(BUILTIN)


def load_concept(name_or_path: str | Path) -> Concept:
    """Return a built-in concept by its name, or read one from a UTF-8 file.

    A ``.csv`` file is read from its column ``word`` or else its first one; a ``.json`` file is a list of words or an
    object with ``words`` (and ``name``, ``description``); anything else is one word a line, with ``#`` remarks. To read
    a file that is called like a built-in concept, write it as a path (``./colours``).

    Args:
        name_or_path: a name of ``concept_names()`` or a file.

    Returns:
        The concept; one from a file is named after the file.

    Raises:
        HeadPursuitError: neither a name nor a file, or a file that cannot be read as words (names file and line).
    """
    if isinstance(name_or_path, str) and canonical_name(name_or_path) is not None:
        return concept(name_or_path)
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return _read(path)
    if path.is_dir():
        raise HeadPursuitError(f"{path} is a folder: a concept is one file (.txt, .csv or .json)")
    if path.suffix or len(path.parts) > 1:
        raise HeadPursuitError(
            f"no concept file {path}: give a .txt, .csv or .json file, or one of {', '.join(BUILTIN)}"
        )
    return concept(str(name_or_path))


def _clean(name: str, words: Iterable[str]) -> tuple[str, ...]:
    if isinstance(words, str | bytes):
        raise HeadPursuitError(f"the words of concept {name!r} must be a list of words, not the one text {words!r}")
    seen: dict[str, None] = {}
    for word in words:
        if not isinstance(word, str):
            raise HeadPursuitError(f"concept {name!r}: {word!r} is a {type(word).__name__}, not a word")
        if cleaned := " ".join(word.split()):
            seen.setdefault(cleaned)
    if not seen:
        raise HeadPursuitError(f"concept {name!r} is empty: give it at least one word")
    return tuple(seen)


def _read(path: Path) -> Concept:
    text = read_text(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_json(path, text)
    words = _from_csv(path, text) if suffix == ".csv" else [_REMARK.sub("", line) for line in text.splitlines()]
    return _named(path.stem, words, path)


def _from_csv(path: Path, text: str) -> list[str]:
    reader = csv.reader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        table = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise HeadPursuitError(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from error
    if not table:
        return []
    header = [cell.strip().lower() for cell in table[0][1]]
    column = next((i for i, cell in enumerate(header) if cell in _CSV_HEADERS), None)
    if column is None:
        column = 0
    else:
        table = table[1:]
    words = []
    for line, row in table:
        if row[0].lstrip().startswith("#"):
            continue
        if column >= len(row):
            raise HeadPursuitError(f"{path}, line {line}: no column {column + 1}, where the words are")
        words.append(row[column])
    return words


def _from_json(path: Path, text: str) -> Concept:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise HeadPursuitError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from error
    fields = content if isinstance(content, dict) else {"words": content}
    words = fields.get("words")
    if not isinstance(words, list):
        raise HeadPursuitError(f'{path}: expected a list of words, or an object with "words": [...]')
    for position, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise HeadPursuitError(f"{path}: item {position} of the list is {word!r}, not a word in quotes")
    name = fields.get("name")
    description = fields.get("description")
    return _named(
        name if isinstance(name, str) and name.strip() else path.stem,
        words,
        path,
        description=description if isinstance(description, str) else "",
    )


def _named(name: str, words: list[str], path: Path, *, description: str = "") -> Concept:
    if not any(word.strip() for word in words):
        raise HeadPursuitError(f"{path}: no words in the file; write one word a line")
    return Concept(name, tuple(words), description=description, source=str(path))
