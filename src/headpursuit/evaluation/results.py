"""Tidy results: one row a number, with its control's spread, its sample count and its seed beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from headpursuit.editing.where import ALL

Selection = Literal["somp", "logit_lens", "attribution", "tuned", "random", "none"]


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        task: what the model was asked to do.
        concept: whose heads were edited.
        selection: how they were chosen; ``none`` is the unedited model, ``tuned`` an edit that was searched for.
        k: number of edited heads.
        scale: what their contribution was multiplied by; the mean over heads where each has its own.
        metric: what was measured.
        value: the mean over samples; for ``random`` the median of that over the draws.
        normalized: ``value`` divided by the unedited model's on the same samples; None where that is 0.
        q25: lower quartile of ``normalized`` (or of ``change`` where that is None) over random draws, else None.
        q75: upper quartile.
        n: number of samples.
        seed: seed of sampling and draws.
        change: ``value`` minus the unedited model's; what counts where a ratio says nothing (log-probabilities).
        low: lower end of the 95 % interval of ``normalized``, or of ``change`` where that is None.
        high: upper end.
        where: the tokens at which the edit held.
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
    change: float | None = None
    low: float | None = None
    high: float | None = None
    where: str = ALL


@dataclass(frozen=True)
class Comparison:
    """How far SOMP's heads moved a metric beyond what another choice of as many heads did.

    Attributes:
        task: what the model was asked to do.
        concept: whose heads were edited.
        k: number of edited heads.
        scale: what their contribution was multiplied by.
        metric: what was measured.
        against: the other choice; ``random`` is the median over the draws.
        difference: SOMP's value minus the other's, in units of ``normalized``, or of ``change`` where that is None.
        low: lower end of its 95 % interval, paired over samples; None where it cannot be told.
        high: upper end.
        wanted: ``less`` or ``more``, what the metric was meant to become, or ``same`` for what should stay.
        n: number of samples.
        seed: seed of sampling, draws and resampling.
    """

    task: str
    concept: str
    k: int
    scale: float
    metric: str
    against: Selection
    difference: float
    low: float | None
    high: float | None
    wanted: Literal["less", "more", "same"]
    n: int
    seed: int

    @property
    def verdict(self) -> Literal["better", "worse", "open"]:
        """Whether the interval lies on the wanted side of 0, on the other, or around it (always, for what should stay)."""
        if self.low is None or self.high is None or self.wanted == "same" or self.low <= 0 <= self.high:
            return "open"
        return "better" if (self.high < 0) == (self.wanted == "less") else "worse"


@dataclass(frozen=True)
class Results:
    """A table of rows and what is needed to make it again.

    Attributes:
        recipe: name of the recipe.
        model: whose heads these are.
        versions: of the software.
        rows: one a number.
        comparisons: SOMP beside the other choices, for every measure and edit.
        about: data, word lists, options: what else the numbers depend on.
    """

    recipe: str
    model: Mapping[str, Any]
    versions: Mapping[str, str]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One line a row."""
        return pd.DataFrame([asdict(row) for row in self.rows], columns=[column.name for column in fields(Row)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "recipe": self.recipe,
            "model": dict(self.model),
            "versions": dict(self.versions),
            "rows": [asdict(row) for row in self.rows],
            "comparisons": [{**asdict(one), "verdict": one.verdict} for one in self.comparisons],
            "about": dict(self.about),
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
