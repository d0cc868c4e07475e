"""Pages whose parts are written one by one, each from its own measurements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from headpursuit.files import write_text

_MARK = re.compile(r"^<!-- part: (\w+) -->\n", re.MULTILINE)


def write_part(page: Path, name: str, text: str, *, parts: Sequence[str]) -> None:
    """Put a part in its place on the page, behind what is written by hand; the others stay as they are.

    Args:
        page: the page.
        name: which part.
        text: what it says.
        parts: all parts in their order.
    """
    pieces = _MARK.split(page.read_text(encoding="utf-8")) if page.is_file() else [""]
    found = {key: body.strip() for key, body in zip(pieces[1::2], pieces[2::2], strict=True)} | {name: text.strip()}
    by_hand = [pieces[0].strip()] if pieces[0].strip() else []
    write_text(page, "\n\n".join([*by_hand, *(f"<!-- part: {one} -->\n{found[one]}" for one in parts if one in found)]) + "\n")


def table(frame: pd.DataFrame, index: str | None = None) -> str:
    """A table as Markdown, its index under a heading of its own where one is given."""
    shown = frame if index is None else frame.rename_axis(index).reset_index()
    return shown.to_markdown(index=False, disable_numparse=True)
