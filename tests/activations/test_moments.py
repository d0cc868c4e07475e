"""Moments: the same as those of all rows at once, in constant memory, on disk and in parts."""

from __future__ import annotations

import pytest
import torch

import headpursuit as hp
import tiny
from activations.test_capture import cut_off, tokens_of
from headpursuit.activations.moments import HeadMoments, merge_moments
from model.test_contracts import prompts

TEXTS = [f"{text} {number}" for number in ("red", "two", "tea", "on Monday") for text in tiny.TEXTS]


def same(left, right, *, tolerance=1e-9):
    assert left.count == right.count
    for layer in left.layers:
        torch.testing.assert_close(left.centered(layer), right.centered(layer), rtol=tolerance, atol=tolerance)


def test_every_token_is_a_row(family):
    model = tiny.tiny(family)
    samples = prompts(model)
    moments = hp.capture(model, samples, positions="all", batch_size=3, progress=False)
    for layer in moments.layers:
        rows = torch.cat([tokens_of(model, sample)[0][layer] for sample in samples]).double()
        rows = rows.unflatten(1, moments.total[layer].shape)
        centred = rows - rows.mean(dim=0)
        assert moments.count == len(rows)
        expected = torch.einsum("nhe,nhf->hef", centred, centred)
        torch.testing.assert_close(moments.centered(layer), expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(moments.mean(layer), rows.mean(dim=0), rtol=1e-4, atol=1e-4)


def test_four_parts_are_one_pass(llama):
    whole = hp.capture(llama, TEXTS, positions="all", progress=False)
    parts = [hp.capture(llama, TEXTS[start::4], positions="all", progress=False) for start in range(4)]
    same(merge_moments(parts), whole, tolerance=1e-3)  # batches of other lengths round otherwise


def test_on_disk_and_after_a_cut(llama, tmp_path, monkeypatch):
    monkeypatch.setattr("headpursuit.activations.store.KEPT_EVERY", 0.0)
    monkeypatch.setattr("headpursuit.activations.capture.BLOCK", 8)
    whole = hp.capture(llama, TEXTS, positions="all", batch_size=4, progress=False)
    calls = cut_off(monkeypatch, at_batch=3)
    with pytest.raises(KeyboardInterrupt):
        hp.capture(llama, TEXTS, positions="all", batch_size=4, out=tmp_path / "acts", progress=False)
    stored = hp.capture(llama, TEXTS, positions="all", batch_size=4, out=tmp_path / "acts", progress=False)
    assert len(calls) == 5
    same(stored, whole)
    assert len(list((tmp_path / "acts").glob("activations-*"))) == 1


def test_the_pursuit_of_moments_is_the_l2_pursuit_of_rows(llama):
    acts = hp.capture(llama, TEXTS, positions="mean", progress=False)
    z = {layer: rows.double() for layer, rows in acts.z.items()}
    moments = HeadMoments(
        count=acts.n,
        total={layer: rows.sum(dim=0) for layer, rows in z.items()},
        second={layer: torch.einsum("nhe,nhf->hef", rows, rows) for layer, rows in z.items()},
        positions="all",
        weights=acts.weights,
        tokenizer=acts.tokenizer,
        model=acts.model,
        about=acts.about,
    )
    for layer in acts.layers:
        projection, atoms = acts.weights.projection(layer), acts.weights.unembedding()
        rows = hp.pursuit.somp_heads(acts.z[layer], projection, atoms, n_atoms=5, criterion="l2")
        found = hp.pursuit.somp_moments(moments.centered(layer), projection, atoms, n_atoms=5)
        assert found.support.equal(rows.support)
        torch.testing.assert_close(found.explained_variance, rows.explained_variance, rtol=0, atol=1e-5)


def test_moments_describe_and_rank(llama, tmp_path):
    acts = hp.capture(llama, TEXTS, positions="all", out=tmp_path / "acts", progress=False)
    described = hp.describe(acts, heads=["L2.H1"], n_atoms=3, progress=False)[0]
    assert len(described.tokens) == 3
    assert described.n == acts.count
    for method in ("somp", "logit_lens"):
        ranking = hp.rank(acts, hp.Concept("c", words=["red", "blue", "two"]), method=method, progress=False)
        assert len(ranking.order()) == 12
    with pytest.raises(hp.HeadPursuitError, match="--keep-rows"):
        hp.describe(acts, method="logit-lens", progress=False)


def test_other_models_moments_do_not_add_up(llama):
    one = hp.capture(llama, TEXTS[:3], positions="all", progress=False)
    other = hp.capture(tiny.tiny("mistral"), TEXTS[:3], positions="all", progress=False)
    with pytest.raises(hp.HeadPursuitError, match="do not add up"):
        merge_moments([one, other])
    with pytest.raises(hp.HeadPursuitError, match="no moments"):
        merge_moments([])
