"""Parts of a vocabulary: whole words, scripts, what was seen; and rows that are kept for tokens to come."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from headpursuit.concepts.vocabulary import usable_ids, vocabulary_dictionary
from headpursuit.concepts.vocabulary_parts import part_of_vocabulary, parts_of
from headpursuit.errors import HeadPursuitError
from headpursuit.model.token_text import is_reserved

WORDS = ["▁red", "red", "▁дом", "дом", "▁हिन्दी", "▁x1", "▁a.b", "的", "▁", "##", "▁don't", "▁été", "<unused3>", "<eos>"]


def vocabulary(spellings):
    raw = Tokenizer(models.WordLevel({one: number for number, one in enumerate(["<unk>", *spellings])}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")


def byte_letters(text):
    letters = bytes_to_unicode()
    return "".join(letters[byte] for byte in text.encode())


def chosen(parts, spellings, **options):
    tokenizer = vocabulary(spellings)
    known = usable_ids(tokenizer, len(spellings) + 1)
    return tokenizer.convert_ids_to_tokens(part_of_vocabulary(parts, tokenizer, known=known, **options))


def test_words_stand_behind_a_blank_and_are_letters_alone():
    assert chosen(["words"], WORDS) == ["▁red", "▁дом", "▁हिन्दी", "▁été"]
    written = [byte_letters(word.replace("▁", " ")) for word in WORDS]
    assert chosen(["words"], written) == [written[number] for number in (0, 2, 4, 11)]


def test_words_of_word_pieces_do_not_go_on():
    assert chosen(["words"], ["red", "##dish", "##", "1", "[CLS]", "дом"]) == ["red", "дом"]


def test_without_a_mark_every_token_of_letters_is_a_word():
    assert chosen(["words"], ["red", "1", "дом", "a b"]) == ["red", "дом"]


def test_a_script_is_that_of_all_letters():
    assert chosen(["cyrillic"], WORDS) == ["▁дом", "дом"]
    assert chosen(["han"], WORDS) == ["的"]
    assert chosen(["words", "latin"], WORDS) == ["▁red", "▁été"]
    assert chosen(["latin"], ["▁x1", "▁xд", "12", "▁a.b"]) == ["<unk>", "▁x1", "▁a.b"]


def test_seen_tokens_are_those_given():
    assert chosen(["seen", "words"], WORDS, seen={1, 2, 3}) == ["▁red", "▁дом"]
    with pytest.raises(HeadPursuitError, match="no token of this vocabulary is seen and han"):
        chosen(["seen", "han"], WORDS, seen={1})


def test_parts_are_told_from_concepts_and_files():
    assert parts_of("words+latin") == ["words", "latin"]
    assert parts_of("words+seen:a+b/c.txt") == ["words", "seen:a+b/c.txt"]
    assert parts_of("seen") == ["seen"]
    assert [parts_of(one) for one in ("colours", "words.txt", "red,blue", "", "words+colours")] == [None] * 5


@pytest.mark.parametrize("spelling", ["<unused0>", "[unused12]", "<|reserved_special_token_7|>", "<extra_id_3>", "<|dummy_1|>"])
def test_reserved_tokens_are_told(spelling):
    assert is_reserved(spelling)


@pytest.mark.parametrize("spelling", ["▁unused", "unused", "<eos>", "▁dummy", "<|endoftext|>", "reserved_word", "<0x0A>"])
def test_other_tokens_are_not_taken_for_reserved_ones(spelling):
    assert not is_reserved(spelling)


def test_reserved_rows_are_no_atoms():
    weight = torch.randn(len(WORDS) + 3, 4)
    dictionary = vocabulary_dictionary(weight, vocabulary(WORDS))
    assert "<unused3>" not in list(dictionary.labels)
    assert len(dictionary) == len(WORDS)  # one more for <unk>
