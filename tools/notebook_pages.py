"""Notebooks as pages of the site, with the outputs that they hold; a hook of mkdocs (mkdocs.yml)."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

RAN = "*[This notebook]({name}) was run as it stands; to run it on another model change the line that loads one.*"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page, pictures = as_page(Path(str(notebook.abs_src_path)))
        files.append(File.generated(config, notebook.src_uri.removesuffix(".ipynb") + ".md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{Path(notebook.src_uri).parent}/{name}", content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Links to a notebook lead to its page; only that page links the notebook itself."""
    return markdown if page.file.generated_by else as_pages(markdown)


def as_pages(markdown: str) -> str:
    return re.sub(r"\]\(([\w./-]+)\.ipynb\)", r"](\1.md)", markdown)


def as_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook, and its pictures by the names that it calls them."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        parts.append(as_pages(cell.source) if cell.cell_type == "markdown" else _fenced(cell.source, "python"))
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                shown = f"![What the cell above drew]({name})"
            elif "text/html" in data:
                shown = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
                shown = "".join(line.strip() for line in shown.splitlines())
            else:
                shown = _fenced(data["text/plain"], "text")
            parts.append(f'<div class="output" markdown>\n\n{shown}\n\n</div>')
    parts.insert(1, RAN.format(name=path.name))
    return "\n\n".join(parts) + "\n", pictures


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
