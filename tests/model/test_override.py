"""Saying where the heads are, for a model that comes with its own code."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

import headpursuit as hp
import tiny


class Mixing(nn.Module):
    """Attention that hides its projection under a name nobody would guess."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner_part = inner
        self.to_stream = inner.o_proj
        inner.o_proj = nn.Identity()

    def forward(self, *args, **kwargs):
        mixed, weights = self.inner_part(*args, **kwargs)
        return self.to_stream(mixed), weights


def renamed() -> LlamaForCausalLM:
    hf = tiny.hf_model("llama")
    for layer in hf.model.layers:
        layer.self_attn = Mixing(layer.self_attn)
    return hf


claimed = partial(
    hp.Anatomy.repeated,
    layers=range(3),
    attention="model.layers.{}.self_attn",
    projection="model.layers.{}.self_attn.to_stream",
    width=32,
)
OVERRIDE = claimed(n_heads=4, head_width=8, final_norm="model.norm")


def test_the_error_shows_how_to_fill_it_in():
    with pytest.raises(hp.HeadPursuitError) as caught:
        hp.wrap(renamed(), processor=tiny.tokenizer())
    message = str(caught.value)
    assert "hp.Anatomy.repeated(layers=range(3), attention='model.layers.{}" in message
    assert "n_heads=4" in message
    assert "width=32" in message
    assert "model.layers.0 holds self_attn, mlp" in message


def test_an_override_is_the_same_model(llama):
    model = hp.wrap(renamed(), processor=tiny.tokenizer(), anatomy=OVERRIDE)
    texts = list(tiny.TEXTS)
    found, expected = (hp.capture(one, texts, progress=False) for one in (model, llama))
    for layer in range(3):
        assert torch.equal(found.z[layer], expected.z[layer])
    edit = hp.HeadEdit(["L1.H2"], scale=-1.0)
    with edit.applied(model), edit.applied(llama):
        assert model.generate(texts, max_new_tokens=4) == llama.generate(texts, max_new_tokens=4)


def test_a_wrong_override_is_refused():
    wrong_heads = claimed(n_heads=8, head_width=4)
    with pytest.raises(hp.HeadPursuitError, match=r"heads are mixed|of 8 slices"):
        hp.wrap(renamed(), processor=tiny.tokenizer(), anatomy=wrong_heads)
    with pytest.raises(hp.HeadPursuitError, match=r"names 'model\.layers\.0\.self_attn\.to_stream'.*does not have"):
        hp.wrap(tiny.hf_model("llama"), processor=tiny.tokenizer(), anatomy=OVERRIDE)
