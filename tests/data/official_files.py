"""The paper's data sets in a few samples each, written as their authors publish them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from headpursuit.data import DATASETS

_COUNTRIES = ("France", "Spain", "Japan", "Peru")


def write_data(name: str, folder: Path) -> Path:
    """Write a data set; returns its folder, which is called like it."""
    place = folder / name
    place.mkdir(parents=True)
    _WRITERS.get(name, _class_folders)(place)
    return place


def _picture(number: int, side: int = 16) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 255, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _trivia(folder: Path) -> None:
    for part, first in (("train", 0), ("dev", 100)):
        items = []
        for number in range(first, first + 12):
            answer = _COUNTRIES[number % 4] if number % 2 else f"a thing {number}"
            aliases = [answer, f"the {answer}"]
            items.append(
                {
                    "Question": f"Which is the answer number {number}?",
                    "QuestionId": f"tc_{number}",
                    "Answer": {"Value": answer, "Aliases": aliases, "NormalizedAliases": [answer.lower()]},
                }
            )
        content = {"Data": items, "Domain": "Web", "Split": part, "Version": 1.0}
        (folder / f"web-{part}.json").write_text(json.dumps(content))


def _prompts(folder: Path) -> None:
    rows = [
        {
            "filename": f"0{number}.txt",
            "begin": 0,
            "end": 9,
            "challenging": True,
            "prompt": {"text": f"The driver number {number} shouted", "toxicity": 0.3},
            "continuation": {"text": f" at the fool {number}", "toxicity": 0.6},
        }
        for number in range(24)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))


def _tet(folder: Path) -> None:
    prompts = [{"prompt": f"Go on with this, number {number}"} for number in range(24)]
    (folder / "tet.json").write_text(json.dumps(prompts))


def _mnist(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        pixels = rng.integers(0, 255, (12, 28, 28), dtype=np.uint8)
        labels = bytes(range(10)) + b"\0\1"
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 12, 28, 28) + pixels.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 12) + labels)


def _svhn(folder: Path) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(1)
    for part in ("train", "test"):
        pixels = rng.integers(0, 255, (32, 32, 3, 10), dtype=np.uint8)
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": np.arange(1, 11, dtype=np.uint8)[:, None]})


def _gtsrb(folder: Path) -> None:
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for sign in range(8):
        training = folder / "Final_Training" / "Images" / f"{sign:05d}"
        test = folder / "Final_Test" / "Images"
        for place in (training, test):
            place.mkdir(parents=True, exist_ok=True)
        _picture(sign).save(training / "00000_00000.ppm")
        _picture(100 + sign).save(test / f"{sign:05d}.ppm")
        lines.append(f"{sign:05d}.ppm;16;16;1;1;15;15;{sign}")
    (folder / "GT-final_test.csv").write_text("\n".join(lines))


def _dtd(folder: Path) -> None:
    (folder / "labels").mkdir()
    lists: dict[str, list[str]] = {"train1": [], "val1": [], "test1": []}
    for number, texture in enumerate(DATASETS["dtd"].classes[:5]):
        (folder / "images" / texture).mkdir(parents=True)
        for place, name in enumerate(lists):
            file = f"{texture}/{texture}_{place:04d}.jpg"
            _picture(number * 10 + place).save(folder / "images" / file)
            lists[name].append(file)
    for name, files in lists.items():
        (folder / "labels" / f"{name}.txt").write_text("\n".join(files))


def _class_folders(folder: Path) -> None:
    for number, name in enumerate(DATASETS[folder.name].classes[:4]):
        for part in ("train", "test"):
            place = folder / part / name.replace(" ", "_")
            place.mkdir(parents=True)
            for copy in range(2):
                _picture(number * 10 + copy + 100 * (part == "test")).save(place / f"{name}_{copy}.png")


def _flickr(folder: Path) -> None:
    said = ("Two happy dogs run over a green hill .", "A sad man in a red shirt .", "Three people sit .", "A blue car .")
    images = []
    for number in range(12):
        _picture(number).save(folder / f"{number}.jpg")
        sentences = [{"raw": said[(number + place) % 4], "tokens": []} for place in range(2)]
        part = "train" if number < 6 else "test"
        images.append({"filename": f"{number}.jpg", "split": part, "sentences": sentences})
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))


_WRITERS = {
    "trivia-qa": _trivia,
    "real-toxicity-prompts-challenging": _prompts,
    "tet": _tet,
    "mnist": _mnist,
    "svhn": _svhn,
    "gtsrb": _gtsrb,
    "dtd": _dtd,
    "flickr30k": _flickr,
}
