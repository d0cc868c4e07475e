"""What random token sets score, and the ranking that is measured by it."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

import headpursuit as hp
from headpursuit.ranking.chance import Chance, threshold
from headpursuit.ranking.null import random_token_sets
from headpursuit.ranking.rank import ChanceWarning
from headpursuit.ranking.scorer import Scorer

COLOURS = hp.Concept("colours", words=["red", "blue", "yellow", "green", "orange", "purple"])


@pytest.fixture(scope="module")
def demo_acts(_demo):
    return _demo["acts"]


def logits(sets: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(sets, 3, 4))


def test_random_sets_lie_around_zero_with_a_deviation_of_one():
    drawn = logits(50)
    found = Chance.of(drawn).deviations(drawn)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0, ddof=1), 1)


def test_a_head_must_explain_and_speak_for_the_concept():
    chance = Chance.of(logits(50))
    said = np.array([[5.0, -5.0, 5.0, 0.0]] * 3)
    explained = np.array([[0.5, 0.5, 0.1, 0.5]] * 3)
    both, against, little, silent = chance.scores(explained, said)[0]
    assert both > little > silent > against
    assert both > threshold(12) * np.sqrt(0.5)


def test_a_head_that_writes_nothing_lies_at_chance():
    drawn = logits(20)
    drawn[:, 0, 0] = 0.1
    assert Chance.of(drawn).deviations(drawn)[:, 0, 0] == pytest.approx(0)


def test_a_head_that_is_not_there_stays_so():
    drawn = logits(20)
    drawn[:, 0, 0] = np.nan
    found = Chance.of(drawn).deviations(drawn)
    assert np.isnan(found[:, 0, 0]).all()
    assert np.isfinite(found[:, 1]).all()


def test_the_threshold_grows_with_the_number_of_heads():
    assert threshold(1) == pytest.approx(1.645, abs=1e-3)
    assert threshold(50) == pytest.approx(3.090, abs=1e-3)


def test_the_default_ranking_is_measured_by_sets_of_the_seed(acts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChanceWarning)
        ranking = hp.rank(acts, COLOURS, draws=30, seed=5, progress=False)
    assert ranking.method == "calibrated"
    assert ranking.about["draws"] == 30
    scorer = Scorer(acts, progress=False)
    resolved = scorer.resolved(COLOURS)
    null = random_token_sets(resolved.rows, scorer.unembedding, acts.tokenizer, draws=30, seed=5)
    explained = hp.rank(acts, COLOURS, method="somp", draws=0, progress=False).scores
    said = hp.rank(acts, COLOURS, method="logit_lens", progress=False).scores
    by_chance = scorer.scores(null.sets, view="logit_lens")
    z = (said - by_chance.mean(axis=0)) / by_chance.std(axis=0, ddof=1)
    np.testing.assert_allclose(ranking.values["logit_z"], z, rtol=1e-5)
    np.testing.assert_allclose(ranking.scores, np.sqrt(explained) * z, rtol=1e-5)


def test_words_at_random_are_called_chance(demo_acts):
    tokenizer = demo_acts.tokenizer
    rng = np.random.default_rng(3)
    words = [tokenizer.decode([int(token)]).strip() for token in rng.choice(np.arange(300, 1200), 30, replace=False)]
    with pytest.warns(ChanceWarning, match="random words do as well"):
        hp.rank(demo_acts, hp.Concept("noise", words=[word for word in words if word.isalpha()]), progress=False)


def test_a_concept_that_heads_write_is_not_called_chance(demo_acts):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ChanceWarning)
        hp.rank(demo_acts, "colours", progress=False)


def test_the_papers_score_is_warned_of_where_chance_does_as_well(acts):
    with pytest.warns(ChanceWarning, match="method calibrated"):
        first = hp.rank(acts, COLOURS, method="somp", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ChanceWarning)
        assert (hp.rank(acts, COLOURS, method="somp", draws=0, progress=False).scores == first.scores).all()


def test_few_heads_are_kept_where_nothing_is_said(demo_acts, tmp_path):
    ranking = hp.rank(demo_acts, "colours", progress=False)
    assert ranking.few() == 2  # 2 % of 120
    path = ranking.save(tmp_path / "heads.json")
    assert hp.load_heads(path, model="demo") == ranking.top(2)


def test_significance_of_a_calibrated_ranking_shows_what_it_is_made_of(demo_acts):
    tested = hp.significance(demo_acts, "colours", draws=100, progress=False)
    best = tested.ranking.order()[0]
    assert tested.ranking.method == "calibrated"
    assert {"explained", "logit_z", "null", "z", "q"} <= set(tested.to_frame())
    assert tested.q[best.layer, best.head] <= 0.05
    same = hp.rank(demo_acts, "colours", draws=100, progress=False)
    np.testing.assert_allclose(tested.ranking.scores, same.scores)


def test_no_head_that_chance_explains_is_among_the_few(demo_acts):
    scores = np.arange(200, 0, -1.0).reshape(2, 100)
    z = np.full((2, 100), 9.0)
    z[0, 2] = 1.0
    ranking = replace(hp.rank(demo_acts, "colours", progress=False), scores=scores, values={"logit_z": z})
    assert ranking.few() == 2
    assert replace(ranking, values={"logit_z": np.zeros((2, 100))}).few() == 1
    assert replace(ranking, values={"logit_z": z + 9}).few() == 4  # 2 % of 200
    assert replace(ranking, scores=np.ones((20, 100)), method="somp").few() == 8


def test_the_concept_is_one_of_the_sets_where_chance_is_all_there_is(acts):
    """A concept drawn like the random sets has every rank among them alike: counted p-values are even."""
    tokenizer, rng = acts.tokenizer, np.random.default_rng(0)
    unembedding = acts.weights.unembedding().float()
    resolved = Scorer(acts, progress=False).resolved(COLOURS)
    found = []
    for seed in range(40):
        rows = random_token_sets(resolved.rows, unembedding, tokenizer, draws=2, seed=int(rng.integers(10**6))).sets[0]
        words = hp.Concept("drawn", words=[tokenizer.decode([row[0]]).strip() for row in rows])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found.append(hp.significance(acts, words, draws=9, seed=seed, variants=False, progress=False).p_counted)
            except hp.HeadPursuitError:
                continue
    p = np.concatenate([one.ravel() for one in found])
    assert len(p) > 200
    assert np.mean(p <= 0.1) < 0.2
    assert 0.4 < p.mean() < 0.7
