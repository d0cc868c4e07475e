"""One picture of several evaluations for a README: where the heads are, what editing them does, and what it reads like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headpursuit.concepts.counting import count_words
from headpursuit.drawing import Figure, effects, heat_map, new_figure, save_figure
from headpursuit.drawing.style import COLOURS, INK, MARK, QUIET, printable, readable, token
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.results import ConceptResult, Example, Results
from headpursuit.ranking.methods import MEASURES
from headpursuit.report.summary import edits
from headpursuit.report.tables import largest_k
from headpursuit.report.text import marked

WIDTH = 12.0
_MAP_INCHES, _HEADS_LISTED = 4.4, 4


def render_readme_figure(
    results: Sequence[Results], path: str | Path, *, concept: str | None = None, n_examples: int = 3
) -> Path:
    """Draw one picture: the map of a concept, the effect of all edits beside their controls, and texts before and after.

    Args:
        results: one or several evaluations, such as the demo's.
        path: the file to write, replaced if it exists; its folder is made if needed.
        concept: whose map and examples to draw; by default the first concept with examples, or else the first.
        n_examples: examples at most; three fit.

    Returns:
        The path written.

    Raises:
        HeadPursuitError: there is no such concept, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    every = [(one, own) for one in results for own in one.concepts if own.method]
    featured, shown = _featured(every, concept)
    rows = [
        row
        for one, own in every
        for told in edits(one, own)
        if told.row.scale < 1
        for row in told.target.values()
        if row.normalized is not None
    ]
    examples = _clearest(shown, n_examples)
    method = shown.method
    assert method is not None
    ranking, k = shown.rankings[method], largest_k(featured, shown)
    layers, heads = ranking.scores.shape
    # Square cells as large as both sides allow.
    side = min(_MAP_INCHES / heads, 2.6 / layers)
    lines = len({(row.concept, row.metric) for row in rows})
    listed = shown.heads(k)[:_HEADS_LISTED] if k else ()
    upper = max(layers * side + 1.2 + 0.2 * len(listed), 0.45 * lines + 1.1)
    lower = 2.5 if examples else 0.0
    total = upper + lower
    figure = new_figure(width=WIDTH, height=total)
    bottom = total - 0.6 - layers * side
    axes = figure.add_axes((0.04, bottom / total, heads * side / WIDTH, layers * side / total))
    title = f"Heads that write {readable(shown.name)}"
    heat_map(ranking.scores, title=title, label=MEASURES[method], outlined=ranking.top(k) if k else (), axes=axes)
    same = [one for one in results if one.model == featured.model]
    names = {head.head: head for one in same for head in one.descriptions if head.method == "somp"}
    for index, head in enumerate(listed):
        y = (bottom - 0.55 - 0.2 * index) / total
        said = ", ".join(map(token, names[head].tokens[:5])) if head in names else ""
        figure.text(0.04, y, f"{head}  {ranking.score(head):.2f}", fontsize=9, weight="bold", color=INK, va="top")
        figure.text(0.13, y, printable(said), fontsize=9, color=QUIET, va="top", parse_math=False)
    if rows:
        chart = figure.add_axes((0.63, (total - 0.45 - 0.45 * lines) / total, 0.31, 0.45 * lines / total))
        effects(rows, title="What is left when they are edited, unedited = 1", axes=chart)
    if examples:
        _draw_examples(figure, shown, examples, top=lower)
    return save_figure(figure, path)


def _featured(every: Sequence[tuple[Results, ConceptResult]], concept: str | None) -> tuple[Results, ConceptResult]:
    if not every:
        raise HeadPursuitError("a figure needs at least one concept whose heads were ranked, and there is none")
    if concept is None:
        return next((one for one in every if one[1].examples), every[0])
    for one in every:
        if one[1].name == concept:
            return one
    raise HeadPursuitError(f"there is no concept {concept!r}: choose one of {', '.join(own.name for _, own in every)}")


def _clearest(concept: ConceptResult, count: int) -> list[Example]:
    """The examples that lose most of the concept's words, of which the enhanced text keeps them where there is one."""

    def words(text: str | None) -> int:
        return count_words(text, concept.counted) if text and concept.counted else 0

    def lost(example: Example) -> tuple[bool, int]:
        louder = example.enhanced is None or words(example.enhanced) >= words(example.before)
        return (not louder, words(example.after) - words(example.before))

    return sorted(concept.examples, key=lost)[:count]


def _draw_examples(figure: Figure, concept: ConceptResult, examples: Sequence[Example], *, top: float) -> None:
    height = figure.get_figheight()
    figure.text(0.04, (top - 0.1) / height, "Read what changes", fontsize=11, weight="bold", color=INK, va="top")
    remark = f"held-out samples; words of {readable(concept.name)} marked"
    figure.text(0.185, (top - 0.125) / height, printable(remark), fontsize=8, color=QUIET, va="top", parse_math=False)
    column = (WIDTH - 0.96) / max(len(examples), 2)
    for index, example in enumerate(examples):
        left = 0.48 + index * column
        right, y = left + column - 0.25, top - 0.45
        if example.image is not None:
            picture = figure.add_axes((left / WIDTH, (y - 1.05) / height, 1.05 / WIDTH, 1.05 / height), anchor="NW")
            picture.imshow(np.asarray(example.image.convert("RGB")), interpolation="nearest")
            picture.set_axis_off()
            left += 1.17
        elif example.prompt:
            y = _Pen(figure, left, y, right).write([(printable(example.prompt), "")], colour=QUIET) - 0.05
        for label, text in (("before", example.before), ("suppressed", example.after), ("enhanced", example.enhanced)):
            if text is None:
                continue
            pieces = marked(text, concept.counted)
            colour = QUIET if label == "before" else COLOURS["somp"]
            figure.text(left / WIDTH, y / height, label, fontsize=8, color=colour, va="top", weight="bold")
            y = _Pen(figure, left, y - 0.16, right).write(pieces or [("(nothing)", "")]) - 0.07


@dataclass
class _Pen:
    """Sets pieces of text as a wrapped paragraph; lengths are inches from the lower left corner."""

    figure: Figure
    left: float
    y: float
    right: float

    def write(self, pieces: Sequence[tuple[str, str]], *, colour: str = INK) -> float:
        """Write, and return where the next line begins."""
        renderer: Any = self.figure.canvas.get_renderer()  # type: ignore[attr-defined]
        height, x, y = self.figure.get_figheight(), self.left, self.y
        words = [(word, kind) for piece, kind in pieces for word in _words(piece)]
        for word, kind in words[:60]:
            bare = word.rstrip()
            text = self.figure.text(x / WIDTH, y / height, bare, fontsize=9, color=colour, va="top", parse_math=False)
            wide = text.get_window_extent(renderer).width / self.figure.dpi if bare else 0.0
            if x > self.left and x + wide > self.right:
                x, y = self.left, y - 0.175
                text.set_position((x / WIDTH, y / height))
            if kind:
                text.set_bbox({"facecolor": MARK, "edgecolor": "none", "pad": 1.2})
            x += wide + (0.045 if word.endswith(" ") else 0.0)
        return y - 0.175


def _words(piece: str) -> list[str]:
    parts = piece.replace("\n", " ").split(" ")
    return [f"{part} " for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
