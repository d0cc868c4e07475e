"""Figures of an evaluation like the paper's: effects over k or over the scale, transfer, and shared heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headpursuit.report.across import render_overlap
from headpursuit.report.effects import SELECTION_NAMES
from headpursuit.report.figure import COLOURS, INK, QUIET, RULE, new_figure, save_figure
from headpursuit.report.tables import effect, head_sets_overlap, is_transfer, present, transfer_targets
from headpursuit.report.text import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from headpursuit.evaluation.results import Results, Row

_PANEL = (2.9, 2.3)
_COLUMNS = 4
_PURPOSE = "figures of an evaluation"


def render_curves(results: Results, folder: Path) -> list[Path]:
    """Draw a run: for each concept its effects, and for several data sets the transfer matrix; each as SVG and PNG.

    Effects stand over k, one line of panels a scale; or over the scale, one line of panels a k, where more scales were tried
    than numbers of heads (the paper's Figure 10). SOMP and the logit lens are drawn with their 95 % intervals, random heads as
    the median with its quartiles.

    Args:
        results: the run.
        folder: where the files go.

    Returns:
        The files.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    written = []
    for concept in dict.fromkeys(row.concept for row in results.rows):
        rows = [row for row in results.rows if row.concept == concept]
        written += _save(_effects(rows, title=concept), folder / _plain(concept))
    if is_transfer(results):
        written += _save(_matrix(results), folder / "transfer")
        written += [render_overlap(head_sets_overlap(results), folder / f"overlap.{kind}") for kind in ("svg", "png")]
    return written


def _effects(rows: Sequence[Row], *, title: str) -> Figure:
    edited = [row for row in rows if row.selection != "none"]
    ks, scales = (sorted({getattr(row, key) for row in edited}) for key in ("k", "scale"))
    over, fixed = ("scale", "k") if len(scales) > len(ks) else ("k", "scale")
    lines = ks if fixed == "k" else scales
    places = list(dict.fromkeys((row.task, row.metric) for row in edited))
    panels = [
        (line, place)
        for line in lines
        for place in places
        if any(getattr(row, fixed) == line and (row.task, row.metric) == place for row in edited)
    ]
    columns = min(_COLUMNS, len(panels))
    height = math.ceil(len(panels) / columns)
    figure = new_figure(width=columns * _PANEL[0], height=height * _PANEL[1] + 0.5, purpose=_PURPOSE)
    grid = figure.subplots(height, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (line, place) in zip(grid.flat, panels, strict=False):
        shown = [row for row in edited if getattr(row, fixed) == line and (row.task, row.metric) == place]
        _panel(axes, shown, over)
        name = f"k = {line}" if fixed == "k" else f"α = {signed(line)}"
        axes.set_title(f"{place[0]}\n{place[1]}, {name}", fontsize=7.5, color=INK, parse_math=False)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=8, labelcolor=QUIET)
    figure.suptitle(title, fontsize=10, color=INK, parse_math=False)
    figure.tight_layout(rect=(0, 0.35 / (height * _PANEL[1] + 0.5), 1, 1))
    return figure


def _panel(axes: Axes, rows: Sequence[Row], over: str) -> None:
    relative = any(row.normalized is not None for row in rows)
    axes.axhline(1.0 if relative else 0.0, color=QUIET, linewidth=0.8, zorder=0)
    for selection in reversed(present(rows)):
        own = sorted((row for row in rows if row.selection == selection), key=lambda row: getattr(row, over))
        x = [getattr(row, over) for row in own]
        y, low, high = (
            np.array([math.nan if value is None else value for value in values], dtype=float)
            for values in (
                [effect(row) for row in own],
                [row.q25 if selection == "random" else row.low for row in own],
                [row.q75 if selection == "random" else row.high for row in own],
            )
        )
        axes.plot(x, y, "o-", color=COLOURS[selection], markersize=3, linewidth=1.3, label=SELECTION_NAMES[selection])
        axes.fill_between(x, low, high, color=COLOURS[selection], alpha=0.15, linewidth=0)
    axes.set_xlabel("heads k" if over == "k" else "scale α", fontsize=7.5, color=QUIET)
    axes.set_ylabel("relative to unedited" if relative else "change", fontsize=7.5, color=QUIET)
    if over == "k" and len({row.k for row in rows}) > 1 and max(row.k for row in rows) > 8:
        axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({getattr(row, over) for row in rows}))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    axes.minorticks_off()
    _quiet(axes)


def _matrix(results: Results) -> Figure:
    targets = transfer_targets(results)
    tasks = list(targets)
    sources = list(dict.fromkeys(row.concept for row in results.rows))
    edited = [row for row in results.rows if row.metric == targets.get(row.task) and row.selection != "none"]
    k = max(row.k for row in edited)
    scale = edited[0].scale
    shown = present(edited)
    figure = new_figure(width=3.3 * len(shown), height=0.45 * len(sources) + 1.6, purpose=_PURPOSE)
    for axes, selection in zip(figure.subplots(1, len(shown)), shown, strict=True):
        found = {
            (row.concept, row.task): effect(row)
            for row in edited
            if (row.selection, row.k, row.scale) == (selection, k, scale)
        }
        values = np.array([[found.get((source, task)) for task in tasks] for source in sources], dtype=float)
        axes.imshow(values, cmap="Blues_r", vmin=0, vmax=1)
        for (y, x), value in np.ndenumerate(values):
            colour = "white" if value < 0.5 else INK
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(len(tasks)), tasks, fontsize=7, rotation=40, ha="right")
        axes.set_yticks(range(len(sources)), sources, fontsize=7)
        axes.set_title(f"{SELECTION_NAMES[selection]}, k = {k}, α = {signed(scale)}", fontsize=8, color=INK)
        axes.tick_params(length=0)
    figure.supylabel("heads of", fontsize=7.5, color=QUIET)
    figure.tight_layout()
    return figure


def _quiet(axes: Axes) -> None:
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=7, labelcolor=QUIET)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _save(figure: Figure, base: Path) -> list[Path]:
    return [save_figure(figure, base.with_suffix(f".{kind}")) for kind in ("svg", "png")]


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-_" else "-" for character in name)
