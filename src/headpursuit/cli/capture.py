"""``headpursuit capture``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_out, note, print_json


@options.loads_a_model
@options.reads_samples
@options.may_have_workers
def capture(
    model: options.Model,
    samples: Annotated[
        str,
        typer.Option(
            help="A .txt, .csv, .json, .jsonl or .parquet file, several ('part-*.jsonl'), or a folder of images; also s3://…"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the capture, also s3://…; one that was cut off goes on.")],
    positions: Annotated[str, typer.Option(help="Tokens that make a sample's row: mean, last, image, answer or all.")] = "mean",
    part: Annotated[
        str, typer.Option(help="Which heads: text (the decoder's), cross (beside its self-attention) or vision.")
    ] = "text",
    through_norm: Annotated[
        bool, typer.Option("--through-norm", help="Read heads behind the norm that follows their projection (Gemma 2, …).")
    ] = False,
    keep_rows: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep moments of all samples, and rows of N drawn with --seed.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many samples.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only N samples, drawn at random with --seed.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples run together.")] = 16,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on past samples that cannot be used.")] = False,
    *,
    workers: dict[str, Any],
    columns: dict[str, Any],
    load_options: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Read what every head writes for every sample, into a folder that `describe` and `rank` take."""
    from headpursuit.activations.positions import check_positions
    from headpursuit.engines import as_engine, check_reachable
    from headpursuit.model.samples import as_source

    check_out(out, folder=True, stores=True)
    check_positions(positions, part=part)  # type: ignore[arg-type]
    engine = as_engine(**workers)
    check_reachable(engine)
    given = as_source(samples, **columns, limit=limit, sample=sample, seed=seed)

    from headpursuit.activations.capture import capture as capture_heads
    from headpursuit.activations.store import is_complete
    from headpursuit.model.load import load
    from headpursuit.stores import address

    loaded = load(model, part=part, **load_options)  # type: ignore[arg-type]
    before = address(out) is None and is_complete(out)
    acts = capture_heads(
        loaded,
        given,
        positions=positions,  # type: ignore[arg-type]
        through_norm=through_norm,
        keep_rows=keep_rows,
        seed=seed,
        out=out,
        batch_size=batch_size,
        skip_bad=skip_bad,
        engine=engine,
    )
    if before:
        note(f"{out} is complete already")
    skipped = acts.about["skipped"]
    for line in skipped:
        note(f"skipped {line}")
    if json:
        print_json(
            {
                "out": address(out) or str(out),
                "model": dict(acts.model),
                "n": acts.n,
                "heads": len(acts.heads()),
                "skipped": skipped,
                "seed": seed,
                **{key: acts.about[key] for key in ("positions", "data", "versions")},
            }
        )
    else:
        rows = f"{acts.n} {'tokens' if positions == 'all' else 'samples'}"
        typer.echo(f"{rows} × {len(acts.heads())} heads in {address(out) or out} ({len(skipped)} skipped)")
