"""``headpursuit rank``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headpursuit.cli.common import JsonOption, SeedOption, note, print_json, print_table


def rank(
    acts: Annotated[Path, typer.Argument(metavar="ACTS", help="A folder that `headpursuit capture` wrote.")],
    concept: Annotated[str, typer.Option(metavar="NAME|FILE", help="A built-in concept or a file of words.")],
    method: Annotated[str, typer.Option(help="somp or logit-lens.")] = "somp",
    top: Annotated[int, typer.Option(min=1, help="How many heads to show and to write.")] = 16,
    atoms: Annotated[int, typer.Option(min=1, help="Pursuit steps at most.")] = 50,
    multi_token: Annotated[str, typer.Option(help="Words of several tokens: skip, first or mean.")] = "skip",
    fold_norm: Annotated[
        bool, typer.Option("--fold-norm", help="Fold the final norm's gain into the dictionary.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the heads here, for `generate --heads`.")] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Order all heads by how much a concept explains of what they write; needs no model in memory."""
    from headpursuit.activations.store import open_capture
    from headpursuit.concepts import load_concept
    from headpursuit.ranking.scores import rank as rank_heads

    words = load_concept(concept)
    opened = open_capture(acts)
    ranking = rank_heads(
        opened,
        words,
        method=method.replace("-", "_"),  # type: ignore[arg-type]
        n_atoms=atoms,
        multi_token=multi_token,  # type: ignore[arg-type]
        fold_norm=fold_norm,
    )
    top = min(top, len(ranking.order()))
    if out is not None:
        ranking.save(out, k=top)
        note(f"wrote {out}")
    if json:
        print_json({**ranking.to_dict(top), "seed": seed})
        return
    measure = "explained" if ranking.method == "somp" else "mean logit"
    form = ".1%" if ranking.method == "somp" else ".3f"
    rows = [
        [str(place), head.name, f"{ranking.score(head):{form}}"] for place, head in enumerate(ranking.top(top), start=1)
    ]
    title = f"{ranking.concept} ({len(ranking.words)} atoms) in {opened.model['id']}, {ranking.n} samples"
    print_table(title, ["rank", "head", measure], rows, right=["rank", measure])
