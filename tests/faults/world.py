"""A folder with one sound thing of every kind that a command reads, for others to be made wrong from."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

import gguf_made
import headpursuit as hp
import tiny
from command import call
from report import made_up

CONCEPT = "red,white,blue"
RECIPE = """
title = "Colours of own questions"
model = "demo"
neutral = "text"
[[tasks]]
name = "own"
data = "questions.jsonl"
metric = ["contains"]
max_new_tokens = 2
[[concepts]]
words = "words.txt"
task = "own"
target = "contains"
atoms = 3
[edit]
k = [1, 2]
scales = [-1.0]
draws = 2
[goal]
at_most = 0.5
keep = [{ task = "own", metric = "contains", at_least = 0.5 }]
"""


@dataclass(frozen=True)
class World:
    """Paths of sound things; nothing writes into them.

    Attributes:
        root: where they lie.
    """

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / _NAMES[name]


_NAMES = {
    "model": "model",
    "images_model": "images-model",
    "acts": "acts",
    "moments": "moments",
    "heads": "heads.json",
    "edit": "edit.json",
    "text": "samples.txt",
    "jsonl": "samples.jsonl",
    "csv": "samples.csv",
    "parquet": "samples.parquet",
    "images": "images",
    "words": "words.txt",
    "recipe": "recipe.toml",
    "results": "results",
    "tuned": "tuned",
    "export": "export",
    "adapter": "adapter",
    "gguf": "model.gguf",
    "gguf_export": "edited.gguf",
}


def quietly(*words: object) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return call(*words)


def make_world(root: Path) -> World:
    """Make everything with the commands themselves."""
    world = World(root)
    for family, folder in (("llama", world.model), ("llava", world.images_model)):
        tiny.hf_model(family).save_pretrained(folder)
        tiny.processor(family).save_pretrained(folder)
    texts = [f"{text} {number}" for number, text in enumerate(tiny.TEXTS * 2)]
    rows = [{"text": text, "target": "red"} for text in texts]
    world.text.write_text("\n".join(texts))
    world.jsonl.write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_csv(world.csv, index=False)
    pd.DataFrame(rows).to_parquet(world.parquet)
    world.images.mkdir()
    for number, suffix in enumerate(("png", "jpg", "bmp", "gif", "webp", "tif", "ppm")):
        Image.new("RGB", (12, 10), (200, 30 * number, 0)).save(world.images / f"{number}.{suffix}")
    world.words.write_text("# colours\nred\nwhite\nblue\n")
    (root / "questions.jsonl").write_text("\n".join(json.dumps({"text": f"{text}?", "answers": ["red"]}) for text in texts))
    world.recipe.write_text(RECIPE)
    capture = ("capture", world.model, "--samples", world.text)
    made = [
        quietly(*capture, "--out", world.acts),
        quietly(*capture, "--out", world.moments, "--positions", "all"),
        quietly("rank", world.acts, "--concept", CONCEPT, "--top", 3, "--out", world.heads),
        quietly("export", world.model, "--head", "L0.H1", "--out", world.export),
        quietly("export", world.model, "--head", "L0.H1", "--format", "lora", "--out", world.adapter),
        quietly("export", gguf_made.write(world.gguf), "--head", "L0.H1", "--out", world.gguf_export),
    ]
    assert made == [0] * len(made)
    hp.HeadEdit(["L0.H1"], scale=-1).save(world.edit, model=hp.load(world.model))
    made_up.results().save(world.results)
    made_up.tuned().save(world.tuned)
    return world
