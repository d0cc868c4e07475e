"""Tidy results: one row a number, with its control's spread, its sample count and its seed beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd

Selection = Literal["somp", "logit_lens", "random", "none"]


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        task: what the model was asked to do.
        concept: whose heads were edited.
        selection: how they were chosen; ``none`` is the unedited model.
        k: number of edited heads.
        scale: what their contribution was multiplied by.
        metric: what was measured.
        value: the mean over samples; for ``random`` the median of that over the draws.
        normalized: ``value`` divided by the unedited model's on the same samples; None where that is 0.
        q25: lower quartile of ``normalized`` over random draws, else None.
        q75: upper quartile.
        n: number of samples.
        seed: seed of sampling and draws.
    """

    task: str
    concept: str
    selection: Selection
    k: int
    scale: float
    metric: str
    value: float
    normalized: float | None
    q25: float | None
    q75: float | None
    n: int
    seed: int


@dataclass(frozen=True)
class Results:
    """A table of rows and what is needed to make it again."""

    recipe: str
    model: Mapping[str, Any]
    versions: Mapping[str, str]
    rows: tuple[Row, ...]

    def to_frame(self) -> pd.DataFrame:
        """One line a row."""
        return pd.DataFrame([asdict(row) for row in self.rows], columns=[field.name for field in fields(Row)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "recipe": self.recipe,
            "model": dict(self.model),
            "versions": dict(self.versions),
            "rows": [asdict(row) for row in self.rows],
        }

    def save(self, folder: Path, *, extra: Mapping[str, Any] | None = None) -> None:
        """Write ``results.json`` and ``results.csv``."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {**self.to_dict(), **(extra or {})}
        (folder / "results.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self.to_frame().to_csv(folder / "results.csv", index=False)


def find(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows whose fields have the wanted values."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]
