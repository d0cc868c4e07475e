"""Cells: computed once, kept whole, and compared sample by sample."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.evaluation.cells import Cells, Task
from headpursuit.evaluation.effects import comparison, row
from headpursuit.evaluation.metrics import Metric
from headpursuit.model.identity import weights_fingerprint

LENGTH = Metric("writing", "letters a")
LOGIT = Metric("forced", "logit", compared_by="change")
EDIT, OTHER = hp.HeadEdit(["L1.H2", "L2.H0"], scale=-1), hp.HeadEdit(["L0.H1"], scale=3)


def first_logit(model):
    with torch.no_grad():
        ids = [model.tokenizer(text, return_tensors="pt")["input_ids"] for text in tiny.TEXTS]
        return np.array([float(model.hf(one).logits[0, -1, 40]) for one in ids])


@pytest.fixture
def tasks():
    samples = [hp.Sample(text=text, chat=False) for text in tiny.TEXTS]
    return {
        "writing": Task(
            "writing",
            samples,
            (LENGTH,),
            lambda answers: {"letters a": np.array([1.0 + text.count("a") for text in answers])},
            {"max_new_tokens": 6, "min_new_tokens": 6},
        ),
        "forced": Task("forced", samples, (LOGIT,), measure=lambda model: {"logit": first_logit(model)}),
    }


def cells_of(tasks, folder, ran):
    return Cells(tiny.tiny("llama"), tasks, seed=0, tick=ran.append, folder=folder)


def test_a_stored_cell_is_not_run_again_and_says_the_same(tasks, tmp_path):
    ran: list[str] = []
    first = cells_of(tasks, tmp_path, ran)
    known = {edit: first.is_known("writing", edit) for edit in (None, EDIT)}
    values = [(first.scores(LENGTH, edit), first.answers("writing", edit)) for edit in (None, EDIT)]
    assert known == {None: False, EDIT: False}
    assert len(ran) == 2
    again = cells_of(tasks, tmp_path, ran)
    assert all(again.is_known("writing", edit) for edit in (None, EDIT))
    for (scores, answers), edit in zip(values, (None, EDIT), strict=True):
        assert np.array_equal(again.scores(LENGTH, edit), scores)
        assert list(again.answers("writing", edit)) == list(answers)
    assert len(ran) == 2


def test_a_cell_depends_on_edit_options_samples_seed_and_weights(tasks, tmp_path):
    ran: list[str] = []
    cells_of(tasks, tmp_path, ran).cell("writing", EDIT)
    plain = tasks["writing"]
    others = {
        "options": Task("writing", plain.samples, plain.metrics, plain.score, {"max_new_tokens": 5}),
        "samples": Task("writing", plain.samples[:3], plain.metrics, plain.score, plain.options),
        "identity": Task("writing", plain.samples, plain.metrics, plain.score, plain.options, {"template": "{text}"}),
    }
    for other in others.values():
        assert not cells_of({"writing": other}, tmp_path, ran).is_known("writing", EDIT)
    assert not cells_of(tasks, tmp_path, ran).is_known("writing", hp.HeadEdit(EDIT.heads, scale=-2))
    assert not Cells(tiny.tiny("llama"), tasks, seed=1, folder=tmp_path).is_known("writing", EDIT)
    own = hp.wrap(tiny.hf_model("llama"), processor=tiny.tokenizer())
    before = weights_fingerprint(own.hf)
    with torch.no_grad():
        own.hf.model.layers[2].self_attn.o_proj.weight[0, 0] += 1
    assert weights_fingerprint(own.hf) != before == weights_fingerprint(tiny.tiny("llama").hf)


def test_a_measure_of_the_model_is_taken_under_the_edit(tasks, tmp_path):
    here = cells_of(tasks, tmp_path, [])
    with EDIT.applied(here.model):
        wanted = first_logit(here.model)
    assert np.allclose(here.scores(LOGIT, EDIT), wanted, rtol=1e-6)
    found = row(here, LOGIT, [EDIT], concept="c", selection="somp", scale=-1.0, seed=0)
    change = wanted - first_logit(here.model)
    assert found.normalized is None
    assert found.change == pytest.approx(change.mean(), rel=1e-5)
    assert change.min() <= found.low <= found.change <= found.high <= change.max()


def test_a_metric_that_is_not_there_is_named(tasks, tmp_path):
    with pytest.raises(hp.HeadPursuitError, match="writing has no metric 'F1': choose one of 'letters a'"):
        cells_of(tasks, tmp_path, []).value(Metric("writing", "F1"), None)


def test_a_comparison_is_the_difference_of_the_rows(tasks, tmp_path):
    here = cells_of(tasks, tmp_path, [])
    named = {"concept": "c", "scale": -1.0, "seed": 0}
    pair = [row(here, LENGTH, [edit], selection="somp", **named) for edit in (EDIT, OTHER)]
    found = comparison(here, LENGTH, EDIT, [OTHER], against="logit_lens", wanted="less", **named)
    assert found.difference == pytest.approx(pair[0].normalized - pair[1].normalized)
    assert found.low <= found.difference <= found.high
    none = comparison(here, LENGTH, EDIT, [None], against="none", wanted="less", **named)
    assert none.difference == pytest.approx(pair[0].normalized - 1)
    assert (none.low + 1, none.high + 1) == pytest.approx((pair[0].low, pair[0].high))
    same = comparison(here, LENGTH, EDIT, [EDIT], against="logit_lens", wanted="less", **named)
    assert (same.difference, same.low, same.high, same.verdict) == (0, 0, 0, "open")


def test_a_single_sample_has_neither_an_interval_nor_a_verdict(tasks, tmp_path):
    one = replace(tasks["writing"], samples=tasks["writing"].samples[:1])
    here = cells_of({"writing": one}, tmp_path, [])
    named = {"concept": "c", "scale": -1.0, "seed": 0}
    found = row(here, LENGTH, [EDIT], selection="somp", **named)
    assert found.effect is not None
    assert found.spread is None
    assert comparison(here, LENGTH, EDIT, [OTHER], against="logit_lens", wanted="less", **named).verdict == "open"


@pytest.mark.parametrize(
    ("low", "high", "wanted", "verdict"),
    [
        (-0.3, -0.1, "less", "better"),
        (0.1, 0.3, "less", "worse"),
        (0.1, 0.3, "more", "better"),
        (-0.3, -0.1, "more", "worse"),
        (-0.1, 0.3, "less", "open"),
        (-0.3, -0.1, "same", "open"),
        (None, None, "less", "open"),
    ],
)
def test_a_verdict_needs_an_interval_away_from_zero(low, high, wanted, verdict, tasks, tmp_path):
    named = {"concept": "c", "scale": -1.0, "seed": 0, "against": "logit_lens", "wanted": "less"}
    found = comparison(cells_of(tasks, tmp_path, []), LENGTH, EDIT, [OTHER], **named)
    assert replace(found, low=low, high=high, wanted=wanted).verdict == verdict


def test_a_cell_depends_on_the_tokens_that_are_read(tasks, tmp_path):
    own = tiny.tokenizer()
    tokenizer = type(own)(tokenizer_object=own.backend_tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    model = hp.wrap(tiny.hf_model("llama"), processor=tokenizer)
    asked = replace(tasks["writing"], samples=[hp.Sample(text) for text in tiny.TEXTS])

    def known() -> bool:
        return Cells(model, {"writing": asked}, seed=0, folder=tmp_path).is_known("writing", None)

    tokenizer.chat_template = "U {{ messages[0]['content'] }} A"
    Cells(model, {"writing": asked}, seed=0, folder=tmp_path).cell("writing", None)
    assert known()
    tokenizer.chat_template = "System: be kind. U {{ messages[0]['content'] }} A"
    assert not known()


def test_a_flipped_bit_in_a_cell_is_seen(llama, tasks, tmp_path):
    generator = random.Random(0)
    Cells(llama, tasks, seed=0, folder=tmp_path).cell("writing", None)
    (path,) = (path for path in tmp_path.iterdir() if path.suffix == ".json")
    whole = path.read_bytes()
    for _ in range(100):
        content = bytearray(whole)
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        with pytest.raises(hp.HeadPursuitError, match=path.stem):
            Cells(llama, tasks, seed=0, folder=tmp_path).cell("writing", None)


def test_a_cell_under_another_ones_name_is_seen(llama, tasks, tmp_path):
    Cells(llama, tasks, seed=0, folder=tmp_path).cell("writing", None)
    (path,) = (path for path in tmp_path.iterdir() if path.suffix == ".json")
    other = Cells(llama, tasks, seed=1, folder=tmp_path)
    other.cell("writing", None)
    (second,) = (one for one in tmp_path.iterdir() if one.suffix == ".json" and one != path)
    path.replace(second)
    with pytest.raises(hp.HeadPursuitError, match="holds another cell than its name says"):
        Cells(llama, tasks, seed=1, folder=tmp_path).cell("writing", None)


def test_a_model_whose_heads_were_scaled_is_another_one(llama):
    hf = copy.deepcopy(llama.hf)
    before = weights_fingerprint(hf)
    assert before == weights_fingerprint(llama.hf)
    with torch.no_grad():
        hf.model.layers[1].self_attn.o_proj.weight[:, 17] *= -1
    assert weights_fingerprint(hf) != before
