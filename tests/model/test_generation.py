"""Writing is greedy unless asked, ends where the context ends, and takes what transformers' generate takes."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import GenerationConfig

import headpursuit as hp
import tiny

TEXT = "the flag of France is"


@pytest.fixture
def model(llama):
    own = llama.hf.generation_config
    yield llama
    assert llama.hf.generation_config is own


@pytest.fixture
def adventurous():
    """A model whose checkpoint asks for sampling, beams and penalties."""
    hf = tiny.hf_model("llama")
    hf.generation_config = GenerationConfig(
        do_sample=True,
        temperature=3.0,
        top_p=0.99,
        num_beams=3,
        repetition_penalty=5.0,
        no_repeat_ngram_size=1,
        max_length=12,
        min_length=11,
        length_penalty=4.0,
        eos_token_id=2,
        bos_token_id=1,
    )
    return hp.wrap(hf, processor=tiny.tokenizer())


def test_a_checkpoint_does_not_decide_how_tokens_are_chosen(adventurous):
    plain = hp.wrap(tiny.hf_model("llama"), processor=tiny.tokenizer())
    texts = list(tiny.TEXTS)
    written = adventurous.generate(texts, max_new_tokens=20)
    assert written == adventurous.generate(texts, max_new_tokens=20, seed=5) == plain.generate(texts, max_new_tokens=20)
    assert written == adventurous.generate(texts, generation_config=GenerationConfig(max_new_tokens=20))
    assert adventurous.hf.generation_config.do_sample is True


def test_what_is_asked_for_is_done(model, recwarn, caplog):
    drawn = {"do_sample": True, "temperature": 2.0, "max_new_tokens": 12}
    state = torch.get_rng_state()
    first, other = model.generate(TEXT, **drawn), model.generate(TEXT, seed=1, **drawn)
    assert first == model.generate(TEXT, **drawn) != other
    assert first == model.generate(TEXT, generation_config=GenerationConfig(**drawn))
    assert torch.equal(torch.get_rng_state(), state)
    ids = model.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    beams = model.hf.generate(ids, num_beams=3, max_new_tokens=9, do_sample=False, num_return_sequences=2)
    expected = model.tokenizer.batch_decode(beams[:, ids.shape[1] :], skip_special_tokens=True)
    assert model.generate(TEXT, num_beams=3, max_new_tokens=9, num_return_sequences=2) == expected
    assert model.generate([TEXT, "two"], num_beams=3, max_new_tokens=9, num_return_sequences=2)[0] == expected
    assert not [one for one in caplog.records if "deprecated" in one.getMessage()]


def test_writing_stops_behind_a_string(model):
    whole = model.generate(TEXT, max_new_tokens=20)
    stop = whole[5:7]
    written = model.generate([TEXT, "two"], max_new_tokens=20, stop_strings=[stop])[0]
    assert stop in written
    assert len(written) < len(whole)
    assert whole.startswith(written)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_return_sequences": 2}, "num_return_sequences"),
        ({"return_dict_in_generate": True}, "text alone"),
        ({"output_scores": True}, "text alone"),
        ({"max_length": 9}, "give max_new_tokens"),
        ({"max_new_tokens": 0}, "give at least 1"),
        ({"num_beams": 0}, "give at least 1"),
        ({"generation_config": {"num_beams": 2}}, "GenerationConfig"),
        ({"temperature": 0.7}, "do_sample=True"),
        ({"do_sample": True, "temperature": -1.0}, "temperature"),
        ({"wings": 2}, "wings"),
        ({"input_ids": torch.ones(1, 1)}, "leave it out"),
    ],
)
def test_what_cannot_be_done_is_one_true_line(model, options, line):
    with pytest.raises(hp.HeadPursuitError, match=line) as caught:
        model.generate(TEXT, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_writing_stops_at_the_contexts_end_and_says_so(family):
    model = tiny.tiny(family)
    ids = model.tokenizer(" cats" * 200, add_special_tokens=False)["input_ids"]
    long, full = (model.tokenizer.decode(ids[:count]) for count in (120, 128))
    assert len(model.tokenizer(long)["input_ids"]) == 120
    with pytest.warns(UserWarning, match=r"1 of 2 prompts leave less room than 64 new tokens in the context of 128"):
        written = model.generate([long, "two"], max_new_tokens=64, min_new_tokens=64)
    ids = model.tokenizer(long, return_tensors="pt")["input_ids"]
    mine = model.hf.generate(ids, max_new_tokens=8, min_new_tokens=8, do_sample=False)[0, 120:]
    assert written[0] == model.tokenizer.decode(mine, skip_special_tokens=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert written[1] == model.generate("two", max_new_tokens=64, min_new_tokens=64)
    with pytest.raises(hp.HeadPursuitError, match="128 tokens fill the context"):
        model.generate(full, max_new_tokens=1)


def test_a_question_about_a_picture_without_one_is_warned_of():
    demo = hp.load("demo", device="cpu")
    with pytest.warns(UserWarning, match=r"'What is in this picture\?' speaks of a picture, and none is given"):
        demo.generate("What is in this picture?", max_new_tokens=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        demo.generate("What is the capital of France?", max_new_tokens=2)
