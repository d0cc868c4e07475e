"""Prompts that a visitor can begin with, each with a concept that it speaks of."""

from pathlib import Path

from headpursuit.app.playground import Playground
from headpursuit.concepts import as_concept
from headpursuit.concepts.counting import count_words
from headpursuit.demo import Task, demo_samples

_DEMO: tuple[tuple[str, Task], ...] = (
    ("colours", "caption"),
    ("sentiments", "caption"),
    ("digits", "digits"),
    ("countries", "countries"),
    ("rude", "continuation"),
)
_TEXTS = (
    ("colours", "Describe a garden in June."),
    ("countries", "Name five countries in Europe."),
    ("quantity", "How many people live in a village?"),
    ("sentiments", "Write a short review of a film."),
)


def prepared(playground: Playground, folder: Path) -> list[list[str | None]]:
    """Concept, prompt and the path of an image (None where the prompt speaks of none), a row an example.

    Args:
        playground: the demo's model is given the demo's own held-out questions.
        folder: where images are put.
    """
    if playground.model.source.id != "demo":
        return [[concept, text, None] for concept, text in _TEXTS]
    rows: list[list[str | None]] = []
    for number, (concept, task) in enumerate(_DEMO):
        words, drawn = as_concept(concept).words, demo_samples(task, "test", limit=40)
        sample = next((one for one in drawn[number * 8 :] if count_words(one.target, words)), drawn[0])
        path = None
        if sample.image is not None:
            path = str(folder / f"{number}-{concept}.png")
            sample.image.save(path)
        rows.append([concept, sample.text, path])
    return rows
