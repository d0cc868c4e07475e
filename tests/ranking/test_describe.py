"""Descriptions: the pursuit's tokens, and the paper's logit-lens view of the same heads."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.ranking.describe import Descriptions, HeadDescription


@pytest.fixture(scope="module")
def acts():
    return hp.capture(tiny.tiny("gpt2"), [f"{text} {n}" for text in tiny.TEXTS for n in ("red", "two", "tea")], progress=False)


def test_tokens_are_the_literal_pursuits(acts):
    for description in hp.describe(acts, n_atoms=4, progress=False):
        head = description.head
        signal = hp.pursuit.HeadSignal(acts.z[head.layer][:, head.head], acts.weights.projection(head.layer)[head.head])
        literal = hp.pursuit.somp_literal(signal, acts.weights.unembedding(), n_atoms=4)
        assert list(description.token_ids) == literal.support.tolist()
        assert description.explained_variance == pytest.approx(literal.explained_variance.tolist(), abs=1e-5)
        for label, token in zip(description.tokens, description.token_ids, strict=True):
            text = acts.tokenizer.decode([token])
            assert label == text or ("\ufffd" in text and "<0x" in label)  # a part of a letter has no text of its own


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


def test_heads_and_methods_are_taken_in_every_form(acts):
    for heads in ("L2.H3", "2.3", (2, 3), hp.Head(2, 3), [(2, 3)]):
        assert [one.head.name for one in hp.describe(acts, heads=heads, n_atoms=1, progress=False)] == ["L2.H3"]
    assert len(hp.describe(acts, heads="L2.H3,L0.H1", n_atoms=1, progress=False)) == 2
    for method in ("logit-lens", "logit_lens"):
        assert hp.describe(acts, heads="L2.H3", method=method, n_atoms=1, progress=False)[0].method == "logit_lens"


@pytest.mark.parametrize("method", ["somp", "logit_lens"])
def test_descriptions_are_a_sequence_that_shows_itself(acts, method):
    found = hp.describe(acts, n_atoms=2, method=method, progress=False)
    assert isinstance(found, Sequence)
    assert found == hp.describe(acts, n_atoms=2, method=method, progress=False)
    assert found[1:3][0] is found[1]
    assert len(repr(found).splitlines()) == len(found) == 12
    assert repr(found[:0]) == "no heads"
    assert repr(Descriptions(tuple(found) * 2)).endswith("… and 4 more heads")
    frame = found.to_frame()
    assert list(frame["name"]) == [one.head.name for one in found]
    assert frame["share"].between(0, 1).all()
    assert f"{found[0].share:.1%}" in repr(found).splitlines()[0]
    page = found._repr_html_()
    assert page.count("<tr") == 13
    assert found[3].head.name in page
    assert [HeadDescription.from_dict(json.loads(json.dumps(one.to_dict()))) for one in found] == list(found)


def test_what_is_no_description_is_refused(acts):
    stored = hp.describe(acts, heads="L0.H0", n_atoms=1, progress=False)[0].to_dict()
    del stored["tokens"]
    with pytest.raises(hp.HeadPursuitError, match=r"no description of a head .*tokens"):
        HeadDescription.from_dict(stored)


def test_descriptions_are_drawn(acts):
    pytest.importorskip("headpursuit.drawing")
    assert hp.describe(acts, heads=["L0.H0", "L1.H1"], progress=False).plot().axes


def test_what_is_not_there_is_refused(acts):
    with pytest.raises(hp.HeadPursuitError, match=r"no head L9\.H0"):
        hp.describe(acts, heads=["L9.H0"])
    with pytest.raises(hp.HeadPursuitError, match="choose one of somp, logit_lens"):
        hp.describe(acts, method="magic")


def test_rows_that_are_no_tokens_name_no_head_and_are_counted():
    hf = tiny.hf_model("llama")
    hf.resize_token_embeddings(480, mean_resizing=False)
    with torch.no_grad():
        hf.get_output_embeddings().weight[420:] = 50 * hf.get_output_embeddings().weight[:60].roll(1, dims=1)
    acts = hp.capture(hp.wrap(hf, processor=tiny.tokenizer()), list(tiny.TEXTS), positions="last", progress=False)
    for method in ("somp", "logit_lens"):
        described = hp.describe(acts, n_atoms=4, method=method, progress=False)
        assert described.unused_rows == described[:1].unused_rows == 60
        assert all(token < 420 for one in described for token in one.token_ids)
        assert "60 rows of the unembedding are no token's and were left out" in repr(described)
