"""Tiny vision-language models of the families that are supported by name, each with its own real processor."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

import headpursuit as hp
import tiny
from architectures.shrink import liven, small_config

# Every word that a family's processor writes into the text around an image.
SPECIAL_WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "<video>",
    "<fake_token_around_image>",
    "<end_of_utterance>",
    "<global-img>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<boi>",
    "<eoi>",
    "<image_soft_token>",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
    "<|image|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|python_tag|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "</image>",
    "<|image_start|>",
    "<|image_end|>",
    "<|patch|>",
    "<|tile_x_separator|>",
    "<|tile_y_separator|>",
]
IMAGE_SIZES = ((32, 32), (64, 32), (40, 56))


def tokenizer(**named: str) -> PreTrainedTokenizerFast:
    """A tokenizer that knows those words, and calls some of them by name, as a family's own does."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320 + len(SPECIAL_WORDS),
        special_tokens=SPECIAL_WORDS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([tiny.WORDS] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=named,
    )


def _images(name: str, **options: Any) -> Any:
    return getattr(transformers, name)(**options)


def _without_videos(name: str, images: Any, tokens: Any, **options: Any) -> Any:
    """A processor that insists on a video processor, which would need torchvision, made without one."""
    family = getattr(transformers, name)
    relaxed = type(name, (family,), {"check_argument_for_proper_class": lambda self, argument, value: None})
    return relaxed(images, tokens, None, **options)


def processor(family: str) -> Any:
    square = {"height": 32, "width": 32}
    small = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 6}
    if family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
        name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family]
        tokens = tokenizer(image_token="<|image_pad|>", video_token="<|video_pad|>")
        patch = 16 if family == "qwen3_vl" else 14
        images = _images("Qwen2VLImageProcessorPil", patch_size=patch, size=small)
        return _without_videos(f"{name}Processor", images, tokens)
    if family == "glm4v":
        tokens = tokenizer(image_token="<|image|>", video_token="<video>")
        images = _images("Glm4vImageProcessorPil", size=small)
        return _without_videos("Glm4vProcessor", images, tokens)
    if family == "gemma3":
        tokens = tokenizer(image_token="<image_soft_token>", boi_token="<boi>", eoi_token="<eoi>")
        return transformers.Gemma3Processor(_images("Gemma3ImageProcessorPil", size=square), tokens, image_seq_length=4)
    if family == "paligemma":
        images = _images("SiglipImageProcessorPil", size=square)
        images.image_seq_length = 16
        return transformers.PaliGemmaProcessor(images, tokenizer(image_token="<image>"))
    if family == "idefics2":
        images = _images("Idefics2ImageProcessorPil", size={"shortest_edge": 16, "longest_edge": 32}, do_image_splitting=False)
        return transformers.Idefics2Processor(images, tokenizer(), image_seq_len=3)
    if family == "idefics3":
        images = _images("Idefics3ImageProcessorPil", size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
        return transformers.Idefics3Processor(images, tokenizer(), image_seq_len=4)
    if family == "mistral3":
        images = _images("PixtralImageProcessorPil", size={"longest_edge": 64}, patch_size=8)
        return transformers.PixtralProcessor(images, tokenizer(), patch_size=8, spatial_merge_size=2)
    if family == "llava_onevision":
        images = _images("LlavaOnevisionImageProcessorPil", size=square, image_grid_pinpoints=[[32, 64], [64, 32]])
        options = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
        return _without_videos("LlavaOnevisionProcessor", images, tokenizer(), **options)
    if family == "internvl":
        names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
        images = _images("GotOcr2ImageProcessorPil", size=square, max_patches=4, crop_to_patches=True)
        tokens = tokenizer(**names, video_token="<video>")
        return _without_videos("InternVLProcessor", images, tokens, image_seq_length=4)
    if family == "mllama":
        images = _images("MllamaImageProcessorPil", size=square, max_image_tiles=4)
        return transformers.MllamaProcessor(images, tokenizer(image_token="<|image|>"))
    if family == "blip-2":
        images = _images("BlipImageProcessorPil", size=square)
        return transformers.Blip2Processor(images, tokenizer(), num_query_tokens=4)
    if family == "aria":
        images = _images("AriaImageProcessorPil")
        return transformers.AriaProcessor(images, tokenizer(image_token="<image>"), size_conversion={980: 8})
    if family == "smolvlm":
        images = _images("SmolVLMImageProcessorPil", size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
        return _without_videos("SmolVLMProcessor", images, tokenizer(), image_seq_len=4)
    if family == "llama4":
        images = _images("Llama4ImageProcessor", size=square, max_patches=4)
        return transformers.Llama4Processor(images, tokenizer(image_token="<|image|>"), patch_size=8)
    if family == "vision-encoder-decoder":
        return transformers.TrOCRProcessor(_images("ViTImageProcessorPil", size=square), tokenizer())
    if family == "florence2":
        images = _images("CLIPImageProcessorPil", size=square, crop_size=square)
        images.image_seq_length = 2  # one patch after four halvings, and the mean of it
        return transformers.Florence2Processor(images, tokenizer(image_token="<image>"))
    if family == "pix2struct":
        patch = {"height": 8, "width": 8}
        return transformers.Pix2StructProcessor(
            _images("Pix2StructImageProcessorPil", patch_size=patch, max_patches=12), tokenizer()
        )
    if family == "blip":
        return transformers.BlipProcessor(_images("BlipImageProcessorPil", size=square), tokenizer())
    if family == "idefics":
        return transformers.IdeficsProcessor(_images("IdeficsImageProcessorPil", image_size=32), tokenizer())
    if family == "kosmos-2":
        images = _images("CLIPImageProcessorPil", size=square, crop_size=square)
        return transformers.Kosmos2Processor(images, tokenizer(), 4)
    raise ValueError(family)


_IMAGE_WORDS = {
    "gemma3": "<image_soft_token>",
    "glm4v": "<|image|>",
    "internvl": "<IMG_CONTEXT>",
    "llama4": "<|patch|>",
    "mistral3": "[IMG]",
    "mllama": "<|image|>",
    "qwen2_vl": "<|image_pad|>",
    "qwen2_5_vl": "<|image_pad|>",
    "qwen3_vl": "<|image_pad|>",
}
_CONFIGS: dict[str, dict[str, Any]] = {
    "aria": {"projector_patch_to_query_dict": {"196": 8}, "vision_config": {"image_size": 980, "patch_size": 70}},
    "llama4": {
        "vision_config": {
            "image_size": 32,
            "patch_size": 8,
            "pixel_shuffle_ratio": 0.5,
            "intermediate_size": 256,
            "vision_feature_select_strategy": "default",
        }
    },
    "smolvlm": {"scale_factor": 2, "vision_config": {"image_size": 32, "patch_size": 8}},
    "gemma3": {"mm_tokens_per_image": 4, "vision_config": {"image_size": 32, "patch_size": 8}},
    "idefics2": {
        "vision_config": {"image_size": 32, "patch_size": 8},
        "perceiver_config": {"resampler_n_latents": 3, "resampler_depth": 1},
    },
    "idefics3": {"scale_factor": 2, "vision_config": {"image_size": 32, "patch_size": 8}},
    "internvl": {"vision_config": {"image_size": [32, 32], "patch_size": [8, 8]}, "downsample_ratio": 0.5},
    "llava_onevision": {
        "image_grid_pinpoints": [[32, 64], [64, 32]],
        "vision_config": {"image_size": 32, "patch_size": 8},
        "vision_feature_select_strategy": "full",
    },
    "mistral3": {"vision_config": {"image_size": 64, "patch_size": 8}, "spatial_merge_size": 2},
    "mllama": {"vision_config": {"image_size": 32, "patch_size": 8, "vision_output_dim": 128}},
    "paligemma": {"vision_config": {"image_size": 32, "patch_size": 8}, "projection_dim": 64},
    "blip-2": {"vision_config": {"image_size": 32, "patch_size": 8}},
    "kosmos-2": {"latent_query_num": 64, "vision_config": {"image_size": 32, "patch_size": 8}},
}
FAMILIES = (*_CONFIGS, "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v")
# Families whose decoder sees an image through cross-attention beside its self-attention, four of them behind an encoder.
_ACROSS: dict[str, dict[str, Any]] = {
    "vision-encoder-decoder": {"encoder": {"image_size": 32, "patch_size": 8}, "decoder_start_token_id": 1},
    "florence2": {"text_config": {"decoder_start_token_id": 1}, "decoder_start_token_id": 1},
    "pix2struct": {"vision_config": {"patch_embed_hidden_size": 192}, "text_config": {"decoder_start_token_id": 1}},
    "blip": {"vision_config": {"image_size": 32, "patch_size": 8}, "text_config": {"sep_token_id": 2}},
    "idefics": {"vision_config": {"image_size": 32, "patch_size": 8}},
}
ACROSS = tuple(_ACROSS)


def skip_where_missing(family: str) -> None:
    """Skip a test where this version of transformers wants a package for the family's processor that is not there."""
    try:
        processor(family)
    except ImportError as error:
        pytest.skip(str(error).strip().partition("\n")[0])


@cache
def vlm(family: str, part: str = "text", *, context: int | None = None) -> hp.HeadModel:
    """A wrapped tiny model of that family, built for so many positions."""
    if part != "text":
        model = vlm(family)
        return hp.wrap(model.hf, processor=model.processor, part=part)
    own = processor(family)
    word = own.tokenizer.convert_tokens_to_ids(_IMAGE_WORDS.get(family, "<image>"))
    shape = {**_CONFIGS, **_ACROSS}.get(family, {})
    config = small_config(family, **shape, image_token_id=word, image_token_index=word)
    text = config.get_text_config(decoder=True)
    text.vocab_size = len(own.tokenizer)
    if context is not None:
        text.max_position_embeddings = context
    text.pad_token_id, text.bos_token_id, text.eos_token_id = 0, 1, 2
    config.eos_token_id = config.pad_token_id = None
    torch.manual_seed(0)
    hf = liven(AutoModelForImageTextToText.from_config(config).eval())
    hf.generation_config.eos_token_id = hf.generation_config.forced_eos_token_id = None
    hf.generation_config.suppress_tokens = list(range(len(SPECIAL_WORDS)))  # a random model would write image tokens
    return hp.wrap(hf, processor=own)
