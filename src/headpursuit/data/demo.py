"""The demo's samples as records, so that its recipes run through the same tasks as those of real data sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headpursuit.data.records import Record
from headpursuit.data.registry import TaskName
from headpursuit.demo import DemoSample, Split, demo_samples
from headpursuit.demo import Task as DemoTask
from headpursuit.demo.captions import BACKGROUND_NAMES, COLOR_NAMES, COUNT_NAMES, MOOD_NAMES, SIZE_NAMES
from headpursuit.demo.continuations import ENDING_FORM

# What a drawn scene shows, each with the words that say its value truly.
_SAYS: dict[str, Callable[[str], Sequence[str]]] = {
    "color": lambda value: COLOR_NAMES[value],
    "mood": lambda value: MOOD_NAMES[value],
    "count": lambda value: [words.removeprefix("a ").removesuffix(" of") for words in COUNT_NAMES[int(value)]],
    "size": lambda value: SIZE_NAMES[value],
    "background": lambda value: BACKGROUND_NAMES[value],
    "shape": lambda value: [value],
}


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
    "demo-shapes": DemoData("shapes", "captioning"),
    "demo-faces": DemoData("faces", "captioning"),
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
    return [_record(entry, sample, where=f"{name} {split} {number}") for number, sample in enumerate(drawn)]


def _record(entry: DemoData, sample: DemoSample, *, where: str) -> Record:
    answered = entry.task == "question answering"
    captioned = entry.task == "captioning"
    shown = ((says, sample.attributes.get(name)) for name, says in _SAYS.items()) if captioned else ()
    return Record(
        text=sample.text,
        image=sample.image,
        answers=(sample.target,) if answered else (),
        label=sample.target if entry.task == "classification" else None,
        references=() if answered else sample.references,
        facts=tuple(tuple(says(value)) for says, value in shown if value is not None),
        form=ENDING_FORM if entry.task == "toxic continuation" else "",
        where=where,
    )
