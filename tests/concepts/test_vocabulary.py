from __future__ import annotations

import pytest
import torch

from headpursuit.concepts.vocabulary import vocabulary_dictionary
from headpursuit.errors import HeadPursuitError


class FakeTokenizer:
    tokens = ("▁Paris", "ĠRome", "on")

    def __init__(self) -> None:
        self.decoded: list[int] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def convert_ids_to_tokens(self, index: int) -> str:
        self.decoded.append(index)
        return self.tokens[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).replace("Ġ", " ")


def test_labels_are_decoded_when_read() -> None:
    tokenizer = FakeTokenizer()
    dictionary = vocabulary_dictionary(torch.randn(5, 4), tokenizer)
    assert tokenizer.decoded == []
    assert [dictionary.labels[i] for i in (0, 1, 2, 4)] == [" Paris", " Rome", "on", "<4>"]
    assert list(dictionary.labels[1:3]) == [" Rome", "on"]


def test_restriction_keeps_rows_and_labels_together() -> None:
    dictionary = vocabulary_dictionary(torch.randn(5, 4), FakeTokenizer()).restricted([2, 0])
    assert len(dictionary) == 2
    assert list(dictionary.labels) == ["on", " Paris"]


def test_the_gain_is_folded_into_the_rows() -> None:
    weight, gain = torch.randn(3, 4, dtype=torch.bfloat16), torch.rand(4) + 0.5
    dictionary = vocabulary_dictionary(weight, FakeTokenizer(), gain=gain)
    assert torch.equal(dictionary.atoms, weight.float() * gain)
    with pytest.raises(HeadPursuitError, match="gain"):
        vocabulary_dictionary(torch.eye(3), FakeTokenizer(), gain=torch.ones(2))
