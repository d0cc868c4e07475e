"""The demo's tasks: asked in the words that the model learned, and scored by what is true of each sample."""

from __future__ import annotations

import pytest

from headpursuit.demo import demo_samples
from headpursuit.evaluation.demo import (
    CAPTION,
    CONTINUATION,
    COUNTRIES,
    DIGITS,
    FACTS,
    SAMPLED,
    demo_experiments,
    demo_tasks,
)


@pytest.fixture(scope="module")
def tasks():
    return demo_tasks("test", limit=4, seed=3)


def test_samples_are_the_demos_own(tasks):
    drawn = demo_samples("caption", "test", limit=4, seed=3)
    assert [(asked.text, asked.target) for asked in tasks[CAPTION].samples] == [(one.text, one.target) for one in drawn]
    assert tasks[SAMPLED].samples == tasks[CAPTION].samples
    assert tasks[SAMPLED].options["do_sample"]
    assert {name: len(task.samples) for name, task in tasks.items() if name != COUNTRIES} == dict.fromkeys(
        (CAPTION, SAMPLED, DIGITS, FACTS, CONTINUATION), 4
    )


def test_right_answers_score_in_full(tasks):
    for name, metric in ((DIGITS, "accuracy"), (COUNTRIES, "exact match"), (FACTS, "exact match"), (FACTS, "F1")):
        right = [sample.target for sample in tasks[name].samples]
        assert set(tasks[name].score(right)[metric]) == {1.0}
        assert set(tasks[name].score(["nothing of the kind"] * len(right))[metric]) == {0.0}


def test_captions_are_held_to_their_pictures(tasks):
    drawn = demo_samples("caption", "test", limit=4, seed=3)
    scores = tasks[CAPTION].score([one.target for one in drawn])
    for row, one in enumerate(drawn):
        assert scores["true mentions"][row] >= scores["true mentions beside colours"][row]
        assert scores["true mentions"][row] <= len(one.attributes)
    assert scores["true mentions"].sum() > 0
    assert tasks[CAPTION].score(["plaid"] * 4)["true mentions"].sum() == 0


def test_every_measure_of_the_experiments_is_scored(tasks):
    for experiment in demo_experiments():
        raised = (
            () if experiment.enhancement is None else (experiment.enhancement.target, experiment.enhancement.quality)
        )
        for measure in (experiment.target, *experiment.kept, *experiment.also, *raised):
            task = tasks[measure.task]
            assert measure.metric in task.score([""] * len(task.samples))
