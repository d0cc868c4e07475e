"""Small real tokenizers of the kinds that language models have, trained on the spot."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "a red ball and a Red car, two dogs in France",
    "The reds are RED. the idiots are idiots, an idiot is an idiot",
    "3 idiots met in May; may we go? 4 5 6",
    "blue green yellow\nred blue\nblue green yellow Turkey turkey",
    "South Korea, south of Korea, South Korea",
] * 50
SPECIAL = ["<unk>", "<s>", "</s>"]


def _wrapped(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _trained_bpe(**options: object) -> Tokenizer:
    """Words marked with ▁, trained by merges; the base of the Llama kind."""
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=220, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@cache
def byte_level(more: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """GPT-2, Qwen, Llama 3: blanks are Ġ, nothing is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=450, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False)
    tokenizer.train_from_iterator([*CORPUS, *more], trainer)
    return _wrapped(tokenizer, eos_token="<|end|>")


@cache
def llama() -> PreTrainedTokenizerFast:
    """Llama 2, Mistral: a ▁ is put before everything, so " red" has two; a BOS token is added."""
    tokenizer = _trained_bpe(unk_token="<unk>", fuse_unk=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _wrapped(tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@cache
def unigram(*, dummy_prefix: str = "always", declare_unknown: bool = True) -> PreTrainedTokenizerFast:
    """T5, older Gemma: a SentencePiece unigram model; "red" and " red" are one token with a dummy prefix."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=dummy_prefix)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=dummy_prefix)
    trainer = trainers.UnigramTrainer(vocab_size=140, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrapped(tokenizer, **({"unk_token": "<unk>"} if declare_unknown else {}), bos_token="<s>")


@cache
def split_blanks() -> PreTrainedTokenizerFast:
    """A blank is always a token of its own, as it is before digits in most tokenizers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrapped(tokenizer)


@cache
def forgetful() -> PreTrainedTokenizerFast:
    """A BPE model without bytes and without an unknown token drops the letters it does not know."""
    return _wrapped(_trained_bpe())


@cache
def uncased() -> PreTrainedTokenizerFast:
    """Everything is lower-cased before it is split."""
    tokenizer = _trained_bpe(unk_token="<unk>")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    return _wrapped(tokenizer, unk_token="<unk>")
