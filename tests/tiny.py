"""Tiny random models of real architectures, with real tokenizers and processors, made offline."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
    MistralConfig,
    MixtralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

import headpursuit as hp

WORDS = (
    "the flag of France is red white and blue a dog runs over three green hills in May two happy cats sleep under "
    "a yellow sun one sad clown drinks seven cups of cold tea on Monday orange purple black pink brown grey"
)
TEXTS = ("the flag of France is", "two cats", "one sad clown drinks seven cups of cold tea on Monday", "a yellow sun")

_COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "llava", "llava-next")


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<pad>", "<s>", "</s>", "<image>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([WORDS, WORDS.title()] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )


def config(family: str) -> Any:
    common = {**_COMMON, "vocab_size": len(tokenizer())}
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    if family == "llama":
        return LlamaConfig(**common, num_key_value_heads=2, attention_bias=True)
    if family == "mistral":
        return MistralConfig(**common, num_key_value_heads=2, head_dim=12, sliding_window=6)
    if family == "qwen2":
        return Qwen2Config(**common, num_key_value_heads=4)
    if family == "qwen3":
        return Qwen3Config(**common, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True)
    if family == "mixtral":
        return MixtralConfig(**common, num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=2)
    if family == "gpt2":
        return GPT2Config(
            vocab_size=len(tokenizer()),
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=128,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    image = tokenizer().convert_tokens_to_ids("<image>")
    text = LlamaConfig(**common, num_key_value_heads=2)
    if family == "llava":
        return LlavaConfig(vision_config=vision, text_config=text, image_token_id=image, vision_feature_layer=-1)
    if family == "llava-next":
        return LlavaNextConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=image,
            vision_feature_layer=-1,
            image_grid_pinpoints=[[16, 32], [32, 16]],
        )
    raise ValueError(family)


def processor(family: str) -> Any:
    size = {"shortest_edge": 16}
    crop = {"height": 16, "width": 16}
    if family == "llava":
        images = CLIPImageProcessor(size=size, crop_size=crop)
        return LlavaProcessor(
            images, tokenizer(), patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
        )
    if family == "llava-next":
        images = LlavaNextImageProcessor(size=size, crop_size=crop, image_grid_pinpoints=[[16, 32], [32, 16]])
        return LlavaNextProcessor(
            images, tokenizer(), patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
        )
    return tokenizer()


def hf_model(family: str, *, context: int | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    auto = AutoModelForImageTextToText if family.startswith("llava") else AutoModelForCausalLM
    wanted = config(family)
    if context is not None:
        wanted.get_text_config().max_position_embeddings = context
    model = auto.from_config(wanted, **options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # transformers starts biases at zero, which would hide a forgotten one
                parameter.normal_(std=0.3)
    return model


@cache
def tiny(family: str, *, context: int | None = None) -> hp.HeadModel:
    return hp.wrap(hf_model(family, context=context), processor=processor(family))
