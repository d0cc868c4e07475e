"""Effects, losses and their standard errors against values worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

import headpursuit as hp
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Cell, Cells
from headpursuit.evaluation.goals import Goal, GoalJudge, Limit, Trial, choose, standard_error, tried
from headpursuit.evaluation.metrics import Metric
from headpursuit.evaluation.results import Row
from headpursuit.evaluation.verdicts import judge, selection_goal, settle

WORDS, QUALITY = Metric("t", "words"), Metric("t", "quality", better="higher")
NATS = Metric("t", "nats", better="lower", compared_by="change")
EDIT = hp.HeadEdit(["L0.H0"], scale=-1)


@dataclass
class Sized:
    samples: tuple


def given(**values):
    """Cells that are given: for each metric the unedited and the edited values."""
    made = Cells(None, {"t": Sized(())}, seed=0)
    for column, edit in enumerate((None, EDIT)):
        scores = {name: np.array(pair[column], dtype=float) for name, pair in values.items()}
        made._held["t", edit] = Cell(scores=scores, answers=(), seconds=0)
    return made


def test_effect_and_cost():
    found = given(words=([2, 1, 1], [1, 0, 0]), quality=([1, 1, 0], [1, 0.9, 0]), nats=([3, 3, 3], [3.1, 3, 3.05]))
    goal = Goal("c", WORDS, (Limit(QUALITY, 0.1), Limit(NATS, 0.1)))
    assert goal.effect(found, EDIT) == pytest.approx(0.25)
    assert goal.limits[0].loss(found, EDIT) == pytest.approx(0.05)
    assert goal.limits[1].loss(found, EDIT) == pytest.approx(0.05)
    assert goal.cost(found, EDIT) == pytest.approx(0.5)
    assert goal.weakness(0.25) == 0.25
    assert Goal("c", WORDS, goal.limits, rises=True).weakness(0.25) == -0.25


def test_standard_errors():
    found = given(words=([2, 1, 1], [1, 0, 0]), nats=([3, 3, 3], [3.1, 3, 3.05]))
    # The ratio is 1/4, so that the rests are 1 − 2/4, 0 − 1/4, 0 − 1/4, and the mean of the unedited values is 4/3.
    expected = np.std([0.5, -0.25, -0.25], ddof=1) / np.sqrt(3) / (4 / 3)
    assert standard_error(found, WORDS, EDIT) == pytest.approx(expected)
    assert standard_error(found, NATS, EDIT) == pytest.approx(np.std([0.1, 0, 0.05], ddof=1) / np.sqrt(3))
    goal = Goal("c", WORDS, (Limit(NATS, 0.1),))
    trial = tried(goal, found, EDIT, number=0, method="somp")
    assert trial.weakness_bound == pytest.approx(0.25 + expected)
    assert trial.cost_bound == pytest.approx((0.05 + standard_error(found, NATS, EDIT)) / 0.1)


def test_the_delta_method_agrees_with_resampling():
    """Drawing samples anew, ten thousand times, spreads the ratio as the standard error says."""
    rng = np.random.default_rng(0)
    base = rng.poisson(1.2, 200)
    found = given(words=(base, rng.binomial(base, 0.4)))
    picks = rng.integers(200, size=(10_000, 200))
    unedited, edited = (found.scores(WORDS, one)[picks].mean(axis=1) for one in (None, EDIT))
    assert standard_error(found, WORDS, EDIT) == pytest.approx((edited / unedited).std(), rel=0.05)


def test_nothing_to_lose():
    found = given(words=([0, 0], [0, 0]), quality=([1, 1], [1, 1]))
    with pytest.raises(HeadPursuitError, match="scores 0 on words"):
        Goal("c", WORDS, (Limit(QUALITY, 0.1),)).effect(found, EDIT)
    with pytest.raises(HeadPursuitError, match="allow a loss above 0"):
        Limit(QUALITY, 0)


def trial(number, effect, cost):
    return Trial(number, EDIT, "somp", effect, cost, effect, cost)


def test_limits_come_before_the_target():
    """Within the limits the strongest; with a reach the cheapest that comes so far; else the cheapest of all."""
    goal = Goal("c", WORDS, (Limit(QUALITY, 0.1),))
    wished = Goal("c", WORDS, goal.limits, reach=0.5)
    tries = [trial(0, 0.9, 0.1), trial(1, 0.4, 0.7), trial(2, 0.2, 0.9), trial(3, 0.0, 1.5)]
    assert choose(goal, tries).number == 2
    assert choose(wished, tries).number == 1
    assert choose(wished, [tries[0], tries[3]]).number == 0
    assert choose(wished, [trial(0, 0.1, 3.0), trial(1, 0.7, 1.2)]).number == 1
    rising = Goal("c", WORDS, goal.limits, rises=True, reach=1.3)
    raised = [Trial(n, EDIT, "somp", effect, cost, -effect, cost) for n, (effect, cost) in enumerate([(1.2, 0.2), (1.4, 0.9)])]
    assert choose(rising, raised).effect == 1.4


def test_a_loss_is_a_change_for_the_worse():
    assert Limit(QUALITY, 0.1).loss_of(0.8) == pytest.approx(0.2)
    assert Limit(Metric("t", "toxicity", better="lower"), 0.1).loss_of(1.2) == pytest.approx(0.2)
    assert Limit(NATS, 0.1).loss_of(0.3) == pytest.approx(0.3)
    assert Limit(Metric("t", "words"), 0.1).loss_of(0.8) == pytest.approx(0.2)


def test_one_sample_is_too_few_to_choose_by():
    goal = Goal("c", WORDS, (Limit(QUALITY, 0.1),))
    goal.check_samples({"t": Sized((1, 2)), "other": Sized(())})
    with pytest.raises(HeadPursuitError, match=r"t: one sample .* give at least 2"):
        goal.check_samples({"t": Sized((1,))})


@pytest.mark.parametrize("zero", ["words", "quality"])
def test_a_goal_that_nothing_can_be_told_of_is_none_on_selection_data(zero):
    values = {"words": ([2, 1, 1], [1, 0, 0]), "quality": ([1, 1, 0], [1, 0.9, 0])}
    goal = Goal("c", WORDS, (Limit(QUALITY, 0.1), Limit(Metric("elsewhere", "quality"), 0.1)), scale=-1.0)
    seen = selection_goal(goal, given(**values))
    assert seen == replace(goal, limits=goal.limits[:1])
    assert selection_goal(goal, given(**values | {zero: ([0, 0, 0], [0, 0, 0])})) is None


def test_a_goal_judges_edits_by_its_target_and_its_largest_loss():
    cells = given(words=([2, 1, 1], [1, 0, 0]), quality=([1, 1, 0], [1, 0.9, 0]))
    done = []
    judged = GoalJudge(Goal("c", WORDS, (Limit(QUALITY, 0.1),)), cells)([None, EDIT], done=lambda: done.append(1))
    assert judged[None] == (pytest.approx(4 / 3), 0.0)
    assert judged[EDIT] == (pytest.approx(1 / 3), pytest.approx(0.5))
    assert done == [1, 1]


def test_what_an_edit_costs_is_not_measured_where_it_moves_nothing():
    cells = given(words=([2, 1, 1], [2, 1, 1]))  # a look at the quality would fail
    cells._held["elsewhere", None] = None
    done = []
    elsewhere = Limit(Metric("elsewhere", "quality"), 0.1)
    judged = GoalJudge(Goal("c", WORDS, (elsewhere,)), cells)([EDIT], done=lambda: done.append(1))
    assert judged == {EDIT: (pytest.approx(4 / 3), 0.0)}
    assert done == [1]


def test_a_margin_is_that_of_what_is_nearest_to_being_missed():
    found = given(words=([2, 1, 1], [1, 0, 0]), quality=([1, 1, 0], [1, 0.9, 0]), nats=([3, 3, 3], [3, 3, 3]))
    of_words, of_quality = standard_error(found, WORDS, EDIT), standard_error(found, QUALITY, EDIT)
    goal = Goal("c", WORDS, (Limit(QUALITY, 0.1), Limit(NATS, 0.1)), reach=0.5)
    assert goal.margin(found, EDIT) == pytest.approx(min(0.25 / of_words, 0.05 / of_quality))
    assert replace(goal, reach=0.1).margin(found, EDIT) == pytest.approx(-0.15 / of_words)
    assert Goal("c", WORDS, (Limit(NATS, 0.1),)).margin(found, EDIT) == np.inf, "nothing was lost in any sample"
    rising = Goal("c", WORDS, (Limit(QUALITY, 0.1),), rises=True, reach=0.1)
    assert rising.margin(found, EDIT) == pytest.approx(min(0.15 / of_words, 0.05 / of_quality))


@dataclass(frozen=True)
class Margins:
    """A goal whose margins are told by the number of heads."""

    scale: float
    margins: tuple[float, ...]

    def keys(self, edits):
        return [("t", edit) for edit in edits]

    def margin(self, cells, edit):
        return self.margins[len(edit.factors) - 1]


@pytest.mark.parametrize(
    ("margins", "wanted"),
    [
        (((-1, 0.5, 1.5),), 3),
        (((-1, 2.5, 9.0),), 2),  # sure enough, and fewer heads
        (((1.0, 1.0, -1.0),), 1),
        (((-3, -1, -2),), 2),  # none is reached: the least is missing
        (((1.5, 0.2, 0.1), (-1, -1, 0.5)), 3),  # two goals rather than one
        (((1.5, 0.2, 0.1), (-1, 9, 9)), 2),
        (((0.1, 5.0), (0.4, -0.3)), 2),  # one surely rather than two by a hair
        (((0.5, 0.4), (-1, -9)), 1),
    ],
)
def test_the_number_of_heads_is_that_of_which_most_goals_can_be_expected(margins, wanted):
    goals = [Margins(scale, found) for scale, found in zip((-1.0, 4.0), margins, strict=False)]
    scores = np.array([[3.0, 2.0, 1.0]])
    ranking = hp.HeadRanking(scores, "c", "somp", words=(), n=1, positions="mean", model={}, about={})
    filled = []
    selection = SimpleNamespace(fill=filled.extend)
    assert settle(goals, ranking, range(1, len(margins[0]) + 1), selection, where="all") == wanted
    assert len(filled) == len(margins) * len(margins[0]), "all that it asks for runs side by side"


def rows_of(metric, base, edited):
    named = {"task": "t", "concept": "c", "metric": metric, "q25": None, "q75": None, "n": 3, "seed": 0}
    share = edited / base if base else None
    found = [Row(selection="none", k=0, scale=1.0, value=base, normalized=1.0 if base else None, change=0.0, **named)]
    return [*found, Row(selection="somp", k=2, scale=-1.0, value=edited, normalized=share, change=edited - base, **named)]


def test_what_cannot_be_told_is_neither_kept_nor_lost():
    goal = Goal("c", WORDS, (Limit(QUALITY, 0.1), Limit(NATS, 0.1)), reach=0.5, scale=-1.0)
    rows = [*rows_of("words", 2.0, 0.5), *rows_of("quality", 1.0, 1.0), *rows_of("nats", 0.0, 0.05)]
    whole = judge(goal, rows, k=2, selection="somp")
    assert (whole.effect, whole.reached, whole.misses) == (0.25, True, ())
    assert [one.effect for one in whole.kept] == [1.0, 0.05]
    rows = [*rows_of("words", 2.0, 0.5), *rows_of("quality", 0.0, 0.0), *rows_of("nats", 0.0, 0.2)]
    found = judge(goal, rows, k=2, settled=False, selection="somp")
    assert [(one.effect, one.held) for one in found.kept] == [(None, None), (0.2, False)]
    assert found.held
    assert not found.reached
    told = "; ".join(found.misses)
    assert "scores 0 on quality of t, so nothing can be told" in told
    assert "nats of t came to 0.20" in told
    assert "k = 2 was not chosen" in told
