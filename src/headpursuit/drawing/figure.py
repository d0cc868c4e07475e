"""A figure made, and written as a picture or as SVG inside a page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from headpursuit.drawing.style import COLOURS, DARK, INK, LIGHT, PAPER, QUIET, RULE, Figure, printable
from headpursuit.files import drafted
from headpursuit.optional import optional_import

DPI = 160
# A page sets these variables for light and dark; elsewhere the colours stand as they are.
_VARIABLES = {colour: name for name, colour in LIGHT.items() if colour in (INK, QUIET, RULE, PAPER, *COLOURS.values())}
# Not by variables, which programs that print SVG do not know.
_DARK_STYLE = "<style>@media (prefers-color-scheme: dark) {{ {} }}</style>".format(
    " ".join(
        f'[style*="{part}: {colour}"] {{ {part}: {DARK[name]} !important }}'
        for colour, name in _VARIABLES.items()
        for part in ("fill", "stroke")
    )
)
_SVG = "http://www.w3.org/2000/svg"


def new_figure(*, width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure, drawn without a display.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    mpl = optional_import("matplotlib.figure", extra="report", purpose="a figure")
    canvas = optional_import("matplotlib.backends.backend_agg", extra="report", purpose="a figure")
    # Text is measured at the resolution at which it will be drawn, or its hinting moves every word.
    figure: Figure = mpl.Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    canvas.FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure, whole or not at all, as SVG where the file is called so, and else as PNG; its folder is made if needed.

    An SVG file holds both looks, light and dark, and shows the one that its viewer asks for.

    Returns:
        The path written.

    Raises:
        HeadPursuitError: the file cannot be written.

    >>> from headpursuit.drawing import bars
    >>> save_figure(bars(["red", "blue"], [0.4, 0.1]), tmp_path / "new" / "bars.png").name
    'bars.png'
    """
    path = Path(path)
    with drafted(path) as draft:
        if path.suffix.lower() == ".svg":
            buffer = io.BytesIO()
            _write(figure, buffer, vector=True, facecolor=PAPER)
            draft.write_text(buffer.getvalue().decode().replace("<defs>", f"<defs>\n{_DARK_STYLE}", 1), encoding="utf-8")
        else:
            _write(figure, draft, vector=False)
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


def _write(figure: Figure, out: Path | io.BytesIO, *, vector: bool, facecolor: str | None = None) -> None:
    import matplotlib as mpl

    # Dates and random names of elements would make two drawings of the same numbers differ.
    metadata = {"Creator": "headpursuit", "Date": None} if vector else {"Software": "headpursuit"}
    with mpl.rc_context({"svg.hashsalt": "headpursuit", "svg.fonttype": "none"}):
        clear: Any = {"facecolor": facecolor or "none"} if vector else {}
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
