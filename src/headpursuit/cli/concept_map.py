"""``headpursuit map``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from headpursuit.cli.common import JsonOption, SeedOption, note, print_json, print_table


def concept_map(
    acts: Annotated[Path, typer.Argument(metavar="ACTS", help="A folder that `headpursuit capture` wrote.")],
    concept: Annotated[list[str], typer.Option(metavar="NAME|FILE", help="A concept; give the option several times.")],
    method: Annotated[str, typer.Option(help="somp or logit-lens.")] = "somp",
    atoms: Annotated[int, typer.Option(min=1, help="Pursuit steps at most.")] = 50,
    multi_token: Annotated[str, typer.Option(help="Words of several tokens: skip, first or mean.")] = "skip",
    significance: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show z against N random token sets and not the score.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the whole table here, as CSV.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the map here, .png or .svg.")] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Score every head for several concepts, and show the best heads of each."""
    import numpy as np

    from headpursuit.activations.store import open_capture
    from headpursuit.concepts import as_concept
    from headpursuit.ranking.overlap import concept_map as map_concepts

    words = [as_concept(one) for one in concept]
    opened = open_capture(acts)
    found = map_concepts(
        opened,
        words,
        method=method.replace("-", "_"),  # type: ignore[arg-type]
        n_atoms=atoms,
        multi_token=multi_token,  # type: ignore[arg-type]
        draws=significance,
        seed=seed,
    )
    values: Literal["scores", "z"] = "z" if significance else "scores"
    table = found.to_frame(values)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(out, index_label="concept")
        note(f"wrote {out}")
    if figure is not None:
        from headpursuit.drawing import save_figure
        from headpursuit.report.figures import concept_map_figure

        note(f"wrote {save_figure(concept_map_figure(found, z=bool(significance)), figure)}")
    if json:
        print_json(
            {
                "model": dict(found.model),
                "method": found.method,
                "values": values,
                "n": found.n,
                "positions": found.positions,
                "concepts": list(found.concepts),
                "heads": list(table),
                "table": table.values.tolist(),
                "draws": significance,
                "seed": seed,
            }
        )
        return
    rows = []
    for name, row in zip(found.concepts, table.to_numpy(), strict=True):
        best = np.argsort(-row, kind="stable")[:5]
        rows.append([name, "  ".join(f"{table.columns[index]} {row[index]:.2f}" for index in best)])
    measure = "z" if significance else {"somp": "explained variance", "logit_lens": "mean logit"}[found.method]
    print_table(f"{opened.model['id']}, {found.n} samples, {measure}", ["concept", "best heads"], rows)
