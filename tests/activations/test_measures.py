"""Teacher-forced measures against probabilities taken one text at a time, in float64, by transformers alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.activations.measures import concept_log_odds, negative_log_likelihood, with_targets
from headpursuit.concepts import resolve
from headpursuit.demo import chat_prompt, demo_samples
from headpursuit.model.head_model import HeadModel

SAMPLES = [
    hp.Sample(text="the flag of France", target="is red white and blue"),
    hp.Sample(text="two happy cats", target="sleep"),
    hp.Sample(text="one sad clown drinks seven cups of cold", target="tea on Monday"),
]


def ids(model, text):
    return model.tokenizer(text)["input_ids"]


def tokens_of(model, *words):
    """The first token of each word, as it stands after a blank."""
    return [ids(model, f"x {word}")[len(ids(model, "x"))] for word in words]


def probabilities(model, sample):
    """Next-token probabilities at the positions that predict the target, and the target's tokens."""
    whole, prompt = ids(model, f"{sample.text} {sample.target}"), ids(model, sample.text)
    with torch.no_grad():
        logits = model.hf(input_ids=torch.tensor([whole])).logits[0].double()
    return torch.softmax(logits, dim=1)[len(prompt) - 1 : -1], whole[len(prompt) :]


def log_odds_by_hand(model, sample, tokens):
    table, target = probabilities(model, sample)
    said = [place for place, token in enumerate(target) if token in tokens] or range(len(target))
    inside = [float(table[place, tokens].sum()) for place in said]
    return np.mean([np.log(value / (1 - value)) for value in inside])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_log_odds(family, batch_size):
    model = tiny.tiny(family)
    tokens = tokens_of(model, "red", "blue", "cold")
    expected = [log_odds_by_hand(model, sample, tokens) for sample in SAMPLES]
    assert concept_log_odds(model, SAMPLES, tokens=tokens, batch_size=batch_size) == pytest.approx(expected, rel=1e-4)


def test_only_where_the_target_says_it(llama):
    red, blue = tokens_of(llama, "red", "blue")
    table, target = probabilities(llama, SAMPLES[0])
    inside = float(table[target.index(red), [red, blue]].sum()), float(table[target.index(blue), [red, blue]].sum())
    expected = np.mean([np.log(value / (1 - value)) for value in inside])
    assert concept_log_odds(llama, SAMPLES[:1], tokens=[red, blue, red])[0] == pytest.approx(expected, rel=1e-4)
    # "sleep" is no colour: there all of the target's positions count.
    table, target = probabilities(llama, SAMPLES[1])
    inside = table[:, [red, blue]].sum(dim=1).numpy()
    assert red not in target
    assert concept_log_odds(llama, SAMPLES[1:2], tokens=[red, blue])[0] == pytest.approx(
        np.log(inside / (1 - inside)).mean(), rel=1e-4
    )


def test_likelihood_of_targets_and_of_texts(llama):
    texts = [hp.Sample(text=text) for text in tiny.TEXTS]
    expected = []
    for sample in (*SAMPLES, *texts):
        if sample.target is not None:
            table, target = probabilities(llama, sample)
        else:
            target = ids(llama, sample.text)[1:]
            with torch.no_grad():
                logits = llama.hf(input_ids=torch.tensor([ids(llama, sample.text)])).logits[0].double()
            table = torch.softmax(logits, dim=1)[:-1]
        expected.append(-np.mean([np.log(float(table[place, token])) for place, token in enumerate(target)]))
    mixed = [*SAMPLES[:1], *texts[:2], *SAMPLES[1:], *texts[2:]]
    order = [0, 3, 4, 1, 2, 5, 6]
    assert negative_log_likelihood(llama, mixed, batch_size=2) == pytest.approx(np.array(expected)[order], rel=1e-4)


def test_an_applied_edit_is_what_is_measured(llama):
    tokens = tokens_of(llama, "red", "cold")
    plain = concept_log_odds(llama, SAMPLES, tokens=tokens)
    with hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1).applied(llama):
        edited = concept_log_odds(llama, SAMPLES, tokens=tokens)
        expected = [log_odds_by_hand(llama, sample, tokens) for sample in SAMPLES]
    assert edited == pytest.approx(expected, rel=1e-4)
    assert np.abs(edited - plain).min() > 1e-3
    assert np.array_equal(concept_log_odds(llama, SAMPLES, tokens=tokens), plain)


def test_images_are_seen_and_not_counted():
    model = hp.load("demo", device="cpu")
    drawn = demo_samples("caption", "test", limit=3)
    samples = [hp.Sample(text=one.text, image=one.image, target=one.target) for one in drawn]
    tokens = list(resolve(hp.concept("colours"), model.tokenizer).token_ids)
    expected_odds, expected_loss = [], []
    for one in drawn:
        prompt = chat_prompt(one.text, image=True)
        inputs = model.processor(text=[f"{prompt} {one.target}"], images=[one.image], return_tensors="pt")
        length = model.processor(text=[prompt], images=[one.image], return_tensors="pt")["input_ids"].shape[1]
        with torch.no_grad():
            table = torch.softmax(model.hf(**inputs).logits[0].double(), dim=1)[length - 1 : -1]
        target = inputs["input_ids"][0, length:].tolist()
        said = [place for place, token in enumerate(target) if token in tokens] or range(len(target))
        inside = [float(table[place, tokens].sum()) for place in said]
        expected_odds.append(np.mean([np.log(value / (1 - value)) for value in inside]))
        expected_loss.append(-np.mean([np.log(float(table[place, token])) for place, token in enumerate(target)]))
    assert concept_log_odds(model, samples, tokens=tokens) == pytest.approx(expected_odds, rel=1e-3)
    assert negative_log_likelihood(model, samples) == pytest.approx(expected_loss, rel=1e-3)


def test_certainty_keeps_its_digits():
    model = hp.wrap(tiny.hf_model("llama"), processor=tiny.tokenizer())
    with torch.no_grad():
        model.hf.lm_head.weight.mul_(200)
    tokens = tokens_of(model, "red", "blue")
    with torch.no_grad():
        whole = ids(model, "the flag of France is red white and blue")
        logits = model.hf(input_ids=torch.tensor([whole])).logits[0].double()
    target = whole[len(ids(model, "the flag of France")) :]
    places = [len(whole) - len(target) - 1 + place for place, token in enumerate(target) if token in tokens]
    others = [token for token in range(logits.shape[1]) if token not in tokens]
    expected = (logits[places][:, tokens].logsumexp(1) - logits[places][:, others].logsumexp(1)).mean()
    naive = torch.softmax(logits[places].float(), dim=1)[:, tokens].sum(dim=1)
    assert not torch.isfinite(torch.log(naive / (1 - naive))).all()
    found = concept_log_odds(model, SAMPLES[:1], tokens=tokens)
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(float(expected), rel=1e-4)


def test_half_precision_is_summed_in_single():
    model = hp.wrap(tiny.hf_model("llama", dtype=torch.bfloat16), processor=tiny.tokenizer())
    tokens = tokens_of(model, "red", "cold")
    expected = [log_odds_by_hand(model, sample, tokens) for sample in SAMPLES]
    assert concept_log_odds(model, SAMPLES, tokens=tokens, batch_size=1) == pytest.approx(expected, rel=1e-4)


def test_a_model_that_returns_all_logits(llama, monkeypatch):
    tokens = tokens_of(llama, "red")
    expected = concept_log_odds(llama, SAMPLES, tokens=tokens), negative_log_likelihood(llama, SAMPLES)
    monkeypatch.setattr(HeadModel, "takes", lambda self, name: False)
    assert concept_log_odds(llama, SAMPLES, tokens=tokens) == pytest.approx(expected[0], rel=1e-5)
    assert negative_log_likelihood(llama, SAMPLES) == pytest.approx(expected[1], rel=1e-5)


def test_own_answers_become_targets():
    given = with_targets(SAMPLES, [" blue\n", "  ", "tea"])
    assert given == [replace(SAMPLES[0], target="blue"), replace(SAMPLES[2], target="tea")]
    with pytest.raises(hp.HeadPursuitError, match="3 samples but 1 targets"):
        with_targets(SAMPLES, ["a"])
    with pytest.raises(hp.HeadPursuitError, match="every target is blank"):
        with_targets(SAMPLES, ["", "", " "])


@pytest.mark.parametrize(
    ("samples", "tokens", "message"),
    [
        (SAMPLES, [], "no tokens for this tokenizer"),
        (SAMPLES, [5, 10**6], "for a vocabulary of"),
        (SAMPLES, [-1], "for a vocabulary of"),
        ([hp.Sample(text="two cats", where="a.txt line 1")], [5], "a.txt line 1: no target"),
    ],
)
def test_what_cannot_be_measured_is_said(llama, samples, tokens, message):
    with pytest.raises(hp.HeadPursuitError, match=message):
        concept_log_odds(llama, samples, tokens=tokens)


def test_one_token_has_no_likelihood(llama):
    with pytest.raises(hp.HeadPursuitError, match="short: one token alone"):
        negative_log_likelihood(llama, [hp.Sample(text="a", where="short")])
