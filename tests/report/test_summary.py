"""Sentences about what an edit did, from rows and verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headpursuit.evaluation.metrics import LIKELIHOOD, Metric
from headpursuit.evaluation.results import Kept
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


def with_kept(*kept, metrics):
    """Results whose goal has more that should stay; effects are changes where their metric is compared by change."""
    results = made_up.results()
    rows = [*results.rows]
    for one in kept:
        metric = next(known for known in metrics if known.name == one.metric)
        named = {"task": one.task, "metric": one.metric}
        changed = metric.compared_by == "change"
        rows.append(made_up.row("somp", 2, None if changed else one.effect, **named, change=one.effect))
    goal = replace(results.concepts[0].verdicts[0], kept=(*results.concepts[0].verdicts[0].kept, *kept))
    concepts = (replace(results.concepts[0], verdicts=(goal,)),)
    return replace(results, rows=tuple(rows), metrics=(*results.metrics, *metrics), concepts=concepts)


def test_a_broken_limit_on_a_change_is_not_hidden_behind_ratios():
    kept = Kept(LIKELIHOOD.task, LIKELIHOOD.name, 0.02, 0.04, held=False)
    (one,) = told(with_kept(kept, metrics=[LIKELIHOOD]))
    assert one.worst.metric == LIKELIHOOD.name
    said = "what is lost most beside it is negative log-likelihood of neutral text, which rises by 0.04"
    assert said in one.sentence
    (within,) = told(with_kept(replace(kept, limit=0.05, held=True), metrics=[LIKELIHOOD]))
    assert within.worst.metric == "accuracy"
    assert "all else stays at 95 % or above" in within.sentence


def test_what_is_better_when_it_is_low_is_lost_by_rising():
    toxic = Metric("prompts", "toxicity", better="lower")
    (one,) = told(with_kept(Kept("prompts", "toxicity", 0.2, 1.07, held=True), metrics=[toxic]))
    assert "all else stays (least: toxicity of prompts, which comes to 107 %)" in one.sentence
    (better,) = told(with_kept(Kept("prompts", "toxicity", 0.2, 0.5, held=True), metrics=[toxic]))
    assert better.worst.metric == "accuracy"


def test_a_change_is_told_where_a_ratio_says_nothing():
    results = made_up.results(goals=False)
    rows = tuple(replace(one, normalized=None, change=-2.0, low=-3.0, high=-1.0) for one in results.rows)
    assert told(replace(results, rows=rows))[0].sentence.startswith("Colours words fall by 2.00 with 2 of 48 heads")


def test_what_does_not_move_neither_rises_nor_falls():
    results = made_up.results(goals=False)
    rows = tuple(replace(one, normalized=1.001, low=None, high=None) for one in results.rows)
    assert told(replace(results, rows=rows))[0].sentence.startswith("Colours words stay at 100 % of the unedited model's")


def test_a_random_control_that_cannot_be_told_apart_is_named():
    results = made_up.results(goals=False)
    same = replace(results, comparisons=(made_up.compared(low=-0.6, high=0.1),))
    assert "which cannot be told apart from these" in told(same)[0].sentence


def test_a_tuned_edit_is_one_edit():
    (one,) = told(made_up.tuned().results)
    assert (one.row.selection, one.row.effect) == ("tuned", 0.1)
    assert [row.metric for row, _ in one.kept] == ["CIDEr"]
    assert "The fixed edit, k = 1 and α = −1, brings it to 30 %." in one.sentence
