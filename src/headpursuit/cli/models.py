"""``headpursuit models``."""

from dataclasses import asdict
from typing import Annotated

import typer

from headpursuit.cli import options
from headpursuit.cli.output import note, print_json, print_table
from headpursuit.errors import HeadPursuitError, check_choice


def models(
    name: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Show only types whose name holds this.")] = None,
    state: Annotated[str | None, typer.Option(help="Show only supported, partly, refused or untested ones.")] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """List the architectures of transformers, and what holds for each."""
    from headpursuit.model.architectures import STATES, load_table

    if state is not None:
        check_choice(STATES, state=state)
    table = load_table()
    rows = [row for row in table.rows if (name or "") in row.type and state in (None, row.state)]
    if not rows:
        raise HeadPursuitError(f"no type of transformers {table.transformers} fits: leave TYPE and --state out to see all")
    if json:
        content = {"transformers": table.transformers, "states": STATES, "models": [asdict(row) for row in rows]}
        print_json({**content, "seed": seed})
        return
    cells = [[row.type, row.mapping, row.state, row.reason] for row in rows]
    print_table(f"transformers {table.transformers}", ["type", "mapping", "state", "what to know"], cells)
    note(table.summary())
