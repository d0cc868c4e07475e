"""The demo's training script and its card run as committed."""

from __future__ import annotations

import torch

import demo_card
import headpursuit as hp
import train_demo


def test_the_script_trains_and_saves_a_model_that_opens(tmp_path, monkeypatch):
    settings = train_demo.Settings(steps=2, tower_steps=2, pool=12, shapes=2, faces=2, digits=2, facts=2, continuations=2)
    monkeypatch.setattr(train_demo.digits, "digit_indices", lambda split: (0, 1, 2))
    train_demo.train_demo(settings, tmp_path)
    model = hp.load(tmp_path, device="cpu")
    assert model.anatomy.n_layers == settings.layers
    assert model.anatomy.n_heads == settings.heads
    demo_card.write_card(tmp_path, {"a figure": (0.5, 2)})
    assert "a figure | 0.500 | 2" in (tmp_path / "README.md").read_text()
    again = tmp_path / "again"
    train_demo.train_demo(settings, again, tower=tmp_path)
    demo_card.write_card(again, {"a figure": (0.5, 2)})
    assert f"(this one is that of {tmp_path.name})" in " ".join((again / "README.md").read_text().split())
    first, second = model.hf.state_dict(), hp.load(again, device="cpu").hf.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first), "the tower is all that the first stage leaves"
