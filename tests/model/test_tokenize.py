"""What a model is given is what transformers alone would give it."""

from __future__ import annotations

import torch

import headpursuit as hp
import tiny
from headpursuit.model.tokenize import collate, make_prompt


def test_text_models_get_no_token_types():
    model = tiny.tiny("gpt2")  # whose forward takes token types, and adds their embeddings, which are the words'
    batch = collate(model, [make_prompt(model, hp.Sample(text="two happy cats"))], side="right")
    with torch.no_grad():
        alone = model.hf(input_ids=model.tokenizer("two happy cats", return_tensors="pt")["input_ids"]).logits
        assert torch.equal(model.hf(**batch.inputs).logits, alone)
