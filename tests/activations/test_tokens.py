"""What is shown of samples is what a capture reads of them."""

from __future__ import annotations

import pytest
import torch

import headpursuit as hp
import tiny
import vlm
from headpursuit.activations.tokens import Tokens
from model.test_contracts import prompts


def marked(one: Tokens, which: str) -> str:
    return "".join(token for token, holds in zip(one.tokens, getattr(one, which), strict=True) if holds)


def test_image_target_and_counted_tokens_are_marked():
    model = tiny.tiny("llava")
    image = prompts(model)[0].image
    sample = hp.Sample("two cats", image=image, target="sleep", where="line 7")
    (read,) = hp.tokens(model, [sample])
    assert read.positions == "answer"
    assert marked(read, "image") == "<image>" * 4
    assert marked(read, "target") == " sleep"
    assert "".join(read.tokens).endswith("two cats sleep")
    assert read.text == "<image>\ntwo cats sleep"
    # What is counted predicts the target: one token before each of its own.
    assert list(read.counted) == [*read.target[1:], False]
    assert "line 7" in repr(read)
    assert repr(read).count("image, counted") == 0
    (mean,) = hp.tokens(model, [sample], positions="mean")
    assert all(mean.counted)
    assert not any(mean.target)
    assert sum(hp.tokens(model, [sample], positions="last")[0].counted) == 1
    assert hp.tokens(model, [sample], positions="image")[0].counted == mean.image


def test_a_capture_reads_the_tokens_that_are_shown():
    model = tiny.tiny("llama")
    samples = [hp.Sample(text, target="two cats") for text in tiny.TEXTS]
    entered: list[torch.Tensor] = []
    projection = model.module(model.anatomy.layer(2).projection)
    for positions in ("mean", "answer"):
        acts = hp.capture(model, samples, positions=positions, progress=False)
        for row, one in zip(acts.z[2], hp.tokens(model, samples, positions=positions), strict=True):
            entered.clear()
            hook = projection.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
            with torch.no_grad():
                model.hf(input_ids=torch.tensor([one.ids]))
            hook.remove()
            mean = entered[0][0, torch.tensor(one.counted)].mean(dim=0)
            torch.testing.assert_close(row.flatten(), mean, rtol=1e-5, atol=1e-6)


def test_behind_an_encoder_both_sides_are_shown():
    vlm.skip_where_missing("florence2")
    model = vlm.vlm("florence2")
    (read,) = hp.tokens(model, [hp.Sample("two cats", image=prompts(tiny.tiny("llava"))[0].image, target="sleep")])
    assert read.ids[0] == model.start_token
    assert marked(read, "target").strip() == "sleep"
    assert "cats" in model.tokenizer.decode(read.encoder)


def test_a_position_that_does_not_exist_is_refused():
    with pytest.raises(hp.HeadPursuitError, match="positions='some'"):
        hp.tokens(tiny.tiny("llama"), ["two"], positions="some")
