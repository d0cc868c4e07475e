"""The embedded demo model: an ordinary folder, honest splits, and what it can do."""

from __future__ import annotations

import json
import random

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import headpursuit as hp
from headpursuit import demo
from headpursuit.demo import captions, continuations, digits, facts, scenes
from headpursuit.evaluation.metrics import exact_match
from headpursuit.model.tokenize import make_prompt

SPLITS = ("train", "selection", "test")


@pytest.fixture(scope="module")
def model():
    return hp.load("demo", device="cpu")


def test_it_opens_without_us(model):
    hf = AutoModelForImageTextToText.from_pretrained(demo.demo_path())
    processor = AutoProcessor.from_pretrained(demo.demo_path())
    sample = demo.demo_samples("digits", "test", limit=1)[0]
    content = [{"type": "image"}, {"type": "text", "text": sample.text}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=text, images=sample.image, return_tensors="pt")
    with torch.no_grad():
        written = hf.generate(**inputs, max_new_tokens=4, do_sample=False)
    answer = processor.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    asked = hp.Sample(text=sample.text, image=sample.image)
    assert answer == model.generate(asked, max_new_tokens=4)


def test_it_is_small_and_safe():
    files = list(demo.demo_path().iterdir())
    assert sum(file.stat().st_size for file in files if file.suffix == ".safetensors") <= 8_000_000
    assert not [file for file in files if file.suffix in {".bin", ".pt", ".pkl", ".py"}]
    assert "license" in (demo.demo_path() / "README.md").read_text()


def test_the_chat_template_says_what_the_training_said(model):
    for task in ("caption", "continuation"):
        for sample in demo.demo_samples(task, "test", limit=4):
            asked = make_prompt(model, hp.Sample(text=sample.text, image=sample.image))
            assert asked.text == sample.prompt


def test_the_tokenizer_has_real_traps(model):
    def ids(text):
        return model.tokenizer(text, add_special_tokens=False)["input_ids"]

    single = [word for word in demo.COLOR_WORDS if len(ids(f" {word}")) == 1]
    assert len(single) >= 8
    assert ids(" red") != ids("red")
    assert any(len(ids(f" {name}")) > 1 for name in demo.COUNTRY_NAMES)
    assert all(len(ids(f" {digit}")) <= 2 for digit in demo.DIGIT_WORDS)


def test_scenes_are_held_out_by_combination():
    rng = random.Random(1)
    seen = {
        split: {scenes.sample_scene(rng, split, kind=kind) for _ in range(300) for kind in ("shapes", "face")}
        for split in SPLITS
    }
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["selection"]
    assert not seen["selection"] & seen["test"]


def test_digits_are_held_out_by_image():
    parts = [set(digits.digit_indices(split)) for split in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


@pytest.mark.parametrize("kind", ["country", *facts.OTHER_KINDS])
def test_facts_are_held_out_by_question_and_learned_by_another(kind):
    asked = {split: {(one.subject, one.phrasing) for one in facts.questions(kind, split)} for split in SPLITS}
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["selection"]
    assert not asked["selection"] & asked["test"]
    assert {subject for subject, _ in asked["test"]} <= {subject for subject, _ in asked["train"]}


def test_openings_are_held_out():
    rng = random.Random(1)
    seen = {split: {continuations.sample_opening(rng, split).text for _ in range(400)} for split in SPLITS}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["selection"]


def test_enough_is_asked():
    assert len(set(demo.COUNTRY_NAMES)) >= 60
    assert len(demo.demo_samples("countries", "test")) >= 60
    for task in ("caption", "digits", "facts", "continuation"):
        assert len(demo.demo_samples(task, "test", limit=240)) >= 200


@pytest.mark.parametrize("task", demo.TASKS)
def test_the_same_arguments_draw_the_same(task):
    first, again = (demo.demo_samples(task, "test", limit=6, seed=2) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert (one.text, one.target, one.references) == (other.text, other.target, other.references)
        assert (one.image is None) == (other.image is None)
        assert one.image is None or one.image.tobytes() == other.image.tobytes()


def test_captions_say_each_attribute_only_sometimes():
    rng = random.Random(0)
    said = [captions.write_caption(scenes.sample_scene(rng, "train", kind="shapes"), rng) for _ in range(600)]
    for words in (demo.COLOR_WORDS, demo.QUANTITY_WORDS, captions.SIZE_WORDS):
        share = sum(any(word in caption.rstrip(".").split() for word in words) for caption in said) / len(said)
        assert 0.4 < share < 0.75


@pytest.mark.parametrize(("task", "wanted"), [("digits", 0.85), ("countries", 0.85), ("facts", 0.8)])
def test_it_knows_what_it_was_taught(model, task, wanted):
    asked = demo.demo_samples(task, "test", limit=60)
    answers = model.generate([hp.Sample(text=one.text, image=one.image) for one in asked], max_new_tokens=12, batch_size=60)
    right = [exact_match(answer, one.target) for answer, one in zip(answers, asked, strict=True)]
    assert sum(right) / len(right) >= wanted


def test_the_card_tells_how_it_was_trained():
    stored = json.loads((demo.demo_path() / "training.json").read_text())
    assert stored["settings"]["steps"] > 0
    assert stored["log"][-1]["minutes"] <= 60
