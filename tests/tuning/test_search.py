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
from headpursuit.tuning.search import Space, front, search

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


CELLS = Formula(None, {"t": None}, seed=0)
SPACE = Space({"somp": ORDER}, k=4, low=-1, high=0.5, per_head=False)


def grid(scales=(-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5)):
    edits = [hp.HeadEdit(ORDER[:k], scale=scale) for k in range(1, 5) for scale in scales]
    return [(GOAL.effect(CELLS, edit), GOAL.cost(CELLS, edit), edit) for edit in edits]


def test_one_scale_finds_the_best_of_the_grid():
    trials = search(GOAL, CELLS, SPACE, trials=60, progress=False)
    best = min((effect, cost) for effect, cost, _ in grid() if cost <= 1)
    found = choose(GOAL, trials)
    assert (found.effect, found.cost) == pytest.approx(best)


def test_with_a_reach_the_cheapest_is_found():
    goal = Goal("c", WORDS, GOAL.limits, reach=0.5)
    found = choose(goal, search(goal, CELLS, SPACE, trials=60, progress=False))
    assert found.cost == pytest.approx(min(cost for effect, cost, _ in grid() if effect <= 0.5))


def test_scales_of_their_own_do_what_one_scale_cannot():
    """One scale for the first three heads spoils quality by the third; the search leaves it alone."""
    order = [ORDER[index] for index in (2, 0, 1)]
    shared, own = (Space({"somp": order}, k=3, low=-1, high=0.5, per_head=per_head) for per_head in (False, True))
    best = choose(GOAL, search(GOAL, CELLS, shared, trials=40, progress=False))
    better = choose(GOAL, search(GOAL, CELLS, own, trials=120, progress=False))
    assert better.effect < best.effect
    assert better.cost <= 1
    assert order[0] not in better.edit.heads


def test_the_same_seed_takes_the_same_way():
    ways = [
        [trial.edit for trial in search(GOAL, CELLS, Space({"somp": ORDER}, 4, -1, 0.5), trials=30, seed=seed, progress=False)]
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
    spaces = [Space({"somp": ORDER}, 4, -1, 0.5), Space({"somp": ORDER}, 4, 0, 0.5), Space({"somp": ORDER}, 1, -1, 0.5)]
    spaces += [Space({"somp": ORDER}, 4, -1, 0.5, where=("generated",)), Space({"lens": ORDER[2:]}, 2, -1, 0.5)]
    assert [space.holds(fixed) for space in spaces] == [True, False, False, False, False]
    for space in spaces[1:4]:
        trials = search(GOAL, CELLS, space, trials=12, first=[fixed], progress=False)
        assert trials[0].edit == fixed
        assert all(set(trial.edit.token_groups) == set(space.where) for trial in trials[1:])
        assert any(space.holds(trial.edit) for trial in trials)


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
        Space({"somp": ORDER}, k=5, low=-1, high=0)
    with pytest.raises(HeadPursuitError, match="give a range"):
        Space({"somp": ORDER}, k=2, low=1, high=0)
