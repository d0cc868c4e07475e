"""Tables and figures of an evaluation: every number where it belongs, the paper's beside it where they may stand."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from headpursuit.evaluation.published import published, published_for
from headpursuit.evaluation.recipe import load_recipe, recipe_names
from headpursuit.evaluation.results import Comparison, Results, Row
from headpursuit.report.curves import render_curves
from headpursuit.report.tables import Table, number, results_tables

LLAVA = "llava-hf/llava-v1.6-mistral-7b-hf"


def row(selection, k, normalized, *, concept="mnist", task="classification", metric="accuracy", **more):
    spread = {"q25": normalized - 0.05, "q75": normalized + 0.05} if selection == "random" else {}
    return Row(
        task=task,
        concept=concept,
        selection=selection,
        k=k,
        scale=1.0 if selection == "none" else -1.0,
        metric=metric,
        value=normalized * 0.8,
        normalized=normalized,
        n=50,
        seed=0,
        change=(normalized - 1) * 0.8,
        low=None if selection == "none" else normalized - 0.1,
        high=None if selection == "none" else normalized + 0.1,
        **{"q25": None, "q75": None, **spread, **more},
    )


def results(*, model=LLAVA, recipe="classify-mnist", concepts=("mnist",), task=None):
    rows = []
    for place, concept in enumerate(concepts):
        for column in concepts if task is None and len(concepts) > 1 else ["classification"]:
            own = {"concept": concept, "task": column}
            rows.append(row("none", 0, 1.0, **own))
            for k, somp in ((8, 0.7), (16, 0.3)):
                rows += [
                    row("somp", k, somp + place / 100, **own),
                    row("logit_lens", k, 0.9, **own),
                    row("random", k, 0.99, **own),
                ]
    tasks = concepts if len(concepts) > 1 else ["classification"]
    specs = [{"task": one, "target": "accuracy"} for one in tasks]
    heads = {
        name: {"somp": [f"L{place}.H0", "L2.H2"], "logit_lens": ["L1.H1", "L2.H1"]}
        for place, name in enumerate(concepts)
    }
    compared = Comparison(
        task=tasks[0],
        concept=concepts[0],
        k=8,
        scale=-1.0,
        metric="accuracy",
        against="logit_lens",
        difference=-0.2,
        low=-0.3,
        high=-0.1,
        wanted="less",
        n=50,
        seed=0,
    )
    return Results(
        recipe=recipe,
        model={"id": model, "architecture": "LlavaNextForConditionalGeneration"},
        versions={},
        rows=tuple(rows),
        comparisons=(compared,),
        about={"recipe": {"concepts": specs, "edit": {"k": [8, 16]}}, "heads": heads},
    )


def test_effects_stand_by_k_with_their_spreads():
    effects, compared = results_tables(results())
    assert effects.title == "mnist, α = −1: what is left, unedited model = 1"
    lens = "0.90 [0.80, 1.00]"
    assert effects.rows == (
        ("classification", "accuracy", "8", "0.70 [0.60, 0.80]", lens, "0.99 [0.94, 1.04]", "0.80", "50"),
        ("classification", "accuracy", "16", "0.30 [0.20, 0.40]", lens, "0.99 [0.94, 1.04]", "0.80", "50"),
    )
    assert compared.rows[0][-3:] == ("−0.20 [−0.30, −0.10]", "less", "better")


def test_published_numbers_stand_beside_those_of_the_same_checkpoint_alone():
    ours = results()
    table = results_tables(ours, published_for(ours))[0]
    assert [line[-1] for line in table.rows] == ["0.69 / 1.00 / 1.00", "0.28 / 0.73 / 1.00"]
    assert "arXiv 2510.21518" in table.note
    assert published_for(results(model="demo")) == ()
    assert published_for(results(recipe="classify-svhn"))[0].somp == (0.78, 0.25, 0.17)


def test_every_published_series_belongs_to_a_row_of_its_recipe():
    from headpursuit.evaluation.prepare import Source, known_aims

    assert len(published()) == 20
    for series in published():
        assert series.recipe in recipe_names()
        recipe = load_recipe(series.recipe)
        (aim,) = known_aims(recipe, Source())
        assert (recipe.model, aim.name, recipe.edit.k) == (series.checkpoint, series.concept, series.k)
        assert series.scale in recipe.edit.scales
        assert series.task in {task.name for task in recipe.tasks}
        assert series.metric in {aim.spec.target, "CIDEr"}
        assert len(series.somp) == len(series.k)
        assert series.value(series.task, series.metric, "somp", series.k[-1]) == series.somp[-1]
        assert series.value(series.task, "another", "somp", 8) is None


def test_a_change_is_shown_where_a_ratio_says_nothing():
    ours = results()
    odd = tuple(replace(one, normalized=None, metric="log-odds") for one in ours.rows)
    table = results_tables(replace(ours, rows=odd))[0]
    assert table.rows[0][1] == "log-odds (change)"
    assert table.rows[0][3].startswith("−0.24 [")


def test_transfer_is_a_matrix_of_where_heads_came_from_and_where_they_were_edited():
    tables = results_tables(results(concepts=("a", "b")))
    somp = next(table for table in tables if table.title.startswith("Transfer, SOMP, k = 8"))
    assert somp.header == ("heads of", "a, accuracy", "b, accuracy")
    assert [line[0] for line in somp.rows] == ["a", "b"]
    assert [line[1][:4] for line in somp.rows] == ["0.70", "0.71"]
    shared = next(table for table in tables if table.title.startswith("Heads shared"))
    assert shared.rows == (("a", "1.00", "0.33"), ("b", "0.33", "1.00"))  # one of three heads


def test_described_heads():
    heads = [
        {
            "name": "L1.H2",
            "explained_variance": 0.41,
            "tokens": [" red", "\n"],
            "lens_tokens": ["a|b"],
            "lens_frequency": [1],
        }
    ]
    (table,) = results_tables(Results("describe-heads", {"id": "demo"}, {}, (), about={"described": heads}))
    assert table.rows == (("L1.H2", "41.0 %", "red, '\\n'", "a|b"),)
    assert "a\\|b" in table.to_markdown()


def test_tables_in_three_formats():
    table = Table("Heads of 5 % & α", ("k", "left_over"), (("8", "0.70 [0.60, 0.80]"), ("16", "−0.1 | x")), "A note.")
    assert list(csv.reader(io.StringIO(table.to_csv()))) == [list(table.header), *map(list, table.rows)]
    lines = table.to_markdown().splitlines()
    assert lines[0] == "**Heads of 5 % & α**"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines[2:6])
    latex = table.to_latex()
    assert r"5 \% \& $\alpha$" in latex
    assert r"k & left\_over \\" in latex
    assert r"16 & $-$0.1 | x \\" in latex
    assert latex.count(r"\\") == 3


@pytest.mark.parametrize(
    ("values", "text"),
    [((None,), "–"), ((0.123,), "0.12"), ((-1.0, -2.0, 0.5), "−1.00 [−2.00, 0.50]"), ((1.0, None, 2.0), "1.00")],
)
def test_numbers(values, text):
    assert number(*values) == text


@pytest.mark.parametrize("concepts", [("mnist",), ("a", "b")])
def test_the_same_numbers_draw_the_same_figures(tmp_path, concepts):
    drawn = [render_curves(results(concepts=concepts), tmp_path / str(place)) for place in range(2)]
    assert {path.name for path in drawn[0]} >= {f"{concepts[0]}.svg", f"{concepts[0]}.png"}
    assert ("transfer.svg" in {path.name for path in drawn[0]}) == (len(concepts) > 1)
    for left, right in zip(*drawn, strict=True):
        assert left.read_bytes() == right.read_bytes()
        assert left.stat().st_size > 2000
