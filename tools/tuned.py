"""The page's part on tuned edits: the demo's concepts, each tuned to do what its fixed edit does at less loss."""

from __future__ import annotations

from pathlib import Path

import headpursuit as hp
from headpursuit.drawing import save_figure
from headpursuit.evaluation.results import Comparison
from headpursuit.model.head_model import HeadModel
from headpursuit.report.tables import tables
from headpursuit.report.text import number
from headpursuit.tuning.tune import Tuned

CONCEPTS = ("colours", "quantity", "digits")
LIMIT, TRIALS = 240, 60


def tuned_section(model: HeadModel, *, out: Path, images: Path, limit: int | None, seed: int) -> str:
    """Tune every concept, or take what was run before, and say how it compares."""
    parts = [
        "## Tuned edits",
        "Heads and their scales were searched for on the selection split (`headpursuit tune demo --concept … --reach fixed`: "
        "the least loss at which the concept is said as seldom as under the fixed edit, both judged one standard error worse). "
        "The fixed edit is the demo's: the best heads of SOMP at α = −1, their number chosen on the same split. All "
        "numbers are of the test split.",
    ]
    found: list[Tuned] = []
    for name in CONCEPTS:
        print(f"tune {name}", flush=True)
        options = {"reach": "fixed", "trials": TRIALS, "limit": limit or LIMIT, "seed": seed}
        tuned = hp.tune(model, hp.concept(name), out=out / name, **options)
        found.append(tuned)
        save_figure(tuned.plot(), images / f"tune-{name}.png")
    parts.append("\n".join(_verdict(tuned) for tuned in found))
    for tuned in found:
        name = tuned.goal.concept
        # Every trial is in the run's own folder.
        body = "\n".join(table.to_markdown() for table in tables(tuned)[:2])
        parts.append(f"![tuned edits of {name}](images/results/tune-{name}.png)")
        parts.append(f"<details><summary>Tuned: {name}</summary>\n\n{body}\n</details>")
    return "\n\n".join(parts)


def _verdict(tuned: Tuned) -> str:
    """Tuned beside fixed in one line: the target, and the largest loss of each."""
    beside = [one for one in tuned.results.comparisons if one.against == "somp"]
    (target,) = [one for one in beside if one.wanted != "same"]
    losses = {
        which: max(_loss(tuned, selection, one) for one in beside if one.wanted == "same")
        for which, selection in (("tuned", "tuned"), ("fixed", "somp"))
    }
    strong = target.difference <= 0
    cheap = losses["tuned"] <= losses["fixed"]
    both = "at least as strong, at no more loss" if strong and cheap else "not at once as strong and as cheap"
    spread = None if target.low is None or target.high is None else (target.low, target.high)
    return (
        f"- {tuned.goal.concept}: {both}. Target, tuned minus fixed: {number(target.difference, spread)} of the unedited "
        f"value; largest loss of quality {100 * losses['tuned']:.1f} % tuned, {100 * losses['fixed']:.1f} % fixed (interval "
        "of single losses in the table)."
    )


def _loss(tuned: Tuned, selection: str, one: Comparison) -> float:
    (row,) = [
        row
        for row in tuned.results.rows
        if (row.task, row.metric, row.selection) == (one.task, one.metric, selection) and row.normalized is not None
    ]
    assert row.normalized is not None
    return 1 - row.normalized
