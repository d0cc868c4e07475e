"""``headpursuit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_out, check_report, note, print_json, print_plan, print_table, print_tables

if TYPE_CHECKING:
    from headpursuit.evaluation.recipe import Recipe


@options.loads_a_model
@options.may_have_workers
def evaluate(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A packaged recipe or a .toml file; leave out to list them.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hub name, local folder or 'demo'; the recipe's when left out.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Local data in the official format; for several data sets a folder with one of each name."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for cells, tables and figures; headpursuit-results/RECIPE when left out.")
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Change a key of the recipe, such as edit.k=[1,2,4].")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Samples a task and split at most.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe, defaults included, and stop.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and how long, and stop.")] = False,
    *,
    workers: dict[str, Any],
    load_options: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run an experiment with its controls; a run that was cut off goes on where it stopped."""
    from headpursuit.engines import as_engine
    from headpursuit.evaluation.recipe import load_recipe, parse_set, plain, show_recipe

    engine = as_engine(**workers)
    if recipe is None:
        _list(json)
        return
    chosen = load_recipe(recipe, set=dict(map(parse_set, set or ())))
    if show:
        print_json(plain(chosen)) if json else typer.echo(show_recipe(chosen))
        return
    folder = out or Path("headpursuit-results") / chosen.name
    if dry_run:
        _dry_run(chosen, model or chosen.model, folder, {"data": data, "limit": limit, "seed": seed}, load_options, json=json)
        return
    check_out(folder, folder=True, stores=True)
    check_report()

    from headpursuit.evaluation.evaluate import evaluate as run
    from headpursuit.report import tables, write_report
    from headpursuit.stores import address, staged

    with staged(folder) as here:
        results = run(chosen, model, data=data, out=here, limit=limit, seed=seed, engine=engine, **load_options)
        write_report(results, here)
    where = address(folder) or str(folder)
    note(f"wrote {where}/report.html, tables.md, results.json, figures/")
    if json:
        print_json({**results.to_dict(), "out": where})
        return
    print_tables(tables(results))


def _list(json: bool) -> None:
    from headpursuit.evaluation.recipe import load_recipe, recipe_names

    found = [load_recipe(name) for name in recipe_names()]
    if json:
        listed = [{"name": one.name, "title": one.title, "paper": one.paper, "model": one.model} for one in found]
        print_json({"recipes": listed})
        return
    rows = [[one.name, one.title, one.paper, one.model] for one in found]
    print_table("recipes", ["name", "title", "paper", "model"], rows)


def _dry_run(
    recipe: Recipe, model: str, out: Path, source: dict[str, Any], load_options: dict[str, Any], *, json: bool
) -> None:
    from headpursuit.errors import HeadPursuitError
    from headpursuit.evaluation.evaluate import check_folder, gather
    from headpursuit.evaluation.plan import count_cells, trial_seconds
    from headpursuit.evaluation.recipe import plain
    from headpursuit.model.load import load

    check_folder(out, recipe.name, settings=plain(recipe))
    prepared = gather(recipe, model, **source, **load_options)
    cells = count_cells(prepared)
    seconds: dict[str, float] = {}
    try:
        # Heads that are only named make no cells to be timed.
        seconds = trial_seconds(prepared, load(model, local_files_only=True, **load_options)) if cells else {}
    except HeadPursuitError as error:
        note(f"how long it takes is not known: {error}")
    data = [vars(one) for one in prepared.data]
    about = {"recipe": recipe.name, "model": model, "out": str(out), "data": data}
    print_plan(f"{recipe.name} on {model}", cells, seconds, about=about, json=json)
