"""Capture: the rows are what the definition says, for every family, in memory and on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.activations import capture as capture_module
from headpursuit.files import write_sealed
from headpursuit.hooks import Hooks
from headpursuit.model.samples import as_samples
from headpursuit.model.tokenize import collate, make_prompt
from model.test_contracts import prompts


@pytest.fixture
def model(family):
    return tiny.tiny(family)


def tokens_of(model, sample):
    """z of every layer for one sample alone, shape (t, h·e), read by a plain hook."""
    seen = {}
    handles = [
        model.module(layer.projection).register_forward_pre_hook(
            lambda module, args, index=layer.index: seen.__setitem__(index, args[0][0].clone())
        )
        for layer in model.anatomy.layers
    ]
    batch = collate(model, [make_prompt(model, sample)], side="right", with_target=sample.target is not None)
    with torch.no_grad():
        model.hf(**batch.inputs)
    for handle in handles:
        handle.remove()
    return seen, batch


@pytest.mark.parametrize("positions", ["mean", "last", "image", "answer"])
def test_rows_are_means_over_the_chosen_tokens(model, positions):
    samples = prompts(model)
    if positions == "image" and model.anatomy.image_token_id is None:
        with pytest.raises(hp.HeadPursuitError, match="no token at positions='image'"):
            hp.capture(model, samples, positions=positions)
        return
    if positions == "answer":
        samples = [hp.Sample(text=s.text, image=s.image, target="blue dog") for s in samples]
    acts = hp.capture(model, samples, positions=positions, batch_size=3, progress=False)
    for row, sample in enumerate(samples):
        z, batch = tokens_of(model, sample)
        t = batch.real.shape[1]
        if positions == "image":
            chosen = batch.inputs["input_ids"][0] == model.anatomy.image_token_id
        elif positions == "answer":
            length = len(model.tokenizer(" blue dog", add_special_tokens=False)["input_ids"])
            chosen = torch.zeros(t, dtype=torch.bool)
            chosen[t - 1 - length : t - 1] = True
        else:
            chosen = torch.arange(t) >= (t - 1 if positions == "last" else 0)
        assert chosen.any()
        for layer, tokens in z.items():
            expected = tokens[chosen].mean(dim=0).unflatten(0, acts.z[layer].shape[1:])
            torch.testing.assert_close(acts.z[layer][row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_nothing_runs_behind_the_last_heads(model, positions):
    behind = (model.anatomy.layers[-1].projection, model.anatomy.final_norm, model.anatomy.unembedding)
    ran = []
    with Hooks() as hooks:
        for path in behind:
            hooks.after(model.module(path), lambda *_, path=path: ran.append(path))
        hp.capture(model, prompts(model), positions=positions, progress=False)
        assert not ran
        with torch.no_grad():
            model.hf(**collate(model, [make_prompt(model, prompts(model)[0])], side="right").inputs)
    assert set(ran) == set(behind)


def test_a_capture_under_an_edit_of_some_tokens_leaves_the_edit_in_order(llama):
    edit = hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1.0, where="prompt")
    with edit.applied(llama):
        expected = llama.generate(list(tiny.TEXTS), max_new_tokens=4)
        edited = hp.capture(llama, tiny.TEXTS, progress=False)
        assert llama.generate(list(tiny.TEXTS), max_new_tokens=4) == expected
    assert not torch.equal(edited.z[2], hp.capture(llama, tiny.TEXTS, progress=False).z[2])


def test_disk_equals_memory_and_needs_no_model(family, tmp_path):
    hf = tiny.hf_model(family)
    hf.save_pretrained(tmp_path / "model", max_shard_size="20KB")
    tiny.processor(family).save_pretrained(tmp_path / "model")
    model = hp.load(tmp_path / "model", device="cpu")
    inside = hp.capture(model, prompts(model), progress=False)
    hp.capture(model, prompts(model), out=tmp_path / "acts", progress=False)
    outside = hp.open_capture(tmp_path / "acts")
    assert outside.model == inside.model
    assert outside.weights.unembedding().equal(inside.weights.unembedding())
    assert outside.weights.final_norm_gain().equal(inside.weights.final_norm_gain())
    for layer in inside.layers:
        assert outside.z[layer].equal(inside.z[layer])
        assert outside.weights.projection(layer).equal(inside.weights.projection(layer))
    files = {entry["file"] for entry in json.loads((tmp_path / "acts/index.json").read_text())["weights"].values()}
    assert any("model" in file for file in files)  # the checkpoint's own shards, not copies


def test_a_model_built_in_memory_carries_its_weights_along(llama, tmp_path):
    inside = hp.capture(llama, tiny.TEXTS, out=tmp_path / "acts", progress=False)
    assert inside.weights.projection(2).equal(hp.capture(llama, tiny.TEXTS, progress=False).weights.projection(2))


def test_final_norm_gain_is_found_by_probing(model):
    norm = model.module(model.anatomy.final_norm)
    original = norm.weight.detach().clone()
    gain = torch.linspace(0.5, 2, norm.weight.numel())
    with torch.no_grad():
        norm.weight.copy_(gain)
    try:
        found = hp.capture(model, prompts(model), progress=False).weights.final_norm_gain()
    finally:
        with torch.no_grad():
            norm.weight.copy_(original)
    torch.testing.assert_close(found, gain, rtol=1e-4, atol=1e-5)


def cut_off(monkeypatch, *, at_batch):
    """Interrupt captures once, when that batch is read; returns a list that has an entry a batch."""
    calls, real = [], capture_module.read_batch

    def counting(*args, **options):
        calls.append(1)
        if len(calls) == at_batch:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(capture_module, "read_batch", counting)
    return calls


def test_a_capture_that_was_cut_off_goes_on(llama, tmp_path, monkeypatch):
    samples = [f"{text} {number}" for number in range(5) for text in tiny.TEXTS]
    monkeypatch.setattr(capture_module, "BLOCK", 8)
    calls = cut_off(monkeypatch, at_batch=4)
    with pytest.raises(KeyboardInterrupt):
        hp.capture(llama, samples, out=tmp_path / "acts", batch_size=4, progress=False)
    with pytest.raises(hp.HeadPursuitError, match="cut off after 8 samples"):
        hp.open_capture(tmp_path / "acts")
    calls[:] = [0] * 10
    acts = hp.capture(llama, samples, out=tmp_path / "acts", batch_size=4, progress=False)
    assert len(calls) == 13  # the first block's two batches did not run again
    whole = hp.capture(llama, samples, batch_size=4, progress=False)
    assert all(acts.z[layer].equal(whole.z[layer]) for layer in whole.layers)


def test_other_folders_are_not_touched(llama, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(hp.HeadPursuitError, match="is not empty"):
        hp.capture(llama, tiny.TEXTS, out=tmp_path)
    hp.capture(llama, tiny.TEXTS, out=tmp_path / "acts", progress=False)
    with pytest.raises(hp.HeadPursuitError, match="is not empty"):
        hp.capture(llama, tiny.TEXTS[:2], out=tmp_path / "acts")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_index_cannot_point_outside_its_folder(llama, tmp_path):
    hp.capture(llama, tiny.TEXTS, out=tmp_path / "acts", progress=False)
    index = json.loads((tmp_path / "acts/index.json").read_text())
    index["shards"][0]["file"] = "../secret.safetensors"
    write_sealed(tmp_path / "acts/index.json", index)
    with pytest.raises(hp.HeadPursuitError, match=r"index\.json: the shard .* lies outside"):
        hp.open_capture(tmp_path / "acts")


def test_infinite_activations_name_layer_and_head():
    hf = tiny.hf_model("llama")
    with torch.no_grad():
        hf.model.layers[1].self_attn.v_proj.weight[:8] = 1e38  # the first of two key-value heads serves heads 0 and 1
    model = hp.wrap(tiny.hf_model("llama"), processor=tiny.tokenizer())
    object.__setattr__(model, "hf", hf)
    with pytest.raises(hp.HeadPursuitError, match=r"L1\.H0 wrote a NaN or infinite"):
        hp.capture(model, tiny.TEXTS, progress=False)


def test_samples_that_do_not_differ_are_refused(llama):
    with pytest.raises(hp.HeadPursuitError, match="no head varies"):
        hp.capture(llama, ["two cats", "two cats"], progress=False)


def test_too_long_prompts_are_named_and_can_be_skipped(llama):
    samples = ["two cats", "cats " * 200, "a dog"]
    with pytest.raises(hp.HeadPursuitError, match=r"sample 1: \d+ tokens, but .* context of 128"):
        hp.capture(llama, samples, progress=False)
    acts = hp.capture(llama, samples, skip_bad=True, progress=False)
    assert acts.n == 2
    assert len(acts.about["skipped"]) == 1
    kept = hp.capture(llama, [samples[0], samples[2]], progress=False)
    np.testing.assert_allclose(acts.z[0], kept.z[0], atol=1e-6)


def test_unreadable_images_are_named_and_can_be_skipped(llava, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image at all")
    good = prompts(llava)
    good[0].image.save(tmp_path / "good.png")
    good[1].image.save(tmp_path / "other.png")
    lines = [json.dumps({"text": "a dog", "image": name}) for name in ("good.png", "broken.png", "other.png")]
    (tmp_path / "samples.jsonl").write_text("\n".join(lines))
    with pytest.raises(hp.HeadPursuitError, match=r"samples\.jsonl line 2: the image .*broken\.png cannot be read"):
        hp.capture(llava, tmp_path / "samples.jsonl", progress=False)
    acts = hp.capture(llava, tmp_path / "samples.jsonl", skip_bad=True, out=tmp_path / "acts", progress=False)
    assert acts.n == 2
    assert "line 2" in acts.about["skipped"][0]


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_captures_are_equal_when_they_hold_the_same(llama, tmp_path, positions):
    acts = hp.capture(llama, tiny.TEXTS, positions=positions, progress=False)
    stored = hp.capture(llama, tiny.TEXTS, positions=positions, out=tmp_path / "acts", progress=False)
    assert acts == stored
    assert hash(acts) == hash(stored)
    others = hp.capture(llama, tiny.TEXTS[::-1], positions=positions, progress=False)
    assert acts != others
    assert acts != "acts"
    assert len({acts, stored, others}) == 2
    assert "12 text heads in 3 layers" in repr(acts)
    assert len(repr(acts)) < 120


def test_a_draw_of_the_samples(llama):
    drawn = hp.capture(llama, tiny.TEXTS, sample=2, seed=3, progress=False)
    expected = [one.text for one in as_samples(tiny.TEXTS, sample=2, seed=3)]
    assert drawn == hp.capture(llama, expected, progress=False)


def test_samples_of_the_demo_are_samples_and_a_batch_holds_one_at_least():
    from headpursuit.demo import demo_samples

    model = hp.load("demo", device="cpu")
    own = demo_samples("caption", "test", limit=2)
    made = [hp.Sample(text=one.text, image=one.image, target=one.target) for one in own]
    assert torch.equal(hp.capture(model, own, progress=False).z[0], hp.capture(model, made, progress=False).z[0])
    with pytest.raises(hp.HeadPursuitError, match="at least 1"):
        hp.capture(model, own, batch_size=0, progress=False)
