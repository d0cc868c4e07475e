"""``headpursuit demo``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_out, check_report, note, print_json, print_tables

# More processes would end no sooner: there are four long recipes.
_MOST = 4


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page, the tables and the figures; a demo that was cut off goes on.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Samples a task and split at most.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Recipes that run side by side; one a core, at most 4, when left out.")
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Find, name and edit heads of the embedded model: six concepts, each beside its controls."""
    if out is not None:
        check_out(out, folder=True)
        check_report()

    from headpursuit.evaluation.demo import run_demo
    from headpursuit.report import overview, render_readme_figure, write_report

    results = run_demo(out=out, jobs=jobs or min(_MOST, os.cpu_count() or 1), limit=limit, seed=seed)
    if out is not None:
        write_report(results, out)
        render_readme_figure(results, out / "figure.png")
        note(f"wrote {out / 'report.html'}")
    if json:
        print_json({"recipes": [one.to_dict() for one in results], "seed": seed})
        return
    print_tables([overview(results)])
    for concept in (concept for one in results for concept in one.concepts):
        for miss in (miss for verdict in concept.verdicts for miss in verdict.misses):
            typer.echo(f"missed, {concept.name}: {miss}")
