"""Heat maps: scores of heads as shaded cells, and matrices with their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from headpursuit.drawing.figure import new_figure
from headpursuit.drawing.style import (
    COLOURS,
    INK,
    PAPER,
    QUIET,
    Axes,
    Figure,
    figure_of,
    readable,
    remove_frame,
    set_labels,
    set_title,
    two_decimals,
)
from headpursuit.errors import HeadPursuitError


def heat_map(
    values: Any,
    *,
    title: str = "",
    label: str = "",
    outlined: Iterable[Any] = (),
    dotted: Iterable[Any] = (),
    axes: Axes | None = None,
    selection: str = "somp",
    width: float = 7.5,
) -> Figure:
    """A grid of shaded cells, from the lowest value (palest) to the highest; what is not a number stays blank.

    Values that lie farther below the median than the highest lies above it are as pale as that: a few low ones would make all
    others alike.

    Args:
        values: shape ``(l, h)``, layers down and heads across; or a data frame, whose names are written at its sides.
        title: the line above it.
        label: what is shaded.
        outlined: heads, or pairs of row and column.
        dotted: the same, for cells that get a dot.
        axes: where to draw; a new figure when left out.
        selection: whose colour.
        width: of a grid without names, at most, in inches.

    Raises:
        HeadPursuitError: the values are no grid.
        MissingExtraError: matplotlib is not installed.

    >>> from headpursuit.drawing import save_figure
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
        side = min(0.34, width / columns, 0.87 * width / rows) if not named else 0.34
        wide = max(2.2, min(12.0, columns * side))
        figure = new_figure(width=wide + 0.9, height=max(1.0, rows * side) + 1.1)
        axes = figure.add_axes((0.6 / figure.get_figwidth(), 0.28, wide / figure.get_figwidth(), 0.62))
    finite = grid[np.isfinite(grid)]
    lowest, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    low = max(lowest, 2 * float(np.median(finite)) - high) if finite.size else 0.0
    shades = np.clip((grid - low) / (high - low), 0, 1) if high > low else np.where(np.isfinite(grid), 0.0, np.nan)
    _cells(axes, shades, colour=COLOURS.get(selection, COLOURS["somp"]), equal=not named)
    for row, column in map(_cell, outlined):
        _outline(axes, row, column)
    for row, column in map(_cell, dotted):
        axes.plot(column, row, ".", color=PAPER if shades[row, column] > 0.55 else INK, markersize=5)
    if named:
        axes.set_yticks(range(rows), [readable(str(name)) for name in values.index])
        _mark_layers(axes, [str(name) for name in values.columns])
    else:
        axes.set_xticks(range(0, columns, max(1, math.ceil(columns / 16))))
        axes.set_yticks(range(0, rows, max(1, math.ceil(rows / 16))))
        set_labels(axes, x="head", y="layer")
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    span = (
        f"{low:.3g}{' and less' if low > lowest else ''} (pale) to {high:.3g}".replace("-", "−") if finite.size else "no values"
    )
    # In small maps a long remark would be wider than they are.
    between = ",\n" if width < 5 and not named else ", "
    set_title(axes, title, f"{label}{between}{span}" if label else span)
    return figure_of(axes)


def overlap(table: pd.DataFrame) -> Figure:
    """The similarity of every pair of head sets, as a matrix with its numbers.

    Args:
        table: what :func:`headpursuit.head_overlap` gives.

    Raises:
        MissingExtraError: matplotlib is not installed.

    >>> from headpursuit.drawing import save_figure
    >>> sets = {"one": [hp.Head(0, 1), hp.Head(2, 3)], "other": [hp.Head(2, 3)]}
    >>> save_figure(overlap(hp.head_overlap(sets)), tmp_path / "overlap.png").name
    'overlap.png'
    """
    return matrices({"": table}, title="Jaccard similarity of head sets")


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
                    axes.text(column, row, two_decimals(value), ha="center", va="center", fontsize=8, color=ink)
        names = [readable(str(one)) for one in table.columns]
        axes.set_xticks(range(columns), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(rows), [readable(str(one)) for one in table.index] if index == 0 else [""] * rows)
        axes.tick_params(length=0, labelsize=8, labelcolor=INK)
        set_title(axes, title if index == 0 else "", name)
    return figure


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
    remove_frame(axes)


def _cell(one: Any) -> tuple[int, int]:
    return (one.layer, one.head) if hasattr(one, "layer") else one


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
