"""Documents about the code: every file and folder that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from headpursuit.cli.main import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"`((?:[\w.]+/)*[\w.]+\.(?:py|toml)|(?:[\w]+/)+)`")
WRITTEN = re.compile(r"(?:^\$? *|`)headpursuit ([a-z]+(?: [^`\n]*)?)", re.MULTILINE)
LINKED = re.compile(r"\]\((?!https?:|#)([^)#\s]+)|include-markdown \"([^\"]+)\"")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_link_points_to_is_there(document):
    missing = [a or b for a, b in LINKED.findall(document.read_text()) if not (document.parent / (a or b)).exists()]
    assert missing == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_files_of_the_house_are_where_the_map_says(name):
    named = NAMED.findall((ROOT / name).read_text())
    assert len(named) > 5
    folders = (ROOT, ROOT / "src" / "headpursuit", ROOT / "tools" / "architectures")
    assert [one for one in named if not any((folder / one).exists() for folder in folders)] == []


def test_every_room_is_on_the_map():
    rooms = {
        path.name if path.suffix else f"{path.name}/"
        for path in (ROOT / "src" / "headpursuit").iterdir()
        if (path.is_dir() and (path / "__init__.py").is_file()) or (path.suffix == ".py" and path.stem.strip("_") == path.stem)
    }
    named = set(NAMED.findall((ROOT / "docs" / "architecture.md").read_text()))
    assert rooms - named == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_have_the_options_that_documents_give_them(document):
    commands = typer.main.get_command(app).commands
    wrong = []
    for line in WRITTEN.findall(document.read_text()):
        name, _, rest = line.partition(" ")
        if name not in commands:
            wrong.append(line)
            continue
        known = {spelling for one in commands[name].params for spelling in (*one.opts, *one.secondary_opts)} | {"--help"}
        wrong += [f"{name}: {option}" for option in re.findall(r"(?<!\S)\[?(--[\w-]+)", rest) if option not in known]
    assert wrong == []


def test_commands_are_found_in_documents():
    assert sum(len(WRITTEN.findall(document.read_text())) for document in DOCUMENTS) > 40
