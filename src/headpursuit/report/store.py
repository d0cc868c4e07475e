"""A run report on disk: ``run.json`` and the images beside it, from which the page can be made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from headpursuit.errors import HeadPursuitError
from headpursuit.report.content import ConceptSection, DescribedHead, Example, RunReport, Verdict

RUN = "run.json"
IMAGES = "images"


def save_run(run: RunReport, folder: Path) -> Path:
    """Write ``run.json`` and the examples' images into ``folder``; returns the path of the former."""
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    concepts: list[dict[str, Any]] = []
    for section in run.concepts:
        examples = []
        for number, example in enumerate(section.examples):
            name = None
            if example.image is not None:
                name = f"{IMAGES}/{len(concepts):02d}-{number:02d}.png"
                example.image.save(folder / name)
            examples.append({**asdict(replace(example, image=None)), "image": name})
        content = {field.name: getattr(section, field.name) for field in fields(section)}
        concepts.append({**content, "examples": examples})
    content = {**{field.name: getattr(run, field.name) for field in fields(run)}, "concepts": concepts}
    path = folder / RUN
    path.write_text(json.dumps(content, default=_plain, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def load_run(folder: Path) -> RunReport:
    """Read what :func:`save_run` wrote.

    Raises:
        HeadPursuitError: the folder holds no run, or one that cannot be read.
    """
    path = folder / RUN
    if not path.is_file():
        raise HeadPursuitError(f"{folder} holds no {RUN}: give a folder that `headpursuit demo --out` wrote")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return RunReport(
            **{
                **stored,
                "concepts": [_section(section, folder) for section in stored["concepts"]],
                "described": [DescribedHead(**head) for head in stored["described"]],
            }
        )
    except (ValueError, KeyError, TypeError) as error:
        raise HeadPursuitError(f"{path} cannot be read ({error}): run again") from error


def _section(stored: Mapping[str, Any], folder: Path) -> ConceptSection:
    lens = stored["logit_lens_scores"]
    return ConceptSection(
        **{
            **stored,
            "scores": np.array(stored["scores"], dtype=float),
            "logit_lens_scores": None if lens is None else np.array(lens, dtype=float),
            "heads": [DescribedHead(**head) for head in stored["heads"]],
            "examples": [Example(**{**one, "image": _image(one["image"], folder)}) for one in stored["examples"]],
            "verdict": None if stored["verdict"] is None else Verdict(**stored["verdict"]),
        }
    )


def _image(name: str | None, folder: Path) -> Image.Image | None:
    if name is None:
        return None
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise HeadPursuitError(f"{folder / RUN} names {name}, which lies outside the folder: do not trust this run")
    with Image.open(path) as opened:
        return opened.convert("RGB")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [[None if np.isnan(score) else score for score in row] for row in value.tolist()]
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")
