"""``headpursuit map``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_capture, check_out, check_plot, note, print_json, print_table, save_plot
from headpursuit.files import csv_text, write_text


@options.may_have_workers
def concept_map(
    acts: options.Acts,
    concept: Annotated[list[str], typer.Option(metavar="NAME|FILE|WORDS", help="A concept; give the option several times.")],
    method: options.Method = "somp",
    n_atoms: options.Atoms = 50,
    multi_token: options.MultiToken = "skip",
    significance: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show z against N random token sets and not the score.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the whole table here, as CSV.")] = None,
    plot: options.Plot = None,
    trust_remote_code: options.Trust = False,
    *,
    workers: dict[str, Any],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Score every head for several concepts, and show the best heads of each."""
    from headpursuit.concepts import as_concept
    from headpursuit.engines import as_engine
    from headpursuit.ranking.methods import MEASURES, as_method

    engine = as_engine(**workers)
    check_out(out)
    check_plot(plot)
    check_capture(acts)
    as_method(method)
    words = [as_concept(one) for one in concept]

    from headpursuit.activations.store import open_capture
    from headpursuit.ranking.overlap import concept_map as map_concepts

    opened = open_capture(acts, trust_remote_code=trust_remote_code)
    found = map_concepts(
        opened,
        words,
        method=method,
        n_atoms=n_atoms,
        multi_token=multi_token,  # type: ignore[arg-type]
        draws=significance,
        engine=engine,
        seed=seed,
    )
    values: Literal["scores", "z"] = "z" if significance else "scores"
    table = found.to_frame(values)
    if out is not None:
        note(f"wrote {write_text(out, csv_text(table, index_label='concept'))}")
    if plot is not None:
        save_plot(found.plot(), plot)
    if json:
        print_json(
            {
                **{key: getattr(found, key) for key in ("model", "method", "n", "positions", "concepts")},
                "values": values,
                "heads": list(table),
                "table": table.values.tolist(),
                "draws": significance,
                "seed": seed,
            }
        )
        return
    rows = []
    for name, row in table.iterrows():
        best = row.sort_values(ascending=False, kind="stable").head(5)
        rows.append([str(name), "  ".join(f"{head} {value:.2f}" for head, value in best.items())])
    measure = "z" if significance else MEASURES[found.method]
    print_table(f"{opened.model['id']}, {found.n} samples, {measure}", ["concept", "best heads"], rows)
