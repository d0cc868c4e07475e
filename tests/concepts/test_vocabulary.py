from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from concepts import tokenizers_for_tests
from headpursuit.concepts.vocabulary import atom_ids, vocabulary_dictionary
from headpursuit.errors import HeadPursuitError
from headpursuit.model.token_text import token_text


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


def with_holes() -> PreTrainedTokenizerFast:
    """A tokenizer of seven words with ids up to 40, of which ``red`` has the highest."""
    vocabulary = {"<unk>": 0, "a": 1, "Ġa": 2, "â": 3, "Ġâ": 5, "âĢ": 9, "red": 40}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")


def test_a_vocabulary_with_holes_is_looked_up() -> None:
    tokenizer = with_holes()
    assert len(tokenizer) == 7
    weight = torch.randn(48, 4)
    dictionary = vocabulary_dictionary(weight, tokenizer)
    assert list(dictionary.labels) == ["<unk>", "a", " a", "<0xE2>", " <0xE2>", "<0xE2><0x80>", "red"]
    assert list(atom_ids(dictionary)) == [0, 1, 2, 3, 5, 9, 40]
    assert torch.equal(dictionary.atoms, weight[[0, 1, 2, 3, 5, 9, 40]])
    assert list(atom_ids(dictionary.restricted([6, 1]))) == [40, 1]
    assert token_text(tokenizer, 41) == "<41>"


def test_rows_behind_a_vocabulary_are_left_out_without_a_copy() -> None:
    tokenizer, weight = tokenizers_for_tests.byte_level(), torch.randn(512, 4)
    dictionary = vocabulary_dictionary(weight, tokenizer)
    assert len(dictionary) == len(tokenizer) < 512
    assert dictionary.atoms.data_ptr() == weight.data_ptr()


def test_parts_of_letters_are_told_apart() -> None:
    byte_level, added = tokenizers_for_tests.byte_level(), "é"
    labels = [token_text(byte_level, token) for token in byte_level.get_vocab().values()]
    assert len(set(labels)) == len(labels)
    assert not [label for label in labels if "\ufffd" in label]
    more = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(byte_level.backend_tokenizer.to_str()))
    more.add_tokens([added])
    assert token_text(more, more.get_vocab()[added]) == added
    pieces = Tokenizer(models.BPE({"<unk>": 0, "<0xE2>": 1, "▁a": 2}, [], unk_token="<unk>", byte_fallback=True))
    pieces.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    sentence_piece = PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>")
    assert [token_text(sentence_piece, token) for token in (1, 2, 3)] == ["<0xE2>", " a", "<3>"]
