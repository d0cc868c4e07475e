"""Tables: every number where it belongs, the paper's beside it where they may stand."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pandas as pd
import pytest

from headpursuit.evaluation.published import published, published_for
from headpursuit.evaluation.recipe import load_recipe, recipe_names
from headpursuit.report import Table, tables
from headpursuit.report.text import number
from report import made_up


def test_effects_stand_by_k_with_their_spreads():
    effects, judged = tables(made_up.mnist(model="demo"))
    assert effects.title == "mnist, α = −1: what is left, unedited model = 1"
    lens, drawn = "0.90 [0.80, 1.00]", "0.99 [0.94, 1.04]"
    assert effects.frame.to_numpy().tolist() == [
        ["classification", "accuracy", "8", "0.70 [0.60, 0.80]", lens, drawn, "0.80", "50"],
        ["classification", "accuracy", "16", "0.30 [0.20, 0.40]", lens, drawn, "0.80", "50"],
    ]
    assert judged.frame.iloc[0, -3:].tolist() == ["−0.20 [−0.30, −0.10]", "less", "better"]


def test_a_recipe_may_compare_the_default_ranking_too():
    ours = made_up.mnist(model="demo")
    rows = (*ours.rows, made_up.row("calibrated", 8, 0.6, task="classification", concept="mnist", metric="accuracy"))
    found = tables(replace(ours, rows=rows, comparisons=(made_up.compared("calibrated"),)))
    assert "calibrated [95 %]" in found[0].frame
    assert found[1].frame["against"].tolist() == ["calibrated"]


def test_published_numbers_stand_beside_those_of_the_same_checkpoint_alone():
    table = tables(made_up.mnist())[0]
    assert table.frame.iloc[:, -1].tolist() == ["0.69 / 1.00 / 1.00", "0.28 / 0.73 / 1.00"]
    assert "arXiv 2510.21518" in table.note
    assert published_for(made_up.mnist(model="demo")) == ()
    assert published_for(made_up.mnist(recipe="classify-svhn"))[0].somp == (0.78, 0.25, 0.17)


def test_every_published_series_belongs_to_a_row_of_its_recipe():
    from headpursuit.evaluation.prepare import Source, known_concepts

    assert len(published()) == 20
    for series in published():
        assert series.recipe in recipe_names()
        recipe = load_recipe(series.recipe)
        (concept,) = known_concepts(recipe, Source())
        assert (recipe.model, concept.name, recipe.edit.k) == (series.checkpoint, series.concept, series.k)
        assert series.scale in recipe.edit.scales
        assert series.task in {task.name for task in recipe.tasks}
        assert series.metric in {concept.spec.target, "CIDEr"}
        assert len(series.somp) == len(series.k)
        assert series.value(series.task, series.metric, "somp", series.k[-1]) == series.somp[-1]
        assert series.value(series.task, "another", "somp", 8) is None


def test_a_change_is_shown_where_a_ratio_says_nothing():
    ours = made_up.mnist()
    odd = tuple(replace(one, normalized=None, metric="log-odds") for one in ours.rows)
    frame = tables(replace(ours, rows=odd))[0].frame
    assert frame["metric"][0] == "log-odds (change)"
    assert frame["SOMP [95 %]"][0].startswith("−0.24 [")


def test_verdicts_come_first_with_their_reasons():
    first = tables(made_up.results(effect=0.41))[0].frame
    assert first.to_dict("records") == [
        {
            "concept": "colours",
            "target": "colours words, captioning",
            "α": "−1",
            "k": "2",
            "wished": "at most 0.3",
            "came to": "0.41",
            "random heads": "1.00",
            "kept least": "accuracy 0.95",
            "verdict": "missed",
            "why": "colours words came to 0.41, at most 0.3 was wanted",
        }
    ]


def test_what_was_kept_least_needs_no_number_where_the_unedited_model_scores_0():
    results = made_up.results()
    zero = tuple(replace(one, normalized=None) if one.metric == "CIDEr" else one for one in results.rows)
    goal = results.concepts[0].verdicts[0]
    kept = (goal.kept[0], *(replace(goal.kept[1], task=name, effect=None) for name in ("captioning", "other")))
    concepts = (replace(results.concepts[0], verdicts=(replace(goal, kept=kept),)),)
    assert tables(replace(results, rows=zero, concepts=concepts))[0].frame["kept least"].tolist() == ["accuracy 0.95"]


def test_columns_in_which_nothing_stands_are_left_out():
    rows = tuple(one for one in made_up.mnist().rows if one.selection in ("none", "somp"))
    frame = tables(replace(made_up.mnist(model="demo"), rows=rows))[0].frame
    assert list(frame) == ["task", "metric", "k", "SOMP [95 %]", "unedited", "n"]


def test_transfer_is_a_matrix_of_where_heads_came_from_and_where_they_were_edited():
    found = tables(made_up.crossed())
    somp = next(table for table in found if table.title.startswith("Transfer, SOMP, k = 8"))
    assert list(somp.frame) == ["heads of", "task a, accuracy", "task b, accuracy"]
    assert somp.frame.to_numpy()[:, 0].tolist() == ["a", "b"]
    assert [one[:4] for one in somp.frame["task a, accuracy"]] == ["0.30", "0.40"]
    shared = next(table for table in found if table.title.startswith("Heads shared"))
    assert shared.frame["a"][0] == "1.00"
    assert shared.frame["a"][1] == shared.frame["b"][0] != "1.00"
    assert not [table for table in tables(made_up.results()) if table.title.startswith("Transfer")]


def test_described_heads():
    table = tables(made_up.results())[-1]
    assert table.frame.iloc[0, 1:].tolist() == ["41 %", "red, ↵, a|b"]
    assert "a\\|b" in table.to_markdown()


def test_a_tuned_edit_stands_beside_the_fixed_one():
    test, curve, tried, *_ = tables(made_up.tuned())
    assert test.frame.loc[0, ["fixed (k = 1, α = −1) [95 %]", "tuned [95 %]", "wished"]].tolist() == [
        "0.30 [0.20, 0.40]",
        "0.10 [0.00, 0.20]",
        "target",
    ]
    assert test.frame["wished"][1] == "loss ≤ 0.05"
    assert "Missed: CIDEr lost 0.100." in test.note
    assert curve.frame["loss, test"].tolist() == ["7.50", "8.50", "9.50"]
    assert tried.frame["chosen"].tolist() == ["fixed", "chosen", *[""] * 6]


def test_a_ranking_is_a_table_of_its_best_heads():
    ranking = made_up.ranking()
    (table,) = tables(ranking)
    assert table.frame["head"].tolist() == [head.name for head in ranking.top(32)]


def test_tables_in_three_formats():
    frame = pd.DataFrame([["8", "0.70 [0.60, 0.80]"], ["16", "−0.1 | x"]], columns=["k", "left_over"])
    table = Table("Heads of 5 % & α", frame, "A note.")
    assert list(csv.reader(io.StringIO(table.to_csv()))) == [list(frame), *frame.to_numpy().tolist()]
    lines = table.to_markdown().splitlines()
    assert lines[0] == "**Heads of 5 % & α**"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines[2:6])
    latex = table.to_latex()
    assert r"5 \% \& $\alpha$" in latex
    assert r"k & left\_over \\" in latex
    assert r"16 & $-$0.1 | x \\" in latex
    assert latex.count(r"\\") == 3


@pytest.mark.parametrize(
    ("values", "text"), [((None,), ""), ((float("nan"),), ""), ((0.123,), "0.12"), ((-1.0, (-2.0, 0.5)), "−1.00 [−2.00, 0.50]")]
)
def test_numbers(values, text):
    assert number(*values) == text
