"""``headpursuit tune``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_out, check_report, note, print_json, print_plan, print_tables
from headpursuit.errors import ChoiceError


@options.loads_a_model
@options.reads_samples
@options.may_have_workers
def tune(
    model: options.Model,
    concept: Annotated[str, typer.Option(metavar="NAME|FILE", help="A built-in concept or a file of words.")],
    samples: Annotated[
        Path | None, typer.Option(help="Prompts, half to tune on and half to test on; the demo brings its own.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for cells, the edit, tables and figure; headpursuit-tuned/CONCEPT when left out."),
    ] = None,
    enhance: Annotated[bool, typer.Option("--enhance", help="Make the model speak of the concept more, not less.")] = False,
    reach: Annotated[
        str | None,
        typer.Option(
            help="Look for the least loss at which the target comes to this share of the unedited model's value, or to what "
            "the 'fixed' edit reaches; left out, for the strongest edit within the limits."
        ),
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOSS",
            help="Largest loss: neutral=0.1 (divergence from the unedited model on neutral text, in nats a token), "
            "answers=0.05 (a share of the answers' quality, where samples have targets).",
            show_default="neutral=0.1 answers=0.05; the demo's own 0.05 each",
        ),
    ] = None,
    neutral: Annotated[Path | None, typer.Option(help="Neutral texts; packaged sentences when left out.")] = None,
    positions: Annotated[
        str | None, typer.Option(help="Tokens that heads are ranked on: mean, last, image or answer.", show_default="mean")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help="How heads are put in order: any method of select (docs/selection.md).",
            show_default="calibrated attribution natural somp",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Tokens where the edit may hold: all, image, text, prompt, generated.", show_default="all"),
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Most heads of an edit.")] = 8,
    scales: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Smallest and largest scale; heads that hold the concept down may go as far on the other side of 1.",
            show_default="-2 0.75; enhancing 1.25 8",
        ),
    ] = None,
    per_head: Annotated[bool, typer.Option(help="Give each head a scale of its own in the second half of the trials.")] = True,
    fixed_ks: Annotated[
        list[int] | None, typer.Option(min=1, help="Numbers of heads that the fixed edit may have.", show_default="1 2 3")
    ] = None,
    fixed_scale: Annotated[float | None, typer.Option(help="Scale of the fixed edit.", show_default="-1; enhancing 4")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Random head sets.")] = 10,
    trials: Annotated[int, typer.Option(min=1, help="Edits to try.")] = 60,
    limit: Annotated[int | None, typer.Option(min=4, help="Samples a task and split at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and how long, and stop.")] = False,
    *,
    workers: dict[str, Any],
    columns: dict[str, Any],
    load_options: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Choose heads and scales for a concept under limits; a search that was cut off goes on where it stopped.

    An edit under which the concept is not said less for sure (to enhance: more) is not written, and the exit code is 1.
    """
    from headpursuit.concepts import as_concept
    from headpursuit.engines import as_engine
    from headpursuit.evaluation.evaluate import check_folder
    from headpursuit.model.load import load
    from headpursuit.model.samples import as_samples
    from headpursuit.report import tables, write_report
    from headpursuit.tuning.tune import EDIT, METHODS, Options, check_wishes, count_cells, read_data, recipe_name, trial_seconds
    from headpursuit.tuning.tune import tune as run

    engine, words = as_engine(**workers), as_concept(concept)
    folder = out or Path("headpursuit-tuned") / words.name
    check_folder(folder, recipe_name(words.name))
    if not dry_run:
        check_out(folder, folder=True)
        check_report()
    asked = None if samples is None else as_samples(samples, **columns)
    texts = None if neutral is None else as_samples(neutral)
    if samples is None:
        options.refuse_without_samples(**columns, neutral=neutral, positions=positions)
    searching: dict[str, Any] = {
        "trials": trials,
        "k": k,
        "scales": scales,
        "where": tuple(where or ("all",)),
        "methods": tuple(methods or METHODS),
        "per_head": per_head,
        "fixed_ks": tuple(fixed_ks or (1, 2, 3)),
        "fixed_scale": fixed_scale,
        "draws": draws,
    }
    made, wanted = Options(**searching), _number(reach)
    common: dict[str, Any] = {
        "neutral": texts,
        "positions": positions,
        "limits": _losses(limits),
        "enhance": enhance,
        "limit": limit,
        "seed": seed,
    }
    check_wishes(reach=wanted, **{name: common[name] for name in ("positions", "limits", "limit", "seed")})
    loaded = load(model, **load_options)
    if dry_run:
        data = read_data(loaded, asked, words, **common)
        about = {"concept": words.name, "model": loaded.source.id, "out": str(folder)}
        cells, seconds = count_cells(data, made), trial_seconds(data, loaded)
        print_plan(f"{recipe_name(words.name)} in {loaded.source.id}", cells, seconds, about=about, json=json)
        return
    tuned = run(loaded, asked, words, out=folder, reach=wanted, engine=engine, **common, **searching)
    write_report(tuned, folder)
    edit = f"{EDIT}, " if tuned.moved else ""
    note(f"{tuned.computed} cells were run; wrote {folder}/{edit}report.html, tables.md, trials.csv, figures/")
    if not tuned.moved and (folder / EDIT).is_file():
        note(f"{folder / EDIT} is of an earlier run, and was left as it is")
    tuned.check_moved()
    for missed in tuned.misses:
        note(f"missed: {missed}")
    if json:
        trials_made = tuned.to_frame().to_dict("records")
        content = {**tuned.results.to_dict(), "trials": trials_made, "misses": list(tuned.misses)}
        print_json({**content, "out": str(folder)})
        return
    print_tables(tables(tuned))


def _number(reach: str | None) -> float | str | None:
    try:
        return None if reach is None else float(reach)
    except ValueError:
        return reach


def _losses(limits: list[str] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in limits or ():
        name, _, loss = text.partition("=")
        try:
            found[name] = float(loss)
        except ValueError as error:
            raise ChoiceError(f"--limits {text}: write NAME=LOSS, such as neutral=0.05") from error
    return found
