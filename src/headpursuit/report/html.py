"""The page of a run: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headpursuit.errors import HeadPursuitError, MissingExtraError
from headpursuit.report.content import ConceptSection, RunReport
from headpursuit.report.effects import (
    SELECTION_NAMES,
    Measure,
    headline,
    panels,
)
from headpursuit.report.heat_map import heat_map
from headpursuit.report.text import printable, readable, signed, token, word_finder

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# Images up to this side are drawn pixel by pixel; larger ones are photographs, shrunk to the second number.
PIXEL_ART, PHOTOGRAPH = 160, 480
WORDS_SHOWN = 24
DESCRIBED_SHOWN = 64


def render_report(run: RunReport, path: str | Path) -> Path:
    """Write one self-contained HTML page: no script, no font, no image is fetched from anywhere.

    Args:
        run: what to show; examples, controls, verdicts and descriptions may all be missing.
        path: the file to write, replaced if it exists; its folder is made if needed.

    Returns:
        The path written.

    Raises:
        HeadPursuitError: the file cannot be written, or a head's name is not one.
        MissingExtraError: jinja2 is not installed.
    """
    page = _environment().get_template("page.html").render(**_view(run))
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Generated text can hold half a surrogate pair, which has no UTF-8.
        path.write_bytes(page.encode("utf-8", "replace"))
    except OSError as error:
        raise HeadPursuitError(f"cannot write the report to {path}: {error.strerror or error}") from error
    return path


def _environment() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtraError("jinja2", extra="report", purpose="the HTML report") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("headpursuit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(
        relative=relative,
        quartiles=quartiles,
        plain=plain,
        percent=percent,
        readable=readable,
        score=score,
        signed=signed,
        token=token,
    )
    return environment


def _view(run: RunReport) -> dict[str, Any]:
    lines = [(f"c{index}", headline(section)) for index, section in enumerate(run.concepts)]
    measured = [(ident, line) for ident, line in lines if line.suppress is not None or line.enhance is not None]
    ends = [panel.highest for section in run.concepts for panel in panels(section)[:1] if panel.kind == "suppress"]
    judged = [section for section in run.concepts if section.verdict is not None]
    return {
        "run": run,
        "described": sorted(run.described, key=lambda head: -(head.explained_variance or 0.0))[:DESCRIBED_SHOWN],
        "headlines": measured,
        "summary_end": max(ends, default=1.25),
        "any_enhanced": any(line.enhance is not None for _, line in measured),
        "judged": judged,
        "reached": [section for section in judged if section.verdict is not None and section.verdict.reached],
        "shape": run.concepts[0].scores.shape if run.concepts else None,
        "sections": [_section_view(section, index) for index, section in enumerate(run.concepts)],
        "selection_names": SELECTION_NAMES,
        "position": position,
    }


def _section_view(section: ConceptSection, index: int) -> dict[str, Any]:
    from markupsafe import Markup

    ident = f"c{index}"
    edited = [described.head for described in section.heads]
    mark = _marker(section.words)
    lens = section.logit_lens_scores
    # One word can stand for several tokens, with and without a space or a capital.
    words = list({token(word).casefold(): token(word) for word in reversed(section.words)}.values())[::-1]
    somp_map = heat_map(
        section.scores, title=f"Score of every head for {section.name}", ident=f"{ident}-m", edited=edited
    )
    lens_map = None
    if lens is not None:
        lens_map = heat_map(
            lens,
            title=f"Logit-lens score of every head for {section.name}",
            ident=f"{ident}-l",
            edited=edited,
            dotted=_best(lens, len(edited)),
            floor=None,
            tone="lens",
        )
    return {
        "it": section,
        "ident": ident,
        "method": SELECTION_NAMES.get(section.method.replace("-", "_"), section.method),
        "map": Markup(somp_map),
        "map_range": _range(section.scores, floor=0.0),
        "lens_map": None if lens_map is None else Markup(lens_map),
        "lens_range": None if lens is None else _range(lens, floor=None),
        "panels": panels(section),
        "words": words[:WORDS_SHOWN],
        "more_words": words[WORDS_SHOWN:],
        "examples": [
            {
                "it": example,
                "prompt": example.prompt,
                "image": None if example.image is None else data_uri(example.image),
                "pixels": example.image is not None and max(example.image.size) <= PIXEL_ART,
                "texts": [
                    (label, style, text if style == "reference" else mark(text))
                    for label, style, text in (
                        ("unedited", "before", example.before),
                        ("suppressed", "after", example.after),
                        ("enhanced", "enhanced", example.enhanced),
                        ("reference", "reference", example.reference),
                    )
                    if text is not None
                ],
            }
            for example in section.examples
        ],
    }


def position(number: float | None, end: float) -> str:
    """Return a number's place on an axis from 0 to ``end`` as a CSS percentage."""
    share = 0.0 if number is None else min(max(number / end, 0.0), 1.0)
    return f"{100 * share:.2f}%"


def relative(number: float | None) -> str:
    """Write a number relative to the unedited model; a dash if there is none."""
    if number is None or not math.isfinite(number):
        return "–"
    return (f"{number:.2f}" if abs(number) < 100 else f"{number:.0f}").replace("-", "−")


def plain(number: Any) -> str:
    """Write any result value; a dash if there is none."""
    if number is None or (isinstance(number, float) and not math.isfinite(number)):
        return "–"
    return f"{number:.4g}".replace("-", "−") if isinstance(number, int | float) else str(number)


def score(number: float | None) -> str:
    """Write a head's score to three decimals."""
    return "–" if number is None or not math.isfinite(number) else f"{number:.3f}".replace("-", "−")


def percent(number: float | None) -> str:
    """Write a share as a percentage."""
    return "–" if number is None or not math.isfinite(number) else f"{100 * number:.1f} %"


def quartiles(measure: Measure, selection: str = "random") -> str:
    """Write the quartiles of a selection, empty if it has none."""
    effect = measure.effects.get(selection)
    if effect is None or effect.q25 is None or effect.q75 is None:
        return ""
    return f"{relative(effect.q25)}–{relative(effect.q75)}"


def data_uri(image: Image) -> str:
    """Encode an image into the page, photographs shrunk; shape as it is."""
    small = max(image.size) <= PIXEL_ART
    if image.mode not in ("RGB", "L"):
        background = image.convert("RGBA")
        image = background.convert("RGB")
        image.paste((255, 255, 255), mask=background.getchannel("A").point(lambda alpha: 255 - alpha))
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image = image.copy()
        image.thumbnail((PHOTOGRAPH, PHOTOGRAPH))
        image.save(buffer, "JPEG", quality=85)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _marker(words: Sequence[str]) -> Any:
    from markupsafe import Markup, escape

    find = word_finder(words)

    def mark(text: str) -> Markup:
        pieces = ((escape(piece), found) for piece, found in find(text))
        return Markup("").join(Markup("<mark>{}</mark>").format(piece) if found else piece for piece, found in pieces)

    return mark


def _finalize(value: Any) -> Any:
    # Not for markup, which is a kind of string: it went through ``printable`` when it was made.
    return printable(value) if type(value) is str else value


def _best(scores: np.ndarray, k: int) -> list[Any]:
    import numpy as np

    from headpursuit.model.heads import Head

    finite = [Head(int(a), int(b)) for a, b in np.argwhere(np.isfinite(scores))]
    return sorted(finite, key=lambda head: -scores[head.layer, head.head])[:k]


def _range(scores: np.ndarray, *, floor: float | None) -> tuple[float, float]:
    finite = [float(score) for score in scores.ravel() if math.isfinite(score)]
    low = min(finite, default=0.0) if floor is None else floor
    return low, max(finite, default=0.0)
