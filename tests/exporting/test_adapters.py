"""Adapters: what PEFT makes of them is the hooked model, merged and unmerged."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

import headpursuit as hp
import tiny
import vlm
from exporting import saved

peft = pytest.importorskip("peft")
FAMILIES = (*saved.FAMILIES, "demo")


def model_of(family: str) -> hp.HeadModel:
    if family == "demo":
        return saved.demo()
    return vlm.vlm(family) if family in saved.VLMS else tiny.tiny(family)


def edit_of(model: hp.HeadModel) -> hp.HeadEdit:
    """Several heads in one layer and one in another, each with its own scale."""
    heads = model.anatomy.heads()
    return hp.HeadEdit([heads[0], heads[2], heads[3], heads[-1]], scale=[-1, 0, 5, 0.3])


@pytest.mark.parametrize("format", ["lora", "ia3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_the_edit(family, format, tmp_path):
    model = model_of(family)
    edit = edit_of(model)
    done = hp.export(model, edit, tmp_path / "adapter", format=format, progress=False)
    with edit.applied(model):
        hooked = saved.logits(model)
    scale = hooked.abs().max()
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(model.hf), tmp_path / "adapter").eval()
    assert (
        set(adapted.targeted_module_names)
        == set(done.changed)
        == {model.anatomy.layer(layer).projection for layer in {head.layer for head in edit.heads}}
    )
    unmerged = saved.logits(replace(model, hf=adapted))
    assert float((unmerged - hooked).abs().max() / scale) < 1e-5
    merged = saved.logits(replace(model, hf=adapted.merge_and_unload()))
    assert float((merged - hooked).abs().max() / scale) < 1e-5
    assert not torch.allclose(saved.logits(model), hooked, atol=1e-3)


def test_the_rank_is_what_the_heads_need(tmp_path):
    model = tiny.tiny("qwen3")
    assert model.anatomy.layer(0).head_width == 16
    edit = hp.HeadEdit(["L0.H0", "L0.H2", "L1.H1", "L1.H3"], scale=[-1, 0, 2, 1])
    done = hp.export(model, edit, tmp_path / "two", format="lora", progress=False)
    assert done.rank == 32
    assert json.loads((tmp_path / "two" / "adapter_config.json").read_text())["r"] == 32
    with pytest.raises(hp.HeadPursuitError, match=r"L0 needs a LoRA of rank 32 \(2 heads × width 16\), above the limit of 31"):
        hp.export(model, edit, tmp_path / "few", format="lora", max_rank=31, progress=False)
    assert not (tmp_path / "few").exists()
    hp.export(model, edit, tmp_path / "ia3", format="ia3", progress=False)


@pytest.mark.parametrize("format", ["lora", "ia3"])
def test_an_adapter_in_half_precision_keeps_exact_scales(format, tmp_path):
    hf = tiny.hf_model("llama").to(torch.bfloat16)
    model = hp.wrap(hf, processor=tiny.tokenizer())
    edit = hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1)
    hp.export(model, edit, tmp_path / "adapter", format=format, progress=False)
    with edit.applied(model):
        hooked = saved.logits(model)
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(hf), tmp_path / "adapter")
    assert torch.equal(saved.logits(replace(model, hf=adapted.merge_and_unload())), hooked)


def test_an_adapter_is_made_without_loading_the_model(tmp_path):
    folder = saved.save("gpt2", tmp_path / "model", torch.float32)
    model = hp.load(folder)
    edit_of(model).save(tmp_path / "edit.json", model=model)
    for format in ("lora", "ia3"):
        hp.export(model, edit_of(model), tmp_path / f"{format} loaded", format=format, progress=False)
        hp.export(folder, tmp_path / "edit.json", tmp_path / format, format=format, progress=False)
        one, other = saved.contents(tmp_path / f"{format} loaded"), saved.contents(tmp_path / format)
        assert one["adapter_model.safetensors"] == other["adapter_model.safetensors"]
        assert one["adapter_config.json"] == other["adapter_config.json"]


@pytest.mark.parametrize("format", ["lora", "ia3"])
def test_a_quantised_model_takes_an_adapter_only(format, tmp_path):
    model = copy.deepcopy(tiny.tiny("llama"))
    model.hf.config.quantization_config = {"quant_method": "awq"}
    edit = edit_of(model)
    with pytest.raises(hp.HeadPursuitError, match=r"is quantised \(awq\).*export an adapter instead"):
        hp.export(model, edit, tmp_path / "out", progress=False)
    hp.export(model, edit, tmp_path / format, format=format, progress=False)
    with edit.applied(model):
        hooked = saved.logits(model)
    del model.hf.config.quantization_config
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(model.hf), tmp_path / format)
    torch.testing.assert_close(saved.logits(replace(model, hf=adapted)), hooked, rtol=1e-4, atol=1e-4)
