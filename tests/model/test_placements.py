"""Models that do not lie in memory as they were saved: offloaded, quantised, adapted."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

import headpursuit as hp
import tiny
from headpursuit.activations.recording import read_batch
from headpursuit.activations.reducers import mean_rows
from headpursuit.model.projection import module_heads, weight_of
from headpursuit.model.tokenize import collate, make_prompt
from headpursuit.model.weights import LiveWeights

TEXTS = list(tiny.TEXTS)
EDIT = hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1.0)


def same_results(model: hp.HeadModel, reference: hp.HeadModel, *, tolerance: float = 1e-5) -> None:
    found, expected = (hp.capture(one, TEXTS, progress=False) for one in (model, reference))
    for layer in expected.layers:
        torch.testing.assert_close(found.z[layer], expected.z[layer], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            LiveWeights(model).projection(layer), LiveWeights(reference).projection(layer), rtol=tolerance, atol=tolerance
        )
    torch.testing.assert_close(LiveWeights(model).unembedding(), LiveWeights(reference).unembedding())
    with EDIT.applied(model), EDIT.applied(reference):
        assert model.generate(TEXTS, max_new_tokens=4) == reference.generate(TEXTS, max_new_tokens=4)


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_an_offloaded_model_is_the_same_model(place, tmp_path):
    pytest.importorskip("accelerate")
    tiny.hf_model("llama").save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": place, "lm_head": place}
    places |= {"model.layers.0": "cpu", "model.layers.1": place, "model.layers.2": place}
    model = hp.load(tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "weights"))
    assert any(weight.is_meta for weight in model.hf.parameters()) == (place == "disk")
    same_results(model, hp.load(tmp_path / "model", device="cpu"))


def test_a_capture_puts_offloaded_weights_away_again():
    accelerate = pytest.importorskip("accelerate")
    model = hp.wrap(hf := tiny.hf_model("llama"), processor=tiny.tokenizer())
    accelerate.cpu_offload(hf, torch.device("cpu"), preload_module_classes=list(hf._no_split_modules))
    batch = collate(model, [make_prompt(model, hp.Sample(text=text)) for text in TEXTS], side="right")
    assert len(read_batch(model, batch, mean_rows(batch.real))) == 3
    assert all(weight.is_meta for weight in hf.model.layers.parameters())


def test_an_adapted_model_writes_through_its_adapter():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["o_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(tiny.hf_model("llama"), config).eval()
    model = hp.wrap(adapted, processor=tiny.tokenizer())
    assert model.anatomy.pads_left
    merged = tiny.hf_model("llama")
    torch.manual_seed(0)
    state = {name: weight.clone() for name, weight in adapted.state_dict().items()}
    other = peft.get_peft_model(merged, config)
    other.load_state_dict(state)
    same_results(model, hp.wrap(other.merge_and_unload().eval(), processor=tiny.tokenizer()), tolerance=1e-4)


def test_a_quantised_model_is_measured():
    quantization = pytest.importorskip("torchao.quantization")
    hf = tiny.hf_model("llama")
    quantization.quantize_(hf, quantization.Int8WeightOnlyConfig())
    model = hp.wrap(hf, processor=tiny.tokenizer())
    projection = hf.model.layers[1].self_attn.o_proj
    assert type(projection.weight) is not nn.Parameter or type(projection.weight.data) is not torch.Tensor
    exact = module_heads(tiny.hf_model("llama").model.layers[1].self_attn.o_proj, 4)
    assert 0 < (module_heads(projection, 4) - exact).abs().max() < 0.05 * exact.abs().max()
    with EDIT.applied(model):
        assert len(model.generate(TEXTS, max_new_tokens=4)) == len(TEXTS)


class Packed(nn.Module):
    """Eight-bit weights that are unpacked on the fly, as quantising libraries do it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.register_buffer("scale", linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127)
        self.register_buffer("weight", (linear.weight.detach() / self.scale).round().to(torch.int8))

    def forward(self, x):
        return nn.functional.linear(x, self.weight.float() * self.scale, self.bias)


def test_a_packed_weight_is_measured_by_what_it_does():
    hf = tiny.hf_model("llama")
    for layer in hf.model.layers:
        layer.self_attn.o_proj = Packed(layer.self_attn.o_proj)
    model = hp.wrap(hf, processor=tiny.tokenizer())
    packed = hf.model.layers[0].self_attn.o_proj
    torch.testing.assert_close(weight_of(packed), packed.weight.float() * packed.scale, rtol=1e-5, atol=1e-6)
    acts = hp.capture(model, TEXTS, progress=False)
    assert hp.describe(acts, heads=["L0.H0"], n_atoms=2)


@pytest.fixture(scope="module", params=["eight bits", "four bits"])
def by_bitsandbytes(request, tmp_path_factory):
    """The plain model, and the same quantised by bitsandbytes, opened from a checkpoint of packed weights."""
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
    hf = LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny.tokenizer()), **shape))
    folders = [tmp_path_factory.mktemp(name) for name in ("plain", "packed")]
    for folder in folders:
        hf.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
    how = {"load_in_8bit": True} if request.param == "eight bits" else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    # Before it runs: on a CPU bitsandbytes lays weights out anew when they are used, and does not save that as it was.
    LlamaForCausalLM.from_pretrained(folders[0], quantization_config=BitsAndBytesConfig(**how)).save_pretrained(folders[1])
    return hp.load(folders[0], device="cpu"), hp.load(folders[1], device="cpu")


def test_a_checkpoint_of_packed_weights_is_captured_and_edited(by_bitsandbytes, tmp_path):
    plain, packed = by_bitsandbytes
    projection = packed.module(packed.anatomy.layers[1].projection)
    assert not projection.weight.is_floating_point()
    rows, acts = (hp.capture(one, TEXTS, progress=False) for one in (plain, packed))
    for layer in rows.layers:
        mine, exact = (one.weights.projection(layer) for one in (acts, rows))
        assert 0 < (mine - exact).norm() < 0.15 * exact.norm()
        assert 0 < (acts.z[layer] - rows.z[layer]).norm() < 0.5 * rows.z[layer].norm()
    assert hp.capture(packed, TEXTS, out=tmp_path / "acts", progress=False) == acts == hp.open_capture(tmp_path / "acts")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = packed.hf(input_ids=ids).logits
        with hp.HeadEdit(["L1.H0"], scale=1).applied(packed):
            assert torch.equal(packed.hf(input_ids=ids).logits, before)
        with hp.HeadEdit(["L1.H0"], scale=-1).applied(packed):
            assert not torch.allclose(packed.hf(input_ids=ids).logits, before, atol=1e-2)
        assert torch.equal(packed.hf(input_ids=ids).logits, before)


def test_derivatives_are_true_or_refused(by_bitsandbytes):
    """The four-bit kernel of a CPU lets zeros back, and says nothing of it."""
    plain, packed = by_bitsandbytes
    samples = [hp.Sample(text=text, target="red") for text in TEXTS]
    concept = hp.Concept("c", words=["red", "blue", "two"])
    exact = hp.select(plain, samples, concept, method="attribution", progress=False).scores
    try:
        found = hp.select(packed, samples, concept, method="attribution", progress=False).scores
    except hp.HeadPursuitError as error:
        assert str(error).endswith("or load the model without quantisation")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.8
    assert hp.select(packed, samples, concept, method="knockout", masks=24, progress=False).n == len(TEXTS)


class Stuck(torch.autograd.Function):
    """A kernel with a forward pass alone, whose derivative is zero or an error."""

    @staticmethod
    def forward(ctx, x, weight, raises):
        ctx.raises = raises
        return nn.functional.linear(x, weight)

    @staticmethod
    def backward(ctx, grad):
        if ctx.raises:
            raise NotImplementedError("no way back")
        return torch.zeros_like(grad), None, None


@pytest.mark.parametrize("raises", [False, True])
def test_derivatives_that_do_not_come_back_are_refused_by_name(raises):
    class NoWayBack(Packed):
        def forward(self, x):
            return Stuck.apply(x, self.weight.float() * self.scale, raises)

    hf = tiny.hf_model("llama")
    samples = [hp.Sample(text=text, target="red") for text in TEXTS]
    for kind, refused in ((Packed, False), (NoWayBack, True)):
        hf.model.layers[2].self_attn.o_proj = kind(tiny.hf_model("llama").model.layers[2].self_attn.o_proj)
        model = hp.wrap(hf, processor=tiny.tokenizer())
        for method in ("attribution", "natural", "integrated", "greedy"):
            with pytest.raises(hp.HeadPursuitError, match=r"packed weights \(NoWayBack\)") if refused else nullcontext():
                hp.select(model, samples, ["red", "blue"], method=method, progress=False)
