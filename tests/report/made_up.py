"""Made-up results of several shapes, drawn from fixed seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from headpursuit.editing.edit import HeadEdit
from headpursuit.evaluation.goals import Goal, Limit, Trial
from headpursuit.evaluation.metrics import Metric
from headpursuit.evaluation.results import Comparison, ConceptResult, DataUsed, Example, Kept, Results, Row, Verdict
from headpursuit.ranking.describe import HeadDescription
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.tuning.tune import Point, Tuned

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white", "pink", "brown")
MODEL = {"id": "demo", "architecture": "LlavaForConditionalGeneration", "fingerprint": "abc"}
LLAVA = "llava-hf/llava-v1.6-mistral-7b-hf"
CAPTIONS, DIGITS = {"task": "captioning"}, {"task": "digits", "metric": "accuracy"}


def scene(seed: int, *, size: int = 64) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), tuple(int(c) for c in rng.integers(200, 245, 3)))
    x, y = (int(v) for v in rng.integers(4, size - 28, 2))
    ImageDraw.Draw(image).ellipse((x, y, x + 22, y + 22), fill=(206, 60, 50), outline=(40, 40, 40))
    return image


def ranking(concept="colours", *, layers=6, heads=8, seed=0, method="somp", words=COLOURS) -> HeadRanking:
    rng = np.random.default_rng(seed)
    values = rng.gamma(1.2, 0.02, (layers, heads))
    values[rng.integers(layers // 2, layers, 3), rng.integers(heads, size=3)] = rng.uniform(0.3, 0.7, 3)
    return HeadRanking(values, concept, method, tuple(words), 240, "answer", MODEL, {})


def row(selection, k, normalized, *, task="captioning", concept="colours", metric="colours words", scale=-1.0, **more):
    unedited, drawn = selection == "none", selection == "random"
    share = 1.0 if normalized is None else normalized
    values = {
        "task": task,
        "concept": concept,
        "selection": selection,
        "k": k,
        "scale": 1.0 if unedited else scale,
        "metric": metric,
        "value": 0.8 * share,
        "normalized": normalized,
        "q25": share - 0.05 if drawn else None,
        "q75": share + 0.05 if drawn else None,
        "n": 256,
        "seed": 0,
        "change": 0.8 * (share - 1),
        "low": None if unedited else share - 0.1,
        "high": None if unedited else share + 0.1,
    }
    return Row(**{**values, **more})


def measured(normalized, *, ks=(1, 2), control=1.0, **named):
    """Rows of one metric: unedited, and for each k by SOMP, by the logit lens and at random."""
    found = [row("none", 0, 1.0, **named)]
    for k in ks:
        found += [row("somp", k, normalized ** (k / ks[-1]), **named), row("logit_lens", k, 0.9, **named)]
        found.append(row("random", k, control, **named))
    return found


def compared(against="random", *, metric="colours words", wanted="less", **more):
    values = {"task": "captioning", "concept": "colours", "k": 2, "scale": -1.0, "n": 256, "seed": 0}
    values |= {"difference": -0.5, "low": -0.6, "high": -0.4}
    return Comparison(metric=metric, against=against, wanted=wanted, **{**values, **more})


def verdict(effect=0.04, **more) -> Verdict:
    values = {
        "kind": "suppress",
        "task": "captioning",
        "metric": "colours words",
        "scale": -1.0,
        "k": 2,
        "wanted": 0.3,
        "effect": effect,
        "held": effect <= 0.3,
        "control": 1.0,
        "kept": (Kept("digits", "accuracy", 0.1, 0.95, True), Kept("captioning", "CIDEr", 0.1, 0.97, True)),
    }
    return Verdict(**{**values, **more})


def examples(words=COLOURS) -> tuple[Example, ...]:
    captions = tuple(
        Example(
            "Describe the image.",
            f"Two {words[0]} circles and a {words[1]} square.",
            f"Two circles and a {words[1]} square.",
            image=scene(i),
            enhanced=f"A {words[0]} {words[1]} circle and {words[2]} squares.",
            reference=f"two {words[0]} circles and a {words[1]} square",
        )
        for i in range(2)
    )
    return (*captions, Example("What is the capital of Peru?", "Lima", "red", reference="Lima"))


def results(*, effect=0.04, control=1.0, control_held=True, recipe="demo-colours", goals=True, layers=6, heads=8) -> Results:
    """One concept, suppressed and enhanced, with what should stay, examples and named heads."""
    rows = [
        *measured(effect, control=control),
        *measured(0.95, **DIGITS),
        *measured(0.97, metric="CIDEr"),
        *measured(1.6, task="captioning, drawn", scale=4.0),
    ]
    somp = ranking(layers=layers, heads=heads)
    lens = ranking(layers=layers, heads=heads, seed=9, method="logit_lens")
    verdicts = (verdict(effect, control=control, control_held=control_held),) if goals else ()
    measures = dict.fromkeys((one.task, one.metric) for one in rows)
    tokens = (" red", "\n", "a|b")
    return Results(
        recipe=recipe,
        title="Colour words in captions",
        model=MODEL,
        versions={"torch": "2"},
        rows=tuple(rows),
        comparisons=(compared(), compared(**DIGITS, wanted="same"), compared(metric="CIDEr", wanted="same")),
        metrics=tuple(Metric(task, name, better="higher" if name != "colours words" else None) for task, name in measures),
        concepts=(
            ConceptResult(
                name="colours",
                task="captioning",
                target="colours words",
                words=COLOURS,
                counted=COLOURS,
                rankings={"somp": somp, "logit_lens": lens},
                verdicts=verdicts,
                examples=examples(),
            ),
        ),
        descriptions=tuple(
            HeadDescription(head, tokens, (1, 2, 3), (0.2, 0.3, 0.41), None, "somp", 240) for head in somp.top(3)
        ),
        data=(DataUsed("test", "captioning", 256, "0123abcd"),),
        settings={"paper": "Table 3"},
        draws=10,
    )


def several() -> list[Results]:
    """Two recipes, the second of which misses its goal."""
    missed = results(effect=0.41, recipe="demo-moods")
    moods = replace(missed.concepts[0], name="moods")
    rows = tuple(replace(one, concept="moods") for one in missed.rows)
    return [results(), replace(missed, concepts=(moods,), rows=rows, comparisons=(), descriptions=())]


def crossed() -> Results:
    """Two concepts, each edited on the other's task."""
    concepts, rows = [], []
    for number, name in enumerate("ab"):
        own = {"somp": ranking(name, seed=number), "logit_lens": ranking(name, seed=number + 5, method="logit_lens")}
        concepts.append(ConceptResult(name, f"task {name}", "accuracy", (name,), (name,), own))
        for task in "ab":
            rows += measured(0.3 + number / 10, task=f"task {task}", concept=name, metric="accuracy", ks=(8,))
    return Results("crossed", "Transfer", MODEL, {}, rows=tuple(rows), concepts=tuple(concepts), draws=10)


def mnist(*, model=LLAVA, recipe="classify-mnist") -> Results:
    """A recipe of the paper."""
    named = {"task": "classification", "concept": "mnist", "metric": "accuracy"}
    rows = [row("none", 0, 1.0, n=50, **named)]
    for k, somp in ((8, 0.7), (16, 0.3)):
        rows += [row("somp", k, somp, n=50, **named), row("logit_lens", k, 0.9, n=50, **named)]
        rows.append(row("random", k, 0.99, n=50, **named))
    judged = compared("logit_lens", **named, k=8, difference=-0.2, low=-0.3, high=-0.1)
    concept = ConceptResult("mnist", "classification", "accuracy", ("0",), ("0",), {"somp": ranking("mnist")})
    return Results(recipe, "Digits", {"id": model}, {}, rows=tuple(rows), comparisons=(judged,), concepts=(concept,))


def tuned() -> Tuned:
    """A tuned edit beside a fixed one, all of whose trials cost more than is allowed."""
    target, quality = Metric("captioning", "colours words"), Metric("captioning", "CIDEr", better="higher")
    goal = Goal("colours", target, (Limit(quality, 0.05),), reach=0.2)
    edits = [HeadEdit(["L1.H1", "L2.H2"][: k % 2 + 1], scale=-1.0 + k / 8) for k in range(8)]
    trials = tuple(Trial(k, edit, "somp", 0.1 * k, 7.0 + k, 0.1 * k, 7.0 + k) for k, edit in enumerate(edits))
    rows = [row("random", 2, 1.0, scale=-0.875)]
    for metric, fixed, own in (("colours words", 0.3, 0.1), ("CIDEr", 0.9, 0.97)):
        rows += [row("none", 0, 1.0, metric=metric), row("somp", 1, fixed, metric=metric)]
        rows.append(row("tuned", 2, own, metric=metric, scale=-0.875))
    same = compared("none", metric="CIDEr", wanted="same", scale=-0.875)
    concept = ConceptResult("colours", "captioning", "colours words", COLOURS, COLOURS, {"somp": ranking()})
    on_test = Results(
        "tune colours", "Tuned: colours", MODEL, {}, rows=tuple(rows), comparisons=(same,), concepts=(concept,), draws=10
    )
    points = tuple(Point(one, one.effect + 0.05, one.cost + 0.5) for one in trials[:3])
    return Tuned(trials[1].edit, trials[0].edit, goal, trials, points, on_test, ("CIDEr lost 0.100",), (-0.7, -0.8, -0.6))


SHAPES = {
    "one": results,
    "several": several,
    "crossed": crossed,
    "paper": mnist,
    "tuned": tuned,
    "ranking": ranking,
    "large": lambda: results(layers=32, heads=32),
    "empty": lambda: Results("empty", "Empty", MODEL, {}),
    "no goals": lambda: results(goals=False),
}
