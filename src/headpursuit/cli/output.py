"""How commands show results and mistakes, and what they look at before any work is done."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headpursuit.errors import ChoiceError, HeadPursuitError
from headpursuit.optional import optional_import
from headpursuit.stores import address, on_this_machine, reachable

if TYPE_CHECKING:
    from headpursuit.drawing import Figure
    from headpursuit.report.tables import Table


def check_out(path: Path | None, *, folder: bool = False, suffixes: Sequence[str] = (), stores: bool | None = None) -> None:
    """Check that something can be written, before any work is done for it; folders on the way are made later.

    Args:
        path: where; None where nothing is to be written.
        folder: whether it will be a folder, and not a file.
        suffixes: endings that a file may have; any when empty.
        stores: whether it may lie in a store; where left out, a file may.

    Raises:
        HeadPursuitError: naming the path that cannot be written, or has another ending.
    """
    if path is None:
        return
    where = address(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ChoiceError(f"{where or path}: choose a name that ends in {' or '.join(suffixes)}")
    if where:
        if folder if stores is None else not stores:
            on_this_machine(path)
        reachable(path)
        return
    if path.exists() and path.is_dir() != folder:
        raise HeadPursuitError(f"{path} is a {'file' if folder else 'folder'}: choose another name")
    if path.exists() and not folder and not path.is_file():
        # A file that is written whole takes the name of what was there: of a device, too.
        raise HeadPursuitError(f"{path} is no plain file: choose another name")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        reason = "is read-only" if parent.is_dir() else "is a file"
        raise HeadPursuitError(f"{path} cannot be written, since {parent} {reason}: choose another folder")


def check_plot(path: Path | None) -> None:
    """Check that a figure can be drawn and written, before any work is done for it.

    Raises:
        HeadPursuitError: naming the path that cannot be written, or has another ending than .png or .svg.
        MissingExtraError: matplotlib is not installed.
    """
    check_out(path, suffixes=[".png", ".svg"])
    if path is not None:
        optional_import("matplotlib.figure", extra="report", purpose="a figure")


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure, and say so."""
    from headpursuit.drawing import save_figure

    note(f"wrote {save_figure(figure, path)}")


def check_capture(path: Path) -> None:
    """Check that a capture's folder is there, before anything is imported to read it.

    Raises:
        HeadPursuitError: there is no such folder.
    """
    if address(path) is None and not path.is_dir():
        raise HeadPursuitError(f"{path} is no capture, there is no such folder: `headpursuit capture --out` writes one")


def check_report() -> None:
    """Check that a page and its figures can be made, before anything is run that they are to show.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    optional_import("jinja2", extra="report", purpose="the report")
    optional_import("matplotlib.figure", extra="report", purpose="the report")


def print_json(content: Mapping[str, Any]) -> None:
    """Print one machine-readable object, in ASCII where the terminal's encoding has not all letters.

    A number that is none (NaN, infinity) is null: JSON has no name for it, and most readers stop at Python's.
    """
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(_without_nan(content), ensure_ascii=ascii_only, indent=1, default=str, allow_nan=False)
    sys.stdout.write(f"{text}\n")


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table for a reader.

    Args:
        title: the line above it.
        columns: headings.
        rows: cells, already formatted.
        right: headings of the columns that are set to the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def print_tables(tables: Iterable[Table]) -> None:
    """Print the tables of a report, each with its note."""
    for table in tables:
        print_table(table.title, list(table.frame.columns), table.frame.astype(str).to_numpy().tolist())
        sys.stdout.write(f"{table.note}\n" if table.note else "\n")


def print_plan(
    title: str, cells: Mapping[str, int], seconds: Mapping[str, float], *, about: Mapping[str, Any], json: bool
) -> None:
    """Print what a run would do, and how long that takes.

    Args:
        title: what would run.
        cells: cells of each task.
        seconds: seconds that a cell of each task takes; empty where that is not known.
        about: what else the JSON object says.
        json: print a JSON object.
    """
    from headpursuit.evaluation.plan import in_words

    total = sum(seconds[task] * count for task, count in cells.items()) if seconds else None
    if json:
        print_json({**about, "cells": dict(cells), "seconds_a_cell": dict(seconds) or None, "seconds": total})
        return
    duration = "time unknown" if total is None else in_words(total)
    print_table(
        f"{title}: {sum(cells.values())} cells at most, {duration}",
        ["task", "cells", "a cell"],
        [[task, str(count), f"{seconds[task]:.2f} s" if seconds else "?"] for task, count in cells.items()],
        right=["cells", "a cell"],
    )


def note(text: str) -> None:
    """Say something that is not the result."""
    sys.stderr.write(f"{text}\n")
