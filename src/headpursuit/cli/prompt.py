"""``headpursuit prompt``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import print_json, print_table


@options.loads_a_model
def prompt(
    model: options.Model,
    samples: Annotated[Path, typer.Option(help="A .txt, .jsonl, .csv or .parquet file, or a folder of images.")],
    positions: Annotated[
        str | None,
        typer.Option(
            help="Tokens that count: mean, last, image, answer or all.",
            show_default="answer where there is a target, else mean",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Only the first so many samples.")] = 3,
    *,
    load_options: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Show what the model reads of samples, token by token, before anything is measured."""
    from headpursuit.activations.positions import check_positions
    from headpursuit.model.samples import as_samples

    if positions is not None:
        check_positions(positions)
    chosen = as_samples(samples, limit=limit)

    from headpursuit.activations.tokens import tokens
    from headpursuit.model.load import load

    loaded = load(model, **load_options)
    read = tokens(loaded, chosen, positions=positions)  # type: ignore[arg-type]
    if json:
        print_json({"model": loaded.identity, "seed": seed, "samples": [one.to_dict() for one in read]})
        return
    for one in read:
        marked = zip(one.ids, one.tokens, one.image, one.target, one.counted, strict=True)
        typer.echo(f"{one.where}: {len(one)} tokens, counted at positions {one.positions}")
        print_table(
            "",
            ["", "id", "token", "image", "target", "counted"],
            [
                [str(number), str(token_id), repr(token), *("x" if mark else "" for mark in marks)]
                for number, (token_id, token, *marks) in enumerate(marked)
            ],
            right=["", "id"],
        )
        if one.encoder:
            typer.echo(f"the encoder reads: {' '.join(map(str, one.encoder))}")
