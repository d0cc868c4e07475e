"""An evaluation on disk: the tidy table, tables in the paper's layout, figures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.published import published_for
from headpursuit.report.curves import render_curves
from headpursuit.report.tables import results_tables

if TYPE_CHECKING:
    from headpursuit.evaluation.results import Results

# What a run leaves behind that was cut off before its table.
_PARTS = {"cells", "captures", "rankings", "descriptions"}


def check_folder(folder: Path, recipe: str) -> None:
    """Check that a folder may take a recipe's results: it is new, or holds earlier ones of the same recipe.

    Raises:
        HeadPursuitError: it holds something else.
    """
    stored = folder / "results.json"
    if stored.is_file():
        try:
            other = json.loads(stored.read_text(encoding="utf-8"))["recipe"]
        except (ValueError, KeyError, TypeError):
            other = "something else"
        if other != recipe:
            raise HeadPursuitError(f"{folder} holds results of {other}: choose another folder for {recipe}")
    elif folder.exists() and (not folder.is_dir() or not {path.name for path in folder.iterdir()} <= _PARTS):
        raise HeadPursuitError(f"{folder} is not empty: choose a new folder, or one with cells of an earlier run")


def save_evaluation(results: Results, folder: Path) -> list[Path]:
    """Write ``results.json``, ``results.csv``, ``comparisons.csv``, ``tables.md``, ``tables.tex`` and ``figures/``.

    Returns:
        What was written.
    """
    results.save(folder)
    written = [folder / "results.json", folder / "results.csv"]
    if results.comparisons:
        written.append(folder / "comparisons.csv")
        lines = [{**asdict(one), "verdict": one.verdict} for one in results.comparisons]
        pd.DataFrame(lines).to_csv(written[-1], index=False)
    tables = results_tables(results, published_for(results))
    for name, texts in (
        ("tables.md", [table.to_markdown() for table in tables]),
        ("tables.tex", [table.to_latex() for table in tables]),
    ):
        written.append(folder / name)
        written[-1].write_text("\n".join(texts), encoding="utf-8")
    for number, table in enumerate(tables, start=1):
        written.append(folder / "tables" / f"{number:02d}.csv")
        written[-1].parent.mkdir(exist_ok=True)
        written[-1].write_text(table.to_csv(), encoding="utf-8")
    return [*written, *render_curves(results, folder / "figures")]
