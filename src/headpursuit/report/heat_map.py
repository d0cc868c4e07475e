"""The layer × head map of scores as an inline, accessible SVG."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from headpursuit.model.heads import Head
from headpursuit.report.text import printable

if TYPE_CHECKING:
    from jaxtyping import Float

MARGIN_LEFT, MARGIN_TOP, MARGIN_RIGHT, MARGIN_BOTTOM = 34, 6, 6, 30


def shades(scores: Float[np.ndarray, "l h"], *, floor: float | None = 0.0) -> Float[np.ndarray, "l h"]:
    """Map scores to 0..1 for shading.

    Args:
        scores: shape ``(l, h)``, NaN allowed.
        floor: the score that is drawn blank; None for the lowest score.

    Returns:
        Shape ``(l, h)``, NaN where the score is not finite; all zero if the scores do not differ.
    """
    finite = np.where(np.isfinite(scores), np.asarray(scores, dtype=float), np.nan)
    if np.all(np.isnan(finite)):
        return finite
    low = float(np.nanmin(finite)) if floor is None else floor
    spread = float(np.nanmax(finite)) - low
    if spread <= 0:
        return np.where(np.isnan(finite), np.nan, 0.0)
    return np.clip((finite - low) / spread, 0.0, 1.0)


def heat_map(
    scores: Float[np.ndarray, "l h"],
    *,
    title: str,
    ident: str,
    edited: Collection[Head] = (),
    dotted: Collection[Head] = (),
    floor: float | None = 0.0,
    tone: str = "somp",
) -> str:
    """Draw scores as a grid, layers down and heads across.

    Args:
        scores: shape ``(l, h)``; a NaN is drawn as a missing cell.
        title: accessible name of the picture.
        ident: unique on the page; letters, digits and hyphens.
        edited: heads that get an outline.
        dotted: heads that get a dot.
        floor: see ``shades``.
        tone: CSS class suffix that sets the colour.

    Returns:
        SVG markup; colours come from the page's style sheet, so it follows light and dark.
    """
    layers, heads = np.shape(scores)
    shade = shades(scores, floor=floor)
    size = _cell_size(layers, heads)
    gap = 0 if size < 8 else 1 if size < 18 else 2
    width = MARGIN_LEFT + heads * size + MARGIN_RIGHT
    height = MARGIN_TOP + layers * size + MARGIN_BOTTOM
    finite = [Head(int(a), int(b)) for a, b in np.argwhere(np.isfinite(scores))]
    best = sorted(finite, key=lambda head: -scores[head.layer, head.head])[:5]
    summary = f"{layers} layers of {heads} heads. Highest: " + ", ".join(
        f"{head} {scores[head.layer, head.head]:.3f}" for head in best
    )
    parts = [
        f'<svg class="map map-{escape(tone)}" viewBox="0 0 {width} {height}" style="width:{width}px" role="img" '
        f'aria-labelledby="{ident}-t {ident}-d"><title id="{ident}-t">{escape(printable(title))}</title>'
        f'<desc id="{ident}-d">{escape(summary)}</desc>'
    ]
    side = size - gap
    for layer in range(layers):
        parts.append(f'<g transform="translate({MARGIN_LEFT} {MARGIN_TOP + layer * size})">')
        for head in range(heads):
            name, x = Head(layer, head).name, head * size
            if np.isnan(shade[layer, head]):
                parts.append(
                    f'<rect class="none" x="{x}" width="{side}" height="{side}"><title>{name} not measured</title></rect>'
                )
            else:
                # A faint cell stays visible as a cell.
                opacity = 0.05 + 0.95 * float(shade[layer, head])
                parts.append(
                    f'<rect x="{x}" width="{side}" height="{side}" fill-opacity="{opacity:.2f}">'
                    f"<title>{name} {scores[layer, head]:.3f}</title></rect>"
                )
        parts.append("</g>")
    parts += [_outline(head, size=size, side=side) for head in sorted(edited)]
    parts += [_dot(head, size=size, side=side) for head in sorted(dotted)]
    parts += _axes(layers, heads, size=size, side=side)
    parts.append("</svg>")
    return "".join(parts)


def _cell_size(layers: int, heads: int) -> int:
    return max(5, min(32, 380 // heads, 560 // layers))


def _outline(head: Head, *, size: int, side: int) -> str:
    x, y = MARGIN_LEFT + head.head * size, MARGIN_TOP + head.layer * size
    return f'<rect class="edited" x="{x - 1}" y="{y - 1}" width="{side + 2}" height="{side + 2}" rx="1.5"/>'


def _dot(head: Head, *, size: int, side: int) -> str:
    x, y = MARGIN_LEFT + head.head * size + side / 2, MARGIN_TOP + head.layer * size + side / 2
    return f'<circle class="dot" cx="{x:g}" cy="{y:g}" r="{max(1.4, side / 8):.1f}"/>'


def _axes(layers: int, heads: int, *, size: int, side: int) -> list[str]:
    bottom = MARGIN_TOP + layers * size
    parts = []
    for layer in range(0, layers, _stride(layers, size)):
        y = MARGIN_TOP + layer * size + side / 2 + 3.5
        parts.append(f'<text x="{MARGIN_LEFT - 6}" y="{y:g}" text-anchor="end">{layer}</text>')
    for head in range(0, heads, _stride(heads, size)):
        x = MARGIN_LEFT + head * size + side / 2
        parts.append(f'<text x="{x:g}" y="{bottom + 12}" text-anchor="middle">{head}</text>')
    middle = MARGIN_TOP + layers * size / 2
    parts.append(
        f'<text class="axis" transform="translate(9 {middle:g}) rotate(-90)" text-anchor="middle">layer</text>'
    )
    parts.append(
        f'<text class="axis" x="{MARGIN_LEFT + heads * size / 2:g}" y="{bottom + 25}" text-anchor="middle">head</text>'
    )
    return parts


def _stride(count: int, size: int) -> int:
    return next(step for step in (1, 2, 4, 5, 8, 10, 16, 20, 32, count) if step * size >= 15 or step >= count)
