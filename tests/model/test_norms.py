"""The norm before the unembedding, and norms between output projections and the residual stream."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

import headpursuit as hp
import tiny
from architectures.shrink import CAUSAL, liven, small_config, small_model
from headpursuit.activations.recording import read_batch
from headpursuit.activations.reducers import mean_rows
from headpursuit.model.norms import gain_of
from headpursuit.model.tokenize import Batch
from headpursuit.model.weights import LiveWeights

IDS = torch.tensor([[5, 6, 7, 8, 9]])
SANDWICHED = ("gemma2", "gemma3_text", "olmo2", "gemma3n_text")


def wrapped(model_type: str) -> hp.HeadModel:
    return hp.wrap(small_model(model_type, CAUSAL), processor=tiny.tokenizer())


def run(model: hp.HeadModel, path: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a module was given and returned, and the logits."""
    kept = []
    handle = model.module(path).register_forward_hook(lambda module, args, output: kept.append((args[0], output)))
    with torch.no_grad():
        logits = model.hf(input_ids=IDS).logits
    handle.remove()
    return *kept[-1], logits


@pytest.mark.filterwarnings("ignore:.*is taken apart in part")
@pytest.mark.parametrize(
    ("model_type", "path", "logits_of"),
    [
        ("gpt2", "transformer.ln_f", lambda raw, config: raw),
        ("bart", "model.decoder.layers.2.final_layer_norm", lambda raw, config: raw),  # its other norm is the embedding's
        ("bert", "cls.predictions.transform.LayerNorm", lambda raw, config: raw),
        ("cohere2", "model.norm", lambda raw, config: raw * config.logit_scale),
        ("granite", "model.norm", lambda raw, config: raw / config.logits_scaling),
        ("gemma2", "model.norm", lambda raw, config: torch.tanh(raw / 30) * 30),
    ],
)
def test_the_final_norm_is_the_one_that_the_logits_come_from(model_type, path, logits_of):
    model = wrapped(model_type)
    assert model.anatomy.final_norm == path
    _, normed, logits = run(model, path)
    unembedding = model.module(model.anatomy.unembedding)
    raw = normed @ unembedding.weight.T + (0 if unembedding.bias is None else unembedding.bias)
    torch.testing.assert_close(logits_of(raw, model.hf.config), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_type", ["xlm", "qwen4_exp_text"])
@pytest.mark.filterwarnings("ignore:.*is taken apart in part")
def test_where_no_norm_stands_before_the_unembedding_none_is_claimed(model_type):
    if model_type not in CONFIG_MAPPING:
        pytest.skip("this version of transformers does not know it")
    model = wrapped(model_type)
    assert model.anatomy.final_norm is None
    assert LiveWeights(model).final_norm_gain().eq(1).all()


def test_logits_that_are_not_the_unembeddings_are_refused():
    hf = tiny.hf_model("llama")

    def flip(module, args, output):
        output.logits = -output.logits
        return output

    hf.register_forward_hook(flip)
    with pytest.raises(hp.HeadPursuitError, match="its logits are not in the order of what lm_head writes"):
        hp.wrap(hf, processor=tiny.tokenizer())


@pytest.mark.parametrize("model_type", SANDWICHED)
def test_through_the_norm_heads_add_up_to_what_it_writes(model_type):
    model = wrapped(model_type)
    real = torch.ones(IDS.shape, dtype=torch.bool)
    last = torch.zeros_like(real)
    last[:, -1] = True
    batch = Batch(inputs={"input_ids": IDS}, real=real, image=~real, answer=~real)
    read = read_batch(model, batch, mean_rows(last), through_norm=True)
    weights = LiveWeights(model, through_norm=True)
    for layer in model.anatomy.layers:
        assert layer.norm is not None
        _, written, _ = run(model, layer.norm)
        summed = torch.einsum("he,hed->d", read[f"L{layer.index}"][0], weights.projection(layer.index))
        torch.testing.assert_close(summed, written.reshape(-1, written.shape[-1])[-1], rtol=1e-4, atol=1e-4)


def test_a_capture_through_the_norm_is_the_same_on_disk(tmp_path):
    config = small_config("gemma2", vocab_size=len(tiny.tokenizer()))
    model = hp.wrap(liven(AutoModelForCausalLM.from_config(config).eval()), processor=tiny.tokenizer())
    inside = hp.capture(model, tiny.TEXTS, through_norm=True, progress=False)
    outside = hp.capture(model, tiny.TEXTS, through_norm=True, out=tmp_path / "acts", progress=False)
    plain = hp.capture(model, tiny.TEXTS, progress=False)
    assert outside.about["through_norm"] is True
    for layer in inside.layers:
        assert outside.z[layer].equal(inside.z[layer])
        assert not outside.z[layer].equal(plain.z[layer])
        assert outside.weights.projection(layer).equal(inside.weights.projection(layer))


def test_without_such_a_norm_it_is_refused(llama):
    assert all(layer.norm is None for layer in llama.anatomy.layers)
    with pytest.raises(hp.HeadPursuitError, match="has no norm between output projections and residual stream"):
        hp.capture(llama, tiny.TEXTS, through_norm=True, progress=False)


def test_scaling_every_head_before_a_norm_is_undone_and_said_so():
    model = wrapped("gemma2")
    heads = [head for head in model.anatomy.heads() if head.layer == 1]

    def logits(scale: float, chosen) -> torch.Tensor:
        with hp.HeadEdit(chosen, scale=scale).applied(model), torch.no_grad():
            return model.hf(input_ids=IDS).logits

    plain = logits(1.0, heads)
    with pytest.warns(UserWarning, match="every head of L1 is scaled by 5, and the norm behind their projection undoes"):
        undone = logits(5.0, heads)
    torch.testing.assert_close(undone, plain, rtol=1e-3, atol=1e-3)
    assert (logits(-1.0, heads) - plain).abs().max() > 1e-2  # the sign stays, and is no reason for a warning
    assert (logits(5.0, heads[:2]) - plain).abs().max() > 1e-2


def test_a_gain_is_measured_however_it_is_stored():
    for norm in (nn.LayerNorm(8), nn.RMSNorm(8)):
        nn.init.normal_(norm.weight)
        torch.testing.assert_close(gain_of(norm, 8), norm.weight.detach(), rtol=1e-4, atol=1e-5)
