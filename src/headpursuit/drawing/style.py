"""The look that every picture shares: colours, markers, readable names, and the dress of an axis."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # annotations can be read where matplotlib is not installed
    Axes = Figure = Any

# The one style sheet of pages and figures, in the light and in the dark. The colours of ways to choose heads are told apart by
# the colour-blind, and stand out from the paper (tests/test_drawing.py); every way has a mark of its own besides.
LIGHT = {
    "paper": "#fbfaf7",
    "card": "#ffffff",
    "ink": "#1c1c1e",
    "quiet": "#66645e",
    "rule": "#e3dfd5",
    "cell": "#efece4",
    "contest": "#a31fe0",
    "somp": "#17609c",
    "calibrated": "#7a0f24",
    "logit-lens": "#c4500a",
    "attribution": "#2f9f55",
    "tuned": "#4b1f57",
    "random": "#77746d",
    "good": "#1f7145",
    "bad": "#ab2f27",
    "open": "#8a6100",
    "mark": "#ffe9a8",
}
DARK = {
    "paper": "#16171a",
    "card": "#1e2024",
    "ink": "#ececea",
    "quiet": "#a3a19b",
    "rule": "#34363b",
    "cell": "#26282d",
    "contest": "#7b4bfc",
    "somp": "#2f9af5",
    "calibrated": "#cb6b62",
    "logit-lens": "#f4611f",
    "attribution": "#a7ee8a",
    "tuned": "#b483a8",
    "random": "#e6ded1",
    "good": "#7ccb9c",
    "bad": "#f2928a",
    "open": "#e0b85a",
    "mark": "#6a5410",
}
INK, QUIET, RULE, PAPER, MARK = (LIGHT[name] for name in ("ink", "quiet", "rule", "card", "mark"))
COLOURS = {
    name.replace("-", "_"): LIGHT[name]
    for name in ("contest", "somp", "calibrated", "logit-lens", "attribution", "tuned", "random")
}
MARKERS = {"tuned": "*", "contest": "P", "calibrated": "s", "somp": "o", "logit_lens": "D", "attribution": "^", "random": "|"}
SELECTION_NAMES = {
    "tuned": "tuned",
    "somp": "SOMP",
    "contest": "contest",
    "calibrated": "calibrated",
    "logit_lens": "logit lens",
    "attribution": "attribution",
    "random": "random heads",
    "none": "unedited",
}


def printable(text: str) -> str:
    """A text without control characters and lone surrogates, which neither a page nor a figure may hold."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in text)


def readable(name: str) -> str:
    """The key of a metric, task or concept as words."""
    return printable(name.replace("_", " ").strip())


def token(text: str) -> str:
    """A token made readable: its leading space is no part of a name, and one that is only a blank is shown."""
    return printable(text.strip()) or {"": "∅", " ": "␣", "\n": "↵", "\t": "⇥"}.get(text, repr(text))


def signed(number: float) -> str:
    """A number with a real minus sign and without idle decimals.

    >>> signed(-1.0)
    '−1'
    """
    return f"{number:g}".replace("-", "−")


def two_decimals(number: float) -> str:
    """A number with two decimals and a real minus sign."""
    return f"{number:.2f}".replace("-", "−")


def set_title(axes: Axes, title: str, remark: str = "") -> None:
    """Write a title above an axis, and a remark in small print between the two."""
    large: Any = {"fontsize": 11, "weight": "bold", "color": INK}
    small: Any = {"fontsize": 8, "color": QUIET}
    at: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
    for text, points, style in ((title, 17 + 10 * remark.count("\n") if remark else 7, large), (remark, 5, small)):
        if text:
            axes.annotate(printable(text), (0, 1), (0, points), **at, **style)


def figure_of(axes: Axes) -> Figure:
    """The figure that an axis stands in."""
    figure: Any = axes.get_figure()
    return figure


def set_labels(axes: Axes, *, x: str = "", y: str = "") -> None:
    """Name both axes."""
    axes.set_xlabel(printable(x), fontsize=8, color=QUIET, parse_math=False)
    axes.set_ylabel(printable(y), fontsize=8, color=QUIET, parse_math=False)


def quieten(axes: Axes, *, grid: Literal["x", "both"] = "both") -> None:
    """Draw a pale grid behind and take the frame, the ticks and mathematics in labels away."""
    axes.grid(axis=grid, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    remove_frame(axes)


def remove_frame(axes: Axes) -> None:
    """Take the frame and the background of an axis away."""
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
