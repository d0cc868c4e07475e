"""Edits as values, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny


def test_an_edit_prints_what_it_does():
    assert str(hp.HeadEdit(["L2.H1", "L0.H3"], scale=-1)) == "L0.H3, L2.H1 × -1"


def test_the_order_of_heads_does_not_matter():
    assert hp.HeadEdit(["L2.H1", "L0.H3"], scale=2) == hp.HeadEdit([hp.Head(0, 3), hp.Head(2, 1)], scale=2.0)


@pytest.mark.parametrize(
    ("heads", "scale", "message"),
    [
        ([], -1, "at least one head"),
        (["L0.H0", "L0.H0"], -1, "L0.H0 is named twice"),
        (["layer 3"], -1, "'layer 3' is not the name of a head"),
        (["L0.H0"], float("nan"), "finite"),
        (["L0.H0"], float("inf"), "finite"),
        (["L0.H0"], 1e39, "finite"),
        (["L0.H0", "L0.H1"], [1, 2, 3], "3 scales for 2 heads"),
        (["L0.H0"], "much", "give a number"),
    ],
)
def test_what_is_no_edit_is_refused(heads, scale, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        hp.HeadEdit(heads, scale=scale)


@pytest.mark.parametrize("head", ["L3.H0", "L0.H4"])
def test_a_head_that_does_not_exist_is_refused_before_anything_changes(llama, head):
    with pytest.raises(hp.HeadPursuitError, match=r"its heads lie in L0\.H0 to L2\.H3"):
        hp.HeadEdit([head], scale=-1).applied(llama).__enter__()


def test_edits_inside_each_other_multiply(llama):
    def logits():
        with torch.no_grad():
            return llama.hf(input_ids=torch.tensor([[5, 6, 7]])).logits

    with hp.HeadEdit(["L1.H2"], scale=-2).applied(llama), hp.HeadEdit(["L1.H2"], scale=-0.5).applied(llama):
        twice = logits()
    assert torch.equal(twice, logits())


def test_an_edit_runs_in_half_precision():
    model = hp.wrap(tiny.hf_model("llama").to(torch.bfloat16), processor=tiny.tokenizer())
    with hp.HeadEdit(["L1.H2"], scale=-1).applied(model):
        text = model.generate("two cats", max_new_tokens=3, min_new_tokens=3)
    assert isinstance(text, str)


def test_each_head_may_have_its_own_scale():
    edit = hp.HeadEdit(["L2.H1", "L0.H3", "L1.H0"], scale=np.array([-1, 0.5, -1]))
    assert {factor.head.name: factor.scale for factor in edit.factors} == {"L0.H3": 0.5, "L1.H0": -1, "L2.H1": -1}
    assert str(edit) == "L0.H3 × 0.5; L1.H0, L2.H1 × -1"
    assert edit.heads == (hp.Head(0, 3), hp.Head(1, 0), hp.Head(2, 1))
    with pytest.raises(hp.HeadPursuitError, match="has 2 scales"):
        edit.scale  # noqa: B018


def test_two_edits_make_one_and_multiply_where_they_meet():
    suppress, enhance = hp.HeadEdit(["L0.H1", "L1.H2"], scale=-1), hp.HeadEdit(["L1.H2", "L2.H0"], scale=3)
    both = suppress + enhance
    assert str(both) == "L0.H1 × -1; L1.H2 × -3; L2.H0 × 3"
    assert both == enhance + suppress
    assert hash(both) == hash(enhance + suppress)
    assert both != suppress
    apart = hp.HeadEdit(["L0.H1"], scale=2, where="prompt") + hp.HeadEdit(["L0.H1"], scale=2, where="generated")
    assert str(apart) == "L0.H1 × 2 on generated tokens; L0.H1 × 2 on prompt tokens"


def test_two_edits_do_together_what_they_do_inside_each_other(llama):
    first = hp.HeadEdit(["L0.H1", "L1.H2"], scale=[-1, 4], where="prompt")
    second = hp.HeadEdit(["L1.H2", "L2.H0"], scale=0.5) + hp.HeadEdit(["L1.H2"], scale=2, where="generated")
    with first.applied(llama), second.applied(llama):
        nested = llama.generate(list(tiny.TEXTS), max_new_tokens=5)
    with (first + second).applied(llama):
        assert llama.generate(list(tiny.TEXTS), max_new_tokens=5) == nested
    assert llama.generate(list(tiny.TEXTS), max_new_tokens=5) != nested


EDITS = (
    hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1),
    hp.HeadEdit(["L0.H1", "L2.H3"], scale=[0.1, 1 / 3], where="generated"),
    hp.HeadEdit(["L0.H1"], scale=2, where=torch.tensor([[True, False], [False, True]])) + hp.HeadEdit(["L0.H1"], scale=0),
)


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_comes_back_from_its_file(edit, llama, tmp_path):
    edit.save(tmp_path / "edit.json", model=llama)
    assert hp.load_edit(tmp_path / "edit.json", model=llama) == edit


def test_an_edit_of_another_model_is_refused(llama, tmp_path):
    EDITS[0].save(tmp_path / "edit.json", model=llama)
    with pytest.raises(hp.HeadPursuitError, match="means nothing in another model"):
        hp.load_edit(tmp_path / "edit.json", model=tiny.tiny("qwen3"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"edit\.json, line 1: not valid JSON"),
        ("[]", "is no edit file"),
        (json.dumps({"model": {}, "heads": []}), "at least one head"),
        (json.dumps({"model": {}, "heads": [{"layer": 0, "head": 1}]}), "holds heads without scales"),
        (json.dumps({"model": {}, "heads": [{"layer": 0, "head": 1, "scale": "x"}]}), r"edit\.json: this is no edit"),
        (json.dumps({"model": {}, "heads": [{"layer": 0, "head": 1, "scale": 1, "where": "up"}]}), "choose one of all"),
    ],
)
def test_a_file_that_is_no_edit_is_refused(content, message, llama, tmp_path):
    (tmp_path / "edit.json").write_text(content)
    with pytest.raises(hp.HeadPursuitError, match=message):
        hp.load_edit(tmp_path / "edit.json", model=llama)


def test_an_edit_is_not_taken_for_a_heads_file(llama, tmp_path):
    EDITS[0].save(tmp_path / "edit.json", model=llama)
    with pytest.raises(hp.HeadPursuitError, match="holds an edit"):
        hp.load_heads(tmp_path / "edit.json", model=llama)
