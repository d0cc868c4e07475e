"""Every drawing of the package: arrays, labels and plain values in, matplotlib figures out.

Sizes are inches. Nothing needs a display, and the same values always give the same file.
"""

from headpursuit.drawing.charts import bars, effects, reached, sweep, trade_off
from headpursuit.drawing.figure import new_figure, save_figure, to_svg
from headpursuit.drawing.heat_map import heat_map, matrices, overlap
from headpursuit.drawing.style import Figure

__all__ = [
    "Figure",
    "bars",
    "effects",
    "heat_map",
    "matrices",
    "new_figure",
    "overlap",
    "reached",
    "save_figure",
    "sweep",
    "to_svg",
    "trade_off",
]
