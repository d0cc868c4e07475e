"""The demo's samples as records, so that its recipes run through the same tasks as those of real data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headpursuit.data.records import Record
from headpursuit.demo import demo_samples

if TYPE_CHECKING:
    from headpursuit.data.registry import TaskName
    from headpursuit.demo import DemoSample, Split
    from headpursuit.demo import Task as DemoTask


@dataclass(frozen=True)
class DemoData:
    """One of the demo's kinds of questions.

    Attributes:
        drawn_as: its name in :func:`headpursuit.demo.demo_samples`.
        task: what it is for.
        classes: all class names, for a classification.
    """

    drawn_as: DemoTask
    task: TaskName
    classes: tuple[str, ...] = ()


DEMO_DATA: Mapping[str, DemoData] = {
    "demo-captions": DemoData("caption", "captioning"),
    "demo-digits": DemoData("digits", "classification", tuple("0123456789")),
    "demo-countries": DemoData("countries", "question answering"),
    "demo-facts": DemoData("facts", "question answering"),
    "demo-continuations": DemoData("continuation", "toxic continuation"),
}


def demo_records(name: str, *, split: Split, limit: int | None, seed: int) -> list[Record]:
    """Records of ``DEMO_DATA[name]``; the same arguments give the same ones.

    Args:
        name: a name of ``DEMO_DATA``.
        split: ``selection`` or ``test``.
        limit: how many at most.
        seed: seed of the drawing.
    """
    entry = DEMO_DATA[name]
    drawn = demo_samples(entry.drawn_as, split, limit=limit, seed=seed)
    return [demo_record(entry, sample, where=f"{name} {split} {number}") for number, sample in enumerate(drawn)]


def demo_record(entry: DemoData, sample: DemoSample, *, where: str) -> Record:
    """One drawn sample as a record, for the task of its kind of question."""
    answered = entry.task == "question answering"
    return Record(
        text=sample.text,
        image=sample.image,
        answers=(sample.target,) if answered else (),
        label=sample.target if entry.task == "classification" else None,
        references=() if answered else sample.references,
        where=where,
    )
