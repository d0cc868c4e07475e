"""``headpursuit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headpursuit.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    RevisionOption,
    SeedOption,
    TrustOption,
    note,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from headpursuit.evaluation.prepare import Material
    from headpursuit.evaluation.results import Results


def evaluate(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="A packaged recipe or a .toml file; leave out to list them."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Hub name, local folder or 'demo'; the recipe's when left out.")
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="Local data in the official format; for several data sets a folder with one of each name."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for cells, tables and figures; headpursuit-results/RECIPE when left out."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Samples a task and split at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and how long, and stop.")] = False,
    revision: RevisionOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    trust_remote_code: TrustOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Run an experiment with its controls; a run that was cut off goes on where it stopped."""
    from headpursuit.evaluation.recipe import load_recipe

    if recipe is None:
        _list(json)
        return
    chosen = load_recipe(recipe)
    place = out or Path("headpursuit-results") / chosen.name
    name = model or chosen.model

    from headpursuit.evaluation.checks import check_heads, check_words
    from headpursuit.evaluation.prepare import Source, check_data, gather, known_aims
    from headpursuit.report.evaluation import check_folder, save_evaluation

    source = Source(samples=samples, limit=limit, seed=seed)
    check_folder(place, chosen.name)
    check_data(chosen, source)
    check_heads(chosen, name, revision=revision, trust_remote_code=trust_remote_code)
    known = known_aims(chosen, source)
    check_words(chosen, known, name, revision=revision)
    material = gather(chosen, source)
    check_words(chosen, [aim for aim in material.aims if aim not in known], name, revision=revision)

    options: dict[str, Any] = {
        "revision": revision,
        "device": device,
        "dtype": dtype,
        "trust_remote_code": trust_remote_code,
    }
    if dry_run:
        _dry_run(material, name, place, options, json=json)
        return

    from headpursuit.model.load import load

    loaded = load(name, **options)
    if chosen.describe is not None:
        from headpursuit.evaluation.describe import describe_heads

        results = describe_heads(material, loaded, out=place)
    else:
        from headpursuit.evaluation.evaluate import sweep

        swept = sweep(material, loaded, out=place, seed=seed)
        results = swept.results
        note(f"{swept.computed} cells were run, {swept.found} were there from before")
    save_evaluation(results, place)
    note(f"wrote {place}/tables.md, results.json, figures/")
    if json:
        print_json({**results.to_dict(), "out": str(place), "seed": seed})
    else:
        _show(results)


def _list(json: bool) -> None:
    from headpursuit.evaluation.recipe import load_recipe, recipe_names

    found = [load_recipe(name) for name in recipe_names()]
    if json:
        print_json(
            {
                "recipes": [
                    {"name": one.name, "title": one.title, "paper": one.paper, "model": one.model} for one in found
                ]
            }
        )
        return
    print_table("recipes", ["name", "title", "model"], [[one.name, one.title, one.model] for one in found])


def _dry_run(material: Material, model: str, out: Path, options: dict[str, Any], *, json: bool) -> None:
    from headpursuit.errors import HeadPursuitError
    from headpursuit.evaluation.plan import count_cells, in_words, trial_seconds
    from headpursuit.model.load import load

    cells = count_cells(material)
    seconds: dict[str, float] = {}
    try:
        # Heads that are only named make no cells to be timed.
        seconds = trial_seconds(material, load(model, local_files_only=True, **options)) if cells else {}
    except HeadPursuitError as error:
        note(f"how long it takes is not known: {error}")
    total = sum(seconds[task] * count for task, count in cells.items()) if seconds else None
    content = {
        "recipe": material.recipe.name,
        "model": model,
        "out": str(out),
        "cells": cells,
        "seconds_a_cell": seconds or None,
        "seconds": total,
        "data": material.about,
    }
    if json:
        print_json(content)
        return
    duration = "time unknown" if total is None else in_words(total)
    print_table(
        f"{material.recipe.name} on {model}: {sum(cells.values())} cells at most, {duration}",
        ["task", "cells", "a cell"],
        [[task, str(count), f"{seconds[task]:.2f} s" if seconds else "?"] for task, count in cells.items()],
        right=["cells", "a cell"],
    )


def _show(results: Results) -> None:
    from headpursuit.report.tables import results_tables

    for table in results_tables(results):
        print_table(table.title, table.header, table.rows)
        typer.echo()
