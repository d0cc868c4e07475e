"""Attention modules of one layer, by structure: a module named like attention that owns the last linear map of its branch."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from headpursuit.errors import HeadPursuitError
from headpursuit.model.projection import input_width

# What transformers calls the map from concatenated heads to the residual stream, most specific first.
PROJECTION_NAMES = (
    "o_proj",
    "out_proj",
    "c_proj",
    "dense",
    "attention_out",
    "out_lin",
    "Wo",
    "wo",
    "output",
    "out",
    "o",
    "proj",
    "projection",
    "projection_layer",
)
CROSS = re.compile(r"cross|encoder_attn|encdec|encoder_decoder", re.IGNORECASE)
_HEAD_COUNT_NAMES = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_attn_heads")
_ATTENTION = re.compile(r"att|MLA$", re.IGNORECASE)
_NORM = re.compile("norm", re.IGNORECASE)
_NOT_A_MIXER = re.compile(r"norm|mlp|ffn|feed|moe|drop|act", re.IGNORECASE)


@dataclass(frozen=True)
class FoundAttention:
    """An attention module of one entry of a stack of layers; paths are from the model."""

    attention: str
    projection: str
    n_heads: int
    head_width: int
    cross: bool


def layer_paths(hf: nn.Module, stack: str) -> list[str]:
    """Paths of a stack's layers, in order."""
    return [f"{stack}.{name}" for name, _ in hf.get_submodule(stack).named_children()]


def attention_in(hf: nn.Module, path: str) -> Iterator[FoundAttention]:
    """Every attention module of a layer whose heads can be counted.

    Raises:
        HeadPursuitError: an output projection that its heads do not divide.
    """
    for name, module in hf.get_submodule(path).named_modules(prefix=path):
        if not _ATTENTION.search(type(module).__name__):
            continue
        paths = _projection_of(module, name)
        if paths is None:
            continue
        attention, projection = paths
        holder = hf.get_submodule(attention)
        width, n_heads = input_width(hf.get_submodule(projection)), _head_count(holder)
        if n_heads is None:
            continue
        if width is None or width % n_heads:
            raise HeadPursuitError(
                f"{projection} takes {width} numbers, which {n_heads} heads do not divide: its heads cannot be told apart"
            )
        about = f"{name[len(path) :]} {type(module).__name__}"
        cross = bool(CROSS.search(about) or getattr(holder, "is_cross_attention", False))
        yield FoundAttention(attention, projection, n_heads, width // n_heads, cross)


def _projection_of(module: nn.Module, name: str) -> tuple[str, str] | None:
    """Paths of the attention module proper and of its output projection."""
    own = _linear_child(module, name)
    if own is not None:
        return name, own
    behind = getattr(module, "output", None)  # BERT's attention leaves its projection to a second module
    kernel = next((child for child, one in module.named_children() if _ATTENTION.search(type(one).__name__)), None)
    projection = None if not isinstance(behind, nn.Module) or kernel is None else _linear_child(behind, f"{name}.output")
    return None if projection is None else (f"{name}.{kernel}", projection)


def _linear_child(module: nn.Module, name: str) -> str | None:
    for child in PROJECTION_NAMES:
        candidate = getattr(module, child, None)
        if not isinstance(candidate, nn.Module):
            continue
        if input_width(candidate) is not None:
            return f"{name}.{child}"
        wrapped = [path for path, one in candidate.named_children() if input_width(one) is not None]
        if len(wrapped) == 1 and len(list(candidate.children())) == 1:
            return f"{name}.{child}.{wrapped[0]}"
    return None


def _head_count(attention: nn.Module) -> int | None:
    for holder in (attention, getattr(attention, "config", None)):
        for name in _HEAD_COUNT_NAMES:
            count = getattr(holder, name, None)
            if isinstance(count, int):
                return count
    return None


def has_encoder(hf: Any) -> bool:
    """Whether an encoder reads the prompt, so that the heads of the decoder see only what the decoder writes.

    Neither sign is enough: Whisper's decoder keeps a configuration that names its encoder, and BLIP-2 takes what a decoder
    has written for the sake of those of its language models that are split.
    """
    # Asked for every prompt, and a signature takes longer to read than a flag.
    if not getattr(hf.config, "is_encoder_decoder", False):
        return False
    inner = hf.get_base_model() if hasattr(hf, "get_base_model") else hf  # an adapter's forward takes anything
    return "decoder_input_ids" in inspect.signature(inner.forward).parameters


def reads_images_only(hf: PreTrainedModel) -> bool:
    """Whether a model reads with an encoder that takes no text."""
    encoder: Any = hf.get_encoder() if has_encoder(hf) else None
    return encoder is not None and "input_ids" not in inspect.signature(encoder.forward).parameters


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm: it has nothing inside and is called one."""
    return bool(_NORM.search(type(module).__name__)) and not list(module.children())


def mixer(layer: nn.Module) -> str:
    """Class of what a layer has instead of an attention module."""
    kinds = [type(child).__name__ for name, child in layer.named_children() if not _NOT_A_MIXER.search(name)]
    return next(iter(kinds), type(layer).__name__)
