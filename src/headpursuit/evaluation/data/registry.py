"""The data sets of the paper: which task each is for, where it lives, and how its files are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headpursuit.evaluation.data.entries import Entry
from headpursuit.evaluation.data.trivia_qa import read_trivia_qa, trivia_record
from headpursuit.evaluation.records import Record

TaskName = Literal["question answering", "toxic continuation", "classification", "captioning"]


@dataclass(frozen=True)
class HubSource:
    """A data set on the Hub.

    Attributes:
        name: repository.
        config: configuration, or None for the only one.
        revision: the commit that is pinned, or None where none could be checked; the one that is found is then named in
            each record's ``where``.
        parts: the Hub's splits, each with the part that it is to us (see :class:`Entry`).
        key: the column that tells items apart; an item's place in its split where it is None.
        record: makes a record from a row.
    """

    name: str
    config: str | None
    revision: str | None
    parts: Mapping[str, Literal["selection", "test", "other"] | None]
    key: str | None
    record: Callable[..., Record]


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: what recipes call it.
        task: what it is for.
        read: from a file or folder to its entries.
        files: which local files are read, for messages and help.
        hub: where it is on the Hub, or None.
        noun: what an image of it shows, for the prompt of a classification.
        classes: all class names as a person writes them, in the data set's order; empty where it has none, or any.
        template: the prompt that it is meant to be asked with, or None for the task's own.
    """

    name: str
    task: TaskName
    read: Callable[[Path], Iterable[Entry]] = field(repr=False)
    files: str
    hub: HubSource | None = None
    noun: str = "object"
    classes: tuple[str, ...] = ()
    template: str | None = None


def _trivia_row(row: Mapping[str, Any], *, where: str) -> Record:
    return trivia_record(row.get("question"), row.get("answer"), where=where)


_ALL = (
    Dataset(
        name="trivia-qa",
        task="question answering",
        read=read_trivia_qa,
        files="the folder qa of the official archive, or one of its *-train.json and *-dev.json",
        hub=HubSource(
            name="mandarjoshi/trivia_qa",
            config="rc.nocontext",
            revision="0f7faf33a3908546c6fd5b73a660e0f8ff173c2f",
            parts={"train": "selection", "validation": "test"},
            key="question_id",
            record=_trivia_row,
        ),
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}
