"""Which heads stay on top when the data are disturbed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import headpursuit as hp
import tiny
from headpursuit.concepts import resolve

WORDS = hp.Concept("words", words=["blue", "yellow", "orange", "happy", "cats", "cups"])


def test_shares_are_those_of_rankings_made_one_by_one(acts):
    """Each draw, repeated as a ranking of its own of a capture cut to the rows, or of a shorter word list."""
    made = hp.stability(acts, WORDS, method="somp", k=4, n_atoms=3, draws=12, leave_out=0.3, seed=2, progress=False)
    rng = np.random.default_rng(2)
    best = set(hp.rank(acts, WORDS, method="somp", n_atoms=3, progress=False).top(4))
    tops = []
    for rows in rng.integers(acts.n, size=(12, acts.n)):
        part = replace(acts, z={layer: z[rows] for layer, z in acts.z.items()})
        tops.append(set(hp.rank(part, WORDS, method="somp", n_atoms=3, progress=False).top(4)))
    words = resolve(WORDS, acts.tokenizer, vocabulary_size=len(acts.weights.unembedding())).kept_words
    assert len(words) == 6
    shorter = []
    for _ in range(12):
        gone = {words[index] for index in rng.choice(len(words), size=int(np.ceil(0.3 * len(words))), replace=False)}
        rest = hp.Concept("words", [word for word in words if word not in gone])
        shorter.append(set(hp.rank(acts, rest, method="somp", n_atoms=3, progress=False).top(4)))
    for stays, sets, mean in ((made.samples, tops, made.jaccard_samples), (made.words, shorter, made.jaccard_words)):
        for head in acts.heads():
            assert stays[head.layer, head.head] == pytest.approx(np.mean([head in one for one in sets]))
        assert mean == pytest.approx(np.mean([len(one & best) / len(one | best) for one in sets]))
        assert 0 < mean < 1
    frame = made.to_frame()
    assert frame["stays_samples"].sum() == pytest.approx(4)
    assert frame["stays_words"].sum() == pytest.approx(4)


def test_all_heads_always_stay(acts):
    made = hp.stability(acts, WORDS, k=12, n_atoms=3, draws=3, progress=False)
    assert made.jaccard_samples == made.jaccard_words == 1
    assert (made.samples == 1).all()


def test_what_cannot_be_drawn_is_left_out(acts, llama):
    one = hp.Concept("blue", words=["blue"])
    alone = hp.stability(acts, one, k=2, draws=3, progress=False)
    assert alone.jaccard_words is None
    assert "stays_words" not in alone.to_frame()
    moments = hp.capture(llama, tiny.TEXTS, positions="all", progress=False)
    no_rows = hp.stability(moments, WORDS, k=2, draws=3, progress=False)
    assert no_rows.jaccard_samples is None
    assert list(no_rows.columns()) == ["stays_words"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"draws": 0}, "draws=0: give at least 1"), ({"leave_out": 1.0}, "between 0 and 1"), ({"k": 13}, "between 1 and")],
)
def test_wrong_options_are_refused(acts, options, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        hp.stability(acts, WORDS, progress=False, **options)


def test_few_samples_are_refused(acts):
    few = replace(acts, z={layer: z[:5] for layer, z in acts.z.items()})
    with pytest.raises(hp.HeadPursuitError, match="5 samples are too few"):
        hp.stability(few, WORDS, k=2, progress=False)
