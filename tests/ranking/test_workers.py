"""Heads that workers of Ray choose are those of one process, with the same scores, costs and kept measurements."""

from __future__ import annotations

import os
import pickle
import signal

import numpy as np
import pytest

import headpursuit as hp
import tiny
from headpursuit.engines import LOCAL, Engine, held
from headpursuit.ranking.one_layer import _alone, layer_by_layer

ray = pytest.importorskip("ray")

SAMPLES = [hp.Sample(text=text, target=" red", chat=False) for text in tiny.TEXTS]
NEUTRAL = [hp.Sample(text=text, chat=False) for text in ("two happy cats", "one sad clown sleeps", "cold tea on Monday")]
WORDS = hp.Concept("colours", ["red", "white", "blue"])


@pytest.fixture(scope="module")
def workers():
    """Two workers for all tests, on a cluster of their own."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with held(Engine("ray", workers=2)) as engine:
        yield engine
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny.hf_model("llama").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return hp.load(folder, device="cpu")


@pytest.fixture(scope="module", params=["mean", "all"])
def acts(request, model, tmp_path_factory):
    """A capture of rows and one of moments, whose weights are read from files."""
    texts = [f"{text} {number}" for number in range(6) for text in tiny.TEXTS]
    return hp.capture(model, texts, positions=request.param, out=tmp_path_factory.mktemp("acts"), progress=False)


def same(found, alone):
    assert found.order() == alone.order()
    np.testing.assert_array_equal(found.scores, alone.scores)
    assert found.values.keys() == alone.values.keys()
    for name, values in alone.values.items():
        np.testing.assert_array_equal(found.values[name], values)
    assert (found.cost.forward, found.cost.backward) == (alone.cost.forward, alone.cost.backward)
    assert found.about == alone.about


def test_knock_outs_are_the_same_and_are_kept(workers, model, tmp_path):
    options = {"method": "knockout", "masks": 12, "neutral": NEUTRAL, "order": "natural", "progress": False}
    alone = hp.select(model, SAMPLES, WORDS, out=tmp_path / "alone", **options)
    same(hp.select(model, SAMPLES, WORDS, out=tmp_path / "two", engine=workers, **options), alone)
    names = [sorted(path.name for path in (tmp_path / folder).glob("*.json")) for folder in ("alone", "two")]
    assert names[0] == names[1]
    assert len(names[0]) == 26
    same(hp.select(model, SAMPLES, WORDS, out=tmp_path / "two", **options), alone)


@pytest.mark.parametrize("method", ["contest", "fusion"])
def test_what_measures_edits_is_the_same(workers, model, method):
    options = {"method": method, "progress": False, **({"neutral": NEUTRAL} if method == "contest" else {})}
    same(hp.select(model, SAMPLES, WORDS, engine=workers, **options), hp.select(model, SAMPLES, WORDS, **options))


def test_a_set_that_workers_die_of_is_one_line(workers, model):
    def metric(model):
        if model.hf.model.layers[2].self_attn.o_proj._forward_pre_hooks:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0

    with pytest.raises(hp.HeadPursuitError, match=r"^L2.H0 × -1: 3 workers died of it"):
        hp.select(model, SAMPLES, WORDS, method="knockout", metric=metric, heads="L2.H0", engine=workers, progress=False)


def test_a_method_without_parts_says_so(model):
    with pytest.raises(hp.HeadPursuitError, match="method='attribution' takes no engine"):
        hp.select(model, SAMPLES, WORDS, method="attribution", engine="ray")
    with pytest.raises(hp.HeadPursuitError, match="workers speaks of workers"):
        hp.select(model, SAMPLES, WORDS, workers=2)


def test_heads_are_named_layer_by_layer(workers, acts):
    options = {"n_atoms": 3, "significance": 10, "progress": False}
    assert list(hp.describe(acts, engine=workers, **options)) == list(hp.describe(acts, **options))
    some = ["L2.H3", "L0.H1", "L2.H0"]
    options = {"heads": some, "progress": False}
    assert list(hp.describe(acts, engine=workers, **options)) == list(hp.describe(acts, **options))


@pytest.mark.parametrize("method", ["somp", "calibrated"])
def test_rankings_and_what_is_measured_beside_them_are_the_same(workers, acts, method):
    options = {"method": method, "progress": False}
    np.testing.assert_array_equal(
        hp.rank(acts, WORDS, engine=workers, **options).scores, hp.rank(acts, WORDS, **options).scores
    )
    tested = [hp.significance(acts, WORDS, draws=300, **options, **where) for where in ({}, {"engine": workers})]
    for name, values in tested[0].columns().items():
        np.testing.assert_array_equal(tested[1].columns()[name], values)
    disturbed = [hp.stability(acts, WORDS, k=3, draws=5, **options, **where) for where in ({}, {"engine": workers})]
    for name in ("samples", "words"):
        np.testing.assert_array_equal(getattr(disturbed[1], name), getattr(disturbed[0], name))


def test_maps_are_the_same(workers, acts):
    options = {"draws": 20, "progress": False}
    alone = hp.concept_map(acts, [WORDS, hp.Concept("numbers", ["two", "three", "seven"])], **options)
    found = hp.concept_map(acts, [WORDS, hp.Concept("numbers", ["two", "three", "seven"])], engine=workers, **options)
    np.testing.assert_array_equal(found.scores, alone.scores)
    np.testing.assert_array_equal(found.z, alone.z)


def test_a_layer_travels_by_itself(acts):
    whole = len(pickle.dumps(acts))
    for layer, part in _alone(acts, acts.layers):
        assert part.layers == (layer,)
        assert len(pickle.dumps(part)) < whole
    assert [layer for layer, _ in layer_by_layer(acts, [2, 0], len, engine=LOCAL, title="", progress=False)] == [2, 0]
