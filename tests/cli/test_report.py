"""Commands that end in a report: what it needs is looked at before any work, and nobody's files are written over."""

from __future__ import annotations

import sys

import pytest

from command import call

RUNS = [("demo", "--limit", 2), ("evaluate", "demo-digits", "--limit", 2), ("tune", "demo", "--concept", "colours")]


@pytest.mark.parametrize("library", ["matplotlib.figure", "jinja2"])
@pytest.mark.parametrize("words", RUNS, ids=lambda words: words[0])
def test_a_missing_library_is_named_before_anything_is_run(words, library, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, library, None)
    assert call(*words, "--out", tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "pip install 'headpursuit[report]'" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", RUNS, ids=lambda words: words[0])
def test_a_file_in_the_place_of_the_folder_is_named(words, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert call(*words, "--out", tmp_path / "out") == 1
    assert str(tmp_path / "out") in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_the_demo_leaves_folders_of_something_else_alone(tmp_path, capsys):
    (tmp_path / "report.html").write_text("mine")
    assert call("demo", "--limit", 2, "--out", tmp_path) == 1
    assert "is not empty and holds no demo" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize("option", ["--samples", "--neutral"])
def test_files_are_looked_for_before_the_model(option, capsys):
    assert call("tune", "no/where", "--concept", "colours", option, "none.jsonl") == 1
    assert "none.jsonl" in capsys.readouterr().err
