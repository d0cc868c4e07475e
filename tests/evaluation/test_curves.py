"""Effects at equal cost, against plain loops and by their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headpursuit.evaluation.curves import AtCost, Curve, CurvePoint, area, frontier, in_words, standings
from headpursuit.ranking.equal_cost import effect_at

NUMBERS = st.floats(-5, 5, allow_nan=False, width=32)
COSTS = st.floats(0, 2, allow_nan=False, width=32)


def literal(effects, costs, limit):
    """The best of many points on the ways from the unedited model over the scales of each k."""
    best = 0.0
    for e_row, c_row in zip(effects, costs, strict=True):
        e, c = np.array([0.0, *e_row]), np.array([0.0, *c_row])
        for index in range(len(e) - 1):
            way = np.linspace(0, 1, 2001)
            on = c[index] + way * (c[index + 1] - c[index]) <= limit
            if on.any():
                best = max(best, (e[index] + way * (e[index + 1] - e[index]))[on].max())
    return best


@given(arrays(float, (2, 3), elements=NUMBERS), arrays(float, (2, 3), elements=COSTS), st.floats(0.01, 1))
def test_an_effect_at_a_cost_is_the_best_on_the_way(effects, costs, limit):
    assert effect_at(effects, costs, limit) == pytest.approx(literal(effects, costs, limit), abs=2e-2)
    assert 0 <= effect_at(effects, costs, limit) <= effect_at(effects, costs, limit * 2) <= max(0, effects.max()) + 1e-9
    assert area(effects, costs, limit) <= effect_at(effects, costs, limit) + 1e-9


@given(arrays(float, (5, 2, 3), elements=NUMBERS), arrays(float, (5, 2, 3), elements=COSTS))
def test_resamples_are_read_one_by_one(effects, costs):
    together = effect_at(effects, costs, 0.3)
    assert together == pytest.approx([float(effect_at(e, c, 0.3)) for e, c in zip(effects, costs, strict=True)])


def test_a_straight_way_is_cut_where_the_cost_is_reached():
    assert effect_at(np.array([[2.0, 6.0]]), np.array([[0.1, 0.3]]), 0.2) == pytest.approx(4.0)
    assert area(np.array([[2.0]]), np.array([[0.2]]), 0.2) == pytest.approx(1.0)


def curve(method, effects, *, ahead=(0.0, 0.0, 0.0), concept="colours"):
    points = tuple(
        CurvePoint(1, scale, effect, cost) for scale, effect, cost in zip((0.0, -1.0), effects, (0.1, 0.4), strict=True)
    )
    at = AtCost(0.4, effects[-1], effects[-1] - 1, effects[-1] + 1, *ahead)
    return Curve(concept, "suppress", method, "nats", points, (at,), (0.0, 0.0, 0.0), n=9)


def test_words_and_standings_come_from_the_intervals():
    curves = [
        curve("calibrated", (1.0, 2.0)),
        curve("attribution", (2.0, 4.0), ahead=(2.0, 1.0, 3.0)),
        curve("random", (0.0, 1.0), ahead=(-1.0, -2.0, -0.5)),
        curve("calibrated", (1.0, 2.0), concept="digits"),
        curve("attribution", (1.0, 2.5), ahead=(0.5, -0.5, 1.0), concept="digits"),
        curve("random", (0.0, 1.9), ahead=(-0.1, -2.0, 0.5), concept="digits"),
    ]
    first, second = in_words(curves)
    assert first.startswith(
        "colours, suppress: at 0.4 nats attribution moves 4.00 nats (3.00 to 5.00), surely more than calibrated"
    )
    assert first.endswith("surely behind calibrated: random.")
    assert "not surely more than calibrated (2.00)" in second
    assert "behind" not in second
    lines = {line["method"]: line for line in standings(curves)}
    assert lines["calibrated"]["at 0.4"] == pytest.approx((0.5 + 0.8) / 2)
    assert lines["attribution"]["at 0.4"] == 1
    assert [(lines[name]["ahead"], lines[name]["behind"]) for name in lines] == [(0, 0), (1, 0), (0, 1)]
    assert frontier(curves[1])[-1] == pytest.approx((0.4, 4.0))
    assert frontier(curves[1])[5] == pytest.approx((0.1, 2.0))
