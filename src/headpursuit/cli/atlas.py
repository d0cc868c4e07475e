"""``headpursuit atlas``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_capture, check_out, print_json
from headpursuit.errors import HeadPursuitError


@options.reads_samples
def atlas(
    acts: options.Acts,
    out: Annotated[Path, typer.Option(help="Folder for the pages; one that was cut off goes on, an earlier atlas gives way.")],
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE|WORDS", help="A layer of the map; give it several times. All built-in ones when left out."
        ),
    ] = None,
    n_atoms: Annotated[int, typer.Option(min=1, help="Tokens a head.")] = 10,
    dictionary: Annotated[
        str,
        typer.Option(metavar="PARTS", help="What may name a head: all, words, a script (latin, han, …), seen, joined by +."),
    ] = "all",
    fold_norm: options.FoldNorm = False,
    significance: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Test every name against N random turns of what the head writes; 0 for no test."),
    ] = 200,
    examples: Annotated[int, typer.Option(min=0, metavar="N", help="Samples that drive a head.")] = 5,
    samples: Annotated[
        str | None, typer.Option(help="The file that was captured, for the samples' texts and pictures.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="As for `capture`; as many as it read when left out.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, metavar="N", help="As for `capture`, with its --seed.")] = None,
    trust_remote_code: options.Trust = False,
    *,
    columns: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Write a site of all heads: a map, a page a head, a search by token, a layer a concept; opened from the disk."""
    from headpursuit.concepts import as_concept
    from headpursuit.concepts.vocabulary_parts import parts_of

    check_out(out, folder=True)
    check_capture(acts)
    if samples is None:
        options.refuse_without_samples(limit=limit, sample=sample, **columns)
    if parts_of(dictionary) is None:
        raise HeadPursuitError(
            f"--dictionary {dictionary}: all, words, seen or a script (latin, …) of the vocabulary, joined by +"
        )
    words = None if concept is None else [as_concept(one) for one in concept]

    from headpursuit.activations.store import open_capture
    from headpursuit.report.atlas import atlas as write_atlas

    opened = open_capture(acts, trust_remote_code=trust_remote_code)
    given = options.samples_of(opened, samples, columns=columns, limit=limit, sample=sample, seed=seed)
    entrance = write_atlas(
        opened,
        out=out,
        concept=words,
        n_atoms=n_atoms,
        dictionary=dictionary,
        fold_norm=fold_norm,
        significance=significance,
        examples=examples,
        samples=given,
        seed=seed,
    )
    if json:
        print_json(
            {"atlas": str(entrance), "model": dict(opened.model), "heads": len(opened.heads()), "n": opened.n, "seed": seed}
        )
    else:
        typer.echo(entrance)
