"""Knock-outs: planted effects are found, any metric will do, and a run that was killed gives the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.activations.measures import Divergence
from headpursuit.concepts import resolve
from headpursuit.ranking.masks import random_masks
from headpursuit.ranking.sparse_effects import sparse_effects

COLOURS = hp.Concept("colours", ("red", "white", "blue", "black", "pink", "grey"))
SAMPLES = [
    hp.Sample(text="the flag of France", target="is red white and blue"),
    hp.Sample(text="one sad clown drinks seven cups of cold", target="black tea"),
    hp.Sample(text="two cats sleep under a yellow sun and", target="grey hills"),
]
NEUTRAL = ["a dog runs over three green hills in May", "two happy cats sleep"]
SAYS, HOLDS = hp.Head(1, 2), hp.Head(2, 0)


def planted() -> hp.HeadModel:
    """A model whose heads write little, but one that writes the colours and one that writes their opposite."""
    hf = tiny.hf_model("llama")
    tokens = list(resolve(COLOURS, tiny.tokenizer()).token_ids)
    with torch.no_grad():
        colour = hf.lm_head.weight[tokens].mean(dim=0) - hf.lm_head.weight.mean(dim=0)
        for layer in hf.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.05)
            layer.self_attn.v_proj.bias.copy_(torch.ones(16))  # so that what a head reads has a mean that is not zero
        for head, sign in ((SAYS, 1.0), (HOLDS, -1.0)):
            columns = hf.model.layers[head.layer].self_attn.o_proj.weight[:, 8 * head.head : 8 * head.head + 8]
            columns.add_(sign * 0.5 * colour[:, None] / colour.norm())
    return hp.wrap(hf, processor=tiny.tokenizer())


@pytest.fixture(scope="module")
def model():
    return planted()


def knockout(model, **options):
    return hp.select(model, SAMPLES, COLOURS, method="knockout", progress=False, **{"masks": 60, "share": 0.2, **options})


def single_effects(model, metric, scale=-1.0):
    unedited, found = metric(model), {}
    for head in model.anatomy.heads():
        with hp.HeadEdit([head], scale=scale).applied(model):
            found[head] = unedited - metric(model)
    return found


@pytest.mark.parametrize("scale", [-1.0, 0.0, 3.0])
def test_planted_heads_are_found_with_their_signs(model, scale):
    ranking = knockout(model, scale=scale)
    order = ranking.order()
    assert (order[0], order[-1]) == (SAYS, HOLDS)
    for head in (SAYS, HOLDS):
        error = ranking.values["error"][head.layer, head.head]
        assert abs(ranking.score(head)) > 5 * error > 0


def test_scores_are_those_of_single_edits_for_any_metric(model):
    """The logit of one token at the end of one text: a metric of one's own, which sees every head."""

    def metric(model):
        with torch.no_grad():
            return float(model.hf(torch.tensor([[1, 60, 70, 80]])).logits[0, -1, 99])

    ranking = knockout(model, metric=metric, masks=240, share=0.1)
    single = single_effects(model, metric)
    largest = max(map(abs, single.values()))
    for head, effect in single.items():
        assert ranking.score(head) == pytest.approx(effect, abs=0.1 * largest)
    assert ranking.unit == "metric"
    assert ranking.cost.forward == 1 + len(set(random_masks(model.anatomy.heads(), masks=240, share=0.1, seed=0)))
    assert ranking.cost.backward == 0


def test_a_metric_may_be_what_the_model_writes(model):
    def reds(model):
        return sum("red" in text for text in model.generate(["the flag", "two cats"], max_new_tokens=2)) + model_of(model)

    def model_of(model):
        with torch.no_grad():
            return float(model.hf(torch.tensor([[1, 60]])).logits[0, -1, 99])

    assert knockout(model, metric=reds, masks=12).unit == "reds"


def test_heads_are_ordered_by_what_they_do_for_what_they_cost(model):
    ranking = knockout(model, neutral=NEUTRAL, order="effect_per_cost")
    effect, neutral = ranking.values["effect"], ranking.values["neutral"]
    assert ranking.unit == "nats a neutral nat"
    at = (SAYS.layer, SAYS.head)
    assert ranking.scores[at] == pytest.approx(effect[at] / neutral[at])
    single = single_effects(model, Divergence(model, hp.as_samples(NEUTRAL)))
    dearest = sorted(single, key=single.get)[:3]
    assert set(dearest) == set(replace(ranking, scores=neutral).top(3))
    plain = knockout(model, neutral=NEUTRAL)
    np.testing.assert_array_equal(plain.scores, effect)
    assert "neutral" not in knockout(model, masks=10).values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": 4, "share": 0.1}, "12 heads need 10 masks"),
        ({"share": 0.6}, "up to 0.5"),
        ({"share": 0.0}, "above 0"),
        ({"scale": 1.0}, "finite number other than 1"),
        ({"scale": float("nan")}, "give a finite number"),
        ({"order": "cheap"}, "choose one of effect, effect_per_cost"),
        ({"order": "effect_per_cost"}, "give some"),
        ({"metric": lambda model: float("nan")}, "gave nan for the unedited model"),
        ({"metric": lambda model: "many"}, "gave 'many' for the unedited model"),
        ({"metric": lambda model: 1}, "no head moves it"),
        ({"steps": 3}, "takes no steps"),
    ],
)
def test_what_cannot_be_measured_costs_one_line(model, options, message):
    with pytest.raises(hp.HeadPursuitError, match=message) as refused:
        knockout(model, **options)
    assert "\n" not in str(refused.value)


def test_a_metric_that_breaks_under_an_edit_names_it(model):
    calls = iter([1.0, 2.0, float("inf")])
    with pytest.raises(hp.HeadPursuitError, match=r"gave inf for L\d"):
        knockout(model, metric=lambda model: next(calls))


def test_samples_without_targets_are_refused_before_anything_runs(model):
    with pytest.raises(hp.HeadPursuitError, match="no target"):
        hp.select(model, ["two cats"], COLOURS, method="knockout", masks=20, progress=False)


def distinct(masks):
    return len(set(random_masks(planted().anatomy.heads(), masks=masks, share=0.2, seed=0)))


def test_what_was_measured_is_not_measured_again(model, tmp_path):
    first = knockout(model, masks=20, out=tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    assert len(files) == 1 + distinct(20)
    again = knockout(model, masks=20, out=tmp_path)
    assert again == first == knockout(model, masks=20)
    assert again.cost.forward == first.cost.forward == (1 + distinct(20)) * len(SAMPLES)
    knockout(model, masks=25, out=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 1 + distinct(25)
    assert files.items() <= {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}.items()
    knockout(model, masks=20, scale=0, out=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 1 + distinct(25) + distinct(20)
    for damaged in tmp_path.glob("*.json"):
        damaged.write_text(damaged.read_text().replace('"forward": ', '"forward": 1'))
    with pytest.raises(hp.HeadPursuitError, match="is not as it was written"):
        knockout(model, masks=20, out=tmp_path)


RUN = """
import sys
sys.path.insert(0, sys.argv[2])
import test_knockout
print(test_knockout.knockout(test_knockout.planted(), masks=60, out=sys.argv[1]).scores.tobytes().hex())
"""


def test_a_killed_run_goes_on_and_gives_the_same_bits(model, tmp_path):
    tests = Path(__file__).parent
    words = [sys.executable, "-c", RUN, str(tmp_path), str(tests)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), *sys.path])}
    killed = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    while len(list(tmp_path.glob("*.json"))) < 5:
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 5 <= len(list(tmp_path.glob("*.json"))) < 61
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == knockout(planted(), masks=60).scores.tobytes().hex()


def test_masks_are_spread_over_layers_and_every_head_is_in_as_many():
    heads = [hp.Head(layer, head) for layer in range(8) for head in range(16 if layer % 2 else 8)]
    masks = random_masks(heads, masks=70, share=0.1, seed=1)
    assert {len(mask) for mask in masks} <= {9, 10}
    assert set(Counter(head for mask in masks for head in mask).values()) == {7}
    for mask in masks:
        per_layer = Counter(head.layer for head in mask)
        assert all(per_layer[layer] in ((1, 2) if layer % 2 else (0, 1)) for layer in range(8))
    assert random_masks(heads, masks=30, share=0.1, seed=1) == masks[:30]
    assert random_masks(heads, masks=30, share=0.1, seed=2) != masks[:30]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.02, 0.05])
def test_200_masks_find_five_of_1024_heads(share, seed):
    """With many small effects and noise behind them; the errors stand for how far off the effects are."""
    rng = np.random.default_rng(seed)
    heads = [hp.Head(layer, head) for layer in range(32) for head in range(32)]
    masks = random_masks(heads, masks=200, share=share, seed=seed)
    design = np.array([[head in one for head in heads] for one in map(set, masks)], dtype=float)
    effects = rng.normal(0, 0.03, 1024)
    five = rng.choice(1024, 5, replace=False)
    effects[five] = rng.uniform(0.6, 1.5, 5) * np.array([1, 1, 1, -1, -1])
    found = sparse_effects(design, design @ effects + rng.normal(0, 0.1, 200))
    assert set(np.abs(found.values).argsort()[-5:]) == set(five)
    assert found.values[five] == pytest.approx(effects[five], abs=0.3)
    assert (np.abs(found.values[five] - effects[five]) < 4 * found.errors[five]).all()


def test_effects_without_noise_are_exact_and_small_ones_are_ordered():
    rng = np.random.default_rng(0)
    heads = [hp.Head(layer, head) for layer in range(6) for head in range(6)]
    masks = random_masks(heads, masks=200, share=0.1, seed=0)
    design = np.array([[head in one for head in heads] for one in map(set, masks)], dtype=float)
    effects = rng.normal(0, 1, 36)
    assert sparse_effects(design, design @ effects).values == pytest.approx(effects, abs=1e-4)
    assert sparse_effects(design, design.sum(axis=1) * 0.5).values == pytest.approx(np.full(36, 0.5), abs=1e-6)


def test_every_head_is_edited_by_itself_where_the_budget_allows_it(model):
    def metric(model):
        with torch.no_grad():
            return float(model.hf(torch.tensor([[1, 60, 70, 80]])).logits[0, -1, 99])

    ranking = hp.select(model, SAMPLES, COLOURS, method="knockout", metric=metric, masks=30, progress=False)
    for head, effect in single_effects(model, metric).items():
        assert ranking.score(head) == pytest.approx(effect, abs=1e-6)
    assert ranking.cost.forward == 13


def test_some_heads_alone_may_be_edited(model):
    ranking = knockout(model, heads=[SAYS, HOLDS, "L0.H1"], masks=3, share=None)
    assert (ranking.order()[0], ranking.order()[-1]) == (SAYS, HOLDS)
    assert np.count_nonzero(ranking.scores) == 3
    every = hp.select(model, SAMPLES, COLOURS, method="knockout", masks=12, progress=False)
    assert ranking.score(SAYS) == every.score(SAYS)
    assert knockout(model, heads=[SAYS]).score(SAYS) == every.score(SAYS)


def test_fusion_knocks_out_the_best_of_the_cheap_methods(model):
    options = {"positions": "last", "progress": False}
    ranking = hp.select(model, SAMPLES, COLOURS, method="fusion", best=0.25, **options)
    cheap = [hp.select(model, SAMPLES, COLOURS, method="calibrated", **options).top(3)]
    cheap.append(hp.select(model, SAMPLES, COLOURS, method="attribution", progress=False).top(3))
    candidates = {head for heads in cheap for head in heads}
    assert {head for head in model.anatomy.heads() if ranking.score(head) != 0} == candidates
    every = hp.select(model, SAMPLES, COLOURS, method="knockout", masks=12, progress=False)
    assert all(ranking.score(head) == every.score(head) for head in candidates)
    assert ranking.cost.forward == 3 * (2 + 1 + len(candidates))
    assert ranking.cost.backward == 3
    with pytest.raises(hp.HeadPursuitError, match="share of the heads"):
        hp.select(model, SAMPLES, COLOURS, method="fusion", best=0)
