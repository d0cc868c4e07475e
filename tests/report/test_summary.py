"""Sentences about what an edit did, from rows and verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headpursuit.report.summary import edits
from report import made_up


def told(results):
    return edits(results, results.concepts[0])


def test_goals_say_which_edits_count():
    (one,) = told(made_up.results())
    assert (one.row.k, one.row.scale, one.row.selection, one.row.effect) == (2, -1.0, "somp", 0.04)
    assert set(one.target) == {"somp", "logit_lens", "random"}
    assert one.worst is not None
    assert (one.worst.metric, one.worst.effect) == ("accuracy", 0.95)
    assert one.state == ("good", "reached")


def test_without_goals_the_ends_of_the_scales_count_at_the_largest_k():
    down, up = told(made_up.results(goals=False))
    assert [(one.row.k, one.row.scale, one.state) for one in (down, up)] == [(2, -1.0, None), (2, 4.0, None)]
    assert up.row.task == "captioning, drawn"  # the target under another task's name
    assert up.sentence.startswith("Colours words rise to 160 % of the unedited model's with 2 of 48 heads scaled by 4")


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"effect": 0.2}, ("good", "reached")),
        ({"effect": 0.2, "control": 0.5, "control_held": False}, ("open", "reached, control moved too")),
        ({"effect": 0.6}, ("bad", "missed")),
        ({"effect": 0.97}, ("bad", "missed: no effect")),
        ({"effect": 0.97, "goals": False}, ("open", "no effect")),
    ],
)
def test_a_control_that_moved_is_told_apart_from_no_effect(options, state):
    one = told(made_up.results(**options))[0]
    assert one.state == state
    assert ("no effect can be told" in one.sentence) == ("no effect" in state[1])
    assert ("The control moved" in one.sentence) == ("control moved" in state[1])


def test_large_losses_elsewhere_are_named():
    results = made_up.results()
    rows = tuple(replace(one, normalized=0.6) if one.metric == "CIDEr" and one.k == 2 else one for one in results.rows)
    sentence = told(replace(results, rows=rows))[0].sentence
    assert "what is lost most beside it is CIDEr of captioning, which comes to 60 %" in sentence


def test_a_change_is_told_where_a_ratio_says_nothing():
    results = made_up.results(goals=False)
    rows = tuple(replace(one, normalized=None, change=-2.0, low=-3.0, high=-1.0) for one in results.rows)
    assert told(replace(results, rows=rows))[0].sentence.startswith("Colours words fall by 2.00 with 2 of 48 heads")


def test_a_random_control_that_cannot_be_told_apart_is_named():
    results = made_up.results(goals=False)
    same = replace(results, comparisons=(made_up.compared(low=-0.6, high=0.1),))
    assert "which cannot be told apart from these" in told(same)[0].sentence


def test_a_tuned_edit_is_one_edit():
    (one,) = told(made_up.tuned().results)
    assert (one.row.selection, one.row.effect) == ("tuned", 0.1)
    assert [row.metric for row in one.kept] == ["CIDEr"]
    assert "The fixed edit, k = 1 and α = −1, brings it to 30 %." in one.sentence
