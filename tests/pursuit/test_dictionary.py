from __future__ import annotations

import pytest
import torch

import headpursuit.pursuit as hp
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
    dictionary = hp.Dictionary.from_unembedding(torch.randn(5, 4), tokenizer)
    assert tokenizer.decoded == []
    assert [dictionary.labels[i] for i in (0, 1, 2, 4)] == [" Paris", " Rome", "on", "<4>"]
    assert list(dictionary.labels[1:3]) == [" Rome", "on"]


def test_restriction_keeps_rows_and_labels_together() -> None:
    dictionary = hp.Dictionary.from_unembedding(torch.randn(5, 4), FakeTokenizer()).restricted([2, 0])
    assert len(dictionary) == 2
    assert list(dictionary.labels) == ["on", " Paris"]
    custom = hp.Dictionary(torch.eye(3), ["x", "y", "z"]).restricted(torch.tensor([1]))
    assert list(custom.labels) == ["y"]
    assert torch.equal(custom.atoms, torch.eye(3)[1:2])


def test_the_gain_is_folded_into_the_rows() -> None:
    weight, gain = torch.randn(3, 4, dtype=torch.bfloat16), torch.rand(4) + 0.5
    dictionary = hp.Dictionary.from_unembedding(weight, FakeTokenizer(), gain=gain)
    assert torch.equal(dictionary.atoms, weight.float() * gain)


def test_a_pursuit_takes_a_dictionary_in_place_of_its_atoms() -> None:
    atoms, signal = torch.randn(9, 4), torch.randn(6, 4)
    named = hp.somp(signal, hp.Dictionary(atoms, [str(i) for i in range(9)]), n_atoms=2)
    assert torch.equal(named.support, hp.somp(signal, atoms, n_atoms=2).support)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(HeadPursuitError, match="2 labels"):
        hp.Dictionary(torch.eye(3), ["x", "y"])
    with pytest.raises(HeadPursuitError, match="matrix"):
        hp.Dictionary(torch.ones(3), ["x", "y", "z"])
    with pytest.raises(HeadPursuitError, match="do not all lie"):
        hp.Dictionary(torch.eye(3), ["x", "y", "z"]).restricted([3])
    with pytest.raises(HeadPursuitError, match="gain"):
        hp.Dictionary.from_unembedding(torch.eye(3), FakeTokenizer(), gain=torch.ones(2))


def test_a_dictionary_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headpursuit.pursuit.batches.SMALL", 0)
    dictionary = hp.Dictionary(torch.randn(9, 4), [str(i) for i in range(9)])
    first = hp.somp(torch.randn(6, 4), dictionary, n_atoms=2)
    assert len(first) == 2
    (prepared,) = dictionary.prepared.values()
    hp.somp(torch.randn(6, 4), dictionary, n_atoms=2)
    assert next(iter(dictionary.prepared.values())) is prepared
    assert dictionary.restricted([1, 2]).prepared == {}
