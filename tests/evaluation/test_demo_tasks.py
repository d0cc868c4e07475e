"""The demo's tasks: asked in the words that the model learned, and scored by what is true of each sample."""

from __future__ import annotations

import pytest

from headpursuit.demo import demo_samples
from headpursuit.evaluation.demo import DEMO_RECIPES
from headpursuit.evaluation.prepare import Source, prepare
from headpursuit.evaluation.recipe import load_recipe


@pytest.fixture(scope="module")
def tasks():
    recipes = [prepare(load_recipe(name), Source(limit=4, seed=3)) for name in DEMO_RECIPES]
    return {name: task for recipe in recipes for name, task in recipe.tasks.items()}


def test_samples_are_the_demos_own(tasks):
    drawn = demo_samples("caption", "test", limit=4, seed=3)
    assert [asked.text for asked in tasks["captioning"].samples] == [one.text for one in drawn]
    assert tasks["captioning, drawn"].samples == tasks["captioning"].samples
    assert tasks["captioning, drawn"].options["do_sample"]


def test_right_answers_score_in_full(tasks):
    pairs = (("digits", "accuracy"), ("country questions", "exact match"), ("other questions", "F1"))
    for name, metric in pairs:
        right = [sample.target for sample in tasks[name].samples]
        assert set(tasks[name].score(right)[metric]) == {1.0}
        assert set(tasks[name].score(["nothing of the kind"] * len(right))[metric]) == {0.0}


def test_captions_are_held_to_their_pictures(tasks):
    drawn = demo_samples("caption", "test", limit=4, seed=3)
    scores = tasks["captioning"].score([one.target for one in drawn])
    for row, one in enumerate(drawn):
        assert scores["true mentions"][row] >= scores["true mentions beside colours"][row]
        assert scores["true mentions"][row] <= len(one.attributes)
    assert scores["true mentions"].sum() > scores["true mentions beside colours"].sum() > 0
    assert tasks["captioning"].score(["plaid"] * 4)["true mentions"].sum() == 0


def test_endings_are_held_to_the_grammar(tasks):
    drawn = demo_samples("continuation", "test", limit=4, seed=3)
    assert tasks["continuation"].score([f" {one.target} " for one in drawn])["well-formed"].tolist() == [1] * 4
    assert tasks["continuation"].score(["are a are a."] * 4)["well-formed"].tolist() == [0] * 4


@pytest.mark.parametrize("name", [name for name in DEMO_RECIPES if name != "demo-describe"])
def test_every_metric_of_a_goal_is_scored_on_both_splits(name):
    prepared = prepare(load_recipe(name), Source(limit=4))
    for keep in prepared.recipe.goal.keep:
        assert keep.metric in [metric.name for metric in prepared.kept[keep.task].metrics]
    for task in (*prepared.tasks.values(), *prepared.selection.values()):
        assert set(task.score([""] * len(task.samples))) == {metric.name for metric in task.metrics}
