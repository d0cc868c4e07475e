"""Scores, their order, the heads file and the random controls."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

import headpursuit as hp
import tiny
from headpursuit.drawing.style import COLOURS as COLOURS_OF

COLOURS = hp.Concept("colours", words=["red", "blue", "yellow", "green", "orange", "purple"])


def test_somp_score_is_the_literal_pursuits_explained_variance(acts):
    ranking = hp.rank(acts, COLOURS, method="somp", n_atoms=3, progress=False)
    rows = [acts.tokenizer.encode(f"{space}{word}", add_special_tokens=False) for word in ranking.words for space in ("",)]
    atoms = acts.weights.unembedding()[[ids[0] for ids in rows]]
    assert all(len(ids) == 1 for ids in rows)
    for head in acts.heads():
        signal = hp.pursuit.HeadSignal(acts.z[head.layer][:, head.head], acts.weights.projection(head.layer)[head.head])
        expected = hp.pursuit.somp_literal(signal, atoms, n_atoms=3).explained_variance[-1]
        assert ranking.score(head) == pytest.approx(float(expected), abs=1e-5)


def test_logit_lens_score_is_the_mean_logit(acts):
    ranking = hp.rank(acts, COLOURS, method="logit_lens", progress=False)
    ids = [acts.tokenizer.encode(word, add_special_tokens=False)[0] for word in ranking.words]
    for head in acts.heads():
        outputs = acts.z[head.layer][:, head.head] @ acts.weights.projection(head.layer)[head.head]
        logits = outputs @ acts.weights.unembedding()[ids].T
        assert ranking.score(head) == pytest.approx(float(logits.mean()), abs=1e-4)


def test_order_frame_and_file_agree(acts, tmp_path):
    ranking = hp.rank(acts, COLOURS, progress=False)
    frame = ranking.to_frame()
    assert frame["score"].is_monotonic_decreasing
    assert tuple(frame["name"][:5]) == tuple(head.name for head in ranking.top(5))
    assert len(frame) == 12
    ranking.save(tmp_path / "heads.json", top=5)
    stored = json.loads((tmp_path / "heads.json").read_text())
    assert {"model", "concept", "method", "heads", "scores"} <= set(stored)
    assert len(stored["heads"]) == 5
    assert set(stored["heads"][0]) == {"layer", "head", "name", "score", "explained", "logit_z"}
    assert hp.load_heads(tmp_path / "heads.json", model=tiny.tiny("llama")) == ranking.top(5)


@pytest.mark.parametrize("made_by", ["rank", "lens", "attribute", "uneven"])
def test_a_whole_ranking_comes_back(acts, tmp_path, made_by):
    if made_by == "attribute":
        samples = [hp.Sample(text, target="red") for text in tiny.TEXTS]
        ranking = hp.select(tiny.tiny("llama"), samples, COLOURS, method="attribution", progress=False)
    else:
        ranking = hp.rank(acts, COLOURS, method="logit-lens" if made_by == "lens" else "somp", progress=False)
    if made_by == "uneven":
        ranking = replace(ranking, scores=np.where(np.arange(4) == 3, np.nan, ranking.scores))
    path = ranking.save(tmp_path / "new folder" / "heads.json", top=2)
    assert "NaN" not in path.read_text()
    found = hp.HeadRanking.load(path)
    assert found == ranking
    assert (found.unit, found.cost) == (ranking.unit, ranking.cost)
    assert hash(found) == hash(ranking)
    np.testing.assert_array_equal(found.scores, ranking.scores)
    assert found.order() == ranking.order()
    assert hp.HeadRanking.from_dict(json.loads(json.dumps(ranking.to_dict()))) == ranking


def test_rankings_differ_by_what_they_say(acts):
    ranking = hp.rank(acts, COLOURS, progress=False)
    assert ranking != replace(ranking, scores=ranking.scores + 1e-9)
    assert ranking != replace(ranking, about={**ranking.about, "n_atoms": 3})
    assert ranking != "a ranking"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        ("[1]", "is no heads file"),
        ("{", "not valid JSON"),
        ('{"model": {}, "heads": []}', "no whole ranking"),
        ('{"model": {}, "scores": [1, 2]}', "no whole ranking"),
    ],
)
def test_what_is_no_whole_ranking_is_refused(tmp_path, content, message):
    path = tmp_path / "heads.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(hp.HeadPursuitError, match=message) as refused:
        hp.HeadRanking.load(path)
    assert str(path) in str(refused.value) or path.name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_ranking_shows_its_best_heads(acts):
    ranking = hp.rank(acts, COLOURS, progress=False)
    shown = repr(ranking)
    assert shown.startswith(f"HeadRanking(colours by calibrated: {ranking.top(1)[0]} {ranking.scores.max():.2f}, ")
    assert shown.endswith("; 12 heads, 20 samples)")
    page = replace(ranking, concept="<b>")._repr_html_()
    assert "&lt;b&gt;" in page
    assert page.count("<tr") == 13


def test_a_ranking_is_drawn(acts):
    pytest.importorskip("headpursuit.drawing")
    assert hp.rank(acts, COLOURS, progress=False).plot().axes


def test_a_concept_is_taken_in_every_form(acts, tmp_path):
    words = ["red", "blue", "yellow"]
    (tmp_path / "shades.txt").write_text("\n".join(words))
    named = hp.rank(acts, hp.Concept("shades", words), progress=False)
    assert hp.rank(acts, tmp_path / "shades.txt", progress=False) == named
    assert hp.rank(acts, str(tmp_path / "shades.txt"), progress=False) == named
    assert replace(hp.rank(acts, words, progress=False), concept="shades") == named
    assert replace(hp.rank(acts, "red,blue, yellow", progress=False), concept="shades") == named
    assert hp.rank(acts, "colours", progress=False).concept == "colours"
    tested = hp.significance(acts, words, draws=2, progress=False).ranking
    assert (tested.concept, tested.words) == ("red, blue, yellow", named.words)
    assert hp.stability(acts, words, k=2, draws=1, progress=False).ranking.words == named.words
    assert hp.concept_map(acts, ["colours", words], progress=False).concepts == ("colours", "red, blue, yellow")
    model, samples = tiny.tiny("llama"), [hp.Sample("a", target="red")]
    assert hp.select(model, samples, words, method="attribution", progress=False).words == named.words
    assert hp.select(model, samples, words, method="greedy", k=1, progress=False).words == named.words


def test_heads_of_another_model_are_refused(acts, tmp_path):
    hp.rank(acts, COLOURS, progress=False).save(tmp_path / "heads.json", top=2)
    with pytest.raises(hp.HeadPursuitError, match=r"heads of LlamaForCausalLM .* not of MistralForCausalLM"):
        hp.load_heads(tmp_path / "heads.json", model=tiny.tiny("mistral"))
    hf = tiny.hf_model("llama")
    with torch.no_grad():
        hf.lm_head.weight += 0.01
    with pytest.raises(hp.HeadPursuitError, match="rank this one"):
        hp.load_heads(tmp_path / "heads.json", model=hp.wrap(hf, processor=tiny.tokenizer()))


@pytest.mark.parametrize("k", [0, 13])
def test_more_heads_than_there_are_is_refused(acts, k):
    with pytest.raises(hp.HeadPursuitError, match="between 1 and the model's 12 heads"):
        hp.rank(acts, COLOURS, progress=False).top(k)


def test_a_concept_outside_the_vocabulary_is_refused(acts):
    with pytest.raises(hp.HeadPursuitError, match="zebras"):
        hp.rank(acts, hp.Concept("zebras", words=["zebra", "quagga"]), progress=False)


def test_the_final_norms_gain_changes_the_atoms(acts):
    hf = tiny.hf_model("llama")
    with torch.no_grad():
        hf.model.norm.weight.copy_(torch.linspace(0.2, 3, 32))
    own = hp.capture(hp.wrap(hf, processor=tiny.tokenizer()), tiny.TEXTS, progress=False)
    plain = hp.rank(own, COLOURS, progress=False).scores
    folded = hp.rank(own, COLOURS, fold_norm=True, progress=False).scores
    assert np.abs(plain - folded).max() > 1e-4


def test_controls_match_the_layers_and_avoid_the_chosen():
    heads = tiny.tiny("llama").anatomy.heads()
    chosen = (hp.Head(0, 1), hp.Head(2, 3), hp.Head(2, 0))
    draws = hp.random_controls(chosen, heads, draws=25, seed=3)
    assert len(draws) == 25
    for draw in draws:
        assert Counter(head.layer for head in draw) == {0: 1, 2: 2}
        assert not set(draw) & set(chosen)
        assert len(set(draw)) == 3
    assert len(set(draws)) > 1
    assert draws == hp.random_controls(chosen, heads, draws=25, seed=3)
    assert draws != hp.random_controls(chosen, heads, draws=25, seed=4)


def test_controls_know_the_heads_of_whatever_has_some(acts):
    ranking = hp.rank(acts, COLOURS, progress=False)
    chosen = ranking.top(2)
    expected = hp.random_controls(chosen, tiny.tiny("llama").anatomy.heads(), seed=5)
    names = [head.name for head in chosen]
    for among in (tiny.tiny("llama"), acts, ranking, [head.name for head in acts.heads()]):
        assert hp.random_controls(names, among, seed=5) == expected


def test_controls_need_room():
    heads = tiny.tiny("llama").anatomy.heads()
    with pytest.raises(hp.HeadPursuitError, match="L1 has 1 heads beside the 3 chosen"):
        hp.random_controls([hp.Head(1, 0), hp.Head(1, 1), hp.Head(1, 2)], heads)


def test_the_map_outlines_as_many_heads_as_are_asked_for_in_the_colour_of_its_method(acts):
    ranking = replace(hp.rank(acts, COLOURS, progress=False), method="attribution")
    for k, outlined in ((0, 0), (3, 3), (999, len(ranking.order()))):
        (axes,) = ranking.plot(k=k).axes
        assert len(axes.patches) == outlined
    shade = axes.collections[0].get_facecolor()[0, :3]
    assert shade == pytest.approx(to_rgb(COLOURS_OF["attribution"]))


def test_results_that_hold_arrays_can_be_compared(acts):
    drawn = {"draws": 8, "progress": False}
    for made in (hp.significance(acts, COLOURS, **drawn), hp.stability(acts, COLOURS, k=2, **drawn)):
        assert made == made
        assert made != replace(made, draws=9)
    found = hp.concept_map(acts, [COLOURS], progress=False)
    assert found != replace(found, n=1)


def test_a_head_may_be_named_in_any_form_and_only_one_that_is_there(acts):
    ranking = hp.rank(acts, COLOURS, progress=False)
    assert ranking.score("L1.H0") == ranking.score((1, 0)) == ranking.score(hp.Head(1, 0))
    with pytest.raises(hp.HeadPursuitError, match="no head of this ranking"):
        ranking.score("L99.H0")
    for k in ("3", 2.0):
        with pytest.raises(hp.HeadPursuitError, match="choose between 1"):
            ranking.top(k)
    assert hp.HeadEdit(ranking) == hp.HeadEdit(ranking.top(ranking.few()), scale=-1)
    with pytest.raises(hp.HeadPursuitError, match="is a mapping"):
        hp.HeadEdit({"L1.H0": 3}, scale=-1)
