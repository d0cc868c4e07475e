"""Cells on disk: one file for each task under each edit, named after everything its numbers depend on.

A file is there whole or not at all, so that a run which was killed goes on with the next cell.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Cell:
    """What one task gave under one edit.

    Attributes:
        scores: for each metric one value a sample, shape ``(n,)``.
        answers: what the model wrote, one a sample; empty where nothing was generated.
        seconds: how long it took.
    """

    scores: Mapping[str, np.ndarray]
    answers: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class CellStore:
    """Cells in a folder."""

    folder: Path

    def __contains__(self, about: object) -> bool:
        return isinstance(about, Mapping) and self._path(about).is_file()

    def load(self, about: Mapping[str, Any]) -> Cell | None:
        """The cell that depends on exactly this, or None."""
        path = self._path(about)
        if not path.is_file():
            return None
        stored = json.loads(path.read_text(encoding="utf-8"))
        scores = {metric: np.array(values, dtype=float) for metric, values in stored["scores"].items()}
        return Cell(scores=scores, answers=tuple(stored["answers"]), seconds=stored["seconds"])

    def save(self, about: Mapping[str, Any], cell: Cell) -> None:
        """Write a cell."""
        scores = {metric: np.asarray(values, dtype=float).tolist() for metric, values in cell.scores.items()}
        content = {"about": about, "seconds": cell.seconds, "scores": scores, "answers": cell.answers}
        write_whole(self._path(about), json.dumps(content, ensure_ascii=False, default=str))

    def _path(self, about: Mapping[str, Any]) -> Path:
        return self.folder / f"{digest(about)}.json"


def digest(about: Mapping[str, Any]) -> str:
    """A name for what a result depends on: 24 hexadecimal digits of SHA-256 over its JSON."""
    text = json.dumps(about, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def write_whole(path: Path, text: str) -> None:
    """Write a file such that it is there whole or not at all, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.part")
    # Generated text can hold half a surrogate pair, which has no UTF-8.
    with draft.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
