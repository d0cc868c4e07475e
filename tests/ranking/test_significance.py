"""A ranking against chance: the numbers themselves, the false-discovery rate, and what the demo's edits confirm."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.concepts import resolve
from headpursuit.concepts.counting import count_words
from headpursuit.demo import demo_samples
from headpursuit.ranking import null
from headpursuit.ranking.null import random_token_sets

COLOURS = hp.Concept("colours", words=["red", "blue", "yellow", "green", "orange", "purple"])


@pytest.fixture(scope="module")
def demo():
    return hp.load("demo", device="cpu")


def captions(limit):
    return [
        hp.Sample(text=one.text, image=one.image, target=one.target)
        for one in demo_samples("caption", "selection", limit=limit, seed=0)
    ]


@pytest.fixture(scope="module")
def demo_acts(demo):
    return hp.capture(demo, captions(64), positions="answer", progress=False)


def score_by_hand(acts, rows, head, method):
    signal = hp.pursuit.HeadSignal(acts.z[head.layer][:, head.head], acts.weights.projection(head.layer)[head.head])
    unembedding = acts.weights.unembedding().float()
    atoms = torch.stack([unembedding[list(row)].mean(dim=0) for row in rows])
    if method == "logit_lens":
        return float((signal.dense() @ atoms.T).mean())
    return float(hp.pursuit.somp_literal(signal, atoms, n_atoms=3).explained_variance[-1])


@pytest.mark.parametrize("method", ["somp", "logit_lens"])
def test_numbers_are_those_worked_out_by_hand(acts, method):
    tested = hp.significance(acts, COLOURS, method=method, n_atoms=3, draws=24, tail="counted", seed=5, progress=False)
    unembedding = acts.weights.unembedding().float()
    resolved = resolve(COLOURS, acts.tokenizer, vocabulary_size=len(unembedding))
    sets = random_token_sets(resolved.rows, unembedding, acts.tokenizer, draws=24, seed=5).sets
    frame = tested.to_frame()
    for row in frame.itertuples():
        head = hp.Head(row.layer, row.head)
        score = score_by_hand(acts, resolved.rows, head, method)
        chance = np.array([score_by_hand(acts, one, head, method) for one in sets])
        assert row.score == pytest.approx(score, abs=1e-4)
        assert row.null == pytest.approx(chance.mean(), abs=1e-4)
        assert row.z == pytest.approx((score - chance.mean()) / chance.std(ddof=1), abs=2e-3)
        assert row.p == row.p_counted == pytest.approx((np.sum(chance >= score) + 1) / 25)
    # Benjamini and Hochberg by their definition.
    p = frame["p"].to_numpy()
    for value, q in zip(p, frame["q"], strict=True):
        adjusted = [len(p) * other / np.sum(p <= other) for other in p if other >= value]
        assert q == pytest.approx(min(1, *adjusted))
    assert frame["score"].is_monotonic_decreasing


def test_the_fitted_tail_goes_below_what_can_be_counted(demo_acts):
    fitted, counted = (
        hp.significance(demo_acts, hp.concept("colours"), draws=60, tail=tail, progress=False) for tail in ("fitted", "counted")
    )
    assert counted.p.min() == pytest.approx(1 / 61)
    assert fitted.p.min() < 1e-3
    often = fitted.p_counted >= 11 / 61
    assert np.array_equal(fitted.p[often], counted.p[often])
    assert np.array_equal(fitted.p_counted, counted.p)


def random_concepts(acts, repeats):
    """Concepts that are nothing but whole words, drawn at random from the shortest quarter of their rows."""
    lengths = acts.weights.unembedding().float().norm(dim=1).numpy()
    read = acts.tokenizer
    texts = {token: read.decode([token]) for token in range(len(read)) if token not in read.all_special_ids}
    whole = (token for token, text in texts.items() if text.startswith(" ") and text.strip().isalpha())
    words = sorted(whole, key=lambda token: lengths[token])
    rng = np.random.default_rng(7)
    for _ in range(repeats):
        chosen = rng.choice(words[: len(words) // 4], size=6, replace=False)
        yield hp.Concept("random", tuple(texts[token].strip() for token in chosen), plurals=False)


def test_nothing_is_found_where_there_is_nothing(demo_acts, monkeypatch):
    first = demo_acts.layers[0]
    layer = replace(demo_acts, z={first: demo_acts.z[first]})

    def test_all(repeats):
        return [
            hp.significance(layer, one, variants=False, n_atoms=6, draws=99, seed=seed, progress=False)
            for seed, one in enumerate(random_concepts(demo_acts, repeats))
        ]

    tested = test_all(40)
    # Where nothing is to be found, every finding is false: at a false-discovery rate of 0.1 a tenth of the repeats may
    # find something. 9 or fewer of 40 has probability 0.995.
    assert sum(bool(one.found(0.1)) for one in tested) <= 9
    p = np.concatenate([one.p_counted[first] for one in tested])
    assert 0.4 < p.mean() < 0.65
    assert (p <= 0.1).mean() < 0.15
    # The test can fail: against sets of any norm, rows that are merely short look like a concept.
    monkeypatch.setattr(null, "_CLASSES", 1)
    unmatched = np.concatenate([one.p_counted[first] for one in test_all(15)])
    assert (unmatched <= 0.1).mean() > 2 * (p <= 0.1).mean()


def test_what_is_found_for_colours_the_edits_confirm(demo):
    acts = hp.capture(demo, captions(160), positions="answer", progress=False)
    acts = replace(acts, z={3: acts.z[3]})
    colours = hp.concept("colours")
    tested = hp.significance(acts, colours, method="somp", draws=200, progress=False)
    found = tested.found(0.1)
    assert 3 <= len(found) < len(acts.heads()) / 2
    # Controls as the paper's: as many heads in the same layers, here those that look most like chance.
    by_z = sorted(set(acts.heads()) - set(found), key=lambda head: tested.z[head.layer, head.head])
    controls = []
    for head in found[:3]:
        controls.append(next(other for other in by_z if other.layer == head.layer and other not in controls))
    asked = [hp.Sample(text=one.text, image=one.image) for one in demo_samples("caption", "test", limit=48, seed=0)]

    def said(heads):
        with hp.HeadEdit(heads, scale=-1).applied(demo):
            answers = demo.generate(asked, max_new_tokens=24, batch_size=48)
        return sum(count_words(answer, colours.words) for answer in answers)

    unedited = sum(count_words(answer, colours.words) for answer in demo.generate(asked, max_new_tokens=24, batch_size=48))
    assert said(found[:3]) <= 0.5 * unedited
    assert said(controls) >= 0.75 * unedited


def test_moments_are_tested_too(llama):
    texts = [f"{text} {word}" for text in tiny.TEXTS for word in ("red", "cats")]
    moments = hp.capture(llama, texts, positions="all", progress=False)
    tested = hp.significance(moments, COLOURS, method="somp", n_atoms=3, draws=8, progress=False)
    # The concept is one of many sets here and alone there: products of other shapes, which round otherwise.
    alone = hp.rank(moments, COLOURS, method="somp", n_atoms=3, draws=0, progress=False)
    np.testing.assert_allclose(tested.ranking.scores, alone.scores, rtol=1e-9)
    # Each random set alone explains what it explained among the others.
    unembedding = moments.weights.unembedding().float()
    rows = resolve(COLOURS, moments.tokenizer, vocabulary_size=len(unembedding)).rows
    sets = random_token_sets(rows, unembedding, moments.tokenizer, draws=8).sets
    for layer in moments.layers:
        alone = [
            hp.pursuit.somp_moments(
                moments.centered(layer), moments.weights.projection(layer), unembedding[[row[0] for row in one]], n_atoms=3
            ).explained_variance[:, -1]
            for one in sets
        ]
        torch.testing.assert_close(torch.stack(alone).mean(dim=0).numpy(), tested.null_mean[layer])


def test_a_silent_head_is_no_finding(acts):
    z = {layer: rows.clone() for layer, rows in acts.z.items()}
    z[1][:, 2] = 0
    tested = hp.significance(replace(acts, z=z), COLOURS, n_atoms=3, draws=20, progress=False)
    assert (tested.z[1, 2], tested.p[1, 2]) == (0, 1)
    assert np.isfinite(tested.z).all()


def test_means_of_tokens_and_the_seed(acts):
    words = hp.Concept("phrases", words=["red", "blue", "drinks", "Monday", "seven cups"])

    def tested(seed):
        return hp.significance(acts, words, multi_token="mean", n_atoms=3, draws=10, seed=seed, progress=False)

    assert np.array_equal(tested(1).z, tested(1).z)
    assert not np.array_equal(tested(1).z, tested(2).z)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 1}, "at least 2"),
        ({"tail": "long"}, "choose one of fitted"),
        ({"method": "magic"}, "choose one of calibrated, somp"),
    ],
)
def test_wrong_options_are_refused(acts, options, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        hp.significance(acts, COLOURS, progress=False, **options)


def test_missing_scipy_names_the_extra(acts, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(hp.HeadPursuitError, match=r"headpursuit\[stats\]"):
        hp.significance(acts, COLOURS, progress=False)
