"""The comparison of ways to choose heads as parts of docs/selection.md, made from its results."""

from __future__ import annotations

from pathlib import Path

from tools.parts import write_part

from headpursuit.drawing import save_figure
from headpursuit.evaluation.curves import in_words
from headpursuit.evaluation.results import Results
from headpursuit.report.tables import tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "selection.md"
PARTS = ("demo", "real")


def write_selection(results: Results, part: str, *, head: str, page: Path = PAGE) -> None:
    """Write what a comparison found into its part of the page, with a picture beside it.

    Args:
        results: of a recipe that compares ways to choose heads.
        part: ``demo`` or ``real``.
        head: title and what was measured on.
        page: the page.
    """
    picture = save_figure(results.plot(), page.parent / "images" / "selection" / f"{part}.svg")
    overall, *each = tables(results)
    listed = "\n".join(f"- {sentence}" for sentence in in_words(results.curves))
    folded = "\n\n".join(
        f"<details><summary>{one.title}</summary>\n\n{one.to_markdown().partition(chr(10))[2].strip()}\n\n</details>"
        for one in each
    )
    text = "\n\n".join(
        [
            head,
            f"![What each way to choose heads reaches for what it costs]({picture.relative_to(page.parent)})",
            overall.to_markdown().strip(),
            listed,
            folded,
        ]
    )
    write_part(page, part, text, parts=PARTS)
