"""The contracts of the house, on a tiny random model of every family that is supported by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import headpursuit as hp
import tiny
from headpursuit.model.projection import stores_input_first
from headpursuit.model.selfcheck import check_decomposition
from headpursuit.model.tokenize import collate, make_prompt

IMAGE_SIZES = ((16, 16), (32, 16), (20, 40), (64, 48))


def prompts(model: hp.HeadModel, texts=tiny.TEXTS) -> list[hp.Sample]:
    """Texts, with images of different sizes before some of them where the model takes images."""
    if model.anatomy.image_token_id is None:
        return [hp.Sample(text=text) for text in texts]
    noise = np.random.default_rng(0)
    images = [Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in IMAGE_SIZES]
    return [hp.Sample(text=text, image=image) for text, image in zip(texts, images, strict=False)]


def logits(model: hp.HeadModel, samples: list[hp.Sample], *, side: str = "left") -> list[torch.Tensor]:
    """Logits behind the last token of each sample, run together."""
    batch = collate(model, [make_prompt(model, sample) for sample in samples], side=side)
    positions = (batch.real.long().cumsum(1) - 1).clamp_min(0)
    with torch.no_grad():
        out = model.hf(**batch.inputs, position_ids=positions).logits
    lengths = batch.real.sum(1)
    last = [-1] * len(samples) if side == "left" else (lengths - 1).tolist()
    return [out[row, column] for row, column in enumerate(last)]


@pytest.fixture
def model(family):
    return tiny.tiny(family)


EDIT = hp.HeadEdit(["L0.H1", "L2.H0", "L2.H3"], scale=-1.0)


def test_heads_add_up_to_the_attention_output(model):
    errors = check_decomposition(model, n_tokens=7)
    assert list(errors) == [0, 1, 2]
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_heads_add_up_in_half_precision_behind_any_kernel(family, dtype, attention):
    hf = tiny.hf_model(family, attn_implementation=attention).to(dtype)
    hp.wrap(hf, processor=tiny.processor(family))  # raises when the heads do not add up


def test_a_wrong_projection_is_refused(llama):
    hf = tiny.hf_model("llama")

    def scramble(module, args, output):
        return (output[0].flip(-1), *output[1:])

    hf.model.layers[1].self_attn.register_forward_hook(scramble)
    with pytest.raises(hp.HeadPursuitError, match=r"layers\.1\.self_attn do not add up"):
        hp.wrap(hf, processor=tiny.tokenizer())


def test_scale_one_changes_no_bit_and_leaving_restores(model):
    samples = prompts(model)
    before = logits(model, samples)
    with hp.HeadEdit(model.anatomy.heads(), scale=1.0).applied(model):
        same = logits(model, samples)
    with EDIT.applied(model):
        edited = logits(model, samples)
    after = logits(model, samples)
    for row in range(len(samples)):
        assert torch.equal(before[row], same[row])
        assert torch.equal(before[row], after[row])
        assert (before[row] - edited[row]).abs().max() > 1e-3


def test_leaving_restores_after_an_error(llama):
    samples = prompts(llama)
    before = logits(llama, samples)
    with pytest.raises(KeyboardInterrupt), EDIT.applied(llama):
        raise KeyboardInterrupt
    assert all(map(torch.equal, before, logits(llama, samples)))


@pytest.mark.parametrize("scale", [-1.0, 0.0, 5.0])
def test_an_edit_is_a_scaling_of_the_projections_rows(family, scale):
    edit = hp.HeadEdit(EDIT.heads, scale=scale)
    hooked, baked = tiny.tiny(family), hp.wrap(tiny.hf_model(family), processor=tiny.processor(family))
    samples = prompts(hooked)
    with torch.no_grad():
        for head in edit.heads:
            layer = baked.anatomy.layer(head.layer)
            projection = baked.module(layer.projection)
            rows = projection.weight if stores_input_first(projection) else projection.weight.T
            rows[head.head * layer.head_width : (head.head + 1) * layer.head_width] *= scale
    with edit.applied(hooked):
        found = logits(hooked, samples)
    torch.testing.assert_close(found, logits(baked, samples), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("edited", [False, True])
def test_left_padded_batch_equals_one_by_one(model, edited):
    samples = prompts(model)
    with EDIT.applied(model) if edited else hp.HeadEdit(["L0.H0"], scale=1.0).applied(model):
        together = logits(model, samples)
        alone = [logits(model, [sample])[0] for sample in samples]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_generation_agrees_with_and_without_cache_batched_and_alone(model):
    samples = prompts(model)
    options = {"max_new_tokens": 6, "min_new_tokens": 6}
    plain = model.generate(samples, **options)
    with EDIT.applied(model):
        cached = model.generate(samples, use_cache=True, **options)
        uncached = model.generate(samples, use_cache=False, **options)
        alone = [model.generate(sample, **options) for sample in samples]
    assert cached == uncached == alone
    assert cached != plain


def test_wrapping_changes_nothing(family):
    hf = tiny.hf_model(family)
    state = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    hf.train()
    model = hp.wrap(hf, processor=tiny.processor(family))
    hp.capture(model, prompts(model), progress=False)
    assert hf.training
    assert all(module.training for module in hf.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in hf.state_dict().items())
    assert not any(model.module(layer.projection)._forward_pre_hooks for layer in model.anatomy.layers)


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
def test_head_width_is_the_projections_own(family):
    layer = tiny.tiny(family).anatomy.layer(0)
    assert layer.head_width == tiny.config(family).head_dim
    assert layer.head_width != tiny.config(family).hidden_size // layer.n_heads
