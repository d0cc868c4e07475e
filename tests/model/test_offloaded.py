"""Models larger than a device: some layers in memory, some on the disk, and what is read, ranked and edited is the same."""

from __future__ import annotations

import numpy as np
import pytest

import headpursuit as hp
import tiny

pytest.importorskip("accelerate")

WORDS = ["red", "blue", "green"]


@pytest.fixture(scope="module")
def offloaded(checkpoint, tmp_path_factory):
    beside = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu", "model.rotary_emb": "cpu"}
    layers = {f"model.layers.{index}": "disk" if index else "cpu" for index in range(3)}
    found = hp.load(checkpoint, device_map={**beside, **layers}, offload_folder=str(tmp_path_factory.mktemp("disk")))
    assert next(found.hf.model.layers[1].parameters()).is_meta
    return found


@pytest.fixture(scope="module")
def whole(checkpoint):
    return hp.load(checkpoint, device="cpu")


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_captures_are_the_same(offloaded, whole, positions, tmp_path):
    acts = hp.capture(whole, tiny.TEXTS, positions=positions, progress=False)
    assert hp.capture(offloaded, tiny.TEXTS, positions=positions, progress=False) == acts
    assert hp.capture(offloaded, tiny.TEXTS, positions=positions, out=tmp_path / "acts", progress=False) == acts


def test_rankings_agree(offloaded, whole):
    scores = [
        hp.rank(hp.capture(model, tiny.TEXTS, progress=False), WORDS, method="somp", progress=False).scores
        for model in (whole, offloaded)
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-4, atol=1e-6)


def test_edits_do_the_same_and_are_taken_back(offloaded, whole):
    before = offloaded.generate(tiny.TEXTS, max_new_tokens=6)
    edit = hp.HeadEdit(["L1.H0", "L2.H3"], scale=-1)
    with edit.applied(offloaded), edit.applied(whole):
        edited = whole.generate(tiny.TEXTS, max_new_tokens=6)
        assert offloaded.generate(tiny.TEXTS, max_new_tokens=6) == edited
    assert edited != before == offloaded.generate(tiny.TEXTS, max_new_tokens=6)


def test_auto_is_a_device(checkpoint, whole):
    model = hp.load(checkpoint, device="auto")
    assert hp.capture(model, tiny.TEXTS, progress=False) == hp.capture(whole, tiny.TEXTS, progress=False)
