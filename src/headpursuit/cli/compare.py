"""``headpursuit compare``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headpursuit.cli import options
from headpursuit.cli.output import check_plot, print_json, print_table, save_plot
from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from headpursuit.ranking.ranking import StoredHeads


def compare(
    files: Annotated[list[Path], typer.Argument(metavar="HEADS...", help="Heads files that `rank --out` wrote.")],
    top: Annotated[int | None, typer.Option(min=1, help="Look at the best so many heads of each file.")] = None,
    plot: options.Plot = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Show how many heads the rankings of several concepts or data sets share (Jaccard similarity)."""
    from headpursuit.ranking.ranking import read_heads

    check_plot(plot)
    stored = [_best(read_heads(file), top) for file in files]
    for one in stored[1:]:
        if one.model.get("fingerprint") != stored[0].model.get("fingerprint"):
            raise HeadPursuitError(
                f"{one.path} holds heads of {one.model.get('id')}, {stored[0].path} of {stored[0].model.get('id')}: "
                "compare heads of one model"
            )
        if top is None and len(one.heads) != len(stored[0].heads):
            raise HeadPursuitError(
                f"{one.path} holds {len(one.heads)} heads, {stored[0].path} {len(stored[0].heads)}: give --top"
            )
    for one in stored:
        if top is not None and len(one.heads) < top:
            raise HeadPursuitError(f"{one.path} holds {len(one.heads)} heads, --top asks for {top}: rank with --top {top}")
    from headpursuit.ranking.overlap import head_overlap

    names = [one.concept or one.path.stem for one in stored]
    if len(set(names)) < len(names):
        # One concept on several data sets: the files tell them apart.
        names = [str(one.path) for one in stored]
    table = head_overlap({name: one.heads[:top] for name, one in zip(names, stored, strict=True)})
    if plot is not None:
        from headpursuit.drawing import overlap

        save_plot(overlap(table), plot)
    k = top or len(stored[0].heads)
    shown = table.to_numpy().tolist()
    if json:
        print_json({"model": dict(stored[0].model), "k": k, "names": names, "jaccard": shown, "seed": seed})
        return
    rows = [[name, *(f"{value:.2f}" for value in row)] for name, row in zip(names, shown, strict=True)]
    print_table(f"Jaccard similarity of the best {k} heads", ["", *names], rows, right=names)


def _best(stored: StoredHeads, top: int | None) -> StoredHeads:
    """The heads of a file or, where more are asked for than it lists, those of its whole ranking."""
    from headpursuit.ranking.ranking import HeadRanking

    if top is None or len(stored.heads) >= top:
        return stored
    try:
        order = HeadRanking.load(stored.path).order()
    except HeadPursuitError:  # a file that lists its best heads alone
        return stored
    return replace(stored, heads=tuple(order[:top]))
