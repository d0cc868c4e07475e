"""Derivatives by head scales against finite differences of the measured log-odds, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.activations.teacher_forcing import concept_tokens, log_odds, teacher_forced_logits
from headpursuit.concepts import resolve
from headpursuit.demo import demo_samples
from headpursuit.errors import HeadPursuitError
from headpursuit.ranking.attribution import scale_derivatives

COLOURS = hp.Concept("colours", ("red", "white", "blue", "black", "pink", "grey"))
SAMPLES = [
    hp.Sample(text="the flag of France", target="is red white and blue"),
    hp.Sample(text="one sad clown drinks seven cups of cold", target="black tea"),
    hp.Sample(text="two cats", target="sleep"),
]
# A power of two, so that 1 ± STEP is exact in the float32 that scales are kept in. Not smaller, because the RMS norms of
# transformers compute in float32 whatever the model's precision.
STEP = 2.0**-6


def measured(model, samples, tokens):
    """Log-odds of every sample in the model's own precision."""
    with torch.no_grad():
        parts = teacher_forced_logits(model, samples, batch_size=len(samples))
        return np.array([float(log_odds(*piece, concept_tokens(tokens))) for _, pieces in parts for piece in pieces])


def differences(model, samples, tokens):
    """Central differences of the fourth order, one head after the other."""
    found = np.full((len(samples), model.anatomy.n_layers, model.anatomy.n_heads), np.nan)
    for head in model.anatomy.heads():
        total = np.zeros(len(samples))
        for steps, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            with hp.HeadEdit([head], scale=1 + steps * STEP).applied(model):
                total += weight * measured(model, samples, tokens)
        found[:, head.layer, head.head] = total / (12 * STEP)
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_text_against_finite_differences(family):
    model = tiny.tiny(family)
    model.hf.double()
    try:
        tokens = resolve(COLOURS, model.tokenizer).token_ids
        expected = differences(model, SAMPLES, tokens)
        found = scale_derivatives(model, SAMPLES, tokens, batch_size=2)
        ranking = hp.attribute(model, SAMPLES, COLOURS, progress=False)
    finally:
        model.hf.float()
    assert np.abs(expected).max() > 0.01
    assert found == pytest.approx(expected, rel=1e-4, abs=2e-5)
    assert ranking.scores == pytest.approx(expected.mean(axis=0), rel=1e-4, abs=2e-5)
    assert ranking.order()[0] == max(model.anatomy.heads(), key=lambda head: expected.mean(0)[head.layer, head.head])


def test_images_against_finite_differences():
    model = tiny.tiny("llava")
    drawn = demo_samples("caption", "selection", limit=2)
    samples = [hp.Sample(text="a picture", image=one.image, target="red and blue cats") for one in drawn]
    model.hf.double()
    try:
        tokens = resolve(COLOURS, model.tokenizer).token_ids
        assert scale_derivatives(model, samples, tokens) == pytest.approx(
            differences(model, samples, tokens), rel=1e-4, abs=2e-5
        )
    finally:
        model.hf.float()


def test_a_vision_tower_against_finite_differences():
    model = hp.load("demo", device="cpu", part="vision")
    drawn = demo_samples("caption", "selection", limit=2)
    samples = [hp.Sample(text=one.text, image=one.image, target=one.target) for one in drawn]
    model.hf.double()
    tokens = resolve(hp.concept("colours"), model.tokenizer).token_ids
    found = scale_derivatives(model, samples, tokens)
    head = max(model.anatomy.heads(), key=lambda one: abs(found[:, one.layer, one.head]).sum())
    total = np.zeros(2)
    for steps, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
        with hp.HeadEdit([head], scale=1 + steps * STEP).applied(model):
            total += weight * measured(model, samples, tokens)
    assert found[:, head.layer, head.head] == pytest.approx(total / (12 * STEP), rel=1e-3, abs=1e-5)


def test_the_model_is_left_as_it_was(llama):
    before = {name: weight.clone() for name, weight in llama.hf.state_dict().items()}
    hp.attribute(llama, SAMPLES, COLOURS, progress=False)
    assert all(torch.equal(before[name], weight) for name, weight in llama.hf.state_dict().items())
    assert all(weight.grad is None for weight in llama.hf.parameters())
    for layer in llama.anatomy.layers:
        assert not llama.module(layer.projection)._forward_pre_hooks


def test_greedy_takes_what_is_best_beside_those_taken(llama):
    tokens = resolve(COLOURS, llama.tokenizer).token_ids
    taken = hp.greedy_heads(llama, SAMPLES, COLOURS, k=3, scale=-1, progress=False)
    assert taken[0] == hp.attribute(llama, SAMPLES, COLOURS, progress=False).top(1)[0]
    for step in (1, 2):
        with hp.HeadEdit(taken[:step], scale=-1).applied(llama):
            left = differences(llama, SAMPLES, tokens).mean(axis=0)
        best = sorted(llama.anatomy.heads(), key=lambda head: -left[head.layer, head.head])
        assert taken[step] == next(head for head in best if head not in taken[:step])


def test_what_cannot_be_attributed(llama):
    with pytest.raises(HeadPursuitError, match="sample: no target, whose tokens are to be predicted"):
        hp.attribute(llama, [hp.Sample(text="two cats")], COLOURS)
    with pytest.raises(HeadPursuitError, match="choose between 1 and"):
        hp.greedy_heads(llama, SAMPLES, COLOURS, k=99)


def test_the_demo_model_says_colours_by_few_heads(tmp_path):
    """Turning round the heads with the largest derivatives lowers the log-odds more than turning round as many others."""
    model = hp.load("demo", device="cpu")
    drawn = demo_samples("caption", "selection", limit=40)
    samples = [hp.Sample(text=one.text, image=one.image, target=one.target) for one in drawn]
    ranking = hp.attribute(model, samples, hp.concept("colours"), progress=False)
    tokens = resolve(hp.concept("colours"), model.tokenizer).token_ids
    chosen = ranking.top(2)
    sets = [chosen, *hp.random_controls(chosen, model.anatomy.heads(), draws=4, seed=0)]
    values = []
    for heads in sets:
        with hp.HeadEdit(heads, scale=-1).applied(model):
            values.append(measured(model, samples, tokens).mean())
    assert values[0] < min(values[1:])
    ranking.save(tmp_path / "heads.json", top=2)
    assert hp.load_heads(tmp_path / "heads.json", model=model) == chosen
