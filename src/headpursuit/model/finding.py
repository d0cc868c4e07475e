"""Finding the heads of a model by structure, not by a list of model names.

The text decoder is the stack of layers that writes into the unembedding's space; an attention module is a module of a layer
that owns an output projection (the last linear map before the residual stream). What is found here is a claim:
:mod:`headpursuit.model.selfcheck` proves it, or refuses the model.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from headpursuit.errors import HeadPursuitError
from headpursuit.model.anatomy import Anatomy, LayerAnatomy, SkippedLayer
from headpursuit.model.projection import input_width, output_width

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
)
_HEAD_COUNT_NAMES = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_attn_heads")
_ATTENTION = re.compile(r"att|MLA$", re.IGNORECASE)
_CROSS = re.compile(r"cross|encoder_attn|encdec|encoder_decoder", re.IGNORECASE)
_NOT_TEXT = re.compile(
    r"visi|image|img|audio|speech|sound|(^|\.)(vq|vit|sam|qformer|perceiver|resampler|connector)", re.IGNORECASE
)
_NOT_A_MIXER = re.compile(r"norm|mlp|ffn|feed|moe|drop|act", re.IGNORECASE)


@dataclass(frozen=True)
class _Found:
    """An attention module of one entry of a stack of layers."""

    attention: str
    projection: str
    n_heads: int
    head_width: int
    cross: bool


def find_anatomy(hf: PreTrainedModel) -> Anatomy:
    """Find the heads of the module that writes text.

    Args:
        hf: a transformers model with a language-model head; a vision-language model's language backbone is used.

    Returns:
        The anatomy, not yet proven: :func:`headpursuit.model.selfcheck.proven` does that.

    Raises:
        HeadPursuitError: there is no unembedding, no attention, an encoder that reads the text first, or an output
            projection that no head count divides.
    """
    architecture = type(hf).__name__
    names = {id(module): name for name, module in hf.named_modules()}
    if getattr(hf.config, "is_encoder_decoder", False):
        raise HeadPursuitError(
            f"{architecture} reads the text with an encoder and writes with a decoder, so a text's tokens are not the "
            "tokens that its decoder heads see; headpursuit reads decoder-only models"
        )
    unembedding = _find_unembedding(hf)
    width = cast("int", input_width(unembedding))
    stack = _find_stack(hf, names, width=width, architecture=architecture)
    layers, skipped = _read_stack(hf, stack, width=width)
    if not layers:
        raise HeadPursuitError(
            f"{architecture} has no softmax attention whose heads could be read: "
            f"{', '.join(sorted({layer.reason for layer in skipped}))}"
        )
    decoder = _reads_tokens(hf, stack)
    final_norm = _last_norm(hf.get_submodule(stack.rpartition(".")[0]))
    text_config = hf.config.get_text_config(decoder=True)
    return Anatomy(
        layers=layers,
        width=width,
        unembedding=names[id(unembedding)],
        final_norm=None if final_norm is None else names[id(final_norm)],
        decoder=decoder,
        image_token_id=_image_token_id(hf.config),
        context=getattr(text_config, "max_position_embeddings", None),
        skipped=skipped,
    )


def how_to_say(hf: PreTrainedModel) -> str:
    """How a user says where the heads are, filled in as far as the model tells."""
    lists = {name: module for name, module in hf.named_modules() if isinstance(module, nn.ModuleList) and len(module)}
    stack = max(lists, key=lambda name: len(lists[name]), default="model.layers")
    n_layers = len(lists[stack]) if stack in lists else 1
    config = hf.config.get_text_config(decoder=True)
    width, n_heads = getattr(config, "hidden_size", "…"), getattr(config, "num_attention_heads", "…")
    inside = [name for name, _ in lists[stack][0].named_children()] if stack in lists else []
    return (
        "If heads can be read from it all the same, say where: hp.wrap(model, anatomy=hp.Anatomy.repeated("
        f"layers=range({n_layers}), attention='{stack}.{{}}.attention', projection='{stack}.{{}}.attention.output', "
        f"n_heads={n_heads}, head_width=…, width={width}, unembedding='lm_head', decoder='model')), with the names that its "
        f"modules have ({stack}.0 holds {', '.join(inside) or 'nothing'})"
    )


def _find_unembedding(hf: PreTrainedModel) -> nn.Module:
    inner = (module for module in hf.modules() if hasattr(module, "get_output_embeddings"))
    for module in inner:
        found = cast("Any", module).get_output_embeddings()
        if found is not None and input_width(found) is not None:
            return found
    raise HeadPursuitError(
        f"{type(hf).__name__} has no language-model head, so its heads have no vocabulary to be named in: "
        "load a causal language model or an image-text-to-text model"
    )


def _find_stack(hf: PreTrainedModel, names: dict[int, str], *, width: int, architecture: str) -> str:
    """Path of the list of layers that writes text."""
    stacks: dict[str, set[int | None]] = {}
    for name, module in hf.named_modules():
        if (
            not isinstance(module, nn.ModuleList)
            or _NOT_TEXT.search(name)
            or any(name.startswith(f"{o}.") for o in stacks)
        ):
            continue
        widths = {
            output_width(hf.get_submodule(found.projection))
            for path in _layer_paths(hf, name)
            for found in _attention_in(hf, path)
        }
        if widths:
            stacks[name] = widths
    if not stacks:
        lists = [module for module in hf.modules() if isinstance(module, nn.ModuleList) and len(module)]
        kinds = sorted({_mixer(layer) for layer in max(lists, key=len, default=nn.ModuleList())})
        raise HeadPursuitError(
            f"{architecture} has no softmax attention whose heads could be read: its layers are built of "
            f"{', '.join(kinds) or 'nothing known'}, and an attention module with one linear output projection "
            f"({', '.join(PROJECTION_NAMES)}) is needed"
        )
    fitting = [name for name, widths in stacks.items() if widths == {width}]
    if not fitting:
        written = ", ".join(f"{name} writes {_numbers(widths)}" for name, widths in stacks.items())
        raise HeadPursuitError(
            f"{architecture}'s unembedding reads vectors of width {width}, but {written}: what a head writes cannot be named "
            "in its rows"
        )
    for narrower in (
        [name for name in fitting if not _CROSS.search(name)],
        [name for name in fitting if _inside(name, names.get(id(hf.get_decoder()), ""))],
        [name for name in fitting if "decoder" in name],
    ):
        kept = [name for name in fitting if name in narrower]
        fitting = kept or fitting
    if len(fitting) > 1:
        raise HeadPursuitError(
            f"{architecture} has several stacks of layers that could write its text ({', '.join(fitting)}): say which, "
            "with hp.Anatomy"
        )
    return fitting[0]


def _read_stack(
    hf: PreTrainedModel, stack: str, *, width: int
) -> tuple[tuple[LayerAnatomy, ...], tuple[SkippedLayer, ...]]:
    layers: list[LayerAnatomy] = []
    skipped: list[SkippedLayer] = []
    for index, path in enumerate(_layer_paths(hf, stack)):
        found = list(_attention_in(hf, path))
        own = [one for one in found if not one.cross] or found
        skipped.extend(
            SkippedLayer(index, one.attention, "cross-attention beside self-attention")
            for one in found
            if one not in own
        )
        if not own:
            skipped.append(SkippedLayer(index, path, f"no attention ({_mixer(hf.get_submodule(path))})"))
        layers.extend(
            LayerAnatomy(
                index=index,
                attention=one.attention,
                projection=one.projection,
                n_heads=one.n_heads,
                head_width=one.head_width,
                kind="cross" if one.cross else "self",
            )
            for one in own
        )
    if len({layer.index for layer in layers}) < len(layers):
        layers = [replace(layer, index=position) for position, layer in enumerate(layers)]
    return tuple(layers), tuple(skipped)


def _layer_paths(hf: PreTrainedModel, stack: str) -> list[str]:
    return [f"{stack}.{name}" for name, _ in hf.get_submodule(stack).named_children()]


def _attention_in(hf: PreTrainedModel, path: str) -> Iterator[_Found]:
    for name, module in hf.get_submodule(path).named_modules(prefix=path):
        if not _ATTENTION.search(type(module).__name__):
            continue
        place = _projection_of(module, name)
        if place is None:
            continue
        attention, projection = place
        holder = hf.get_submodule(attention)
        width, n_heads = input_width(hf.get_submodule(projection)), _head_count(holder)
        if n_heads is None:
            continue
        if width is None or width % n_heads:
            raise HeadPursuitError(
                f"{projection} takes {width} numbers, which {n_heads} heads do not divide: its heads cannot be told apart"
            )
        about = f"{name[len(path) :]} {type(module).__name__}"
        cross = bool(_CROSS.search(about) or getattr(holder, "is_cross_attention", False))
        yield _Found(attention, projection, n_heads, width // n_heads, cross)


def _projection_of(module: nn.Module, name: str) -> tuple[str, str] | None:
    """Paths of the attention module proper and of its output projection."""
    own = _linear_child(module, name)
    if own is not None:
        return name, own
    behind = getattr(module, "output", None)  # BERT's attention leaves its projection to a second module
    kernel = next((child for child, one in module.named_children() if _ATTENTION.search(type(one).__name__)), None)
    projection = (
        None if not isinstance(behind, nn.Module) or kernel is None else _linear_child(behind, f"{name}.output")
    )
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


def _mixer(layer: nn.Module) -> str:
    """Class of what stands in an attention module's place."""
    kinds = [type(child).__name__ for name, child in layer.named_children() if not _NOT_A_MIXER.search(name)]
    return next(iter(kinds), type(layer).__name__)


def _numbers(widths: set[int | None]) -> str:
    return " and ".join(str(width) for width in sorted(widths, key=str))


def _inside(name: str, holder: str) -> bool:
    return name.startswith(f"{holder}.") if holder else True


def _reads_tokens(hf: PreTrainedModel, stack: str) -> str:
    """Path of the smallest module around the stack that takes token ids and embeds them itself."""
    embedding = hf.get_input_embeddings()
    path = stack
    while path:
        path = path.rpartition(".")[0]
        module = hf.get_submodule(path)
        embeds = any(one is embedding for one in module.modules())
        if embeds and "input_ids" in inspect.signature(module.forward).parameters:
            return path
    return ""


def _last_norm(holder: nn.Module) -> nn.Module | None:
    norms = [child for child in holder.children() if "norm" in type(child).__name__.lower()]
    return norms[-1] if norms else None


def _image_token_id(config: Any) -> int | None:
    for name in ("image_token_id", "image_token_index"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None
