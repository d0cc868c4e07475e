"""Effects, losses and their standard errors against values worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import headpursuit as hp
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cell_files import Cell
from headpursuit.evaluation.cells import Bench, Measure
from headpursuit.evaluation.goals import Goal, Limit, standard_error

WORDS, QUALITY = Measure("t", "words"), Measure("t", "quality")
NATS = Measure("t", "nats", compared_by="difference")
EDIT = hp.HeadEdit(["L0.H0"], scale=-1)


@dataclass
class Sized:
    samples: tuple


def bench(**values):
    """A bench whose cells are given: for each metric the unedited and the edited values."""
    made = Bench(None, {"t": Sized(())}, seed=0)
    for place, edit in enumerate((None, EDIT)):
        scores = {name: np.array(pair[place], dtype=float) for name, pair in values.items()}
        made._cells["t", edit] = Cell(scores=scores, answers=(), seconds=0)
    return made


def test_effect_and_cost():
    found = bench(words=([2, 1, 1], [1, 0, 0]), quality=([1, 1, 0], [1, 0.9, 0]), nats=([3, 3, 3], [3.1, 3, 3.05]))
    goal = Goal("c", WORDS, (Limit(QUALITY, 0.1), Limit(NATS, 0.1)))
    assert goal.effect(found, EDIT) == pytest.approx(0.25)
    assert goal.limits[0].loss(found, EDIT) == pytest.approx(0.05)
    assert goal.limits[1].loss(found, EDIT) == pytest.approx(0.05)
    assert goal.cost(found, EDIT) == pytest.approx(0.5)
    assert goal.weakness(0.25) == 0.25
    assert Goal("c", WORDS, goal.limits, rises=True).weakness(0.25) == -0.25


def test_standard_errors():
    found = bench(words=([2, 1, 1], [1, 0, 0]), nats=([3, 3, 3], [3.1, 3, 3.05]))
    # The ratio is 1/4, so that the rests are 1 − 2/4, 0 − 1/4, 0 − 1/4, and the mean of the unedited values is 4/3.
    expected = np.std([0.5, -0.25, -0.25], ddof=1) / np.sqrt(3) / (4 / 3)
    assert standard_error(found, WORDS, EDIT) == pytest.approx(expected)
    assert standard_error(found, NATS, EDIT) == pytest.approx(np.std([0.1, 0, 0.05], ddof=1) / np.sqrt(3))
    goal = Goal("c", WORDS, (Limit(NATS, 0.1),))
    assert goal.weakness_bound(found, EDIT) == pytest.approx(0.25 + expected)
    assert goal.cost_bound(found, EDIT) == pytest.approx((0.05 + standard_error(found, NATS, EDIT)) / 0.1)


def test_the_delta_method_agrees_with_resampling():
    """Drawing samples anew, ten thousand times, spreads the ratio as the standard error says."""
    rng = np.random.default_rng(0)
    base = rng.poisson(1.2, 200)
    found = bench(words=(base, rng.binomial(base, 0.4)))
    picks = rng.integers(200, size=(10_000, 200))
    unedited, edited = (found.scores(WORDS, one)[picks].mean(axis=1) for one in (None, EDIT))
    assert standard_error(found, WORDS, EDIT) == pytest.approx((edited / unedited).std(), rel=0.05)


def test_nothing_to_lose():
    found = bench(words=([0, 0], [0, 0]), quality=([1, 1], [1, 1]))
    with pytest.raises(HeadPursuitError, match="scores 0 on words"):
        Goal("c", WORDS, (Limit(QUALITY, 0.1),)).effect(found, EDIT)
    with pytest.raises(HeadPursuitError, match="allow a loss above 0"):
        Limit(QUALITY, 0)
