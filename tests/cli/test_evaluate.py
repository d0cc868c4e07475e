"""``headpursuit evaluate``: wrong recipes cost one line, a killed run goes on, a dry run runs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command import call

DIGITS = """
title = "digits"
model = "demo"
neutral = "demo-facts"

[[tasks]]
name = "digits"
data = "demo-digits"
limit = 6
max_new_tokens = 4

[[concepts]]
words = "digits"
task = "digits"
target = "accuracy"
positions = "last"
limit = 8

[edit]
k = [1, 2]
draws = 3
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(DIGITS)
    return path


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("limit = 6", "limits = 6", r"tasks[0].limits is no key of a recipe; did you mean 'limit'?"),
        ("draws = 3", "draw = 3", r"edit.draw is no key of a recipe; did you mean 'draws'?"),
        ('model = "demo"', "", r"model is missing; give it"),
        ("k = [1, 2]", "k = [0]", r"edit.k[0]: 0: give 1 or more"),
        ("k = [1, 2]", "k = 2", r"edit.k: 2: give a list, with [ ] around it"),
        ('target = "accuracy"', 'target = "F1"', r"concepts[0].target: digits measures no 'F1'; it measures accuracy"),
        ('task = "digits"', 'task = "reading"', r"concepts[0].task: no task 'reading'; there are digits"),
        ('data = "demo-digits"', 'data = "mnits"', r"tasks[0].data: no data set or file 'mnits'; there are trivia-qa"),
        ('words = "digits"', 'words = "colourz"', r"concepts[0].words: no built-in concept 'colourz': did you mean 'colours'?"),
        ('words = "digits"', 'words = "none.txt"', r"concepts[0].words: no concept file none.txt"),
        ("k = [1, 2]", "k = [1, 99]", r"edit.k[1]: 99 of the "),
        ('"demo-facts"', '"gone.txt"', r"neutral: there is no file gone.txt"),
        ("title = ", "title ", r"mine.toml is not TOML: Expected '=' after a key"),
        (
            "[edit]",
            '[[concepts]]\nwords = "digits"\ntask = "digits"\ntarget = "accuracy"\n[edit]',
            r"concepts: two are called 'digits'; give one of them another name",
        ),
        ("[edit]", "[goal]\nat_least = 1.3\n[edit]", r"goal.at_least: no scale of the edit is above 1 on digits"),
        ("[edit]", "[goal]\n[edit]", r"goal: give at_most (suppress), at_least (enhance), or both"),
        ("[edit]", "[goal]\nat_most = 0.5\nkeep = [{at_least = 0.9, how = 1}]\n[edit]", r"goal.keep[0].how is no key"),
        ("[edit]", "[describe]\ntask = 'digits'\n[edit]", r"describe: stands beside [[concepts]], [edit] or [select]"),
    ],
)
def test_a_wrong_recipe_is_one_line_before_anything_is_loaded(recipe, before, after, message, monkeypatch, capsys):
    monkeypatch.setattr("headpursuit.evaluation.evaluate.load", lambda *a, **k: pytest.fail("the model was loaded"))
    assert before in DIGITS
    recipe.write_text(DIGITS.replace(before, after, 1))
    assert call("evaluate", recipe, "--out", recipe.parent / "out") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert told.err.startswith("headpursuit: ")
    assert told.err.count("\n") == 1
    assert not (recipe.parent / "out").exists()


def test_a_concept_without_tokens_is_told_by_the_tokenizer_alone(recipe, monkeypatch, capsys):
    monkeypatch.setattr("headpursuit.evaluation.evaluate.load", lambda *a, **k: pytest.fail("the model was loaded"))
    (recipe.parent / "odd.txt").write_text("xylophone\nquixotic\n")
    recipe.write_text(DIGITS.replace('words = "digits"', 'words = "odd.txt"'))
    assert call("evaluate", recipe, "--out", recipe.parent / "out") == 1
    message = capsys.readouterr().err
    assert "concepts[0].words: concept 'odd' has no token" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate", "demo-digit"), "no recipe demo-digit: did you mean 'demo-digits'?"),
        (("evaluate", "demo-digits", "--data", "nowhere"), "data: demo-digits is drawn and not read"),
        (("evaluate", "classify-mnist", "--data", "nowhere"), "data: there is no nowhere; give the folder of"),
        (("evaluate", "classify-mnist", "--model", "no/where", "--data", "."), "no/where could not be opened as a model"),
    ],
)
def test_wrong_options_are_one_line(words, message, tmp_path, capsys):
    assert call(*words, "--out", tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_folders_of_something_else_are_left_alone(recipe, tmp_path, capsys):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("")
    assert call("evaluate", recipe, "--out", tmp_path / "papers") == 1
    assert "papers is not empty" in capsys.readouterr().err
    (tmp_path / "papers" / "results.json").write_text('{"recipe": "yours"}')
    assert call("evaluate", recipe, "--out", tmp_path / "papers") == 1
    assert "papers holds results of yours: choose another folder for mine" in capsys.readouterr().err


def test_recipes_are_listed(capsys):
    assert call("evaluate", "--json") == 0
    named = {one["name"]: one for one in json.loads(capsys.readouterr().out)["recipes"]}
    assert named["demo-digits"]["model"] == "demo"
    assert named["qa-countries"]["paper"] == "Figure 2"


def test_a_dry_run_counts_and_runs_nothing(recipe, tmp_path, capsys):
    assert call("evaluate", recipe, "--out", tmp_path / "out", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    # Unedited, and for each of two k: SOMP, the logit lens, three draws.
    assert told["cells"] == {"digits": 11, "digits, teacher-forced": 11, "neutral text": 11}
    assert told["seconds"] > 0
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_shown_with_what_was_set(recipe, capsys):
    assert call("evaluate", recipe, "--show", "--set", "edit.k=[1]", "--set", "tasks.0.limit=3", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["edit"]["k"], told["tasks"][0]["limit"], told["edit"]["draws"]) == ([1], 3, 3)
    assert call("evaluate", recipe, "--set", "edit.k") == 1
    assert "--set edit.k: write KEY=VALUE" in capsys.readouterr().err


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "headpursuit", "evaluate", str(recipe), "--out", str(out), "--json"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})


def test_a_killed_run_goes_on_and_ends_with_the_same_table(recipe, tmp_path, capsys):
    recipe.write_text(DIGITS.replace("limit = 6", "limit = 60"))
    cut = start(recipe, tmp_path / "cut")
    cells = tmp_path / "cut" / "cells"
    deadline = time.monotonic() + 300
    while len(list(cells.glob("*.json"))) < 5:
        assert cut.poll() is None, cut.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(cut.pid, signal.SIGKILL)
    assert cut.wait() == -signal.SIGKILL
    cut.communicate()
    before = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    rankings = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "rankings").iterdir()}
    assert not (tmp_path / "cut" / "results.json").exists()

    assert call("evaluate", recipe, "--out", tmp_path / "cut", "--json") == 0
    told = capsys.readouterr()
    after = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    assert 5 <= len(before) < len(after)
    assert before.items() <= after.items()
    assert rankings == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "rankings").iterdir()}

    assert call("evaluate", recipe, "--out", tmp_path / "whole", "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    resumed = json.loads(told.out)
    for key in ("rows", "comparisons", "concepts", "data", "settings", "model", "recipe"):
        assert resumed[key] == whole[key]
    for name in ("results.csv", "comparisons.csv", "tables.md", "tables.tex"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in (tmp_path / "whole" / "cells").iterdir()} == set(after)
