"""The toxicity classifier is a real RoBERTa, tiny and random, saved to disk and loaded like any other."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

import headpursuit as hp
import tiny
from headpursuit.evaluation.toxicity import load_classifier

TEXTS = ["the flag of France", "two happy cats sleep under a yellow sun", "", "cold tea " * 60, "   "]


def save(folder, labels, **options):
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=len(tiny.tokenizer()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
        pad_token_id=0,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        num_labels=len(labels),
        **options,
    )
    RobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer = copy.deepcopy(tiny.tokenizer())  # which states no limit of its own
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    return folder


def by_hand(folder, text, index, activation):
    hf, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = hf(input_ids=torch.tensor([tokenizer(text)["input_ids"][:38]])).logits[0].double()
    return float((torch.softmax(logits, 0) if activation == "softmax" else torch.sigmoid(logits))[index])


@pytest.mark.parametrize(
    ("labels", "index", "problem", "activation"),
    [
        (["neutral", "toxic"], 1, "single_label_classification", "softmax"),
        (["LABEL_0", "LABEL_1"], 1, "single_label_classification", "softmax"),
        (["Toxic", "insult", "threat"], 0, "multi_label_classification", "sigmoid"),
    ],
)
def test_probability_of_the_toxic_label(tmp_path, labels, index, problem, activation):
    save(tmp_path, labels, problem_type=problem)
    classifier = load_classifier(tmp_path, batch_size=3)
    expected = [by_hand(tmp_path, text, index, activation) if text.strip() else 0 for text in TEXTS]
    assert classifier(TEXTS) == pytest.approx(expected, rel=1e-4)
    assert len(set(np.round(expected, 6))) == 4
    assert str(classifier) == f"{tmp_path}, label {labels[index]!r}"
    assert len(classifier([])) == 0


def test_which_label_is_toxic_must_be_told_where_it_is_not_named(tmp_path):
    save(tmp_path, ["nice", "rude"])
    with pytest.raises(hp.HeadPursuitError, match="labels nice, rude: say which one"):
        load_classifier(tmp_path)
    with pytest.raises(hp.HeadPursuitError, match="no label 'toxic'; it has nice, rude"):
        load_classifier(tmp_path, label="toxic")
    expected = by_hand(tmp_path, TEXTS[0], 0, "softmax")
    assert load_classifier(tmp_path, label="nice")(TEXTS[:1])[0] == pytest.approx(expected, rel=1e-4)


def test_pickled_weights_are_not_opened(tmp_path):
    save(tmp_path, ["neutral", "toxic"])
    hf = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(hf.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(hp.HeadPursuitError, match=r"could not be opened as a text classifier .*model.safetensors"):
        load_classifier(tmp_path)


def test_a_model_without_a_trained_head_is_no_classifier(tmp_path):
    save(tmp_path, ["neutral", "toxic"])
    AutoModelForSequenceClassification.from_pretrained(tmp_path).roberta.save_pretrained(tmp_path)
    with pytest.raises(hp.HeadPursuitError, match="no trained classifier"):
        load_classifier(tmp_path)


def test_a_missing_classifier_is_named(tmp_path):
    with pytest.raises(hp.HeadPursuitError, match="nothing-here could not be opened"):
        load_classifier(tmp_path / "nothing-here")
