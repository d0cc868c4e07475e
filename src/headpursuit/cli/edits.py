"""The options by which a command is told of an edit, and the edit that they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from headpursuit.editing.edit import HeadEdit

HeadsOption = Annotated[Path | None, typer.Option(help="A heads.json that `rank --out` wrote.")]
HeadOption = Annotated[list[str] | None, typer.Option(help="Heads by name, such as L18.H27, or several with commas.")]
ScaleOption = Annotated[
    float | None, typer.Option(help="Factor of their contribution: −1 suppresses, 5 enhances.", show_default="-1")
]
EditOption = Annotated[Path | None, typer.Option(help="An edit.json that HeadEdit.save wrote, instead of heads and a scale.")]


def read_edit(
    *, heads: Path | None, head: Sequence[str] | None, edit: Path | None, scale: float | None, where: str | None = None
) -> tuple[HeadEdit | None, Mapping[str, Any] | None]:
    """The edit that the options name, before a model is loaded.

    Args:
        heads: a heads file.
        head: names of heads.
        edit: an edit file.
        scale: one scale for heads that were given without one.
        where: the tokens that it holds for.

    Returns:
        The edit, or None where none was named, and the identity of the model that its file belongs to, if it has a file.

    Raises:
        HeadPursuitError: the options contradict each other, or a file cannot be read.
    """
    from headpursuit.model.heads import parse_heads
    from headpursuit.ranking.ranking import read_heads

    if sum((heads is not None, bool(head), edit is not None)) > 1:
        raise HeadPursuitError("give only one of --heads FILE, --head NAME and --edit FILE")
    if heads is None and not head and (scale is not None or where is not None):
        raise HeadPursuitError("--scale and --where speak of heads: name them with --heads FILE or --head NAME")
    if edit is not None and not edit.is_file():
        raise HeadPursuitError(f"there is no file {edit}: `HeadEdit.save` and `headpursuit tune` write one")
    stored = None if heads is None else read_heads(heads)
    chosen = parse_heads(head or ()) if stored is None else stored.heads

    from headpursuit.editing.edit import HeadEdit, read_edit_file
    from headpursuit.editing.where import ALL, as_where

    if edit is not None:
        return read_edit_file(edit)
    if not chosen:
        return None, None
    made = HeadEdit(chosen, scale=-1.0 if scale is None else scale, where=as_where(where or ALL))
    return made, None if stored is None else stored.model
