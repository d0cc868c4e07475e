"""Every drawing of the package: arrays, labels and plain values in, matplotlib figures out.

A heat map, effects beside their controls, effects over k or α, a trade-off, a matrix with numbers, and bars. Sizes are inches.
Nothing needs a display, and the same values always give the same file.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np

from headpursuit.errors import HeadPursuitError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, RULE, PAPER, MARK = "#1c1c1e", "#66645e", "#e3dfd5", "#ffffff", "#ffe9a8"
COLOURS = {"somp": "#0b5f8f", "logit_lens": "#b0590f", "attribution": "#3d7a3a", "tuned": "#7b3f8c", "random": "#77746d"}
MARKERS = {"tuned": "*", "somp": "o", "logit_lens": "D", "attribution": "^", "random": "|"}
SELECTION_NAMES = {
    "tuned": "tuned",
    "somp": "SOMP",
    "logit_lens": "logit lens",
    "attribution": "attribution",
    "random": "random heads",
    "none": "unedited",
}
DPI = 160
_SIZES = {"tuned": 10.0, "somp": 8.0, "logit_lens": 5.5, "attribution": 6.0, "random": 9.0}
# A page sets these variables for light and dark; elsewhere the colours stand as they are.
_VARIABLES = {
    INK: "ink",
    QUIET: "quiet",
    RULE: "rule",
    PAPER: "card",
    **{colour: selection.replace("_", "-") for selection, colour in COLOURS.items()},
}
_SVG = "http://www.w3.org/2000/svg"


def printable(text: str) -> str:
    """A text without control characters and lone surrogates, which neither a page nor a figure may hold."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in text)


def readable(name: str) -> str:
    """The key of a metric, task or concept as words."""
    return printable(name.replace("_", " ").strip())


def signed(number: float) -> str:
    """A number with a real minus sign and without idle decimals.

    >>> signed(-1.0)
    '−1'
    """
    return f"{number:g}".replace("-", "−")


def _two(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


def new_figure(*, width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure, drawn without a display.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib", extra="report", purpose="a figure") from error
    # Text is measured at the resolution at which it will be drawn, or its hinting moves every word.
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure, as SVG where the file is called so, and else as PNG; its folder is made if needed.

    Returns:
        The path written.

    Raises:
        HeadPursuitError: the file cannot be written.

    >>> save_figure(bars(["red", "blue"], [0.4, 0.1]), tmp_path / "new" / "bars.png").name
    'bars.png'
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(figure, path, vector=path.suffix.lower() == ".svg")
    except OSError as error:
        raise HeadPursuitError(f"cannot write the figure to {path}: {error.strerror or error}") from error
    return path


def to_svg(figure: Figure, *, title: str = "", description: str = "", cells: Sequence[str] = ()) -> str:
    """A figure as SVG to stand inside a page: no background, colours that follow the page's, and a name for who cannot see it.

    Args:
        figure: what a function of this module drew.
        title: the picture's accessible name.
        description: what it shows, in words.
        cells: for a heat map a name for each cell, row by row, shown where a pointer rests on it.
    """
    buffer = io.BytesIO()
    _write(figure, buffer, vector=True)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in (root, *root.iter(f"{{{_SVG}}}defs")):
        for element in [one for one in parent if one.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")]:
            parent.remove(element)
    _name_cells(root, cells)
    _make_ids_own(root, buffer.getvalue() + repr((title, description)).encode("utf-8", "replace"))
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib |= {"role": "img", "aria-label": printable(title), "style": f"width:{width:.0f}pt"}
    for tag, text in (("desc", description), ("title", title)):
        if text:
            element = ElementTree.Element(f"{{{_SVG}}}{tag}")
            element.text = printable(text)
            root.insert(0, element)
    text = ElementTree.tostring(root, encoding="unicode")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable}, {colour})")
    return re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 var(--sans, sans-serif)", text)


def heat_map(
    values: Any,
    *,
    title: str = "",
    label: str = "",
    outlined: Iterable[Any] = (),
    axes: Axes | None = None,
    selection: str = "somp",
) -> Figure:
    """A grid of shaded cells, from the lowest value (palest) to the highest; what is not a number stays blank.

    Args:
        values: shape ``(l, h)``, layers down and heads across; or a data frame, whose names are written at its sides.
        title: the line above it.
        label: what is shaded.
        outlined: heads, or pairs of row and column.
        axes: where to draw; a new figure when left out.
        selection: whose colour.

    Raises:
        HeadPursuitError: the values are no grid.
        MissingExtraError: matplotlib is not installed.

    >>> ranking = hp.rank(acts, hp.concept("colours"))
    >>> figure = heat_map(ranking.scores, title="colours", outlined=ranking.top(3))
    >>> save_figure(figure, tmp_path / "map.svg").name
    'map.svg'
    """
    named = hasattr(values, "columns")
    grid = np.asarray(values, dtype=float)
    if grid.ndim != 2 or not grid.size:
        raise HeadPursuitError(f"a heat map needs a grid of rows and columns, got shape {grid.shape}")
    rows, columns = grid.shape
    if axes is None:
        side = min(0.34, 7.5 / columns, 6.5 / rows) if not named else 0.34
        width = max(2.2, min(12.0, columns * side))
        figure = new_figure(width=width + 0.9, height=max(1.0, rows * side) + 1.1)
        axes = figure.add_axes((0.6 / figure.get_figwidth(), 0.28, width / figure.get_figwidth(), 0.62))
    finite = grid[np.isfinite(grid)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    shades = (grid - low) / (high - low) if high > low else np.where(np.isfinite(grid), 0.0, np.nan)
    _cells(axes, shades, colour=COLOURS.get(selection, COLOURS["somp"]), equal=not named)
    for one in outlined:
        row, column = (one.layer, one.head) if hasattr(one, "layer") else one
        _outline(axes, row, column)
    if named:
        axes.set_yticks(range(rows), [readable(str(name)) for name in values.index])
        _mark_layers(axes, [str(name) for name in values.columns])
    else:
        axes.set_xticks(range(0, columns, max(1, math.ceil(columns / 16))))
        axes.set_yticks(range(0, rows, max(1, math.ceil(rows / 16))))
        _label(axes, x="head", y="layer")
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    span = f"{low:.3g} (pale) to {high:.3g}".replace("-", "−") if finite.size else "no values"
    _title(axes, title, f"{label}, {span}" if label else span)
    return _figure(axes)


def bars(
    labels: Sequence[str], values: Sequence[float], *, title: str = "", label: str = "", axes: Axes | None = None
) -> Figure:
    """Horizontal bars from 0, the first on top, each with its number.

    Args:
        labels: a name a bar.
        values: a number a bar.
        title: the line above.
        label: what is measured.
        axes: where to draw; a new figure when left out.

    Raises:
        MissingExtraError: matplotlib is not installed.

    >>> head = hp.describe(acts, heads=["L2.H14"])[0]
    >>> save_figure(bars(head.tokens, head.explained_variance, title=str(head.head)), tmp_path / "head.png").name
    'head.png'
    """
    if axes is None:
        axes = new_figure(width=5.4, height=0.26 * max(len(values), 1) + 0.9).add_subplot()
    axes.barh(range(len(values)), values, height=0.6, color=COLOURS["somp"], alpha=0.85)
    axes.set_yticks(range(len(values)), [printable(one) for one in labels])
    axes.set_ylim(max(len(values), 1) - 0.4, -0.6)
    for index, value in enumerate(values):
        axes.text(value, index, f" {_two(value)}", va="center", fontsize=7.5, color=QUIET)
    _quiet(axes, grid="x")
    axes.tick_params(axis="y", labelcolor=INK)
    _label(axes, x=label)
    _title(axes, title)
    axes.margins(x=0.12)
    return _figure(axes)


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
    for row in shown:
        edit = () if row.concept in tuned else (row.k, row.scale)
        key = (row.normalized is None, row.concept, row.task, row.metric, *edit)
        lines.setdefault(key, {})[row.selection] = row
    present = [one for one in MARKERS if any(one in found for found in lines.values())]
    ratios, changes = ({key: found for key, found in lines.items() if key[0] is change} for change in (False, True))
    if axes is not None:
        _effect_lines(axes, ratios, unedited=1.0)
        _title(axes, title)
        _selection_legend(axes, present)
        return _figure(axes)
    groups = [(found, one) for found, one in ((ratios, 1.0), (changes, 0.0)) if found] or [(ratios, 1.0)]
    heights = [0.42 * max(len(found), 1) for found, _ in groups]
    below = 0.62  # inches for each axis' numbers and name
    high = sum(heights) + below * len(groups) + 0.5
    figure = new_figure(width=7.6, height=high)
    top = high - 0.35
    for (found, unedited), height in zip(groups, heights, strict=True):
        panel = figure.add_axes((0.36, (top - height) / high, 0.54, height / high))
        _effect_lines(panel, found, unedited=unedited)
        _label(panel, x="relative to the unedited model" if unedited else "change from the unedited model")
        top -= height + below
    _title(figure.axes[0], title)
    _selection_legend(figure, present)
    return figure


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
    _quiet(axes)
    _label(axes, x=xlabel, y=ylabel)
    _title(axes, title)
    axes.legend(frameon=False, fontsize=7.5, labelcolor=QUIET, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _figure(axes)


def overlap(table: pd.DataFrame, *, title: str = "") -> Figure:
    """The similarity of every pair of head sets, as a matrix with its numbers.

    Args:
        table: what :func:`headpursuit.head_overlap` gives.
        title: the line above.

    Raises:
        MissingExtraError: matplotlib is not installed.

    >>> sets = {"one": [hp.Head(0, 1), hp.Head(2, 3)], "other": [hp.Head(2, 3)]}
    >>> save_figure(overlap(hp.head_overlap(sets)), tmp_path / "overlap.png").name
    'overlap.png'
    """
    return matrices({"": table}, title=title or "Jaccard similarity of head sets")


def matrices(tables: Mapping[str, pd.DataFrame], *, title: str = "", strongest: float = 1.0) -> Figure:
    """Matrices of one kind side by side, values from 0 to 1 with their numbers.

    Args:
        tables: one a matrix, by what is written above it.
        title: the line above all.
        strongest: the value that is darkest, 1 or 0.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    first = next(iter(tables.values()))
    rows, columns = first.shape
    side = 0.56 if max(rows, columns) <= 12 else 0.3
    width, height = max(1.6, side * columns), max(1.2, side * rows)
    figure = new_figure(width=(width + 0.4) * len(tables) + 1.8, height=height + 2.0)
    for index, (name, table) in enumerate(tables.items()):
        corner = (1.8 + index * (width + 0.4)) / figure.get_figwidth()
        axes = figure.add_axes(
            (corner, 1.4 / figure.get_figheight(), width / figure.get_figwidth(), height / figure.get_figheight())
        )
        values = table.to_numpy(dtype=float)
        shades = np.clip(values if strongest else 1 - values, 0, 1)
        _cells(axes, shades, colour=COLOURS["somp"], equal=False)
        if max(rows, columns) <= 12:
            for (row, column), value in np.ndenumerate(values):
                ink = PAPER if shades[row, column] > 0.55 else INK
                if math.isfinite(value):
                    axes.text(column, row, _two(value), ha="center", va="center", fontsize=8, color=ink)
        names = [readable(str(one)) for one in table.columns]
        axes.set_xticks(range(columns), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(rows), [readable(str(one)) for one in table.index] if index == 0 else [""] * rows)
        axes.tick_params(length=0, labelsize=8, labelcolor=INK)
        _title(axes, title if index == 0 else "", name)
    return figure


def _write(figure: Figure, out: Path | io.BytesIO, *, vector: bool) -> None:
    import matplotlib as mpl

    # Dates and random names of elements would make two drawings of the same numbers differ.
    metadata = {"Creator": "headpursuit", "Date": None} if vector else {"Software": "headpursuit"}
    with mpl.rc_context({"svg.hashsalt": "headpursuit", "svg.fonttype": "none"}):
        clear: Any = {"facecolor": "none"} if isinstance(out, io.BytesIO) else {}
        figure.savefig(out, format="svg" if vector else "png", bbox_inches="tight", pad_inches=0.1, metadata=metadata, **clear)


def _name_cells(root: ElementTree.Element, names: Sequence[str]) -> None:
    group = root.find(f".//{{{_SVG}}}g[@id='cells']")
    if not names or group is None:
        return
    for cell, name in zip(group.iter(f"{{{_SVG}}}path"), names, strict=True):
        ElementTree.SubElement(cell, f"{{{_SVG}}}title").text = printable(name)


def _make_ids_own(root: ElementTree.Element, content: bytes) -> None:
    """Several pictures of a page would share the names that matplotlib gives; what nothing refers to needs none."""
    own = hashlib.sha256(content).hexdigest()[:10]
    used = set(re.findall(r"#([\w-]+)", " ".join(value for one in root.iter() for value in one.attrib.values())))
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key != "id":
                element.set(key, re.sub(r"(url\(#|^#(?=\w+$))", rf"\g<1>{own}-", value) if "#" in value else value)
            elif value in used:
                element.set("id", f"{own}-{value}")
            else:
                del element.attrib["id"]


def _cells(axes: Axes, shades: np.ndarray, *, colour: str, equal: bool) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    rows, columns = shades.shape
    half = 0.5 if columns > 64 else 0.47
    y, x = (one.ravel() for one in np.mgrid[:rows, :columns])
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    faces = np.empty((shades.size, 4))
    faces[:, :3] = to_rgb(colour)
    # A faint cell stays visible as a cell.
    faces[:, 3] = np.where(np.isfinite(shades.ravel()), 0.06 + 0.94 * np.nan_to_num(shades.ravel()), 0.0)
    grid = PolyCollection(np.stack((x, y), axis=1)[:, None] + corners, facecolors=faces, linewidths=0, gid="cells")
    grid.set_clip_on(False)
    axes.add_collection(grid)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    if equal:
        axes.set_aspect("equal", anchor="NW")
    _bare(axes)


def _outline(axes: Axes, row: int, column: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=1.6, clip_on=False, zorder=5))


def _mark_layers(axes: Axes, names: Sequence[str]) -> None:
    """Columns called ``L3.H5`` are told apart by layer, others by name."""
    layers = [name.split(".")[0] for name in names]
    if len(names) <= 16 or len(set(layers)) == len(names):
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        return
    starts = [index for index, layer in enumerate(layers) if index == 0 or layers[index - 1] != layer]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color=QUIET, linewidth=0.6)
    every = max(1, math.ceil(len(starts) / 24))
    axes.set_xticks([start - 0.5 for start in starts[::every]], [layers[start] for start in starts[::every]])
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("left")


def _effect_lines(axes: Axes, lines: Mapping[tuple[Any, ...], Mapping[str, Any]], *, unedited: float) -> None:
    present = [one for one in MARKERS if any(one in found for found in lines.values())]
    step = 0.5 / max(len(present), 1)
    axes.axvline(unedited, color=QUIET, linewidth=0.9, zorder=0)
    names = []
    for y, found in enumerate(lines.values()):
        first = next(iter(found.values()))
        heads = "" if "tuned" in found else f", {first.k} head{'' if first.k == 1 else 's'}, α = {signed(first.scale)}"
        start = "" if first.metric.startswith(first.concept) else f"{readable(first.concept)}: "
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
        best = found.get("tuned", found.get("somp"))
        if best is not None:
            where: Any = {"transform": axes.get_yaxis_transform(), "fontsize": 9, "weight": "bold", "va": "center"}
            axes.text(1.02, y, _two(best.effect), color=COLOURS[best.selection], **where)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.margins(x=0.04)
    if unedited:
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]), right=max(1.1, axes.get_xlim()[1]))
    _quiet(axes, grid="x")
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
        axes.fill_between(x, low, high, color=COLOURS[selection], alpha=0.15, linewidth=0)
        axes.plot(x, [row.effect for row in own], "o-", color=COLOURS[selection], markersize=3, linewidth=1.4)
    ticks = sorted({getattr(row, over) for row in rows})
    if over == "k" and max(ticks) > 8:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [signed(tick) for tick in ticks])
    axes.minorticks_off()
    _quiet(axes)
    _label(axes, x="heads k" if over == "k" else "scale α", y="relative to unedited" if relative else "change")


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


def _title(axes: Axes, title: str, remark: str = "") -> None:
    large: Any = {"fontsize": 11, "weight": "bold", "color": INK}
    small: Any = {"fontsize": 8, "color": QUIET}
    at: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
    for text, points, style in ((title, 17 if remark else 7, large), (remark, 5, small)):
        if text:
            axes.annotate(printable(text), (0, 1), (0, points), **at, **style)


def _figure(axes: Axes) -> Figure:
    figure: Any = axes.get_figure()
    return figure


def _label(axes: Axes, *, x: str = "", y: str = "") -> None:
    axes.set_xlabel(printable(x), fontsize=8, color=QUIET, parse_math=False)
    axes.set_ylabel(printable(y), fontsize=8, color=QUIET, parse_math=False)


def _quiet(axes: Axes, *, grid: Literal["x", "both"] = "both") -> None:
    axes.grid(axis=grid, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
