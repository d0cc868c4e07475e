"""Decoders that look at an image from outside their text: cross-attention beside self-attention, with real processors."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

import headpursuit as hp
import vlm
from headpursuit.model.selfcheck import check_decomposition
from headpursuit.model.tokenize import collate, make_prompt
from headpursuit.ranking.load_heads import load_heads
from model.test_images import samples

TARGETS = ("sleep under", "blue a dog runs", "cup")


@pytest.fixture(params=vlm.ACROSS)
def family(request) -> str:
    vlm.skip_where_missing(request.param)
    return request.param


@pytest.fixture(params=["text", "cross"])
def model(family, request) -> hp.HeadModel:
    return vlm.vlm(family, request.param)


def with_targets() -> list[hp.Sample]:
    return [hp.Sample(text=s.text, image=s.image, target=target) for s, target in zip(samples(), TARGETS, strict=True)]


class Forced(LogitsProcessor):
    """Writes a given text whatever the model thinks."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = iter(ids)

    def __call__(self, input_ids, scores):
        forced = torch.full_like(scores, -1e9)
        forced[:, next(self.ids)] = 0
        return forced


def answers_logits_as_written(model: hp.HeadModel, sample: hp.Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits before every token of the target: read in one go, and while generating it token by token."""
    prompt = make_prompt(model, sample)
    batch = collate(model, [prompt], side="right", with_target=True)
    name = "decoder_input_ids" if model.has_encoder else "input_ids"
    ids = batch.inputs[name][0][batch.answer[0]].tolist()
    before = batch.answer[0].roll(-1)
    before[-1] = False
    with torch.no_grad():
        read = model.hf(**batch.inputs).logits[0][before]
        out = model.hf.generate(
            **collate(model, [prompt], side="left").inputs,
            max_new_tokens=len(ids),
            min_new_tokens=len(ids),
            do_sample=False,
            logits_processor=LogitsProcessorList([Forced(ids)]),
            output_logits=True,
            return_dict_in_generate=True,
        )
    return read, torch.cat(out.logits)


def test_heads_add_up(model):
    assert max(check_decomposition(model).values()) < 1e-5


def test_heads_are_named_for_their_part(model):
    letter = {"text": "H", "cross": "X"}[model.anatomy.part]
    assert model.anatomy.heads()[1].name == f"L0.{letter}1"
    assert hp.Head.parse(f"L0.{letter}1") == model.anatomy.heads()[1]


@pytest.mark.parametrize("positions", ["mean", "answer"])
def test_a_capture_does_not_see_the_batch(model, family, positions):
    if family == "blip" and positions == "answer":
        with pytest.raises(hp.HeadPursuitError, match="does not go on from the prompt that it is given"):
            hp.capture(model, with_targets(), positions="answer", progress=False)
        return
    together = hp.capture(model, with_targets(), positions=positions, progress=False)
    alone = hp.capture(model, with_targets(), positions=positions, batch_size=1, progress=False)
    assert together.part == model.anatomy.part
    for layer in together.layers:
        torch.testing.assert_close(together.z[layer], alone.z[layer], rtol=1e-3, atol=1e-4)


def test_a_batch_is_generated_as_one_by_one_under_an_edit(model, family):
    if family == "blip":
        with pytest.raises(hp.HeadPursuitError, match="does not go on from the prompt that it is given"):
            model.generate(samples())
        return
    options = {"max_new_tokens": 4, "min_new_tokens": 4}
    plain = model.generate(samples(), **options)
    with hp.HeadEdit(model.anatomy.heads(), scale=-1.0).applied(model):
        together = model.generate(samples(), **options)
        uncached = model.generate(samples(), use_cache=False, **options)
        alone = [model.generate(sample, **options) for sample in samples()]
    assert together == alone == uncached
    assert together != plain
    assert plain == model.generate(samples(), **options)


@pytest.mark.parametrize("seen", ["vision-encoder-decoder", "florence2", "pix2struct", "idefics", "paligemma", "gemma3"])
def test_answers_are_read_where_the_model_would_write_them(seen):
    vlm.skip_where_missing(seen)
    model = vlm.vlm(seen)
    for sample in with_targets():
        read, written = answers_logits_as_written(model, sample)
        torch.testing.assert_close(read, written, rtol=1e-3, atol=1e-3)


def test_no_token_stands_for_a_patch(model):
    with pytest.raises(hp.HeadPursuitError, match="no token stands for a patch"):
        hp.capture(model, samples(), positions="image", progress=False)


def test_an_encoder_of_images_wants_one():
    with pytest.raises(hp.HeadPursuitError, match="reads images only; give every sample an image"):
        hp.capture(vlm.vlm("vision-encoder-decoder"), ["two cats"], progress=False)


def test_heads_of_one_part_are_refused_in_another(tmp_path):
    text, cross = vlm.vlm("pix2struct"), vlm.vlm("pix2struct", "cross")
    acts = hp.capture(cross, with_targets(), positions="answer", out=tmp_path / "acts", progress=False)
    ranking = hp.rank(acts, hp.Concept("words", ["cats", "dog", "sun"]), n_atoms=2, multi_token="first", progress=False)
    ranking.save(tmp_path / "heads.json", top=3)
    stored = json.loads((tmp_path / "heads.json").read_text())
    assert [entry["name"] for entry in stored["heads"]] == [head.name for head in ranking.top(3)]
    assert all(head.part == "cross" for head in ranking.order())
    assert load_heads(tmp_path / "heads.json", model=cross) == ranking.top(3)
    with pytest.raises(hp.HeadPursuitError, match="is a head of another part: load the model with part='cross'"):
        load_heads(tmp_path / "heads.json", model=text)
    described = hp.describe(acts, heads=["L1.X2"], n_atoms=2, progress=False)
    assert described[0].head.name == "L1.X2"


def test_edits_of_two_parts_nest():
    text, cross = vlm.vlm("blip"), vlm.vlm("blip", "cross")
    batch = collate(text, [make_prompt(text, samples()[0])], side="right").inputs

    def logits():
        with torch.no_grad():
            return text.hf(**batch).logits

    before = logits()
    with hp.HeadEdit(["L0.H1"], scale=0).applied(text):
        one = logits()
        with hp.HeadEdit(["L0.X1"], scale=0).applied(cross):
            both = logits()
    assert not torch.equal(before, one)
    assert not torch.equal(one, both)
    assert torch.equal(before, logits())


def test_cross_attention_that_nothing_feeds_is_named():
    from architectures.shrink import CAUSAL, small_model

    hf = small_model("bart", CAUSAL)
    with pytest.warns(UserWarning, match="cross-attention, which nothing inside the model feeds"):
        hp.wrap(hf, processor=vlm.tokenizer())
    with pytest.raises(hp.HeadPursuitError, match="cross-attention, which nothing inside the model feeds"):
        hp.wrap(hf, processor=vlm.tokenizer(), part="cross")
    with pytest.raises(hp.HeadPursuitError, match="part='head': choose one of text, cross, vision"):
        hp.wrap(hf, processor=vlm.tokenizer(), part="head")
