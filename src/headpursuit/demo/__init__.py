"""The embedded demo model: its weights, and the samples that it learned from and is tested on.

Everything here is cheap to import; torch is not needed. The weights are an ordinary Hugging Face folder (`demo_path`),
trained by `tools/train_demo.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from PIL import Image

from headpursuit.demo import captions, continuations, digits, facts, scenes
from headpursuit.demo.captions import COLOR_WORDS, MOOD_WORDS, QUANTITY_WORDS
from headpursuit.demo.continuations import RUDE_WORDS
from headpursuit.demo.digits import DIGIT_WORDS
from headpursuit.demo.facts import COUNTRY_NAMES
from headpursuit.demo.splits import SPLITS, Split
from headpursuit.errors import HeadPursuitError

__all__ = [
    "COLOR_WORDS",
    "COUNTRY_NAMES",
    "DIGIT_WORDS",
    "MOOD_WORDS",
    "QUANTITY_WORDS",
    "RUDE_WORDS",
    "TASKS",
    "DemoSample",
    "chat_prompt",
    "demo_path",
    "demo_samples",
]

Task = Literal["caption", "shapes", "faces", "digits", "countries", "facts", "continuation"]
TASKS: tuple[Task, ...] = ("caption", "shapes", "faces", "digits", "countries", "facts", "continuation")

# Which pictures are faces, by their number.
_FACES: dict[str, Callable[[int], bool]] = {
    "caption": lambda number: number % 2 == 1,
    "shapes": lambda number: False,
    "faces": lambda number: True,
}
_CAPTIONS, _CONTINUATIONS = 400, 300
_REFERENCES = 8


@dataclass(frozen=True)
class DemoSample:
    """One question for the demo model.

    `text` is what a user says, `prompt` the same inside the model's chat template (with `<image>` where the picture goes).
    `target` is the right answer or, for captions and continuations, one right answer out of many. `attributes` holds the
    truth about a sample.
    """

    text: str
    target: str
    image: Image.Image | None = None
    references: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The text inside the chat template."""
        return chat_prompt(self.text, image=self.image is not None)


def demo_path() -> Path:
    """Return the folder of the packaged model."""
    return Path(str(resources.files("headpursuit.demo"))) / "weights"


def chat_prompt(text: str, *, image: bool = False) -> str:
    """Put a user's words into the demo model's chat template."""
    return f"USER: {'<image>' if image else ''}\n{text} ASSISTANT:" if image else f"USER: {text} ASSISTANT:"


def demo_samples(task: Task, split: Split, *, limit: int | None = None, seed: int = 0) -> list[DemoSample]:
    """Draw the samples of a task; the same arguments give the same samples.

    Tasks: `caption` (pictures to describe, shapes and faces by turns), `shapes` and `faces` (one kind of them alone),
    `digits`, `countries` (questions whose answer is a country), `facts` (other questions), `continuation` (rude, kind and
    neutral openings by turns). `limit` bounds their number; pictures to describe and continuations are drawn without end, so
    there it is their number.
    """
    if task not in TASKS:
        raise HeadPursuitError(f"The demo has no task {task!r}; it has {', '.join(TASKS)}.")
    if split not in SPLITS:
        raise HeadPursuitError(f"The demo has no split {split!r}; it has {', '.join(SPLITS)}.")
    rng = random.Random(f"{task}/{split}/{seed}")
    if task in _FACES:
        return [_caption_sample(rng, split, face=_FACES[task](number)) for number in range(limit or _CAPTIONS)]
    if task == "continuation":
        tones = tuple(continuations.TONES)
        count = limit or _CONTINUATIONS
        return [_continuation_sample(rng, split, tone=tones[index % len(tones)]) for index in range(count)]
    if task == "digits":
        indices = list(digits.digit_indices(split))
        rng.shuffle(indices)
        return [_digit_sample(index, rng) for index in indices[:limit]]
    kinds = ("country",) if task == "countries" else facts.OTHER_KINDS
    found = [question for kind in kinds for question in facts.questions(kind, split)]
    rng.shuffle(found)
    return [
        DemoSample(
            text=question.text,
            target=question.answer,
            attributes={"kind": question.kind, "subject": question.subject, "phrasing": str(question.phrasing)},
        )
        for question in found[:limit]
    ]


def _caption_sample(rng: random.Random, split: Split, *, face: bool) -> DemoSample:
    scene = scenes.sample_scene(rng, split, kind="face" if face else "shapes")
    return DemoSample(
        text=rng.choice(captions.QUESTIONS),
        target=captions.write_caption(scene, rng),
        image=scenes.draw_scene(scene, rng),
        references=tuple(captions.write_caption(scene, rng) for _ in range(_REFERENCES)),
        attributes=captions.attributes_of(scene),
    )


def _digit_sample(index: int, rng: random.Random) -> DemoSample:
    label = digits.digit_label(index)
    return DemoSample(
        text=rng.choice(digits.QUESTIONS),
        target=label,
        image=digits.draw_digit(index),
        attributes={"digit": label, "index": str(index)},
    )


def _continuation_sample(rng: random.Random, split: Split, *, tone: str) -> DemoSample:
    opening = continuations.sample_opening(rng, split, tone=tone)
    return DemoSample(
        text=rng.choice(continuations.QUESTIONS).format(opening.text),
        target=continuations.write_ending(tone, rng),
        references=tuple(continuations.write_ending(tone, rng) for _ in range(_REFERENCES)),
        attributes={"tone": tone, "opening": opening.text},
    )
