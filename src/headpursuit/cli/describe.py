"""``headpursuit describe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headpursuit.cli.common import JsonOption, SeedOption, print_json, print_table


def describe(
    acts: Annotated[Path, typer.Argument(metavar="ACTS", help="A folder that `headpursuit capture` wrote.")],
    head: Annotated[list[str] | None, typer.Option(help="Such as L18.H27; all heads when left out.")] = None,
    atoms: Annotated[int, typer.Option(min=1, help="Tokens a head.")] = 5,
    method: Annotated[str, typer.Option(help="somp (Table 1) or logit-lens (Table 6).")] = "somp",
    fold_norm: Annotated[
        bool, typer.Option("--fold-norm", help="Fold the final norm's gain into the dictionary.")
    ] = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Name heads by the tokens that explain what they write; needs no model in memory."""
    from headpursuit.activations.store import open_capture
    from headpursuit.ranking.describe import describe as describe_heads

    opened = open_capture(acts)
    described = describe_heads(
        opened,
        heads=head or None,
        n_atoms=atoms,
        method=method,  # type: ignore[arg-type]
        fold_norm=fold_norm,
    )
    if json:
        print_json(
            {
                "model": dict(opened.model),
                "method": method,
                "positions": opened.positions,
                "n": opened.n,
                "seed": seed,
                "heads": [one.to_dict() for one in described],
            }
        )
        return
    measure = "explained" if method == "somp" else "of samples"
    print_table(
        f"{opened.model['id']}, {opened.n} samples, positions {opened.positions}, {method}",
        ["head", measure, "tokens"],
        [
            [
                one.head.name,
                f"{(one.explained_variance or one.frequency or (0,))[-1]:.1%}",
                "  ".join(map(repr, one.tokens)),
            ]
            for one in described
        ],
        right=[measure],
    )
