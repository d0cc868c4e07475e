"""Ways to choose heads beside each other on the real model, for lists of words, sets of texts, and words that are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tools.real.data import read_prompts, read_questions, read_stories

import headpursuit as hp
from headpursuit.evaluation.results import Results

WORDS = {
    "colours": "red green blue yellow orange purple pink brown black white grey gold",
    "animals": "dog cat bird fish rabbit bear lion mouse frog duck horse cow pig fox monkey elephant tiger bunny puppy kitten",
    "family": "mom dad mother father brother sister grandma grandpa mommy daddy son daughter family uncle aunt",
    "emotions": "happy sad angry scared excited proud afraid worried surprised glad lonely upset nervous mad",
}
WRITTEN = "emotions"
METHODS: list[Any] = [
    "contest",
    "calibrated",
    "somp",
    "logit_lens",
    "cosine",
    "attribution",
    "natural",
    "integrated",
    "greedy",
    "knockout",
    {"method": "knockout", "options": {"order": "effect_per_cost"}},
    {"method": "knockout", "options": {"order": "natural"}},
    {"method": "fusion", "options": {"order": "effect_per_cost"}},
]
# Characters of a story before the word that comes next, of a beginning that is gone on with, and of a text in a set.
_BEFORE, _BEGINNING, _TEXT = 80, 100, (40, 110)


def measured(model: str, data: Path, out: Path, *, count: int) -> Results:
    """The comparison's results, as far as they are kept from those."""
    loaded = hp.load(model, device="cpu", dtype="bfloat16")
    return hp.evaluate(recipe(count), loaded, data=rows(data, count=count), out=out)


def head(name: str, results: Results) -> str:
    """What the numbers are of."""
    heads = int((~np.isnan(results.concepts[0].rankings["calibrated"].scores)).sum())
    n = ", ".join(f"{one.concept} {one.n}" for one in results.curves if one.method == "calibrated")
    return "\n\n".join(
        [
            "## On a real model",
            f"{name}, bfloat16 on a CPU, {heads} heads, of which one or two are edited. Written by `make real`. "
            "Colours, animals and family: log-odds of their words in stories cut before one of them. Speech and "
            "rudeness: sets of texts (sentences of stories with speech and without, rude and other prompts); moved is "
            "how much likelier the former are, nats a token. Emotions, written: their words in 16 tokens that go on "
            f"with the beginning of a story. Neutral texts: second halves of questions. Test samples: {n}; as many "
            "others to choose by.",
        ]
    )


def recipe(count: int) -> dict[str, Any]:
    """The comparison, with so many samples to choose heads by and as many to try them on."""
    tasks = [
        {"name": f"{name} next", "data": f"{name}-contexts", "metric": "contains", "limit": count}
        for name in WORDS
        if name != WRITTEN
    ]
    tasks.append(
        {
            "name": "continuations",
            "data": "beginnings",
            "metric": "words",
            "limit": count,
            "max_new_tokens": 16,
            "batch_size": 32,
        }
    )
    concepts = [
        {"words": ", ".join(words.split()), "name": name, "task": f"{name} next", "limit": count}
        for name, words in WORDS.items()
        if name != WRITTEN
    ]
    written = {"words": ", ".join(WORDS[WRITTEN].split()), "name": f"{WRITTEN}, written", "task": "continuations"}
    texts = [
        {"name": name, "positive": name, "negative": f"no {name}", "limit": count * 2 // 3} for name in ("speech", "rudeness")
    ]
    return {
        "name": "real-selection",
        "title": "Ways to choose heads on a real model",
        "model": "demo",
        "neutral": "questions",
        "tasks": tasks,
        "concepts": [*concepts, *texts, {**written, "target": f"{WRITTEN}, written words", "limit": count}],
        "select": {
            "methods": METHODS,
            "k": [1, 2],
            "scales": [0.5, 0.0, -1.0],
            "costs": [0.05, 0.1, 0.2, 0.4],
            "budget": 100,
            "draws": 3,
            "halves": False,
        },
    }


def rows(folder: Path, *, count: int) -> dict[str, Any]:
    """The samples, by the names that the recipe calls them."""
    stories = read_stories(folder)
    sentences = list(dict.fromkeys(one for story in stories for one in re.split(r"(?<=[.!?\"]) (?=[A-Z\"])", story)))
    usual = [one for one in sentences if _TEXT[0] <= len(one) <= _TEXT[1]]
    prompts = {rude: [text for text in read_prompts(folder, rude=rude) if len(text) <= _TEXT[1]] for rude in (True, False)}
    found: dict[str, Any] = {
        f"{name}-contexts": contexts(stories, words.split()) for name, words in WORDS.items() if name != WRITTEN
    }
    most = 2 * count
    return {
        **found,
        "beginnings": [{"text": story[: story.rfind(" ", 0, _BEGINNING)]} for story in stories],
        "speech": in_halves([one for one in usual if '"' in one], most),
        "no speech": in_halves([one for one in usual if '"' not in one], most),
        "rudeness": in_halves(prompts[True], most),
        "no rudeness": in_halves(prompts[False], most),
        "questions": in_halves(read_questions(folder), most),
    }


def in_halves(texts: Iterable[str], most: int) -> list[hp.Sample]:
    """Texts of which the second half counts, given the first: half of the unembedding's work, and no word without a context."""
    made = []
    for text in list(texts)[:most]:
        words = text.split(" ")
        middle = len(words) // 2
        made.append(hp.Sample(text=" ".join(words[:middle]), target=" ".join(words[middle:]), chat=False))
    return made


def contexts(stories: Sequence[str], words: Sequence[str]) -> list[dict[str, Any]]:
    """Texts behind which one of the words comes next: one a story, so that no story counts twice."""
    pattern = re.compile(r"(?<= )(?:" + "|".join(words) + r")\b")
    made = []
    for story in stories:
        match = pattern.search(story, 40)
        if match is not None:
            before = story[max(0, match.start() - _BEFORE) : match.start()].rstrip()
            sentence = re.search(r"(?<=[.!?]) (?=[A-Z\"])", before[:-20])
            start = sentence.end() if sentence and match.start() > _BEFORE else before.find(" ") + 1
            made.append({"text": before[start:], "answers": [match.group()]})
    return made
