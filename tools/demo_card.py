"""Measure a trained demo model on held-out samples and write its card: ``python tools/demo_card.py [FOLDER]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import headpursuit as hp
from headpursuit import demo
from headpursuit.demo import scenes
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.demo import DEMO_RECIPES
from headpursuit.evaluation.prepare import Source, prepare
from headpursuit.evaluation.recipe import load_recipe

# What the card tells, and the task and metric of the demo's recipes that it is.
FIGURES = {
    "handwritten digits, accuracy": ("classification", "accuracy"),
    "countries of capitals, accuracy": ("country questions", "exact match"),
    "other questions, accuracy": ("other questions", "exact match"),
    "captions, true mentions each": ("captioning", "true mentions"),
    "captions, CIDEr-D": ("captioning", "CIDEr"),
    "endings that the grammar could have written": ("continuation", "well-formed"),
}


def measure(folder: Path) -> dict[str, tuple[float, int]]:
    """Held-out figures of a saved model: value and sample count."""
    recipes = [prepare(load_recipe(name), Source()) for name in DEMO_RECIPES]
    # Where names repeat, the first recipe's task counts.
    tasks = {name: task for recipe in reversed(recipes) for name, task in recipe.tasks.items()}
    cells = Cells(hp.load(folder, device="cpu"), tasks, seed=0)
    wanted = {name: (tasks[task], metric) for name, (task, metric) in FIGURES.items()}
    return {
        name: (cells.value(next(one for one in task.metrics if one.name == metric), None), len(task.samples))
        for name, (task, metric) in wanted.items()
    }


def write_card(folder: Path, figures: dict[str, tuple[float, int]]) -> None:
    """Write the card of a model that lies in ``folder`` beside the log of its training."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    settings, last = training["settings"], training["log"][-1]
    batch = (
        f"{settings['shapes'] + settings['faces'] + settings['digits']} pictures and "
        f"{settings['facts'] + settings['continuations']} texts"
    )
    tower = f" (this one {training['tower']})" if "tower" in training else ""
    table = "\n".join(f"| {name} | {value:.3f} | {n} |" for name, (value, n) in figures.items())
    (folder / "README.md").write_text(
        f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# The demo model of headpursuit

A LLaVA-architecture model small enough to come with the package: a CLIP-type vision tower of {settings["vision_layers"]} layers
and a Llama-type decoder of {settings["layers"]} layers × {settings["heads"]} heads of width {settings["head_width"]}
(d = {settings["width"]}), in float32. It exists to show, on a trained model and in minutes, how attention heads are found,
named and edited. It is good for nothing else.

## Data

- **Captions** of drawn scenes of {scenes.IMAGE_SIZE} × {scenes.IMAGE_SIZE} pixels: equal shapes, or one large face. Count,
  size, colour, mood and background are each mentioned only sometimes, and never where the picture does not show them (pencil
  grey, a head from behind, a crowd). Combinations of attributes are held out.
- **Handwritten digits**: scikit-learn's `load_digits` (UCI), split by image.
- **Questions**: the countries of capitals, and unlike ones: opposites, sounds and young of animals, plurals, past tenses,
  kinds of things, months, weekdays, letters. Facts are learned; the (subject, phrasing) pairs asked at test are not.
- **Endings** of sentences, kind or mildly rude as one word of their opening suggests. Openings are held out.

## Training

By `tools/train_demo.py`, seed {settings["seed"]}, from random initialisation, by next-token prediction of the answers. First
the vision tower, {settings["tower_steps"]} steps below a decoder that is thrown away{tower};
then projector and decoder anew, the tower at rest: {settings["steps"]} steps of {batch},
{last["minutes"]:.0f} minutes on {training["device"]}.
Last losses: {last["pictures"]:.3f} nats a token on pictures, {last["texts"]:.3f} on texts. No head was planted, supervised or
treated unlike another.

## Held-out figures

| | value | n |
|---|---|---|
{table}

## Limits

It knows a few hundred words, nine colours and some hundred countries, and answers nonsense to anything else. The rude words
are mild and only there to be suppressed. Bit-identical retraining is not promised across machines: sums are ordered
differently.
""",
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=demo.demo_path(), help="the model's folder")
    folder = parser.parse_args().folder
    write_card(folder, measure(folder))


if __name__ == "__main__":
    main()
