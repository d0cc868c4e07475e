"""Descriptions: the pursuit's tokens, and the paper's logit-lens view of the same heads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.ranking.describe import Descriptions, HeadDescription
from headpursuit.ranking.examples import driving_samples


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


SAMPLES = [f"{text} {n}" for text in tiny.TEXTS for n in ("red", "two", "tea")]


PLANTED = (300, 310)


def planted():
    """A capture whose L0.H0 writes two tokens, in one sample of three each, in a vocabulary whose rows are random."""
    acts = hp.capture(tiny.tiny("gpt2"), SAMPLES * 8, progress=False)
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(len(acts.tokenizer), 32, generator=random)
    projection = torch.randn(4, 8, 32, generator=random) * 0.1
    projection[0, :2] = rows[list(PLANTED)]
    z = {0: torch.randn(acts.n, 4, 8, generator=random)}
    z[0][:, 0, 0], z[0][:, 0, 1] = torch.arange(acts.n) % 3 == 0, torch.arange(acts.n) % 3 == 1
    z[0][:, 0, 2:] *= 0.1

    class Planted(type(acts.weights)):
        def __init__(self):
            pass

        def projection(self, layer):
            return projection

        def unembedding(self):
            return rows

    return replace(acts, z=z, weights=Planted())


def test_a_name_is_tested_against_chance():
    acts = planted()
    found = hp.describe(acts, n_atoms=2, significance=100, progress=False)
    assert set(found[0].token_ids) == set(PLANTED)
    assert found[0].named
    assert found[0].evidence.q < 0.01 < found[0].evidence.fit / found[0].evidence.by_chance - 1
    assert not any(one.named for one in found[1:])
    assert "no name better than chance" in str(found[1])
    assert "1 of 4 heads have a name better than chance" in repr(found)
    assert found == hp.describe(acts, n_atoms=2, significance=100, progress=False)
    assert found != hp.describe(acts, n_atoms=2, significance=100, seed=1, progress=False)
    frame = found.to_frame()
    assert frame["named"].tolist() == [True, False, False, False]
    assert (frame["q"] >= frame["p"]).all()
    assert found._repr_html_().count("no name better than chance") == 3
    assert [HeadDescription.from_dict(json.loads(json.dumps(one.to_dict()))) for one in found] == list(found)
    labels = [label.get_text() for label in found.plot().axes[0].get_yticklabels()]
    assert ["no name" in label for label in labels] == [False, True, True, True]


def test_moments_are_tested_as_their_rows_are():
    samples = SAMPLES * 2
    moments = hp.capture(tiny.tiny("gpt2"), samples, positions="all", progress=False)
    found = hp.describe(moments, n_atoms=1, significance=20, progress=False)
    assert all(one.evidence.draws == 20 and 0 < one.evidence.p <= 1 for one in found)


def test_names_come_from_the_part_that_was_asked_for(acts, tmp_path):
    words = hp.describe(acts, n_atoms=3, dictionary="words+latin", progress=False)
    assert words.dictionary == "words+latin"
    assert words.n_tokens < len(acts.tokenizer)
    assert all(token.startswith(" ") and token[1:].isalpha() for one in words for token in one.tokens)
    (tmp_path / "text.txt").write_text("red white and blue\n")
    ids = set(acts.tokenizer.encode("red white and blue"))
    seen = hp.describe(acts, n_atoms=2, dictionary=f"seen:{tmp_path / 'text.txt'}", progress=False)
    assert {token for one in seen for token in one.token_ids} <= ids
    for concept in (["red", "blue"], "red,blue"):
        found = hp.describe(acts, n_atoms=2, dictionary=concept, progress=False)
        assert {token.strip().lower() for one in found for token in one.tokens} <= {"red", "blue"}
    with pytest.warns(UserWarning, match="used them all"):
        seen = hp.describe(acts, n_atoms=40, dictionary="seen", samples=SAMPLES, heads="L0.H0", progress=False)
    assert set(seen[0].token_ids) <= {token for text in SAMPLES for token in acts.tokenizer.encode(text)}
    own = hp.pursuit.Dictionary(torch.eye(32), [f"axis {i}" for i in range(32)])
    assert hp.describe(acts, n_atoms=1, dictionary=own, progress=False)[0].tokens[0].startswith("axis ")


def test_examples_are_the_samples_farthest_along_the_first_token(acts):
    found = hp.describe(acts, n_atoms=1, examples=3, samples=SAMPLES, progress=False)
    for one in found:
        atom = acts.weights.unembedding()[one.token_ids[0]]
        written = acts.z[one.head.layer][:, one.head.head] @ acts.weights.projection(one.head.layer)[one.head.head]
        along = (written - written.mean(dim=0)) @ (atom / atom.norm())
        assert [example.sample for example in one.examples] == along.abs().topk(3).indices.tolist()
        for example in one.examples:
            assert example.score == pytest.approx(float(along[example.sample]), rel=1e-3)
            assert example.text == SAMPLES[example.sample]
    assert f"at sample {found[0].examples[0].sample}: {found[0].examples[0].text}" in str(found[0])
    assert len(found.to_frame()["examples"][0]) == 3
    assert HeadDescription.from_dict(json.loads(json.dumps(found[0].to_dict()))) == found[0]


@pytest.mark.parametrize(("positions", "shown"), [("mean", "0 1 2"), ("last", "197 198 199")])
def test_a_long_text_is_shown_where_it_was_read(positions, shown):
    sample = hp.Sample(text=" ".join(map(str, range(200))))
    acts = hp.capture(tiny.tiny("llama"), tiny.TEXTS[:2], positions=positions, progress=False)
    (example,) = driving_samples(acts, hp.Head(1, 0), torch.ones(32), [sample] * 2, count=1)
    assert shown in example.text
    assert len(example.text) <= 66


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 2}, "a capture keeps no texts: give the samples"),
        ({"examples": 2, "samples": SAMPLES[:-1]}, "these 11 samples are not those of the capture, which were 12"),
        ({"dictionary": "seen"}, "a capture keeps no texts: give the samples"),
        ({"dictionary": "words+thai"}, "no token of this vocabulary is words and thai"),
        ({"dictionary": "/no/words.txt"}, "/no/words.txt"),
        ({"significance": 1}, "make no distribution"),
        ({"significance": 9, "method": "logit-lens"}, "significance is that of names by SOMP"),
    ],
)
def test_what_cannot_be_named_or_tested_is_refused(acts, options, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        hp.describe(acts, progress=False, **options)


def test_examples_need_rows():
    moments = hp.capture(tiny.tiny("gpt2"), SAMPLES, positions="all", progress=False)
    with pytest.raises(hp.HeadPursuitError, match="--keep-rows"):
        hp.describe(moments, examples=1, samples=SAMPLES, progress=False)


def test_of_many_heads_the_best_explained_are_drawn(acts):
    found = hp.describe(acts, heads=["L0.H0"], progress=False)
    many = replace(found, each=tuple(replace(found[0], explained_variance=(number / 100,)) for number in range(60)))
    (axes,) = many.plot().axes
    assert [bar.get_width() for bar in axes.patches] == [number / 100 for number in range(59, 19, -1)]
    assert "the 40 largest of 60 heads" in axes.get_xlabel()
