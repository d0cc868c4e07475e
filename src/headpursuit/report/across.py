"""Figures across concepts and data sets: shared heads, and concepts over all heads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from headpursuit.report.figure import COLOURS, INK, QUIET, new_figure, save_figure
from headpursuit.report.text import printable, readable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from headpursuit.ranking.overlap import ConceptMap

# More cells than this and their numbers would overlap.
_NUMBERED = 12
_CELL = 0.62


def render_overlap(table: pd.DataFrame, path: str | Path) -> Path:
    """Draw the Jaccard similarities of head sets as a matrix with its numbers.

    Args:
        table: what :func:`headpursuit.head_overlap` gives.
        path: ``.svg``, or else a PNG.

    Returns:
        The path written.

    Raises:
        HeadPursuitError: the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    values = table.to_numpy(dtype=float)
    count = len(values)
    side = max(2.0, _CELL * min(count, 2 * _NUMBERED))
    figure = new_figure(width=side + 2.6, height=side + 1.4, purpose="the figure of shared heads")
    axes = _matrix(figure, values)
    names = [printable(readable(str(name))) for name in table.columns]
    axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    if count <= _NUMBERED:
        for (row, column), value in np.ndenumerate(values):
            ink = "white" if value > 0.55 else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color=ink)
    axes.set_title("Jaccard similarity of head sets", fontsize=11, color=INK, loc="left")
    return save_figure(figure, path)


def render_concept_map(found: ConceptMap, path: str | Path, *, values: Literal["scores", "z"] = "scores") -> Path:
    """Draw a line a concept over all heads of the model, layers marked off.

    Scores are shaded from 0 to each concept's highest, since explained variances of concepts of different sizes do not
    compare; z is shaded on one scale from 0.

    Args:
        found: what :func:`headpursuit.concept_map` gives.
        path: ``.svg``, or else a PNG.
        values: what to draw.

    Returns:
        The path written.

    Raises:
        HeadPursuitError: z asked for, and the map has none; the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    table = found.to_frame(values)
    cells = table.to_numpy(dtype=float)
    highest = np.nanmax(cells, axis=1, keepdims=True) if values == "scores" else np.nanmax(cells)
    shaded = np.clip(cells / np.where(highest > 0, highest, 1), 0, 1)
    height = max(1.2, 0.34 * len(cells))
    figure = new_figure(height=height + 1.2, purpose="the map of concepts")
    axes = _matrix(figure, shaded, aspect="auto")
    axes.set_yticks(range(len(table)), [printable(readable(name)) for name in found.concepts])
    layers = [head.layer for head in found.heads()]
    starts = [index for index, layer in enumerate(layers) if index == 0 or layers[index - 1] != layer]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color=QUIET, linewidth=0.6)
    every = max(1, len(starts) // 16)
    axes.set_xticks([start - 0.5 for start in starts[::every]], [f"L{layers[start]}" for start in starts[::every]])
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("left")
    scale = "0 to each concept's highest" if values == "scores" else f"0 to {float(np.max(highest)):.1f}"
    measured = {"somp": "explained variance", "logit_lens": "mean logit"}[found.method]
    what = measured if values == "scores" else f"z of {measured} against random token sets"
    axes.set_title(f"{what} of every head, {found.n} samples; {scale}", fontsize=11, color=INK, loc="left")
    return save_figure(figure, path)


def _matrix(figure: Figure, values: np.ndarray, *, aspect: Literal["equal", "auto"] = "equal") -> Axes:
    from matplotlib.colors import LinearSegmentedColormap

    axes = figure.add_axes((0.2, 0.2, 0.78, 0.7))
    colours = LinearSegmentedColormap.from_list("shade", ["#eef3f6", COLOURS["somp"]]).with_extremes(bad="#ffffff")
    axes.imshow(values, cmap=colours, vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
