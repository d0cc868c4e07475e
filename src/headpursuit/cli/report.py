"""``headpursuit report``."""

from pathlib import Path
from typing import Annotated

import typer

from headpursuit.cli import options
from headpursuit.cli.output import print_json


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `evaluate`, `tune` or `demo` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the page; report.html in DIR when left out.")] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Make the HTML page of results again from what was stored."""
    from headpursuit.report import load, page

    written = page(load(folder), out or folder / "report.html")
    if json:
        print_json({"report": str(written), "seed": seed})
    else:
        typer.echo(written)
