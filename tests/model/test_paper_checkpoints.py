"""The paper's five checkpoints, from their published configurations, on the meta device: no weights, only shapes."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3Config,
    LlavaNextConfig,
    MistralConfig,
    Qwen2_5_VLConfig,
)

from headpursuit.model.finding import find_anatomy
from headpursuit.model.projection import input_width, output_width

_MISTRAL = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "vocab_size": 32000,
}
_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
_VICUNA_13B = {
    "model_type": "llama",
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
    "vocab_size": 32064,
}
_GEMMA_12B = {
    "model_type": "gemma3_text",
    "hidden_size": 3840,
    "intermediate_size": 15360,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "vocab_size": 262208,
}
_SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
}
_QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
CHECKPOINTS = {
    "mistralai/Mistral-7B-Instruct-v0.2": (MistralConfig(**_MISTRAL), (32, 32, 128, 4096, 32000, None)),
    "llava-hf/llava-v1.6-mistral-7b-hf": (
        LlavaNextConfig(
            text_config={"model_type": "mistral", **_MISTRAL, "vocab_size": 32064}, vision_config=_CLIP, image_token_index=32000
        ),
        (32, 32, 128, 4096, 32064, 32000),
    ),
    "llava-hf/llava-v1.6-vicuna-13b-hf": (
        LlavaNextConfig(text_config=_VICUNA_13B, vision_config=_CLIP, image_token_index=32000),
        (40, 40, 128, 5120, 32064, 32000),
    ),
    "google/gemma-3-12b-it": (
        Gemma3Config(text_config=_GEMMA_12B, vision_config=_SIGLIP, image_token_index=262144),
        (48, 16, 256, 3840, 262208, 262144),
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": (
        Qwen2_5_VLConfig(text_config=_QWEN_7B, image_token_id=151655),
        (28, 28, 128, 3584, 152064, 151655),
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_its_heads_are_found(name):
    config, (n_layers, n_heads, head_width, width, vocabulary, image_token) = CHECKPOINTS[name]
    auto = AutoModelForCausalLM if isinstance(config, MistralConfig) else AutoModelForImageTextToText
    with torch.device("meta"):
        hf = auto.from_config(config)
    anatomy = find_anatomy(hf)
    assert [layer.index for layer in anatomy.layers] == list(range(n_layers))
    assert anatomy.width == width
    assert anatomy.image_token_id == image_token
    assert hf.get_submodule(anatomy.unembedding).weight.shape == (vocabulary, width)
    assert not anatomy.skipped
    for layer in anatomy.layers:
        assert (layer.n_heads, layer.head_width) == (n_heads, head_width)
        projection = hf.get_submodule(layer.projection)
        assert (input_width(projection), output_width(projection)) == (n_heads * head_width, width)
