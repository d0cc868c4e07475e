"""Plain charts: bars, effects beside their controls and over k or α, and what an effect costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from headpursuit.drawing.figure import new_figure
from headpursuit.drawing.style import (
    COLOURS,
    INK,
    MARKERS,
    QUIET,
    SELECTION_NAMES,
    Axes,
    Figure,
    figure_of,
    printable,
    quieten,
    readable,
    set_labels,
    set_title,
    signed,
    two_decimals,
)

# Colours that the colour-blind tell apart (Okabe and Ito 2008), and dashes for more lines than those.
_OKABE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LOOKS = [(colour, line) for line in ("-", "--", "-.") for colour in _OKABE]
_SIZES = {"tuned": 10.0, "contest": 8.0, "calibrated": 6.0, "somp": 8.0, "logit_lens": 5.5, "attribution": 6.0, "random": 9.0}


def bars(labels: Sequence[str], values: Sequence[float], *, title: str = "", label: str = "") -> Figure:
    """Horizontal bars from 0, the first on top, each with its number.

    Args:
        labels: a name a bar.
        values: a number a bar.
        title: the line above.
        label: what is measured.

    Raises:
        MissingExtraError: matplotlib is not installed.

    >>> from headpursuit.drawing import save_figure
    >>> head = hp.describe(acts, heads=["L3.H11"])[0]
    >>> save_figure(bars(head.tokens, head.explained_variance, title=str(head.head)), tmp_path / "head.png").name
    'head.png'
    """
    axes = new_figure(width=5.4, height=0.26 * max(len(values), 1) + 0.9).add_subplot()
    axes.barh(range(len(values)), values, height=0.6, color=COLOURS["somp"], alpha=0.85)
    axes.set_yticks(range(len(values)), [printable(one) for one in labels])
    axes.set_ylim(max(len(values), 1) - 0.4, -0.6)
    for index, value in enumerate(values):
        axes.text(value, index, f" {two_decimals(value)}", va="center", fontsize=7.5, color=QUIET)
    quieten(axes, grid="x")
    axes.tick_params(axis="y", labelcolor=INK)
    set_labels(axes, x=label)
    set_title(axes, title)
    axes.margins(x=0.12)
    return figure_of(axes)


def trade_off(
    points: Mapping[str, Sequence[tuple[float, float]]],
    *,
    marked: Sequence[tuple[str, float, float]] = (),
    limit: float = 1.0,
    reach: float | None = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """A trade-off, effect over cost: the first series as a cloud, the others as lines.

    The axis ends where nine in ten of the points do, or at the last marked one: a few edits that ruin the model would squeeze
    all others into a corner. How many lie beyond is written there.

    Args:
        points: pairs of cost and effect by series.
        marked: edits to be pointed out: name, cost, effect.
        limit: the cost that is allowed.
        reach: the effect that is wished for.
        title: the line above.
        xlabel: what costs are.
        ylabel: what effects are.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    axes = new_figure(width=6.4, height=4.0).add_subplot()
    for (name, pairs), style in zip(points.items(), ("cloud", "o-", "o:", "o--", "o-."), strict=False):
        x, y = [one[0] for one in pairs], [one[1] for one in pairs]
        if style == "cloud":
            axes.scatter(x, y, s=14, color=COLOURS["random"], alpha=0.45, linewidths=0, label=printable(name))
        else:
            axes.plot(x, y, style, color=COLOURS["tuned"], markersize=3.5, linewidth=1.2, label=printable(name))
    for (name, cost, effect), (colour, marker) in zip(
        marked, (("tuned", "*"), ("somp", "D"), ("logit_lens", "s")), strict=False
    ):
        axes.plot(cost, effect, marker, color=COLOURS[colour], markersize=9, label=printable(name), linestyle="none", zorder=5)
    costs = [pair[0] for pairs in points.values() for pair in pairs if math.isfinite(pair[0])]
    right = max([limit * 1.2, *([float(np.quantile(costs, 0.9))] if costs else []), *(cost for _, cost, _ in marked)])
    left = min([0.0, *costs])
    margin = 0.04 * (right - left)
    axes.set_xlim(left - margin, right + margin)
    axes.axvline(limit, color=QUIET, linewidth=0.9, linestyle="--")
    axes.annotate(
        "limit",
        (limit, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -9),
        textcoords="offset points",
        fontsize=7,
        color=QUIET,
    )
    if reach is not None:
        axes.axhline(reach, color=QUIET, linewidth=0.9, linestyle="--")
    if beyond := sum(cost > right + margin for cost in costs):
        axes.text(1, 0.02, f"{beyond} beyond →", transform=axes.transAxes, fontsize=7, color=QUIET, ha="right")
    quieten(axes)
    set_labels(axes, x=xlabel, y=ylabel)
    set_title(axes, title)
    axes.legend(frameon=False, fontsize=7.5, labelcolor=QUIET, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure_of(axes)


def reached(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], *, xlabel: str = "", title: str = "") -> Figure:
    """Lines that rise with what they cost, a panel a title, one legend for all.

    Args:
        panels: for every panel, points of cost and effect by the name of a line.
        xlabel: what costs are.
        title: the line above.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    columns = min(3, max(len(panels), 1))
    rows = math.ceil(max(len(panels), 1) / columns)
    wide, high = 3.3 * columns, 2.5 * rows + 0.5 + 0.2 * math.ceil(len(names) / 3)
    figure = new_figure(width=max(wide, 4.6), height=high)
    handles: dict[str, Any] = {}
    for number, (panel, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for name, pairs in lines.items():
            x, y = [one[0] for one in pairs], [one[1] for one in pairs]
            look = _LOOKS[names.index(name) % len(_LOOKS)]
            style: Any = {"color": QUIET, "linestyle": ":"} if name == "random" else {"color": look[0], "linestyle": look[1]}
            (handles[name],) = axes.plot(x, y, linewidth=1.5, label=printable(name), **style)
        axes.set_title(printable(panel), fontsize=8.5, color=INK, parse_math=False)
        quieten(axes)
        set_labels(axes, x=xlabel if number > len(panels) - columns else "")
    below = (0.35 + 0.2 * math.ceil(len(names) / 3)) / high
    figure.subplots_adjust(left=0.07, right=0.98, bottom=below + 0.35 / high, top=1 - 0.6 / high, wspace=0.22, hspace=0.42)
    figure.suptitle(printable(title), fontsize=11, color=INK, parse_math=False, y=1 - 0.12 / high)
    style = {"frameon": False, "fontsize": 7.5, "labelcolor": QUIET, "ncols": min(3, max(len(names), 1))}
    figure.legend(handles.values(), map(readable, handles), loc="lower center", **style)
    return figure


def effects(rows: Iterable[Any], *, title: str = "", axes: Axes | None = None) -> Figure:
    """The effects of edits beside their controls: a line a metric, on a common axis where the unedited model stands at 1.

    Bars behind the marks are 95 % intervals, or quartiles over draws for random heads. Metrics that have no ratio stand on an
    axis of their own, as changes from 0.

    Args:
        rows: of :class:`headpursuit.evaluation.results.Results`, without those of the unedited model.
        title: the line above.
        axes: where to draw the ratios alone; a new figure when left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = [row for row in rows if row.effect is not None and row.selection != "none"]
    # A tuned edit has scales and a number of heads of its own, and stands beside a fixed one all the same.
    tuned = {row.concept for row in shown if row.selection == "tuned"}
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    edited = {"" if row.concept in tuned else _edit(row) for row in shown}
    common = edited.pop() if len(edited) == 1 and axes is None else ""
    for row in shown:
        edit = () if row.concept in tuned else (row.k, row.scale)
        key = (row.normalized is None, row.concept, row.task, row.metric, *edit)
        lines.setdefault(key, {})[row.selection] = row
    present = [one for one in MARKERS if any(one in found for found in lines.values())]
    ratios, changes = ({key: found for key, found in lines.items() if key[0] is change} for change in (False, True))
    if axes is not None:
        _effect_lines(axes, ratios, unedited=1.0, edits=True, concepts=True)
        set_title(axes, title)
        _selection_legend(axes, present)
        return figure_of(axes)
    groups = [(found, one) for found, one in ((ratios, 1.0), (changes, 0.0)) if found] or [(ratios, 1.0)]
    heights = [0.42 * max(len(found), 1) for found, _ in groups]
    below = 0.62  # inches for each axis' numbers and name
    high = sum(heights) + below * len(groups) + 0.5
    figure = new_figure(width=5.6, height=high)
    top = high - 0.35
    for (found, unedited), height in zip(groups, heights, strict=True):
        panel = figure.add_axes((0.38, (top - height) / high, 0.52, height / high))
        _effect_lines(panel, found, unedited=unedited, edits=not common, concepts=not (common and title))
        set_labels(panel, x="relative to the unedited model" if unedited else "change from the unedited model")
        top -= height + below
    set_title(figure.axes[0], title, common)
    _selection_legend(figure, present)
    return figure


def _edit(row: Any) -> str:
    return f"{row.k} head{'' if row.k == 1 else 's'}, α = {signed(row.scale)}"


def sweep(
    rows: Iterable[Any], *, over: Literal["k", "scale"], target: tuple[str, str] | None = None, title: str = ""
) -> Figure:
    """The effects of edits as the number of heads or their scale grows: a panel a metric, the target's large and first.

    Args:
        rows: of one concept, all of one scale where ``over`` is ``k``, or of one k.
        over: what grows.
        target: task and metric that the edits were meant to move.
        title: the line above.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = [row for row in rows if row.selection != "none" and row.effect is not None]
    measures = list(dict.fromkeys((row.task, row.metric) for row in shown))
    measures.sort(key=lambda one: one != target)
    columns, large = 4, target in measures and len(measures) > 1
    small = len(measures) - large
    # The target's panel takes two lines and two columns.
    lines = max(2, 2 + math.ceil((small - 4) / columns)) if large else max(1, math.ceil(small / columns))
    wide, height = large or small > 2, 2.0 * lines + 0.9
    figure = new_figure(width=9.6 if wide else 3.4 * max(small, 1), height=height)
    spec = figure.add_gridspec(lines, columns if wide else max(small, 1))
    cells = [(line, column) for line in range(lines) for column in range(spec.ncols)]
    free = [(line, column) for line, column in cells if not large or line > 1 or column > 1]
    for measure in measures:
        big = large and measure == target
        axes = figure.add_subplot(spec[:2, :2] if big else spec[free.pop(0)])
        _over(axes, [row for row in shown if (row.task, row.metric) == measure], over)
        name = f"{readable(measure[1])}\n{readable(measure[0])}"
        axes.set_title(name, fontsize=10 if big else 7, color=INK, weight="bold" if big else "normal", parse_math=False)
    figure.suptitle(printable(title), fontsize=11, color=INK, parse_math=False, y=1 - 0.1 / height)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.75 / height, top=1 - 0.8 / height, wspace=0.5, hspace=0.85)
    _selection_legend(figure, [one for one in MARKERS if any(row.selection == one for row in shown)], lines=True)
    return figure


def _effect_lines(
    axes: Axes, lines: Mapping[tuple[Any, ...], Mapping[str, Any]], *, unedited: float, edits: bool, concepts: bool
) -> None:
    """Draw a line a metric, which names its edit, and its concept if there are several."""
    concepts = concepts or len({row.concept for found in lines.values() for row in found.values()}) > 1
    present = [one for one in MARKERS if any(one in found for found in lines.values())]
    step = 0.5 / max(len(present), 1)
    axes.axvline(unedited, color=QUIET, linewidth=0.9, zorder=0)
    names = []
    for y, found in enumerate(lines.values()):
        first = next(iter(found.values()))
        heads = "" if not edits or "tuned" in found else f", {_edit(first)}"
        start = "" if not concepts or first.metric.startswith(first.concept) else f"{readable(first.concept)}: "
        names.append(f"{start}{readable(first.metric)}\n{readable(first.task)}{heads}")
        for index, selection in enumerate(present):
            row = found.get(selection)
            if row is None:
                continue
            at, colour = y + (index - (len(present) - 1) / 2) * step, COLOURS[selection]
            if row.spread is not None:
                wide = 4 if selection == "random" else 1.6
                axes.plot(row.spread, (at, at), color=colour, linewidth=wide, alpha=0.45, solid_capstyle="round")
            style: Any = {"color": colour, "markersize": _SIZES[selection], "zorder": 4}
            edge = 2.2 if selection == "random" else 0
            axes.plot(row.effect, at, MARKERS[selection], markeredgewidth=edge, **style)
        main = found.get("tuned", first)
        where: Any = {"transform": axes.get_yaxis_transform(), "fontsize": 9, "weight": "bold", "va": "center"}
        axes.text(1.02, y, two_decimals(main.effect), color=COLOURS[main.selection], **where)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.margins(x=0.04)
    if unedited:
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]), right=max(1.1, axes.get_xlim()[1]))
    quieten(axes, grid="x")
    axes.tick_params(axis="y", labelcolor=INK)


def _over(axes: Axes, rows: Sequence[Any], over: str) -> None:
    relative = any(row.normalized is not None for row in rows)
    axes.axhline(1.0 if relative else 0.0, color=QUIET, linewidth=0.9, zorder=0)
    for selection in reversed(MARKERS):
        own = sorted((row for row in rows if row.selection == selection), key=lambda row: getattr(row, over))
        if not own:
            continue
        x = [getattr(row, over) for row in own]
        low, high = zip(*(row.spread or (math.nan, math.nan) for row in own), strict=True)
        if len(x) > 1:
            axes.fill_between(x, low, high, color=COLOURS[selection], alpha=0.15, linewidth=0)
        else:  # a band has no width at a single point
            axes.vlines(x, low, high, color=COLOURS[selection], alpha=0.25, linewidth=4)
        axes.plot(x, [row.effect for row in own], "o-", color=COLOURS[selection], markersize=3, linewidth=1.4)
    ticks = sorted({getattr(row, over) for row in rows})
    if over == "k" and max(ticks) > 8:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [signed(tick) for tick in ticks])
    axes.minorticks_off()
    quieten(axes)
    set_labels(axes, x="heads k" if over == "k" else "scale α", y="relative to unedited" if relative else "change")


def _selection_legend(below: Figure | Axes, selections: Sequence[str], *, lines: bool = False) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for one in selections:
        mark: Any = {"marker": MARKERS[one], "linestyle": "none", "markersize": 0.8 * _SIZES[one], "markeredgewidth": 0}
        if lines:
            mark = {"marker": "o", "linestyle": "-", "markersize": 3}
        elif one == "random":
            mark["markeredgewidth"] = 2
        name = SELECTION_NAMES[one] + (", quartiles" if one == "random" else "")
        handles.append(Line2D([], [], color=COLOURS[one], label=name, **mark))
    inside = hasattr(below, "get_xlim")
    anchor: Any = {
        "loc": "upper center" if inside else "lower center",
        "bbox_to_anchor": (0.3 if inside else 0.5, -0.1 * inside),
    }
    style: Any = {"frameon": False, "fontsize": 8, "labelcolor": QUIET, "ncols": max(len(handles), 1)}
    below.legend(handles=handles, **anchor, **style)
