"""A tuned edit on disk: the edit file, the trade-off as table and figure, and the test split's numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headpursuit.report.effects import SELECTION_NAMES
from headpursuit.report.figure import COLOURS, INK, QUIET, RULE, new_figure, save_figure
from headpursuit.report.tables import Table, effect, number
from headpursuit.report.text import signed

if TYPE_CHECKING:
    from headpursuit.model.head_model import HeadModel
    from headpursuit.tuning.tune import Tuned

_TRIALS = ("number", "method", "k", "effect", "cost", "test_effect", "test_cost", "on_front", "chosen", "edit")


def save_tuning(tuned: Tuned, folder: Path, *, model: HeadModel) -> list[Path]:
    """Write ``edit.json``, ``results.json``, ``results.csv``, ``trials.csv``, ``tables.md`` and ``figures/trade-off``.

    Returns:
        What was written.

    Raises:
        MissingExtraError: matplotlib is not installed; the other files are there by then.
    """
    curve = trials_table(tuned)
    tuned.results.save(folder, extra={"trials": curve, "misses": list(tuned.misses)})
    tuned.edit.save(folder / "edit.json", model=model)
    out = io.StringIO()
    writer = csv.DictWriter(out, _TRIALS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    (folder / "trials.csv").write_text(out.getvalue(), encoding="utf-8")
    (folder / "tables.md").write_text(
        "\n".join(table.to_markdown() for table in tuning_tables(tuned)), encoding="utf-8"
    )
    written = [folder / name for name in ("edit.json", "results.json", "results.csv", "trials.csv", "tables.md")]
    return [*written, *render_trade_off(tuned, folder / "figures")]


def trials_table(tuned: Tuned) -> list[dict[str, Any]]:
    """Every edit that was tried, as plain values; those of the trade-off with their numbers on the test split."""
    points = {point.trial.number: point for point in tuned.front}
    return [
        {
            "number": trial.number,
            "method": trial.method,
            "k": len(trial.edit.heads),
            "effect": trial.effect,
            "cost": trial.cost,
            "test_effect": points[trial.number].effect if trial.number in points else None,
            "test_cost": points[trial.number].cost if trial.number in points else None,
            "on_front": trial.number in points,
            "chosen": trial.edit == tuned.edit,
            "edit": str(trial.edit),
        }
        for trial in tuned.trials
    ]


def tuning_tables(tuned: Tuned) -> list[Table]:
    """The test split's numbers of the tuned and the fixed edit, and the trade-off."""
    rows = tuned.results.rows
    measured = []
    for measure in tuned.goal.measures:
        found = {row.selection: row for row in rows if (row.task, row.metric) == (measure.task, measure.metric)}
        cells = [number(effect(found[one]), found[one].low, found[one].high) for one in ("somp", "tuned")]
        random = found.get("random")
        limit = next((one.at_most for one in tuned.goal.limits if one.measure == measure), None)
        measured.append(
            (
                measure.task,
                measure.metric + ("" if found["tuned"].normalized is not None else " (change)"),
                *cells,
                "–" if random is None else number(effect(random), random.q25, random.q75),
                "target" if limit is None else f"loss ≤ {limit:g}",
                number(found["none"].value),
                str(found["none"].n),
            )
        )
    verb = "enhance" if tuned.goal.rises else "suppress"
    fixed = f"fixed (k = {len(tuned.fixed.heads)}, α = {signed(tuned.fixed.scale)}) [95 %]"
    header = ("task", "metric", fixed, "tuned [95 %]", "random, median [quartiles]", "wished", "unedited", "n")
    note = f"Tuned: {tuned.edit}. Fixed: {tuned.fixed}."
    if tuned.misses:
        note += f" Missed: {'; '.join(tuned.misses)}."
    curve = tuple(
        (
            str(point.trial.edit),
            *(number(value) for value in (point.trial.effect, point.trial.cost, point.effect, point.cost)),
        )
        for point in tuned.front
    )
    return [
        Table(f"{verb} {tuned.goal.concept}: what is left on the test split", header, tuple(measured), note),
        Table(
            f"{verb} {tuned.goal.concept}: the trade-off, cheapest first (1 = all of the allowed loss)",
            ("edit", "target, tuning", "loss, tuning", "target, test", "loss, test"),
            curve,
        ),
    ]


def render_trade_off(tuned: Tuned, folder: Path) -> list[Path]:
    """Draw what every edit does to the target over what it costs, as SVG and PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(width=6.2, height=3.9, purpose="the figure of a trade-off")
    axes = figure.subplots()
    trials = tuned.trials
    axes.scatter(
        [one.cost for one in trials], [one.effect for one in trials], s=12, color=RULE, label="tried, tuning split"
    )
    for x, y, style, name in (
        (
            [one.trial.cost for one in tuned.front],
            [one.trial.effect for one in tuned.front],
            "o-",
            "best, tuning split",
        ),
        ([one.cost for one in tuned.front], [one.effect for one in tuned.front], "o:", "the same edits, test split"),
    ):
        axes.plot(x, y, style, color=COLOURS["tuned"], markersize=3, linewidth=1.1, label=name)
    for edit, selection, marker in ((tuned.fixed, "somp", "D"), (tuned.edit, "tuned", "*")):
        chosen = next(one for one in trials if one.edit == edit)
        name = "fixed, tuning split" if selection == "somp" else f"{SELECTION_NAMES[selection]}, tuning split"
        axes.plot(chosen.cost, chosen.effect, marker, color=COLOURS[selection], markersize=9, label=name)
    axes.axvline(1.0, color=QUIET, linewidth=0.8, linestyle="--")
    if tuned.goal.reach is not None:
        axes.axhline(tuned.goal.reach, color=QUIET, linewidth=0.8, linestyle="--")
    # A few edits that ruin the model would squeeze all others into a corner.
    axes.set_xlim(
        left=min(0.0, *(one.cost for one in trials)) - 0.1, right=min(6.0, max(2.0, *(one.cost for one in trials)))
    )
    axes.set_xlabel("largest loss, 1 = all that is allowed", fontsize=8, color=QUIET)
    axes.set_ylabel(f"{tuned.goal.target.metric}, unedited = 1", fontsize=8, color=QUIET, parse_math=False)
    axes.set_title(tuned.results.recipe, fontsize=10, color=INK, parse_math=False)
    axes.tick_params(length=0, labelsize=7, labelcolor=QUIET)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(frameon=False, fontsize=7, labelcolor=QUIET)
    figure.tight_layout()
    return [save_figure(figure, folder / f"trade-off.{kind}") for kind in ("svg", "png")]
