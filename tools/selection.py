"""The comparison of ways to choose heads as parts of docs/selection.md, made from its results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tools.parts import write_part

from headpursuit.drawing import save_figure
from headpursuit.evaluation.curves import in_words
from headpursuit.evaluation.results import Results
from headpursuit.report.tables import tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "selection.md"
PARTS = ("demo", "real")
DEMO = """## On the demo

The demo's six concepts, one or two of its heads (`headpursuit evaluate demo-selection`, written by `make results`): log-odds
of their words along given answers; neutral texts: other questions."""


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
    first = results.curves[0].method
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
            f"In how many cases `{first}` moves the target at least as far as another way, and in how many surely less far, by "
            "cost in nats a token:",
            _beside(results).to_markdown(index=False, disable_numparse=True),
            listed,
            folded,
        ]
    )
    write_part(page, part, text, parts=PARTS)


def _beside(results: Results) -> pd.DataFrame:
    """The first way beside each other one: cases in which it moves the target at least as far, and surely less far."""
    first, *others = dict.fromkeys(one.method for one in results.curves)
    own = {(one.concept, one.kind): one for one in results.curves if one.method == first}
    lines = []
    for method in others:
        curves = [one for one in results.curves if one.method == method]
        line = {"beside": method}
        for index, at in enumerate(curves[0].at_costs):
            pairs = [(own[one.concept, one.kind].at_costs[index], one.at_costs[index]) for one in curves]
            at_least = sum(mine.effect >= its.effect for mine, its in pairs)
            line[f"at {at.cost:g}"] = f"{at_least} of {len(pairs)}, {sum(its.ahead_low > 0 for _, its in pairs)}"
        lines.append(line)
    return pd.DataFrame(lines)
