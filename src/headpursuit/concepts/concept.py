"""A concept: a named list of words, given in code, built in, or read from a file."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headpursuit.concepts.builtin import BUILTIN, canonical_name, word_list
from headpursuit.concepts.counting import count_words
from headpursuit.concepts.texts import Texts, as_texts, telling_words
from headpursuit.errors import HeadPursuitError, did_you_mean, shown
from headpursuit.files import expanded, read_json, read_lines
from headpursuit.model.rows import exists, read_table
from headpursuit.model.samples import Samples
from headpursuit.stores import named

# "C#" is a word and "red # warm" is a word with a remark, so a remark needs a blank before it.
_REMARK = re.compile(r"(^|\s)#.*$")
# A longer one is a sentence; the longest name of a country has 47 characters.
_LONGEST = 60
# A longer text is nobody's file.
_LONGEST_NAME = 255
# So many words name a concept that has no other name.
_IN_A_NAME = 3
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
        texts: the texts with and without it that the concept was made of, see :meth:`from_texts`; None for a list of words.

    Raises:
        HeadPursuitError: no name, no words, or something among the words that is not a string, or is a whole text.

    Examples:
        >>> drinks = hp.Concept("drinks", ["tea", " coffee", "tea"])
        >>> drinks.words
        ('tea', 'coffee')
    """

    name: str
    words: tuple[str, ...]
    description: str = ""
    source: str = ""
    plurals: bool = True
    texts: Texts | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise HeadPursuitError("a concept needs a name, for example Concept('colours', ['red', 'green'])")
        object.__setattr__(self, "name", self.name.strip())
        object.__setattr__(self, "words", _clean(self.name, self.words))

    def __len__(self) -> int:
        return len(self.words)

    def count(self, text: str) -> int:
        """How often a text has one of the words, see :func:`headpursuit.concepts.counting.count_words`.

        >>> hp.concept("red,green").count("A red door, a greenish wall")
        1
        """
        return count_words(text, self.words)

    @classmethod
    def from_texts(cls, with_: Samples, without: Samples, *, name: str = "texts") -> Concept:
        """A concept that no list of words says (a language, a tone, arithmetic): texts with it and texts without.

        Its words are those that tell the first set from the second (:func:`headpursuit.concepts.texts.telling_words`), which is
        what rankings of a capture use. Whatever runs the model (:func:`headpursuit.select`) moves how much likelier the first
        set's texts are than the second's.

        Args:
            with_: texts, samples, or the path of a file; of samples with a target the target counts alone, given the text.
            without: the same, alike but for the concept.
            name: how results and reports call it.

        Raises:
            HeadPursuitError: a set with fewer than four different texts, or a text that is in both.

        Examples:
            >>> sums = [f"{number} + 1 is {number + 1}" for number in range(99)]
            >>> hp.Concept.from_texts(sums, [f"{number} cats" for number in range(99)], name="sums").words
            ('1', '+', 'is')
        """
        texts = as_texts(with_, without)
        return cls(
            name, telling_words(texts), source=f"{len(texts.with_)} and {len(texts.without)} texts", plurals=False, texts=texts
        )


# What is taken for a concept.
ConceptLike = Concept | str | Path | Iterable[str]


def as_concept(concept: ConceptLike) -> Concept:
    """A concept from the name of a built-in one, from words, or from a UTF-8 file of words.

    A ``.csv`` file is read from its column ``word`` or else its first one; a ``.json`` file is a list of words or an
    object with ``words`` (and ``name``, ``description``); anything else is one word a line, with ``#`` remarks. A name
    (in any case, or an alias such as ``colors``) wins over a file that is called like it: write that one as a path
    (``./colours``). A text with commas that is neither is taken as words.

    Args:
        concept: a name of :func:`concept_names`, a list of words, a file, or a concept, which is given back.

    Returns:
        The concept; one from a file is named after the file, one from a list after its first words.

    Raises:
        HeadPursuitError: none of these, or a file that cannot be read as words (names file and line).

    Examples:
        >>> hp.concept("months").words[4]
        'May'
        >>> hp.concept(["tea", "coffee"]).name
        'tea, coffee'
        >>> hp.concept("tea,coffee").words
        ('tea', 'coffee')
    """
    if isinstance(concept, Concept):
        return concept
    if isinstance(concept, Path):
        return _read(expanded(concept))
    if isinstance(concept, str):
        return _from_text(concept)
    if isinstance(concept, Mapping) or not isinstance(concept, Iterable):
        raise HeadPursuitError(f"{shown(concept)} is no concept: give a name, a list of words, a file or hp.Concept(...)")
    words = list(concept)
    return Concept(_name_of(words), tuple(words))


# What users call it. In here that is the name of arguments.
concept = as_concept


def concept_names() -> tuple[str, ...]:
    """The names of the built-in concepts; loads none of their words.

    Examples:
        >>> concept_names()[:3]
        ('colours', 'countries', 'nationalities')
    """
    return tuple(BUILTIN)


def _from_text(text: str) -> Concept:
    if key := canonical_name(text):
        entry = BUILTIN[key]
        return Concept(key, word_list(key), entry.description, entry.source, entry.plurals)
    short = " ".join(text[:_LONGEST].split()) + (" …" if len(text) > _LONGEST else "")
    if text.strip() and "\n" not in text:
        path = expanded(text)
        if exists(path):
            return _read(path)
        if "," in text:
            words = [word.strip() for word in text.split(",") if word.strip()]
            return Concept(_name_of(words), tuple(words))
        if len(text) <= _LONGEST_NAME and (path.suffix or len(path.parts) > 1):
            raise HeadPursuitError(f"no concept file {path}: give a .txt, .csv or .json file, or one of {', '.join(BUILTIN)}")
    hint = did_you_mean(text.lower()[:_LONGEST], BUILTIN)
    raise HeadPursuitError(
        f"no built-in concept {short!r}: {hint}there are {', '.join(BUILTIN)}; "
        "or give words (red,green,blue), one alone with a comma behind it (red,), or a file of words"
    )


def _name_of(words: Sequence[object]) -> str:
    more = ", …" if len(words) > _IN_A_NAME else ""
    first = ", ".join(word if isinstance(word, str) else shown(word) for word in words[:_IN_A_NAME])
    return textwrap.shorten(first, 60, placeholder="…") + more or "words"


def _clean(name: str, words: Iterable[str]) -> tuple[str, ...]:
    if isinstance(words, str | bytes):
        raise HeadPursuitError(f"the words of concept {name!r} must be a list of words, not the one text {words!r}")
    seen: dict[str, None] = {}
    for word in words:
        if not isinstance(word, str):
            raise HeadPursuitError(f"concept {name!r}: {shown(word)} is a {type(word).__name__}, not a word")
        cleaned = " ".join(word.split())
        if len(cleaned) > _LONGEST:
            raise HeadPursuitError(
                f"concept {name!r}: {cleaned[:30] + ' …'!r} is a text of {len(cleaned)} characters: give single words"
            )
        if any("\ud800" <= sign <= "\udfff" for sign in cleaned):
            raise HeadPursuitError(f"concept {name!r}: {cleaned!r} holds half a surrogate pair, which is no character")
        if cleaned:
            seen.setdefault(cleaned)
    if not seen:
        raise HeadPursuitError(f"concept {name!r} is empty: give it at least one word")
    return tuple(seen)


def _read(path: Path) -> Concept:
    if path.is_dir():
        raise HeadPursuitError(f"{path} is a folder: a concept is one file (.txt, .csv or .json)")
    if not path.is_file():
        raise HeadPursuitError(f"no concept file {path}: give a .txt, .csv or .json file, or one of {', '.join(BUILTIN)}")
    suffix = named(path).suffix.lower()
    if suffix == ".json":
        return _from_json(path)
    words = _from_csv(path) if suffix == ".csv" else [_REMARK.sub("", line.rstrip()) for _, line in read_lines(path)]
    return _named(path.stem, words, path)


def _from_csv(path: Path) -> list[str]:
    table = [row for row in read_table(path, delimiter=",", skip_blanks=True) if any(cell.strip() for cell in row[1])]
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


def _from_json(path: Path) -> Concept:
    content = read_json(path)
    fields = content if isinstance(content, dict) else {"words": content}
    words = fields.get("words")
    if not isinstance(words, list):
        raise HeadPursuitError(f'{path}: expected a list of words, or an object with "words": [...]')
    for position, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise HeadPursuitError(f"{path}: item {position} of the list is {shown(word)}, not a word in quotes")
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
    try:
        return Concept(name, tuple(words), description=description, source=str(path))
    except HeadPursuitError as error:
        raise HeadPursuitError(f"{path}: {error}") from error
