"""Tiny language models in GGUF files, as llama.cpp's converter writes them, in any of ggml's types."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import tiny

# Types of which the package quantises; of the others blocks are drawn, since any bytes with sound scales are a tensor.
SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,)}
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", *SCALES)


def drawn(shape: tuple[int, ...], kind: str, *, scales: tuple[int, ...] | None = None, seed: int = 0) -> np.ndarray:
    """Sound blocks at random, with float16 scales at some bytes; the package takes bytes, shape ``(rows, bytes)``."""
    random = np.random.default_rng(seed)
    block, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    made = random.integers(0, 256, (shape[0], shape[1] // block, size), dtype=np.uint8)
    for at in SCALES[kind] if scales is None else scales:
        values = (random.uniform(0.5, 1, made.shape[:2]) * 1e-3).astype(np.float16)
        made[..., at : at + 2] = values[..., None].view(np.uint8)
    return made.reshape(shape[0], -1)


def packed(weight: np.ndarray, kind: str, *, seed: int = 0) -> np.ndarray:
    return drawn(weight.shape, kind, seed=seed) if kind in SCALES else gguf.quants.quantize(weight, Type[kind])


def hf_llama(*, head_width: int, n_heads: int = 4, n_layers: int = 2, hidden: int = 64) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny.tokenizer()),
        hidden_size=hidden,
        intermediate_size=96,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=2,
        head_dim=head_width,
        max_position_embeddings=128,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def write(
    path: Path, kind: str = "Q8_0", *, others: str = "F32", tokenizer: bool = True, split_max_tensors: int = 0, **sizes: int
) -> Path:
    """A Llama with its output projections in ``kind`` and its other matrices in ``others``; the first part's path if split."""
    hf = hf_llama(**{"head_width": 32, **sizes})
    config = hf.config
    writer = _writer(path, hf, tokenizer=tokenizer, split_max_tensors=split_max_tensors)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for number, (name, weight) in enumerate(hf.state_dict().items()):
        values = weight.numpy()
        if ".q_proj." in name or ".k_proj." in name:  # the converter's order of rotary halves
            rows = values.reshape(-1, 2, config.head_dim // 2, values.shape[1])
            values = np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(values.shape)
        own = "F32" if values.ndim == 1 else kind if ".o_proj." in name else others
        writer.add_tensor(_name(names, name), packed(values, own, seed=number), raw_dtype=Type[own])
    _finish(writer)
    return path if not split_max_tensors else sorted(path.parent.glob(f"{path.stem}-*-of-*.gguf"))[0]


def write_gpt2(path: Path, kind: str = "Q8_0") -> Path:
    """A GPT-2, whose projections stand the other way round in the file than in the model."""
    hf = tiny.hf_model("gpt2", context=1024)  # transformers knows no other from such files
    writer = _writer(path, hf)
    writer.add_layer_norm_eps(hf.config.layer_norm_epsilon)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, hf.config.num_hidden_layers)
    for name, weight in hf.state_dict().items():
        turned = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        values = np.ascontiguousarray(weight.numpy().T if turned else weight.numpy())
        own = kind if name.endswith("attn.c_proj.weight") else "F32"
        writer.add_tensor(_name(names, name), packed(values, own), raw_dtype=Type[own])
    _finish(writer)
    return path


def _name(names: gguf.TensorNameMap, name: str) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{names.get_name(stem)}.{ending}"


def _writer(path: Path, hf: PreTrainedModel, *, tokenizer: bool = True, split_max_tensors: int = 0) -> gguf.GGUFWriter:
    config = hf.config
    writer = gguf.GGUFWriter(path, config.model_type, split_max_tensors=split_max_tensors)
    writer.add_type("model")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 4 * config.hidden_size))
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    if tokenizer:
        _add_tokenizer(writer)
    return writer


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokenizer = tiny.tokenizer()
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    merges = content["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
