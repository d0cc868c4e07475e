"""Heads of vision towers, of every way in which a tower is built and fed."""

from __future__ import annotations

import pytest
import torch

import headpursuit as hp
import tiny
import vlm
from headpursuit.hooks import Hooks
from headpursuit.model.selfcheck import check_decomposition
from headpursuit.model.tokenize import collate, make_prompt
from model.test_images import samples

FAMILIES = (
    "paligemma",  # one linear map to the text
    "qwen2_vl",  # patches of all images in one row
    "idefics3",  # tiles
    "mllama",  # two stacks
    "internvl",
    "vision-encoder-decoder",  # the encoder is the tower
    "pix2struct",
)


@pytest.fixture(params=FAMILIES)
def model(request) -> hp.HeadModel:
    vlm.skip_where_missing(request.param)
    if request.param == "mllama":
        with pytest.warns(UserWarning, match="another stack of the vision tower"):
            return vlm.vlm.__wrapped__(request.param, "vision")
    return vlm.vlm(request.param, "vision")


def logits(model: hp.HeadModel, sample: hp.Sample) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(**collate(model, [make_prompt(model, sample)], side="right").inputs).logits


def test_heads_add_up_and_are_named(model):
    assert max(check_decomposition(model).values()) < 1e-5
    assert model.anatomy.heads()[1].name == "L0.V1"


def test_edits_reach_the_logits_and_leave(model):
    sample = samples()[0]
    before = logits(model, sample)
    with hp.HeadEdit(model.anatomy.heads(), scale=1.0).applied(model):
        same = logits(model, sample)
    with hp.HeadEdit(model.anatomy.heads()[:2], scale=-1.0).applied(model):
        edited = logits(model, sample)
    assert torch.equal(before, same)
    assert torch.equal(before, logits(model, sample))
    assert not torch.equal(before, edited)


def patches(model: hp.HeadModel, sample: hp.Sample, *, layer: int = 0) -> torch.Tensor:
    """All that a layer's projection reads of a sample, shape ``(n, h, e)``."""
    seen = model.anatomy.layer(layer)
    read: list[torch.Tensor] = []
    handle = model.module(seen.projection).register_forward_pre_hook(lambda module, args: read.append(args[0]))
    logits(model, sample)
    handle.remove()
    return torch.cat([one.flatten(0, -2) for one in read]).unflatten(1, (seen.n_heads, seen.head_width))


def test_rows_are_means_over_all_that_the_tower_reads(model):
    acts = hp.capture(model, samples(), progress=False)
    for row, sample in enumerate(samples()):
        for layer in acts.layers[:: len(acts.layers) - 1 or 1]:  # the first and the last
            torch.testing.assert_close(acts.z[layer][row], patches(model, sample, layer=layer).mean(0), rtol=1e-4, atol=1e-5)


def test_a_capture_runs_the_tower_alone(model):
    ran = []
    with Hooks() as hooks:
        hooks.after(model.module(model.anatomy.decoder), lambda *_: ran.append(1))
        hp.capture(model, samples(), progress=False)
        assert not ran
        logits(model, samples()[0])
    assert ran


def test_moments_see_every_patch_of_every_tile():
    vlm.skip_where_missing("idefics3")
    model = vlm.vlm("idefics3", "vision")
    moments = hp.capture(model, samples(), positions="all", progress=False)
    rows = torch.cat([patches(model, sample) for sample in samples()]).double()
    assert moments.count == len(rows) > 3 * 16  # more than a tile an image
    torch.testing.assert_close(moments.second[0], torch.einsum("nhe,nhf->hef", rows, rows))


def test_a_tower_is_named_by_a_dictionary(tmp_path):
    model = vlm.vlm("qwen2_vl", "vision")
    acts = hp.capture(model, samples(), out=tmp_path / "acts", progress=False)
    with pytest.raises(hp.HeadPursuitError, match="no single linear map leads from there to the text"):
        hp.describe(acts, heads=["L0.V1"], progress=False)
    # atoms that the head's own rows are made of explain them to the end
    outputs = acts.z[0][:, 1] @ acts.weights.projection(0)[1]
    noise = torch.randn(6, outputs.shape[1], generator=torch.Generator().manual_seed(0))
    atoms = torch.cat([noise, outputs - outputs.mean(0)])
    given = hp.pursuit.Dictionary(atoms, [f"noise {i}" for i in range(6)] + [f"sample {i}" for i in range(3)])
    described = hp.describe(acts, heads=["L0.V1"], n_atoms=2, dictionary=given, progress=False)[0]
    assert all(label.startswith("sample") for label in described.tokens)
    assert described.explained_variance[-1] == pytest.approx(1, abs=1e-4)
    with pytest.raises(hp.HeadPursuitError, match="the dictionary has atoms of width 7, the heads write 64"):
        hp.describe(acts, dictionary=hp.pursuit.Dictionary(torch.ones(2, 7), ["a", "b"]), progress=False)


def test_a_lone_linear_projector_takes_the_unembedding_to_the_tower(tmp_path):
    model = vlm.vlm("paligemma", "vision")
    kept = hp.capture(model, samples(), out=tmp_path / "acts", progress=False)
    atoms = kept.weights.unembedding()
    patch = torch.randn(1, 3, model.anatomy.width, generator=torch.Generator().manual_seed(0))
    projector = model.hf.model.multi_modal_projector
    with torch.no_grad():
        text = projector(patch) - projector(torch.zeros_like(patch))
        torch.testing.assert_close(patch @ atoms.T, model.hf.lm_head(text), rtol=1e-3, atol=1e-3)
    assert hp.describe(kept, heads=["L0.V0"], n_atoms=2, progress=False)[0].head.name == "L0.V0"


def test_what_a_tower_does_not_have_is_refused():
    model = vlm.vlm("paligemma", "vision")
    with pytest.raises(hp.HeadPursuitError, match="in a vision tower choose one of mean, image, all"):
        hp.capture(model, samples(), positions="last", progress=False)
    with pytest.raises(hp.HeadPursuitError, match="no image, and the vision tower reads nothing else"):
        hp.capture(model, ["two cats"], progress=False)
    with pytest.raises(hp.HeadPursuitError, match="LlamaForCausalLM has no vision tower"):
        hp.wrap(tiny.hf_model("llama"), processor=tiny.tokenizer(), part="vision")
