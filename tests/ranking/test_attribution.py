"""Derivatives by head scales against finite differences of the measured log-odds, in float64."""

from __future__ import annotations

from functools import partial

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
from headpursuit.ranking.masks import stratified_groups

COLOURS = hp.Concept("colours", ("red", "white", "blue", "black", "pink", "grey"))
SAMPLES = [
    hp.Sample(text="the flag of France", target="is red white and blue"),
    hp.Sample(text="one sad clown drinks seven cups of cold", target="black tea"),
    hp.Sample(text="two cats", target="sleep"),
]
# A power of two, so that 1 ± STEP is exact in the float32 that scales are kept in. Not smaller, because the RMS norms of
# transformers compute in float32 whatever the model's precision.
STEP = 2.0**-6


def reading(tokens):
    return partial(log_odds, tokens=concept_tokens(tokens))


def measured(model, samples, tokens):
    """Log-odds of every sample in the model's own precision."""
    with torch.no_grad():
        ((rows, pieces),) = teacher_forced_logits(model, samples, batch_size=len(samples))
        found = {row: float(log_odds(*piece, concept_tokens(tokens))) for row, piece in zip(rows, pieces, strict=True)}
        return np.array([found[row] for row in range(len(samples))])


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
        found = scale_derivatives(model, SAMPLES, reading(tokens), batch_size=2)
        ranking = hp.select(model, SAMPLES, COLOURS, method="attribution", progress=False)
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
        assert scale_derivatives(model, samples, reading(tokens)) == pytest.approx(
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
    found = scale_derivatives(model, samples, reading(tokens))
    head = max(model.anatomy.heads(), key=lambda one: abs(found[:, one.layer, one.head]).sum())
    total = np.zeros(2)
    for steps, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
        with hp.HeadEdit([head], scale=1 + steps * STEP).applied(model):
            total += weight * measured(model, samples, tokens)
    assert found[:, head.layer, head.head] == pytest.approx(total / (12 * STEP), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("groups", "scale", "steps"), [(1, -1.0, 64), (1, 3.0, 64), (3, 0.0, 16), (12, -1.0, 16)])
def test_integrated_attribution_adds_up_to_what_the_groups_edits_change(llama, groups, scale, steps):
    """Completeness: scores of a group sum to the change that scaling the whole group makes."""
    tokens = resolve(COLOURS, llama.tokenizer).token_ids
    options = {"scale": scale, "groups": groups, "seed": 3, "progress": False}
    ranking = hp.select(llama, SAMPLES, COLOURS, method="integrated", steps=steps, **options)
    parts = next(stratified_groups(llama.anatomy.heads(), groups, np.random.default_rng(3)))
    unedited, errors = measured(llama, SAMPLES, tokens).mean(), []
    for part in parts:
        with hp.HeadEdit(part, scale=scale).applied(llama):
            changed = (measured(llama, SAMPLES, tokens).mean() - unedited) * (1 if scale > 1 else -1)
        assert sum(map(ranking.score, part)) == pytest.approx(changed, rel=0.05, abs=0.01)
        errors.append(abs(changed))
    assert max(errors) > 0.2
    assert (ranking.cost.forward, ranking.cost.backward) == (steps * groups * 3, steps * groups * 3)


def linear_model():
    """One layer of attention alone, no norm behind it, and one row of the unembedding for all colours, zero for the rest."""
    hf = tiny.hf_model("llama")
    hf.model.layers, hf.config.num_hidden_layers = hf.model.layers[:1], 1
    hf.model.norm = torch.nn.Identity()
    tokens = resolve(COLOURS, tiny.tokenizer()).token_ids
    with torch.no_grad():
        hf.model.layers[0].mlp.down_proj.weight.zero_()
        row = hf.lm_head.weight[0].clone()
        hf.lm_head.weight.zero_()
        hf.lm_head.weight[list(tokens)] = row
    return hp.wrap(hf, processor=tiny.tokenizer()), tokens


def test_one_step_is_exact_where_the_log_odds_are_linear():
    model, tokens = linear_model()
    ranking = hp.select(model, SAMPLES, COLOURS, method="integrated", steps=1, progress=False)
    unedited = measured(model, SAMPLES, tokens).mean()
    assert np.abs(ranking.scores).max() > 0.1
    for head in model.anatomy.heads():
        with hp.HeadEdit([head], scale=-1).applied(model):
            assert ranking.score(head) == pytest.approx(unedited - measured(model, SAMPLES, tokens).mean(), rel=1e-4, abs=1e-5)


def test_the_model_is_left_as_it_was(llama):
    before = {name: weight.clone() for name, weight in llama.hf.state_dict().items()}
    hp.select(llama, SAMPLES, COLOURS, method="attribution", progress=False)
    assert all(torch.equal(before[name], weight) for name, weight in llama.hf.state_dict().items())
    assert all(weight.grad is None for weight in llama.hf.parameters())
    for layer in llama.anatomy.layers:
        assert not llama.module(layer.projection)._forward_pre_hooks


def test_greedy_takes_what_is_best_beside_those_taken(llama):
    tokens = resolve(COLOURS, llama.tokenizer).token_ids
    ranking = hp.select(llama, SAMPLES, COLOURS, method="greedy", k=3, scale=-1, progress=False)
    taken = ranking.top(3)
    assert taken[0] == hp.select(llama, SAMPLES, COLOURS, method="attribution", progress=False).top(1)[0]
    for step in (1, 2):
        with hp.HeadEdit(taken[:step], scale=-1).applied(llama):
            left = differences(llama, SAMPLES, tokens).mean(axis=0)
        best = sorted(llama.anatomy.heads(), key=lambda head: -left[head.layer, head.head])
        assert taken[step] == next(head for head in best if head not in taken[:step])
    assert sorted(ranking.scores.flatten()) == list(range(12))
    rest = ranking.order()[3:]
    last = [ranking.values["derivative"][head.layer, head.head] for head in rest]
    assert last == sorted(last, reverse=True)


def test_what_cannot_be_attributed(llama):
    with pytest.raises(HeadPursuitError, match="sample: no target, whose tokens are to be predicted"):
        hp.select(llama, [hp.Sample(text="two cats")], COLOURS, method="attribution")
    with pytest.raises(HeadPursuitError, match="k=0: give at least 1"):
        hp.select(llama, SAMPLES, COLOURS, method="greedy", k=0)
    for method in ("integrated", "greedy"):
        with pytest.raises(HeadPursuitError, match="finite number other than 1"):
            hp.select(llama, SAMPLES, COLOURS, method=method, scale=1)
    for wrong in ({"steps": 0}, {"groups": 0}, {"groups": 13}):
        with pytest.raises(HeadPursuitError, match=r"give at least 1|at least one step, and 1 to 12 groups"):
            hp.select(llama, SAMPLES, COLOURS, method="integrated", **wrong)


def test_the_demo_model_says_colours_by_few_heads(tmp_path):
    """Turning round the heads with the largest derivatives lowers the log-odds more than turning round as many others."""
    model = hp.load("demo", device="cpu")
    drawn = demo_samples("caption", "selection", limit=40)
    samples = [hp.Sample(text=one.text, image=one.image, target=one.target) for one in drawn]
    ranking = hp.select(model, samples, "colours", method="attribution", progress=False)
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
