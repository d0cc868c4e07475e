"""Tiny vision-language models of the families that are supported by name, each with its own real processor."""

from __future__ import annotations

from functools import cache
from typing import Any

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
        images = _images(
            "Idefics2ImageProcessorPil", size={"shortest_edge": 16, "longest_edge": 32}, do_image_splitting=False
        )
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
        images = _images("AriaImageProcessorPil", max_image_size=490, min_image_size=28)
        return transformers.AriaProcessor(images, tokenizer(image_token="<image>"), size_conversion={490: 128})
    if family == "kosmos-2":
        images = _images("CLIPImageProcessorPil", size=square, crop_size=square)
        return transformers.Kosmos2Processor(images, tokenizer(), 4)
    raise ValueError(family)


_IMAGE_WORDS = {
    "gemma3": "<image_soft_token>",
    "glm4v": "<|image|>",
    "internvl": "<IMG_CONTEXT>",
    "mistral3": "[IMG]",
    "mllama": "<|image|>",
    "qwen2_vl": "<|image_pad|>",
    "qwen2_5_vl": "<|image_pad|>",
    "qwen3_vl": "<|image_pad|>",
}
_CONFIGS: dict[str, dict[str, Any]] = {
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


@cache
def vlm(family: str, *, context: int | None = None) -> hp.HeadModel:
    """A wrapped tiny model of that family, built for so many positions."""
    own = processor(family)
    word = own.tokenizer.convert_tokens_to_ids(_IMAGE_WORDS.get(family, "<image>"))
    config = small_config(family, **_CONFIGS.get(family, {}), image_token_id=word, image_token_index=word)
    text = config.get_text_config()
    text.vocab_size = len(own.tokenizer)
    if context is not None:
        text.max_position_embeddings = context
    text.pad_token_id, text.bos_token_id, text.eos_token_id = 0, 1, 2
    config.eos_token_id = config.pad_token_id = None
    torch.manual_seed(0)
    hf = liven(AutoModelForImageTextToText.from_config(config).eval())
    hf.generation_config.eos_token_id = None
    hf.generation_config.suppress_tokens = list(range(len(SPECIAL_WORDS)))  # a random model would write image tokens
    return hp.wrap(hf, processor=own)
