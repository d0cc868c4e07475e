"""What every page is made with: the environment of its templates, and pictures of samples."""

from __future__ import annotations

import base64
import io
from importlib import metadata
from typing import Any

from PIL.Image import Image

from headpursuit.drawing.style import DARK, LIGHT, printable, token
from headpursuit.optional import optional_import
from headpursuit.report.text import is_right, marked

PAPER = "https://arxiv.org/abs/2510.21518"
LICENCE = "https://www.apache.org/licenses/LICENSE-2.0"
# Images up to this side are drawn pixel by pixel; larger ones are photographs, shrunk to the second number.
PIXEL_ART, PHOTOGRAPH = 160, 480


def environment(package: str = "headpursuit.report") -> Any:
    """The templates of a room's pages: what is written into them is escaped and printable, colours are those of figures.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja2 = optional_import("jinja2", extra="report", purpose="the HTML report")
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Not for markup, which is a kind of string: it went through ``printable`` when it was made.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    made.filters.update(csv=_csv, image=_data_uri, marked=marked, right=is_right, token=token)
    links = {"paper": PAPER, "documentation": _documentation(), "licence": LICENCE}
    made.globals.update(PIXEL_ART=PIXEL_ART, LIGHT=LIGHT, DARK=DARK, links=links)
    return made


def small_picture(image: Image, *, side: int = PHOTOGRAPH) -> tuple[str, bytes]:
    """An image as the content of a small file: pixel art as it is in PNG, photographs in JPEG, no side longer than ``side``.

    Returns:
        ``png`` or ``jpeg``, and the content.
    """
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
        image.thumbnail((side, side))
        image.save(buffer, "JPEG", quality=85)
    return "png" if small else "jpeg", buffer.getvalue()


def _data_uri(image: Image) -> str:
    """An image as part of the page."""
    kind, content = small_picture(image)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _csv(text: str) -> str:
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.encode('utf-8', 'replace')).decode('ascii')}"


def _documentation() -> str | None:
    """The address that the installed package names, if it names one."""
    try:
        named = metadata.metadata("headpursuit").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return None
    found = {label.strip().lower(): address.strip() for label, _, address in (one.partition(",") for one in named)}
    return found.get("documentation")
