"""Descriptions: the pursuit's tokens, and the paper's logit-lens view of the same heads."""

from __future__ import annotations

import pytest
import torch

import headpursuit as hp
import tiny


@pytest.fixture(scope="module")
def acts():
    return hp.capture(
        tiny.tiny("gpt2"), [f"{text} {n}" for text in tiny.TEXTS for n in ("red", "two", "tea")], progress=False
    )


def test_tokens_are_the_literal_pursuits(acts):
    for description in hp.describe(acts, n_atoms=4, progress=False):
        head = description.head
        signal = hp.HeadSignal(acts.z[head.layer][:, head.head], acts.weights.projection(head.layer)[head.head])
        literal = hp.somp_literal(signal, acts.weights.unembedding(), n_atoms=4)
        assert list(description.token_ids) == literal.support.tolist()
        assert description.explained_variance == pytest.approx(literal.explained_variance.tolist(), abs=1e-5)
        assert description.tokens == tuple(acts.tokenizer.decode([token]) for token in description.token_ids)


def test_heads_come_in_the_order_asked_for(acts):
    wanted = ["L2.H3", "L0.H1", "L2.H0"]
    assert [one.head.name for one in hp.describe(acts, heads=wanted, progress=False)] == wanted


def test_logit_lens_counts_the_tokens_of_highest_logit(acts):
    found = hp.describe(acts, heads=["L1.H2"], method="logit-lens", n_atoms=3, progress=False)[0]
    logits = acts.z[1][:, 2] @ acts.weights.projection(1)[2] @ acts.weights.unembedding().T
    best = logits.topk(3, dim=1).indices.flatten()
    counts = torch.bincount(best, minlength=logits.shape[1])
    assert found.frequency[0] == pytest.approx(float(counts.max()) / acts.n)
    assert counts[list(found.token_ids)].tolist() == sorted(counts.tolist(), reverse=True)[:3]


def test_what_is_not_there_is_refused(acts):
    with pytest.raises(hp.HeadPursuitError, match=r"no head L9\.H0"):
        hp.describe(acts, heads=["L9.H0"])
    with pytest.raises(hp.HeadPursuitError, match="choose one of somp, logit_lens"):
        hp.describe(acts, method="magic")
