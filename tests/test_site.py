"""The site is built without a warning and needs nothing from elsewhere; its notebooks run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tools` beside `tests`

from tools.notebooks import run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
LOADED = re.compile(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?https?:|<link\b[^>]*stylesheet[^>]*https?:", re.IGNORECASE)
TELLS = re.compile(r"/(?:home|tmp|root|Users)/|\d\d:\d\d:\d\d|it/s\]|\bat 0x[0-9a-f]+")


def pages(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in pages(one)]


def test_every_page_is_in_the_navigation():
    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    there |= {f"notebooks/{path.stem}.md" for path in NOTEBOOKS}
    assert set(listed) == there, "a page of docs/ belongs into the nav of mkdocs.yml"
    assert len(listed) == len(set(listed))


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "true"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    made = {path.relative_to(tmp_path): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    assert [str(name) for name, text in made.items() if LOADED.search(text)] == []
    python = made[Path("reference/python.html")]
    assert 'id="headpursuit.ranking.ranking.HeadRanking.plot"' in python
    assert ":func:" not in python
    for notebook in NOTEBOOKS:
        page = made[Path(f"notebooks/{notebook.stem}.html")]
        assert f'src="{notebook.stem}-1.png"' in page
        assert (tmp_path / "notebooks" / f"{notebook.stem}-1.png").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_holds_what_it_prints(path):
    stored, found = nbformat.read(path, as_version=4), run(path)
    assert sum('hp.load("demo")' in cell.source for cell in stored.cells) == 1, "another model is one line away"
    assert [cell.source for cell in found.cells] == [cell.source for cell in stored.cells]
    for mine, theirs in zip(found.cells, stored.cells, strict=True):
        # Numbers may differ in their last digits from one processor to another; what kinds of things are shown does not.
        kinds = [[sorted(one.get("data", {"text": ""})) for one in cell.get("outputs", ())] for cell in (mine, theirs)]
        assert kinds[0] == kinds[1]
    outputs = [one for cell in stored.cells for one in cell.get("outputs", ())]
    assert all(one.get("name") != "stderr" for one in outputs)
    assert not TELLS.search(" ".join(one["text"] if "text" in one else one["data"]["text/plain"] for one in outputs))
    assert path.stat().st_size < 300_000
