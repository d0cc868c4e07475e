"""TriviaQA (Joshi et al. 2017): the official JSON files, and the Hub's rows of the same content."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headpursuit.data.entries import Entry, Split, wanted
from headpursuit.data.records import Record
from headpursuit.errors import HeadPursuitError
from headpursuit.files import read_json

# The official test file has no answers, so that the development data is what everybody evaluates on.
_PARTS: dict[str, Literal["selection", "test"]] = {"train": "selection", "dev": "test"}


def read_trivia_qa(path: Path, split: Split) -> Iterator[Entry]:
    """Entries of an official file (``*-train.json``, ``*-dev.json``), or of all of them below a folder.

    Questions that the web and the Wikipedia file share count once; the verified files, whose questions are in the others, and
    the test file are passed over in a folder.

    Raises:
        HeadPursuitError: no such file, or one that is not in the official format (names file and item).
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.json") if _part_of_name(file) and "verified" not in file.name)
    if not files:
        raise HeadPursuitError(f"{path}: no *-train.json or *-dev.json; give the folder qa of the official TriviaQA archive")
    for file in files:
        if file == path or wanted(_part_of_name(file), split):
            yield from _read_file(file)


def trivia_record(question: Any, answer: Any, *, where: str) -> Record:
    """A record from a question and its answer, with the keys of either format.

    The accepted answers are those that the official script takes: the normalised aliases and human answers. The first answer
    is the one that is usually given, which is one of them when normalised.

    Raises:
        HeadPursuitError: the question or the answer is missing.
    """
    if not isinstance(question, str) or not question.strip():
        raise HeadPursuitError(f"{where}: no question")
    given = answer if isinstance(answer, Mapping) else {}
    fields = {str(key).replace("_", "").lower(): value for key, value in given.items()}
    lists = (fields.get("normalizedaliases") or fields.get("aliases"), fields.get("humananswers"))
    aliases = (text for texts in lists if isinstance(texts, list) for text in texts)
    answers = tuple(dict.fromkeys(str(text) for text in (fields.get("value"), *aliases) if text))
    if not answers:
        raise HeadPursuitError(f"{where}: no answer (the official test file has none); use the train or dev file")
    return Record(text=question.strip(), answers=answers, where=where)


def _read_file(path: Path) -> Iterator[Entry]:
    content = read_json(path)
    items = content.get("Data") if isinstance(content, Mapping) else None
    if not isinstance(items, list):
        raise HeadPursuitError(f'{path}: no list under "Data"; give an official TriviaQA file')
    part = _PARTS.get(str(content.get("Split", "")).lower()) or _part_of_name(path)
    if part is None:
        raise HeadPursuitError(f'{path}: neither "Split" nor the name says whether this is train or dev data')
    for number, item in enumerate(items, start=1):
        where = f"{path.name} item {number}"
        if not isinstance(item, Mapping) or "QuestionId" not in item:
            raise HeadPursuitError(f"{where}: expected an object with Question, QuestionId and Answer")
        yield Entry(
            key=str(item["QuestionId"]),
            part=part,
            make=partial(trivia_record, item.get("Question"), item.get("Answer"), where=where),
        )


def _part_of_name(path: Path) -> Literal["selection", "test"] | None:
    return next((part for word, part in _PARTS.items() if path.stem.endswith(f"-{word}")), None)
