"""One picture of a run for a README: where the heads are, what editing them does, and what it reads like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headpursuit.errors import HeadPursuitError, MissingExtraError
from headpursuit.report.content import ConceptSection, Example, RunReport
from headpursuit.report.effects import SELECTION_NAMES, Headline, headline
from headpursuit.report.heat_map import shades
from headpursuit.report.text import printable, readable, signed, token, word_finder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, RULE, MARK = "#1c1c1e", "#66645e", "#e3dfd5", "#ffe9a8"
COLOURS = {
    "somp": "#0b5f8f",
    "logit_lens": "#b0590f",
    "attribution": "#3d7a3a",
    "tuned": "#7b3f8c",
    "random": "#77746d",
}
MARKERS = {"somp": "o", "logit_lens": "D", "random": "|"}
WIDTH, DPI = 12.0, 160
HEADS_LISTED = 4


def render_readme_figure(run: RunReport, path: str | Path, *, concept: str | None = None, n_examples: int = 3) -> Path:
    """Draw one PNG: the map of a concept, the effect of the edits beside their controls, and texts before and after.

    Args:
        run: the run; what it lacks is left out of the picture.
        path: the file to write, replaced if it exists; its folder is made if needed.
        concept: whose map and examples to draw; by default the first concept with examples, or else the first.
        n_examples: how many examples to show at most; three fit.

    Returns:
        The path written.

    Raises:
        HeadPursuitError: the run has no such concept, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    section = _featured(run, concept)
    lines = [line for line in map(headline, run.concepts) if line.suppress is not None]
    examples = list(section.examples)[:n_examples]
    figure = new_figure(height=6.9 if examples else 4.3, purpose="the README figure")
    # Everything above the examples keeps its size in inches whether or not there are any.
    height = figure.get_figheight()
    _draw_map(figure, section, bottom=(height - 3.55) / height, height=2.65 / height, alone=not lines)
    if lines:
        _draw_effects(figure, lines, bottom=(height - 3.55) / height, height=2.65 / height)
    if examples:
        _draw_examples(figure, section, examples, top=2.75 / height)
    return save_figure(figure, path)


def _featured(run: RunReport, concept: str | None) -> ConceptSection:
    if not run.concepts:
        raise HeadPursuitError("a figure needs at least one concept, this run has none")
    if concept is None:
        return next((section for section in run.concepts if section.examples), run.concepts[0])
    for section in run.concepts:
        if section.name == concept:
            return section
    names = ", ".join(section.name for section in run.concepts)
    raise HeadPursuitError(f"this run has no concept {concept!r}: choose one of {names}")


def new_figure(*, width: float = WIDTH, height: float, purpose: str) -> Figure:
    """An empty figure, sizes in inches, drawn without a display.

    Raises:
        MissingExtraError: matplotlib is not installed; ``purpose`` says what needs it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib", extra="report", purpose=purpose) from error
    # Text is measured at the resolution at which it will be drawn, or its hinting moves every word.
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as SVG where the file is called so, and else as PNG; its folder is made if needed.

    Raises:
        HeadPursuitError: the file cannot be written.
    """
    import matplotlib as mpl

    path = Path(path)
    vector = path.suffix.lower() == ".svg"
    # Dates and random names of elements would make two drawings of the same numbers differ.
    metadata = {"Creator": "headpursuit", "Date": None} if vector else {"Software": "headpursuit"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context({"svg.hashsalt": "headpursuit"}):
            figure.savefig(
                path, format="svg" if vector else "png", bbox_inches="tight", pad_inches=0.25, metadata=metadata
            )
    except OSError as error:
        raise HeadPursuitError(f"cannot write the figure to {path}: {error.strerror or error}") from error
    return path


def _heading(figure: Figure, x: float, y: float, title: str, remark: str) -> None:
    up = 0.19 / figure.get_figheight()
    figure.text(x, y + up, title, fontsize=12.5, weight="bold", color=INK, va="bottom", parse_math=False)
    figure.text(x, y, remark, fontsize=9, color=QUIET, va="bottom", parse_math=False)


def _draw_map(figure: Figure, section: ConceptSection, *, bottom: float, height: float, alone: bool) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    method = SELECTION_NAMES.get(section.method.replace("-", "_"), section.method)
    k = len(section.heads)
    remark = f"{method} score of every head" + (f"; outlined: the {k} to edit" if k else "")
    name = readable(section.name)
    _heading(figure, 0.03, bottom + height + 0.02, f"Find the heads that write {name}", remark)

    axes = figure.add_axes((0.055, bottom, 0.29, height), anchor="NW")
    colours = LinearSegmentedColormap.from_list("score", ["#eef3f6", COLOURS["somp"]]).with_extremes(bad="#ffffff")
    image = axes.imshow(shades(section.scores), cmap=colours, vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    layers, heads = section.scores.shape
    if layers * heads <= 400:
        axes.set_xticks(np.arange(-0.5, heads), minor=True)
        axes.set_yticks(np.arange(-0.5, layers), minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
    axes.set_xticks(np.arange(0, heads, max(1, heads // 8)))
    axes.set_yticks(np.arange(0, layers, max(1, layers // 8)))
    axes.tick_params(which="both", length=0, labelsize=8, labelcolor=QUIET)
    axes.set_xlabel("head", fontsize=8.5, color=QUIET, labelpad=2)
    axes.set_ylabel("layer", fontsize=8.5, color=QUIET, labelpad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for described in section.heads:
        corner = (described.head.head - 0.5, described.head.layer - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=1.6, clip_on=False, zorder=5))
    image.set_zorder(1)
    _list_heads(figure, axes, section, wide=alone)


def _list_heads(figure: Figure, axes: Axes, section: ConceptSection, *, wide: bool) -> None:
    figure.canvas.draw()
    box = axes.get_position()
    x, line = box.x1 + 0.02, 0.2 / figure.get_figheight()
    y = box.y1
    for described in list(section.heads)[:HEADS_LISTED]:
        score = "" if described.score is None else f"  {described.score:.2f}"
        figure.text(x, y, described.name + score, fontsize=9.5, weight="bold", color=INK, va="top", parse_math=False)
        # Beside the chart there is room for three short tokens a line.
        tokens = [printable(token(one)) for one in list(described.tokens)[:5]]
        rows = [tokens] if wide else [tokens[:3], tokens[3:]]
        for row in filter(None, rows):
            y -= line * 0.9
            figure.text(x, y, ", ".join(row), fontsize=8.5, color=QUIET, va="top", parse_math=False)
        y -= line * 1.3
    if len(section.heads) > HEADS_LISTED:
        more = f"and {len(section.heads) - HEADS_LISTED} more"
        figure.text(x, y, more, fontsize=8.5, color=QUIET, va="top")


def _draw_effects(figure: Figure, lines: list[Headline], *, bottom: float, height: float) -> None:
    scales = {line.suppress.scale for line in lines if line.suppress is not None}
    alpha = f"α = {signed(scales.pop())}" if len(scales) == 1 else "each at its α"
    _heading(
        figure,
        0.545,
        bottom + height + 0.02,
        f"Suppress them, {alpha}",
        "what is left of the concept's words or answers, unedited = 1",
    )
    axes = figure.add_axes((0.635, bottom + 0.02, 0.295, height - 0.045))
    ends = [1.1]
    for y, line in enumerate(lines):
        measure = line.suppress
        assert measure is not None
        for selection in ("random", "logit_lens", "somp"):
            effect = measure.effects.get(selection)
            if effect is None or effect.shown is None:
                continue
            colour = COLOURS[selection]
            if effect.q25 is not None and effect.q75 is not None:
                axes.plot(
                    (effect.q25, effect.q75), (y, y), color=colour, linewidth=5, alpha=0.45, solid_capstyle="round"
                )
                ends.append(effect.q75)
            size = {"somp": 9, "logit_lens": 6.5, "random": 11}[selection]
            axes.plot(
                effect.shown,
                y,
                MARKERS[selection],
                color=colour,
                markersize=size,
                zorder=4,
                markeredgewidth=2.2 if selection == "random" else 0,
            )
            ends.append(effect.shown)
        if (left := measure.relative("somp")) is not None:
            axes.text(
                1.03,
                y,
                f"{left:.2f}",
                transform=axes.get_yaxis_transform(),
                fontsize=10,
                weight="bold",
                color=COLOURS["somp"],
                va="center",
            )
    axes.axvline(1, color=QUIET, linewidth=0.8, zorder=0)
    axes.set_xlim(-0.03, max(ends) * 1.04)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    names = [
        f"{readable(line.section.name)}\n{line.suppress.k} of {line.section.scores.size} heads"
        for line in lines
        if line.suppress
    ]
    axes.set_yticks(range(len(lines)), names, fontsize=9, color=INK)
    axes.tick_params(length=0, labelcolor=INK)
    axes.tick_params(axis="x", labelsize=8, labelcolor=QUIET)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _legend(axes)


def _legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    labels = {"somp": "found by SOMP", "logit_lens": "found by the logit lens", "random": "random heads, quartiles"}
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=MARKERS[key],
            color=COLOURS[key],
            label=label,
            markersize=8 if key != "logit_lens" else 5.5,
            markeredgewidth=2 if key == "random" else 0,
        )
        for key, label in labels.items()
    ]
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.42, -0.1),
        ncols=3,
        frameon=False,
        fontsize=8,
        labelcolor=QUIET,
        handletextpad=0.2,
        columnspacing=1.2,
    )


def _draw_examples(figure: Figure, section: ConceptSection, examples: list[Example], *, top: float) -> None:
    name = readable(section.name)
    _heading(figure, 0.03, top - 0.055, "Read what changes", f"held-out samples; words of {name} highlighted")
    find = word_finder(section.words)
    column = 0.955 / max(len(examples), 2)
    for index, example in enumerate(examples):
        x = 0.03 + index * column
        text_x = x
        if example.image is not None:
            side = 1.05
            picture = figure.add_axes((x, 0.06, side / WIDTH, 1.75 / figure.get_figheight()), anchor="NW")
            picture.imshow(np.asarray(example.image.convert("RGB")), interpolation="nearest")
            picture.set_axis_off()
            text_x = x + (side + 0.12) / WIDTH
        y = (top - 0.095) * figure.get_figheight()
        if example.image is None and example.prompt:
            y = _write(figure, [(printable(example.prompt), False)], text_x, y, x + column - 0.02, colour=QUIET) - 0.05
        for label, text in (("before", example.before), ("suppressed", example.after), ("enhanced", example.enhanced)):
            if text is None:
                continue
            figure.text(
                text_x,
                y / figure.get_figheight(),
                label,
                fontsize=8,
                color=COLOURS["somp"] if label != "before" else QUIET,
                va="top",
                weight="bold",
            )
            y = _write(figure, find(text or "(nothing)"), text_x, y - 0.16, x + column - 0.02) - 0.07


def _write(
    figure: Figure, pieces: list[tuple[str, bool]], x: float, y: float, right: float, *, colour: str = INK
) -> float:
    """Set pieces of text as one wrapped paragraph, words of the concept on a marker stroke; y is in inches."""
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    cursor, height = x, figure.get_figheight()
    words = [(word, marked) for piece, marked in pieces for word in _with_blanks(piece)]
    for word, marked in words[:80]:
        text = figure.text(cursor, y / height, word, fontsize=9, color=colour, va="top", parse_math=False)
        width = text.get_window_extent(renderer).width / (figure.dpi * WIDTH)
        blank = 0.0
        if word.endswith(" "):
            text.set_text(word.rstrip())
            bare = text.get_window_extent(renderer).width / (figure.dpi * WIDTH)
            blank = width - bare if width > bare else 0.004
            width = bare
        if cursor > x and cursor + width > right:
            cursor, y = x, y - 0.175
            text.set_position((cursor, y / height))
        if marked:
            text.set_bbox({"facecolor": MARK, "edgecolor": "none", "pad": 1.2})
        cursor += width + blank
    return y - 0.175


def _with_blanks(piece: str) -> list[str]:
    parts = piece.replace("\n", " ").split(" ")
    return [part + " " for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
