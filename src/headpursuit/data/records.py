"""Records: one schema for what every task asks and what it is scored against."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL.Image import Image

from headpursuit.data.answers import normalise_answer
from headpursuit.model.samples import Sample, fingerprint


@dataclass(frozen=True)
class Record:
    """One item of a data set.

    Attributes:
        text: the question, or the text to go on from; empty for images that are asked about alike.
        image: a PIL image, or the path of one.
        answers: every accepted answer to a question, the usual one first.
        label: the class of an image, as a person writes it.
        references: captions of an image, or what people wrote after a text.
        facts: what a true description may say, as the words that say each thing truly; empty where that is not known.
        form: a regular expression that a well-formed answer matches as a whole, or empty.
        where: where it came from (``qa/web-dev.json item 7``), for messages.
    """

    text: str = ""
    image: Image | Path | None = None
    answers: tuple[str, ...] = ()
    label: str | None = None
    references: tuple[str, ...] = ()
    facts: tuple[tuple[str, ...], ...] = ()
    form: str = ""
    where: str = field(default="", compare=False)


def data_fingerprint(records: Sequence[Record]) -> str:
    """SHA-256 of everything in the records but ``where``, images by their content; 16 hexadecimal digits."""
    digest = hashlib.sha256(fingerprint([Sample(text=record.text, image=record.image) for record in records]).encode())
    truths = [[one.answers, one.label, one.references, one.facts, one.form] for one in records]
    digest.update(json.dumps(truths, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def without(records: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """Those records whose text and image are not among the others, so that selection and test data share nothing.

    Texts are compared but for case and blanks, images by content.
    """
    seen = {content_key(record) for record in others}
    return [record for record in records if content_key(record) not in seen]


def split_by_answer(records: Sequence[Record], words: Collection[str]) -> tuple[list[Record], list[Record]]:
    """Records with one of the words as an accepted answer, and the others (Head Pursuit, section 4.1: country answers).

    An answer is one of the words when they are equal after TriviaQA's normalisation.
    """
    wanted = {normalise_answer(word) for word in words}
    parts: tuple[list[Record], list[Record]] = ([], [])
    for record in records:
        about = any(normalise_answer(answer) in wanted for answer in record.answers)
        parts[0 if about else 1].append(record)
    return parts


def content_key(record: Record) -> tuple[str, str | None]:
    """By what two records are told apart: their text but for case and blanks, and a fingerprint of their image."""
    image = None if record.image is None else fingerprint([Sample(image=record.image)])
    return " ".join(record.text.lower().split()), image
