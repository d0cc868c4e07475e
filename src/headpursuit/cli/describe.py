"""``headpursuit describe``."""

from typing import Annotated

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_capture, note, print_json, print_table


def describe(
    acts: options.Acts,
    head: Annotated[list[str] | None, typer.Option(help="Such as L18.H27; all heads when left out.")] = None,
    n_atoms: Annotated[int, typer.Option(min=1, help="Tokens a head.")] = 5,
    method: Annotated[str, typer.Option(help="somp (Table 1) or logit-lens (Table 6).")] = "somp",
    fold_norm: options.FoldNorm = False,
    trust_remote_code: options.Trust = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Name heads by the tokens that explain what they write; needs no model in memory."""
    from headpursuit.model.heads import parse_heads
    from headpursuit.ranking.methods import as_method

    check_capture(acts)
    chosen, wanted = as_method(method), parse_heads(head) if head else None

    from headpursuit.activations.store import open_capture
    from headpursuit.ranking.describe import describe as describe_heads

    opened = open_capture(acts, trust_remote_code=trust_remote_code)
    described = describe_heads(opened, heads=wanted, n_atoms=n_atoms, method=chosen, fold_norm=fold_norm)
    if json:
        print_json(
            {
                "model": dict(opened.model),
                "method": chosen,
                "positions": opened.positions,
                "n": opened.n,
                "seed": seed,
                "unused_rows": described.unused_rows,
                "heads": [one.to_dict() for one in described],
            }
        )
        return
    measure = "explained" if chosen == "somp" else "of samples"
    print_table(
        f"{opened.model['id']}, {opened.n} samples, positions {opened.positions}, {chosen}",
        ["head", measure, "tokens"],
        [[one.head.name, f"{one.share:.1%}", "  ".join(map(repr, one.tokens))] for one in described],
        right=[measure],
    )
    if described.unused_rows:
        note(f"{described.unused_rows} rows of the unembedding are no token's and were left out")
