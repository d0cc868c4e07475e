"""Bootstrap intervals against scipy's, and against what theory says of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from headpursuit.evaluation import intervals
from headpursuit.evaluation.intervals import interval, resampled_means, resampled_median


@pytest.fixture
def scores():
    rng = np.random.default_rng(5)
    base = rng.poisson(1.0, size=300).astype(float)
    return np.stack([base, base * (rng.random(300) < 0.4)])


def test_intervals_of_a_paired_ratio_are_scipys(scores):
    drawn = resampled_means(scores, resamples=6000, seed=1)
    theirs = bootstrap(
        (scores[1], scores[0]),
        lambda edited, base, axis: edited.mean(axis=axis) / base.mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=6000,
        rng=2,
    ).confidence_interval
    assert interval(drawn[:, 1] / drawn[:, 0]) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_pairing_is_by_seed_and_not_by_call(scores):
    together = resampled_means(scores, seed=3)
    apart = np.column_stack([resampled_means(row[None], seed=3) for row in scores])
    assert np.allclose(together, apart, rtol=1e-12)
    assert not np.allclose(together, resampled_means(scores, seed=4))


def test_what_all_samples_share_cancels():
    # Every sample loses exactly one: whatever is drawn, the difference of the means is one.
    hard = np.random.default_rng(0).normal(size=50) * 100
    drawn = resampled_means(np.stack([hard, hard - 1]))
    low, high = interval(drawn[:, 0] - drawn[:, 1])
    assert (low, high) == pytest.approx((1, 1))


def test_many_samples_are_resampled_in_parts(scores, monkeypatch):
    monkeypatch.setattr(intervals, "_AT_ONCE", 300 * 700)
    drawn = resampled_means(scores, resamples=2000)
    assert drawn.shape == (2000, 2)
    assert drawn.mean(axis=0) == pytest.approx(scores.mean(axis=1), abs=0.02)
    assert drawn[:, 0].std() == pytest.approx(scores[0].std() / np.sqrt(300), rel=0.1)


def test_the_median_of_draws_knows_that_draws_are_few():
    # Two groups of draws, no spread over samples: only drawing the draws again can show that the median is uncertain.
    means = np.tile(np.array([0.0] * 6 + [1.0] * 5), (4000, 1))
    drawn = resampled_median(means, seed=0)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    # The median of 11 is 1 when at least 6 of 11 picks are (probability 5/11 each): 0.380 by the binomial distribution.
    assert drawn.mean() == pytest.approx(0.380, abs=0.03)


def test_no_interval_where_the_unedited_mean_can_be_zero():
    rare = np.zeros((1, 5))
    rare[0, 0] = 1
    drawn = resampled_means(rare)[:, 0]
    with np.errstate(divide="ignore"):
        assert interval(1 / drawn) is None
