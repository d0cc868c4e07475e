"""Results as they show themselves: charts and tables of a tuned edit, of named heads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import headpursuit as hp
from headpursuit.files import write_sealed
from headpursuit.tuning.tune import Tuned
from report import made_up


def labels(figure):
    return [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]


def test_a_tuned_edit_is_shown_beside_the_fixed_one_of_another_number_of_heads():
    found = made_up.tuned().results
    assert {(row.selection, row.k) for row in found.target_rows()} == {("tuned", 2), ("somp", 1), ("random", 2)}
    assert "2 by tuned" in found._repr_html_()
    assert "1 by somp" in found._repr_html_()


def test_named_heads_are_drawn_as_bars_best_first():
    found = replace(made_up.results(), rows=(), concepts=())
    third = replace(found.descriptions[2], explained_variance=(0.3, 0.5, 0.9), tokens=(" blue", "", "x"))
    lens = replace(third, method="logit_lens", explained_variance=None, frequency=(1.0, 1.0, 1.0))
    shown = replace(found, descriptions=(*found.descriptions[:2], third, lens))
    names = labels(shown.plot())
    assert len(names) == 3
    assert names[0] == f"{third.head}  blue, ∅, x"
    assert third.head.name in shown._repr_html_()


def reshaped(file, change):
    """Sealed content of another shape."""
    content = json.loads(file.read_text())
    change(content)
    write_sealed(file, content)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda stored: stored.pop("rows"), "rows: Field required"),
        (lambda stored: stored["rows"][0].update(value="much"), "rows.0.value: "),
        (lambda stored: stored["rows"][0].update(colour="red"), "rows.0.colour: "),
        (lambda stored: stored["comparisons"].append(7), "comparisons.3: "),
        (lambda stored: stored["concepts"][0]["verdicts"][0].update(best=[1]), "concepts.0.verdicts.0.best.1: Field required"),
        (lambda stored: stored["concepts"][0]["examples"][0].update(image="x.png"), "concepts.0.examples.0.image: "),
        (lambda stored: stored["descriptions"][0].pop("tokens"), "this is no description of a head"),
        (lambda stored: stored["concepts"][0]["rankings"]["somp"].update(scores=[1]), "this is no whole ranking"),
        (lambda stored: stored.update(versions=[]), "versions: "),
    ],
)
def test_results_of_another_shape_are_refused_by_their_key(tmp_path, change, key):
    reshaped(made_up.results().save(tmp_path), change)
    with pytest.raises(hp.HeadPursuitError) as refused:
        hp.Results.load(tmp_path)
    assert key in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda stored: stored.pop("trials"), "trials: Field required"),
        (lambda stored: stored["trials"][0].update(cost="dear"), "trials.0.cost: "),
        (lambda stored: stored["front"][0].update(number=99), "front: there is no trial 99"),
        (lambda stored: stored["goal"]["limits"][0].update(at_most=None), "goal.limits.0.at_most: "),
        (lambda stored: stored["goal"]["target"].update(better="red"), "goal.target.better: "),
        (lambda stored: stored.update(edit={"heads": [7]}), "this is no edit"),
    ],
)
def test_a_tuned_edit_of_another_shape_is_refused_by_its_key(tmp_path, change, key):
    reshaped(made_up.tuned().save(tmp_path), change)
    with pytest.raises(hp.HeadPursuitError) as refused:
        Tuned.load(tmp_path)
    assert key in str(refused.value)
    assert "\n" not in str(refused.value)
