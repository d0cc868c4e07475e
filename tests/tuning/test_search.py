"""The search against a grid that is worked out whole, on cells whose numbers are a formula of the edit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import headpursuit as hp
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Cell, Cells
from headpursuit.evaluation.goals import Goal, Limit, Trial, choose
from headpursuit.evaluation.metrics import Metric
from headpursuit.model.heads import parse_heads
from headpursuit.ranking.ranking import STEP, HeadRanking, by_order
from headpursuit.tuning.search import Space, front, search


def ranked(heads, steps=None):
    """A ranking of some heads in an order, and if it knows them with a step for each."""
    scores = by_order(heads, (2, 3))
    values = {}
    if steps is not None:
        values[STEP] = scores.copy()
        for head, step in zip(heads, steps, strict=True):
            values[STEP][head.layer, head.head] = step
        scores = np.sign(values[STEP]) * scores
    return HeadRanking(scores, "c", "m", (), 4, "mean", {}, {}, values=values)


ORDER = parse_heads(["L0.H1", "L1.H0", "L1.H2", "L0.H0"])
WORDS, QUALITY = Metric("t", "words"), Metric("t", "quality", better="higher")
GOAL = Goal("c", WORDS, (Limit(QUALITY, 0.2),))


class Formula(Cells):
    """The first two heads say the concept, the third only quality; every unit of scale costs a little of it."""

    def cell(self, task, edit):
        words, quality = 10.0, 10.0
        for factor in () if edit is None else edit.factors:
            away, which = 1 - factor.scale, ORDER.index(factor.head)
            words -= (3, 2, 0, 0.1)[which] * min(away, 1.5)
            quality -= (0.2, 0.2, 3, 0.3)[which] * away**2
        scores = {"words": np.full(4, max(words, 0.0)), "quality": np.full(4, max(quality, 0.0))}
        return Cell(scores=scores, answers=(), seconds=0)

    def fill(self, wanted, **options):
        """Nothing is missing: a cell is a formula."""


CELLS = Formula(None, {"t": None}, seed=0)
SOMP = {"somp": ranked(ORDER)}
SPACE = Space(SOMP, k=4, low=-1, high=0.5, per_head=False)


def grid():
    edits = [hp.HeadEdit(ORDER[:k], scale=scale) for k in range(1, 5) for scale in np.linspace(-1, 0.5, 31)]
    return [(GOAL.effect(CELLS, edit), GOAL.cost(CELLS, edit), edit) for edit in edits]


def test_one_scale_finds_the_best_of_the_grid():
    trials = search(GOAL, CELLS, SPACE, trials=60, progress=False)
    best = min((effect, cost) for effect, cost, _ in grid() if cost <= 1)
    found = choose(GOAL, trials)
    assert found.cost <= 1
    assert found.effect == pytest.approx(best[0], abs=0.03)


def test_with_a_reach_the_cheapest_is_found():
    goal = Goal("c", WORDS, GOAL.limits, reach=0.5)
    found = choose(goal, search(goal, CELLS, SPACE, trials=60, progress=False))
    assert found.effect <= 0.5
    assert found.cost == pytest.approx(min(cost for effect, cost, _ in grid() if effect <= 0.5), rel=0.1)


def test_every_ranking_is_weakened_until_it_just_keeps_the_limits():
    """The third head spoils quality by three times the square of its distance from 1, and 2 may be lost: it breaks at 0.18."""
    rankings = {"quality": ranked([ORDER[2], ORDER[3]]), **SOMP}
    trials = search(GOAL, CELLS, Space(rankings, 1, -1, 0.5, per_head=False), trials=6, progress=False)
    assert [trial.edit.scale for trial in trials[:5]] == [-1, -0.25, 0.12, 0.31, 0.22]
    # What keeps the limits as it is, need not be weakened.
    assert trials[5].edit == hp.HeadEdit(ORDER[:1], scale=-1)


def test_with_a_reach_every_ranking_is_weakened_until_it_just_comes_there():
    """The first head takes three tenths for a unit of scale, the third nothing at any."""
    goal = Goal("c", WORDS, GOAL.limits, reach=0.7)
    rankings = {"quality": ranked([ORDER[2], ORDER[3]]), **SOMP}
    trials = search(goal, CELLS, Space(rankings, 1, -1, 0.5, per_head=False), trials=6, progress=False)
    assert trials[0].edit == hp.HeadEdit(ORDER[2:3], scale=-1)
    assert [trial.edit.scale for trial in trials[1:]] == [-1, -0.25, 0.12, -0.06, 0.03]


def test_scales_of_their_own_do_what_one_scale_cannot():
    """One scale for the first three heads spoils quality by the third; the search leaves it nearly alone."""
    order = [ORDER[index] for index in (2, 0, 1)]
    shared, own = (Space({"somp": ranked(order)}, k=3, low=-1, high=0.5, per_head=per_head) for per_head in (False, True))
    best = choose(GOAL, search(GOAL, CELLS, shared, trials=40, progress=False))
    better = choose(GOAL, search(GOAL, CELLS, own, trials=120, progress=False))
    assert better.effect < best.effect
    assert better.cost <= 1
    scales = {factor.head: factor.scale for factor in better.edit.factors}
    assert abs(scales.get(order[0], 1) - 1) < 0.5 < min(1 - scales[head] for head in order[1:])


class Held(Formula):
    """The first head says the concept, and the second holds it down."""

    def cell(self, task, edit):
        scales = {} if edit is None else {factor.head: factor.scale for factor in edit.factors}
        says, holds = (scales.get(head, 1.0) for head in ORDER[:2])
        scores = {"words": np.full(4, max(10 + 3 * says - 3 * holds, 0.0)), "quality": np.full(4, 10.0)}
        return Cell(scores=scores, answers=(), seconds=0)


@pytest.mark.parametrize(("enhance", "low", "high"), [(False, -1.0, 0.5), (True, 1.5, 3.0)])
def test_heads_that_hold_the_concept_down_go_the_other_way(enhance, low, high):
    goal = Goal("c", WORDS, GOAL.limits, rises=enhance)
    space = Space({"natural": ranked(ORDER[:2], steps=(1, -0.5))}, k=2, low=low, high=high)
    found = search(goal, Held(None, {"t": None}, seed=0), space, trials=40, progress=False)
    far = low if low < 1 else high
    # The ranking's own edit, at its furthest: the second head by half as much, on the other side of 1.
    assert found[0].edit == hp.HeadEdit(ORDER[:2], scale=(far, 1 - (far - 1) / 2))
    says, holds = (factor.scale for factor in sorted(choose(goal, found).edit.factors, key=lambda one: ORDER.index(one.head)))
    assert (says < 1 < holds) != enhance
    # Both may go as far.
    assert abs(holds - 1) > 0.75 * abs(far - 1)
    assert all(space.holds(trial.edit) for trial in found)


def test_a_best_edit_that_changes_nothing_is_built_upon():
    goal = Goal("c", WORDS, (Limit(QUALITY, 1e-6),))
    trials = search(goal, CELLS, Space(SOMP, 1, -1, 3), trials=12, progress=False)
    assert all(abs(trial.edit.scale - 1) <= 2 for trial in trials)
    assert any(trial.edit.scale == 1 for trial in trials)
    assert choose(goal, trials).edit.scale == 1


def test_the_same_seed_takes_the_same_way():
    ways = [
        [trial.edit for trial in search(GOAL, CELLS, Space(SOMP, 4, -1, 0.5), trials=30, seed=seed, progress=False)]
        for seed in (0, 0, 1)
    ]
    assert ways[0] == ways[1] != ways[2]


def test_a_search_leaves_optunas_verbosity_alone():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search(GOAL, CELLS, SPACE, trials=2, progress=False)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING


def test_first_edits_are_among_the_trials():
    fixed = hp.HeadEdit(ORDER[:2], scale=-0.9)
    trials = search(GOAL, CELLS, SPACE, trials=5, first=[fixed], progress=False)
    assert trials[0].edit == fixed
    assert len({trial.edit for trial in trials}) == len(trials)


def test_a_first_edit_outside_of_the_space_is_tried_but_never_built_upon():
    fixed = hp.HeadEdit(ORDER[:2], scale=-1)
    lens = {"lens": ranked(ORDER[2:])}
    spaces = [Space(SOMP, 4, -1, 0.5), Space(lens, 2, -1, 0.5), Space(SOMP, 4, 0.25, 0.5), Space(SOMP, 1, -1, 0.5)]
    spaces += [Space(SOMP, 4, -1, 0.5, where=("generated",))]
    assert [space.holds(fixed) for space in spaces] == [True, True, False, False, False]
    for space in spaces:
        trials = search(GOAL, CELLS, space, trials=12, first=[fixed], progress=False)
        assert trials[0].edit == fixed
        assert all(space.holds(trial.edit) for trial in trials[1:])
        assert {head for trial in trials[1:] for head in trial.edit.heads} <= set(next(iter(space.rankings.values())).order())


def test_a_fixed_edit_that_a_ranking_gives_is_the_rankings():
    space = Space(SOMP, 1, -1, 0.5)
    (trial,) = search(GOAL, CELLS, space, trials=1, first=[hp.HeadEdit(ORDER[:1], scale=-1)], progress=False)
    assert (trial.method, trial.number) == ("somp", 0)


def test_front_against_all_pairs():
    rng = np.random.default_rng(0)
    edits = [hp.HeadEdit(["L0.H0"], scale=float(scale)) for scale in range(30)]
    values = [(round(float(a), 1), round(float(b), 1)) for a, b in rng.random((30, 2))]
    trials = [Trial(n, e, "somp", *v, *v) for n, (e, v) in enumerate(zip(edits, values, strict=True))]
    kept = {(one.effect, one.cost) for one in front(GOAL, trials)}
    beaten = {
        one for one, other in itertools.product(values, values) if other != one and other[0] <= one[0] and other[1] <= one[1]
    }
    assert kept == set(values) - beaten


def test_spaces_that_make_no_sense():
    with pytest.raises(HeadPursuitError, match="choose between 1 and the 4 heads"):
        Space(SOMP, k=5, low=-1, high=0)
    with pytest.raises(HeadPursuitError, match="give a smaller one and a larger one"):
        Space(SOMP, k=2, low=1, high=0)
