"""Reports on disk, and results read back."""

from __future__ import annotations

from dataclasses import replace

import pytest

import headpursuit as hp
from headpursuit.evaluation.demo import DEMO_RECIPES
from headpursuit.report import load, tables, write_report
from report import made_up


def test_everything_is_written(tmp_path):
    written = write_report(made_up.results(), tmp_path / "new")
    assert all(path.is_file() and path.stat().st_size > 50 for path in written)
    names = {path.relative_to(tmp_path / "new").as_posix() for path in written}
    assert {"report.html", "tables.md", "tables.tex", "tables/01.csv", "figures/colours-alpha-1.svg"} <= names
    text = (tmp_path / "new/tables.md").read_text("utf-8")
    assert all(table.title in text for table in tables(made_up.results()))


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(hp.HeadPursuitError, match="there is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(hp.HeadPursuitError, match=r"holds no results\.json"):
        load(tmp_path)


def test_a_tuned_edit_is_known_by_its_file_and_not_by_a_name(tmp_path):
    made_up.tuned().save(tmp_path / "tuned")
    assert load(tmp_path / "tuned") == made_up.tuned()
    replace(made_up.results(), recipe="tune my words").save(tmp_path / "other")
    assert load(tmp_path / "other").recipe == "tune my words"


def test_recipes_of_the_demo_stand_in_its_order(tmp_path):
    for name in ("another", *sorted(DEMO_RECIPES)):
        made_up.Results(name, name, made_up.MODEL, {}).save(tmp_path / name)
    assert [one.recipe for one in load(tmp_path)] == [*DEMO_RECIPES, "another"]


def test_several_results_side_by_side_are_read(tmp_path):
    for name in ("b", "a"):
        made_up.Results(name, name, made_up.MODEL, {}, rows=made_up.mnist().rows).save(tmp_path / name)
    assert [one.recipe for one in load(tmp_path)] == ["a", "b"]
    one = load(tmp_path / "a")
    assert one.rows == made_up.mnist().rows
