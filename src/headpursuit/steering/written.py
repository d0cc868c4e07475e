"""Samples where a user gives none: texts that the model writes itself, up to the words of a concept."""

import random
from collections.abc import Iterator
from pathlib import Path

from tqdm.auto import tqdm

from headpursuit.concepts import Concept
from headpursuit.concepts.counting import word_pattern
from headpursuit.errors import HeadPursuitError
from headpursuit.files import digest, read_kept, read_lines, write_sealed
from headpursuit.model.head_model import HeadModel
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.samples import Sample
from headpursuit.ranking.target import quiet_texts
from headpursuit.versions import versions

FORMAT = 1
PROMPTS = Path(__file__).parent / "prompts.txt"
# So many samples are written at most, and at least.
WANTED, FEWEST = 64, 16
# So many texts are written at a time, of so many tokens, and so often at most.
_TEXTS, _TOKENS, _ROUNDS = 64, 24, 10


def written_samples(
    model: HeadModel, concept: Concept, *, folder: Path | None = None, seed: int = 0, progress: bool = True
) -> list[Sample]:
    """Texts in which a model is about to speak of a concept.

    Packaged beginnings, each behind a neutral sentence, are gone on with by drawing tokens, as plain text without a chat
    template; half of them are such that led to the concept before. Each text that has one of the words is cut in front of the
    first. Whether the model says such a word when nothing is drawn is not asked: samples that were chosen for that would show
    a fall under any edit. How it went on is kept beside them, and is no target: what was drawn is not what is right.

    Args:
        model: the unedited model.
        concept: the words.
        folder: where the samples are kept, so that a second run finds them.
        seed: seed of drawing.
        progress: show a progress bar.

    Raises:
        HeadPursuitError: too few of the texts speak of the concept.
    """
    beginnings = [line for _, line in read_lines(PROMPTS)]
    about = {
        "model": weights_fingerprint(model.hf),
        "words": list(concept.words),
        "beginnings": digest({"lines": beginnings}),
        "seed": seed,
        "versions": versions(),
    }
    path = None if folder is None else folder / f"{digest(about)}.json"
    if path is not None and path.is_file():
        stored = read_kept(path, format=FORMAT, what="set of texts", remedy="delete it, and the next run writes it anew")
        return [Sample(text=text, chat=False) for text, _ in stored["samples"]]
    drawn, sentences = random.Random(seed), [one.text for one in quiet_texts(None, concept)]
    found: dict[str, str] = {}
    led: list[str] = []
    bar = tqdm(total=WANTED, desc=f"texts that speak of {concept.name}", unit="text", disable=not progress, leave=False)
    with bar:
        for number in range(_ROUNDS):
            chosen = drawn.choices(led, k=_TEXTS // 2) if led else []
            chosen += drawn.choices(beginnings, k=_TEXTS - len(chosen)) if number else beginnings[:_TEXTS]
            prompts = [f"{drawn.choice(sentences)} {one}" for one in chosen]
            for beginning, text, target in _cut(model, chosen, prompts, concept, seed=(seed + number) % 2**32):
                led.append(beginning)
                found.setdefault(text, target)
            bar.update(min(len(found), WANTED) - bar.n)
            if len(found) >= WANTED:
                break
    if len(found) < FEWEST:
        raise HeadPursuitError(
            f"{model.source.id} speaks of {concept.name} in {len(found)} of the {_ROUNDS * _TEXTS} texts that it wrote by "
            f"itself, too few (at least {FEWEST}) to choose an edit on: give samples, prompts where it does"
        )
    samples = list(found.items())[:WANTED]
    if path is not None:
        write_sealed(path, {"format": FORMAT, "about": about, "samples": samples})
    return [Sample(text=text, chat=False) for text, _ in samples]


def _cut(
    model: HeadModel, beginnings: list[str], prompts: list[str], concept: Concept, *, seed: int
) -> Iterator[tuple[str, str, str]]:
    """Beginnings that led to the concept, the text in front of its first word, and the rest, that word included."""
    asked = [Sample(text=prompt, chat=False) for prompt in prompts]
    texts = model.generate(asked, do_sample=True, max_new_tokens=_TOKENS, seed=seed)
    for beginning, prompt, written in zip(beginnings, prompts, texts, strict=True):
        first = word_pattern(concept.words).search(written)
        if first is not None:
            yield beginning, (prompt + written[: first.start()]).rstrip(), written[first.start() :]
