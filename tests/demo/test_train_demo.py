"""The demo's training script runs as committed."""

from __future__ import annotations

import pytest
import torch

import headpursuit as hp
import train_demo


def test_words_that_are_known_push_nothing():
    settings = train_demo.Settings()
    tokenizer = train_demo.make_tokenizer(settings)
    model = train_demo.make_model(settings, vocabulary=len(tokenizer), mlp=settings.mlp)
    ids = torch.tensor([tokenizer("USER: Hello ASSISTANT: red red")["input_ids"]])
    batch = train_demo.Tokens(ids, ids, None)
    loss = train_demo.loss_of(model, batch, known=0.0)
    assert loss.total.item() == pytest.approx(loss.cross_entropy)
    assert loss.total > 0
    assert train_demo.loss_of(model, batch, known=1e3).total == 0


def test_the_script_trains_and_saves_a_model_that_opens(tmp_path, monkeypatch):
    settings = train_demo.Settings(steps=2, tower_steps=2, pool=12, shapes=2, faces=2, digits=2, facts=2, continuations=2)
    monkeypatch.setattr(train_demo.digits, "digit_indices", lambda split: (0, 1, 2))
    monkeypatch.setattr(train_demo, "measure", lambda folder: {"a figure": (0.5, 2)})
    train_demo.train_demo(settings, tmp_path)
    model = hp.load(tmp_path, device="cpu")
    assert model.anatomy.n_layers == settings.layers
    assert model.anatomy.n_heads == settings.heads
    assert "a figure | 0.500 | 2" in (tmp_path / "README.md").read_text()
    again = tmp_path / "again"
    train_demo.train_demo(settings, again, tower=tmp_path)
    first, second = model.hf.state_dict(), hp.load(again, device="cpu").hf.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first), "the tower is all that the first stage leaves"
