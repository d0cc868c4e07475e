"""A tiny random model of any type that transformers knows, from its own configuration, without a network.

The default configuration is walked once: sizes are replaced by small ones according to what a field's name says, layers
are thinned out so that every kind of layer stays, token ids move into the small vocabulary. What follows no rule stands
in ``SPECIAL``, which only says how to *build* a type; nothing in the library reads it.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText, SiglipVisionConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from headpursuit.model.attention import has_encoder

CAUSAL = "causal-lm"
IMAGE_TEXT = "image-text-to-text"
MAPPINGS = {CAUSAL: MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, IMAGE_TEXT: MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}
AUTO = {CAUSAL: AutoModelForCausalLM, IMAGE_TEXT: AutoModelForImageTextToText}

VOCAB = 160
FIRST_MOVED_ID = 100
MAX_PARAMETERS = 12_000_000
WIDTH, HEADS, HEAD_WIDTH = 64, 4, 16

# The first pattern that matches a field's whole name gives its size; a size never grows.
_SIZES: tuple[tuple[str, int], ...] = (
    (r"(.*_)?vocab_size(_.*)?", VOCAB),
    (r"(num_attention_heads|n_heads?|num_heads|.*attention_heads|swa_num_attention_heads)", HEADS),
    (r"(qk_nope_head_dim)", 16),
    (r"(qk_rope_head_dim)", 8),
    (r"(v_head_dim)", 12),
    (r"(qk_head_dim)", 24),
    (r"(.*head_dim|d_head|dim_head|d_kv|kv_channels|attention_head_size|mamba_headdim|mamba_d_head)", HEAD_WIDTH),
    (r"(kv_lora_rank|q_lora_rank|o_lora_rank|.*_rank)", 16),
    (r"(mamba_n_heads|mamba_num_heads|linear_num_(key|value)_heads|linear_num_heads|index_n_heads)", HEADS),
    (r"(.*intermediate_size|.*ffn_dim|d_ff|dff|dim_ff|d_inner|ffn_hidden_size|mlp_dim|.*_ffn_hidden_size)", 48),
    (r"(.*hidden_size|d_model|n_embd|emb_dim|embed_dim|.*embedding_size|.*embed_dim|embedding_dim|.*projection_dim)", WIDTH),
    (r"(word_embed_proj_dim|hidden_size_global)", WIDTH),
    (r"rotary_dim", HEAD_WIDTH),
    (r"(projector_(input|output)_dim|vision_output_dim|output_dim|lru_width|mamba_d_ssm|.*hidden_dim)", WIDTH),
    (r"(num_layers|.*num_hidden_layers|n_layers?|depth|.*_layers|layers)", 3),
    (r"(num_experts|num_local_experts|n_routed_experts|moe_num_experts)", 4),
    (r"(num_experts_per_tok(en)?|moe_top_?k|moe_k)", 2),
    (r"(n_groups|mamba_n_groups|mamba_ngroups)", 1),
    (r"(n_group|topk_group|num_expert_group)", 1),
    (r"(n_shared_experts|num_shared_experts|moe_num_shared_experts|zero_expert_num)", 1),
    (r"(ssm_state_size|mamba_d_state|state_size)", 8),
    (r"(max_position_embeddings|n_positions|max_seq_len|n_ctx|context_length|seq_len)", 128),
    (r"(max_source_positions|max_target_positions|num_position_embeddings)", 128),
    (r"(first_k_dense_replace|num_dense_layers)", 1),
)
_MROPE = {1.0: [4, 2, 2], 0.5: [2, 1, 1], 0.25: [1, 1, 0]}
_LABELS = ("id2label", "label2id")
_TOKEN_ID = re.compile(r".*token_(id|index|ids)|.*_patch_id|im_\w+_id")
_LAYER_COUNT = re.compile(
    r"num_layers|.*num_hidden_layers|n_layers?|depth|encoder_layers|decoder_layers|layers|num_decoder_layers"
)


def small_config(model_type: str, **own: Any) -> Any:
    """The configuration of a tiny model of that type; ``own`` fields, nested ones too, have the last word."""
    default = CONFIG_MAPPING[model_type](**copy.deepcopy(_DEFAULTS.get(model_type, {})))
    fields = _shrink(default.to_dict(), ids={})
    special = SPECIAL.get(model_type, {})
    _merge(fields, special)
    _merge(fields, own)
    config = type(default).from_dict(fields)
    if model_type == "gemma3n":  # its own class of vision configuration can only describe a tower of timm's
        config.__dict__["vision_config"] = SiglipVisionConfig(**_TOWER, vocab_size=16, vocab_offset=140, rms_norm_eps=1e-6)
    return config


def small_model(model_type: str, mapping: str, **options: Any) -> Any:
    """A tiny random model of that type, in evaluation mode, with biases and gains that are not trivial.

    Raises:
        ValueError: the configuration did not become small.
    """
    config = small_config(model_type)
    named = getattr(transformers, MAPPINGS[mapping][model_type])
    inner = config.get_text_config(decoder=True)
    if type(config) is not named.config_class is type(inner):  # MusicGen's decoder knows its own configuration only
        config = inner
    # one type is lost on the way from its configuration's class to its name
    known = type(config) in AUTO[mapping]._model_mapping
    build = AUTO[mapping].from_config if known else named._from_config
    with torch.device("meta"):
        outline = build(config, **options)
    count = sum(parameter.numel() for parameter in outline.parameters())
    if count > MAX_PARAMETERS:
        largest = max(outline.named_parameters(), key=lambda named: named[1].numel())
        raise ValueError(f"{count:,} parameters; the largest is {largest[0]} {tuple(largest[1].shape)}")
    del outline
    torch.manual_seed(0)
    model = liven(build(config, **options).eval())
    if has_encoder(model) and model.generation_config.decoder_start_token_id is None:
        model.generation_config.decoder_start_token_id = 1
    return model


def liven(model: Any) -> Any:
    """Draw weights that move something: the usual 0.02 makes flat logits, and zero biases hide a forgotten one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point() or not torch.isfinite(parameter).all():
                torch.nn.init.normal_(parameter, std=0.1)
            elif parameter.ndim >= 2:
                parameter.normal_(std=0.15)
            elif name.endswith("bias"):
                parameter.normal_(std=0.2)
            elif parameter.numel() == 1 and not parameter.any():
                parameter.fill_(0.5)  # a gate that starts closed
    return model


def _shrink(fields: dict[str, Any], ids: dict[int, int]) -> dict[str, Any]:
    fields = {name: value for name, value in fields.items() if isinstance(name, str) and name not in _LABELS}
    counts = {name: value for name, value in fields.items() if _LAYER_COUNT.fullmatch(name) and type(value) is int}
    kept = {count: _kept_layers(fields, count) for count in counts.values()}
    small: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "per_layer_config" and value:
            layers = kept[fields["num_hidden_layers"]]
            small[name] = {
                str(layers.index(int(layer))): _shrink(own, ids) for layer, own in value.items() if int(layer) in layers
            }
        elif name == "mrope_section":
            small[name] = _MROPE[fields.get("partial_rotary_factor", 1.0)]
        elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
            small[name] = _shrink(value, ids)
        elif name in counts:
            small[name] = len(kept[value])
        elif _TOKEN_ID.fullmatch(name):
            small[name] = _moved(value, ids)
        elif isinstance(value, list) and len(value) in kept and value and not name.startswith("architectures"):
            layers = kept[len(value)]
            chosen = [value[layer] for layer in layers]
            if "size" in name and all(type(one) is int for one in chosen):
                chosen = [_small_number(name, one, fields) for one in chosen]
            small[name] = list(range(len(layers))) if value == list(range(len(value))) else chosen
        elif isinstance(value, list) and counts and re.fullmatch(r".*(indexes|indices|_idxs|_layers|layer_ids)", name):
            last = len(next(iter(kept.values()))) - 1
            small[name] = sorted({min(layer, last) for layer in value if isinstance(layer, int)}) or value
        elif (
            name == "head_dim"
            and "qk_nope_head_dim" in fields
            and "qk_rope_head_dim" not in fields
            and value > fields["qk_nope_head_dim"]
        ):
            small[name] = 24
        elif name == "head_dim" and value is not None and value == fields.get("qk_rope_head_dim"):
            small[name] = 8
        elif name == "num_experts_per_tok" and value is None:
            small[name] = 2
        elif name == "head_dim" and value is None:
            small[name] = HEAD_WIDTH
        elif name == "is_decoder":
            small[name] = True
        elif isinstance(value, list) and value and all(type(one) is int for one in value) and "size" in name:
            small[name] = [_small_number(name, one, fields) for one in value]
        elif type(value) is int:
            small[name] = _small_number(name, value, fields)
        else:
            small[name] = value
    return small


def _small_number(name: str, value: int, fields: dict[str, Any]) -> int:
    if re.fullmatch(r".*(num_key_value_heads|kv_n_heads|num_kv_heads|num_query_groups)", name):
        queries = fields.get(name.replace("key_value", "attention"), fields.get("num_attention_heads", value))
        return HEADS if value == queries else min(value, HEADS // 2)
    for pattern, size in _SIZES:
        if re.fullmatch(pattern, name):
            return min(value, size)
    return value


def _kept_layers(fields: dict[str, Any], count: int) -> list[int]:
    """At least three layers (or all), and the first of every kind that a list over layers tells apart."""
    lists = [value for value in fields.values() if isinstance(value, list) and len(value) == count]
    own = {int(layer): str(value) for layer, value in (fields.get("per_layer_config") or {}).items()}
    kinds: dict[tuple[str, ...], int] = {}
    for layer in range(count):
        told = [str(one[layer]) for one in lists if not _numbers_every_layer(one)]
        kinds.setdefault((*told, own.get(layer, "")), layer)
    kept = sorted(kinds.values())[:6]
    for layer in range(count):
        if len(kept) >= min(3, count):
            break
        if layer not in kept:
            kept.append(layer)
    return sorted(kept)


def _numbers_every_layer(values: list[Any]) -> bool:
    return len(set(map(str, values))) == len(values)


def _moved(value: Any, ids: dict[int, int]) -> Any:
    if isinstance(value, list):
        return [_moved(one, ids) for one in value]
    if type(value) is not int or value < FIRST_MOVED_ID:
        return value
    return ids.setdefault(value, FIRST_MOVED_ID + len(ids))


def _merge(fields: dict[str, Any], special: dict[str, Any]) -> None:
    for name, value in special.items():
        if isinstance(value, dict) and isinstance(fields.get(name), dict):
            _merge(fields[name], value)
        else:
            fields[name] = value


# Defaults that contradict themselves or are not there, so that a configuration cannot be made without saying otherwise.
_ASSISTANT = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "num_kv_shared_layers": 0}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {"text_config": {"model_type": "gemma4_text", **_ASSISTANT}},
    "gemma4_unified_assistant": {"text_config": {"model_type": "gemma4_unified_text", **_ASSISTANT}},
    "vision-encoder-decoder": {
        "encoder": {"model_type": "vit"},
        "decoder": {"model_type": "bert", "is_decoder": True, "add_cross_attention": True},
    },
}
# Only how to build: fields that hang together in a way that their names do not say.
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1}
# Stands in for a vision tower of the timm library, which we do not depend on; the language backbone is the type's own.
_TOWER = {
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
_MROPE_TEXT = {"text_config": {"rope_parameters": {"mrope_section": [4, 2, 2]}}}
_VOCABULARY = {"<image>": 100, "<|extra_200|>": 101, **{f"IMGIMG{letter}Z": 102 + i for i, letter in enumerate("ABCD")}}
_VISUAL = {"<image>": 100, "<|extra_200|>": 101, **{f"<|visual token {i:06d}|>": 102 + i for i in range(8)}}
_INDEXER = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "big_bird": {"attention_type": "original_full"},
    "blenderbot": {"encoder_layers": 3},
    "blip-2": {"image_token_index": 100, "num_query_tokens": 4},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "chameleon": {"vocabulary_map": _VOCABULARY, "vq_config": {"base_channels": 32, "channel_multiplier": [1, 2]}},
    "cohere_compass": {
        "text_config": {
            "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}}
        }
    },
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}}
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense", "sparse", "sparse"], "num_experts_per_tok": 2}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "diffusion_gemma": {"text_config": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24}},
    "dots1": {"num_local_experts": 4, "n_routed_experts": 4, "n_shared_experts": 1},
    "dots3_note": {
        "text_config": {"head_dim": 24},
        "vision_config": {"adapter_in_dim": 64, "adapter_out_dim": 64},
        "audio_config": {"adapter_input_size": 64, "adapter_out_dim": 64},
    },
    "dots3_note_text": {"head_dim": 24},
    "emu3": {"vocabulary_map": _VISUAL, "vq_config": {"base_channels": 32, "channel_multiplier": [1, 2]}},
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {"mrope_section": [3, 3, 2]}}},
    "fast_vlm": {"vision_config": {"model_type": "siglip_vision_model", **_TOWER}},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 128},
    "florence2": {"vision_config": {"embed_dim": [32, 32, 32, 64], "num_heads": [2, 2, 2, 4], "depths": [1, 1, 1, 1]}},
    "gemma3n": {"text_config": {"num_kv_shared_layers": 0}},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "glm46v": _MROPE_TEXT,
    "glm4v": _MROPE_TEXT,
    "glm4v_moe": {"text_config": {"rope_parameters": {"mrope_section": [2, 1, 1]}}},
    "glm_ocr": _MROPE_TEXT,
    "glmga": _MROPE_TEXT,
    "granite4_vision": {"deepstack_layer_map": [[1, 0]], "downsample_rate": "1/4", "qformer_config": None},
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention", "mamba"]},
    "hunyuan_vl": {"text_config": {"rope_parameters": {"mrope_section": [2, 2, 2, 2]}}},
    "instructblip": {"image_token_index": 100, "num_query_tokens": 4},
    "instructblipvideo": {"video_token_index": 100, "num_query_tokens": 4},
    "kosmos-2": {"latent_query_num": 4},
    "jamba": {"use_mamba_kernels": False, "attn_layer_period": 2, "attn_layer_offset": 1},
    "janus": {"vq_config": {"base_channels": 32, "channel_multiplier": [1, 2]}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 2]}},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 16},
    "paddleocr_vl": _MROPE_TEXT,
    "muse_spark": {
        "audio_config": {
            "hidden_sizes": [32, 32, 32, 64],
            "depths": [1, 1, 1, 1],
            "patch_sizes": [16, 6, 5, 4],
            "num_hidden_layers": 4,
        }
    },
    "perception_lm": {"vision_config": {"model_type": "siglip_vision_model", **_TOWER, "model_args": {"embed_dim": 64}}},
    "qwen2_5_omni_thinker": {**_MROPE_TEXT, "vision_start_token_id": 110},
    "qwen2_5_vl": _MROPE_TEXT,
    "qwen2_vl": _MROPE_TEXT,
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 110},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "reformer": {"axial_pos_embds_dim": [16, 48], "attn_layers": ["local", "lsh", "local"]},
    "step3p7": {"text_config": {"sliding_window": 4}},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "num_hidden_layers": 4,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "attention_hidden_size": 128,
        "hybrid_layer_ids": [1, 2],
        "n_mamba_heads": 8,
    },
}
