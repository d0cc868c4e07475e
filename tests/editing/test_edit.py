"""Edits as values, and what they refuse."""

from __future__ import annotations

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
