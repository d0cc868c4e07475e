"""What all commands share: their common options, and how results and mistakes are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
SeedOption = Annotated[int, typer.Option(help="Seed of whatever is drawn at random.")]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Hub name, local folder in the Hub's format, or 'demo'.")
]
RevisionOption = Annotated[str | None, typer.Option(help="Commit, branch or tag on the Hub.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …; CUDA when there is one.")]
DtypeOption = Annotated[str, typer.Option(help="auto (the checkpoint's own), float32, bfloat16 or float16.")]
TrustOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")]


def print_json(content: Mapping[str, Any]) -> None:
    """Print one machine-readable object."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
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
