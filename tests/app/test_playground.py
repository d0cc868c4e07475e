"""What the playground asks of a model and a capture of it."""

from __future__ import annotations

import pytest

import headpursuit as hp
import tiny
from headpursuit.app.playground import find, open_head, open_playground
from headpursuit.ranking.chance import threshold


def test_the_demo_is_captured_with_its_own_samples(playground):
    assert playground.acts.n == len(playground.samples) > 100
    assert playground.acts.positions == "last"


def test_a_concept_is_ranked_as_the_library_ranks_it(playground):
    for concept in ("colours", "red, green, blue"):
        found = find(playground, concept)
        assert found.ranking == hp.rank(playground.acts, concept, progress=False)
        assert found.concept.words == hp.concept(concept).words
        assert {playground.model.tokenizer.decode(token).strip().lower() for token in found.tokens} >= {"red", "green", "blue"}


def test_heads_that_stand_out_are_those_beyond_the_threshold(playground):
    ranking = find(playground, "colours").ranking
    z, least = ranking.values["logit_z"], threshold(len(ranking.order()))
    assert set(ranking.beyond_chance()) == {one for one in ranking.order() if z[one.layer, one.head] > least}
    assert 0 < len(ranking.beyond_chance()) < len(ranking.order())
    assert hp.rank(playground.acts, "colours", method="logit_lens", progress=False).beyond_chance() is None


def test_chance_is_told_of(playground):
    unsaid = "the, a, of"
    with pytest.warns(UserWarning, match="random words do as well") as told:
        hp.rank(playground.acts, unsaid, progress=False)
    assert find(playground, unsaid).remark == str(told[0].message)
    assert find(playground, "countries").remark == ""


def test_no_such_concept_is_one_line(playground):
    with pytest.raises(hp.HeadPursuitError, match="no built-in concept 'coluors'"):
        find(playground, "coluors")


def test_a_head_is_named_beside_chance_and_with_its_samples(playground):
    head = hp.Head(2, 14)
    opened = open_head(playground, head)
    options = {"heads": [head], "n_atoms": 6, "dictionary": "words", "significance": 50, "progress": False}
    assert opened.description == hp.describe(playground.acts, examples=4, samples=playground.samples, **options)[0]
    assert opened.chance == pytest.approx(len(playground.acts.heads()) * opened.description.evidence.p)
    assert opened.named == (opened.chance <= 0.05)
    assert list(opened.high) == sorted(opened.high, key=lambda one: -one[1])
    assert all(z > threshold(len(playground.acts.heads())) for _, z, _ in opened.high)


def test_other_concepts_are_those_of_the_map(playground):
    head = hp.Head(2, 0)
    high = {name: (z, rank) for name, z, rank in open_head(playground, head).high}
    z = hp.concept_map(playground.acts, ["countries"], method="logit_lens", draws=100, progress=False).to_frame("z")
    assert high["countries"] == (
        pytest.approx(z["L2.H0"]["countries"]),
        1 + int((z.loc["countries"] > high["countries"][0]).sum()),
    )


def test_a_capture_alone_shows_no_samples_and_its_samples_do(tmp_path):
    model = tiny.tiny("llama")
    hp.capture(model, tiny.TEXTS, out=tmp_path / "acts", progress=False)
    head = hp.Head(1, 2)
    assert open_head(open_playground(model, capture=tmp_path / "acts"), head).description.examples == ()
    known = open_playground(model, capture=tmp_path / "acts", samples=tiny.TEXTS)
    assert len(open_head(known, head).description.examples) == 4
    with pytest.raises(hp.HeadPursuitError, match="not those of the capture"):
        open_playground(model, capture=tmp_path / "acts", samples=["other"])
    with pytest.raises(hp.HeadPursuitError, match="another model"):
        open_playground(tiny.tiny("gpt2"), capture=tmp_path / "acts")


def test_moments_are_a_capture_too(tmp_path):
    model = tiny.tiny("llama")
    hp.capture(model, tiny.TEXTS, positions="all", out=tmp_path / "acts", progress=False)
    playground = open_playground(model, capture=tmp_path / "acts", samples=tiny.TEXTS)
    assert open_head(playground, hp.Head(0, 0)).description.examples == ()
    assert len(find(playground, "red, blue").ranking.order()) == 12


def test_a_model_without_samples_reads_packaged_sentences():
    playground = open_playground(tiny.tiny("llama"), progress=False)
    assert playground.acts.n == len(playground.samples) > 20
    assert playground.acts.positions == "mean"
