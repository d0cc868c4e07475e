"""``headpursuit tune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headpursuit.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    RevisionOption,
    SeedOption,
    TrustOption,
    note,
    print_json,
    print_table,
)
from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from headpursuit.model.head_model import HeadModel
    from headpursuit.tuning.splits import TuningData
    from headpursuit.tuning.tune import Options


def tune(
    model: ModelArgument,
    concept: Annotated[str, typer.Option(metavar="NAME|FILE", help="A built-in concept or a file of words.")],
    samples: Annotated[
        Path | None, typer.Option(help="Prompts, half to tune on and half to test on; the demo brings its own.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for cells, the edit, tables and figure; headpursuit-tuned/CONCEPT when left out."),
    ] = None,
    enhance: Annotated[
        bool, typer.Option("--enhance", help="Make the model speak of the concept more, not less.")
    ] = False,
    reach: Annotated[
        str | None,
        typer.Option(
            help="Look for the least loss at which the target comes to this share of the unedited model's value, or to what "
            "the 'fixed' edit reaches; left out, for the strongest edit within the limits."
        ),
    ] = None,
    max_loss: Annotated[float, typer.Option(help="Largest loss of quality, a share of the unedited model's.")] = 0.05,
    max_nats: Annotated[
        float, typer.Option(help="Largest rise of neutral text's negative log-likelihood, nats a token.")
    ] = 0.05,
    neutral: Annotated[Path | None, typer.Option(help="Neutral texts; packaged sentences when left out.")] = None,
    positions: Annotated[
        str, typer.Option(help="Tokens that heads are ranked on: mean, last, image or answer.")
    ] = "mean",
    method: Annotated[
        list[str] | None,
        typer.Option(help="How heads are put in order: somp, logit-lens, attribution.", show_default="somp"),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Tokens where the edit may hold: all, image, text, prompt, generated.", show_default="all"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Most heads of an edit.")] = 8,
    scales: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Smallest and largest scale.", show_default="-2 0.75; enhancing 1.25 8"),
    ] = None,
    per_head: Annotated[
        bool, typer.Option(help="Give heads scales of their own in the second half of the trials.")
    ] = True,
    trials: Annotated[int, typer.Option(min=1, help="Edits to try.")] = 60,
    limit: Annotated[int | None, typer.Option(min=4, help="Samples a task and split at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and how long, and stop.")] = False,
    revision: RevisionOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "auto",
    trust_remote_code: TrustOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Choose heads and scales for a concept under limits; a search that was cut off goes on where it stopped."""
    from headpursuit.concepts import as_concept
    from headpursuit.model.load import load
    from headpursuit.report.evaluation import check_folder
    from headpursuit.report.tuning import save_tuning, trials_table, tuning_tables
    from headpursuit.tuning.splits import read_data
    from headpursuit.tuning.tune import Options, run_tuning

    words = as_concept(concept)
    place = out or Path("headpursuit-tuned") / words.name
    check_folder(place, f"tune {words.name}")
    options = Options(
        trials=trials,
        k=top,
        scales=scales,
        places=tuple(where or ("all",)),  # type: ignore[arg-type]
        methods=tuple(name.replace("-", "_") for name in method or ("somp",)),  # type: ignore[misc]
        per_head=per_head,
    )
    wanted = _number(reach)
    loaded = load(model, revision=revision, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    data = read_data(
        loaded,
        words,
        samples,
        neutral=neutral,
        positions=positions,  # type: ignore[arg-type]
        max_loss=max_loss,
        max_nats=max_nats,
        enhance=enhance,
        limit=limit,
        seed=seed,
    )
    if dry_run:
        _dry_run(data, options, loaded, place, json=json)
        return
    tuned = run_tuning(loaded, data, options, out=place, reach=wanted, seed=seed)
    save_tuning(tuned, place, model=loaded)
    note(f"{tuned.computed} cells were run; wrote {place}/edit.json, tables.md, trials.csv, figures/")
    for missed in tuned.misses:
        note(f"missed: {missed}")
    if json:
        content = {**tuned.results.to_dict(), "trials": trials_table(tuned), "misses": list(tuned.misses)}
        print_json({**content, "out": str(place), "seed": seed})
        return
    for table in tuning_tables(tuned):
        print_table(table.title, table.header, table.rows)
        typer.echo(f"{table.note}\n")


def _number(reach: str | None) -> float | str | None:
    if reach is None or reach == "fixed":
        return reach
    try:
        return float(reach)
    except ValueError as error:
        raise HeadPursuitError(f"--reach {reach}: give a number, or 'fixed'") from error


def _dry_run(data: TuningData, options: Options, model: HeadModel, out: Path, *, json: bool) -> None:
    from headpursuit.evaluation.plan import in_words, task_seconds
    from headpursuit.tuning.tune import count_cells

    cells = count_cells(data, options)
    a_cell = {
        f"{name}, {split}": task_seconds(tasks[name], model)
        for split, tasks in (("tuning", data.tuning), ("test", data.test))
        for name in data.used
    }
    total = sum(a_cell[name] * count for name, count in cells.items())
    content: dict[str, Any] = {
        "concept": data.goal.concept,
        "model": model.source.id,
        "out": str(out),
        "cells": cells,
        "seconds_a_cell": a_cell,
        "seconds": total,
    }
    if json:
        print_json(content)
        return
    print_table(
        f"tune {data.goal.concept} in {model.source.id}: {sum(cells.values())} cells at most, {in_words(total)}",
        ["task", "cells", "a cell"],
        [[name, str(count), f"{a_cell[name]:.2f} s"] for name, count in cells.items()],
        right=["cells", "a cell"],
    )
