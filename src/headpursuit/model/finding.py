"""Finding the heads of a model by structure, not by a list of model names.

The text decoder is the stack of layers that writes into the unembedding's space; an attention module is a module of a layer
that owns an output projection (the last linear map before the residual stream). What is found here is a claim:
:mod:`headpursuit.model.selfcheck` proves it, or refuses the model.
"""

import inspect
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from headpursuit.errors import HeadPursuitError, check_choice
from headpursuit.model.anatomy import Anatomy, LayerAnatomy, SkippedLayer
from headpursuit.model.attention import (
    CROSS,
    PROJECTION_NAMES,
    FoundAttention,
    attention_in,
    has_encoder,
    is_norm,
    layer_paths,
    mixer,
    reads_images_only,
)
from headpursuit.model.heads import PARTS, Part
from headpursuit.model.projection import input_width, output_width

_VISION = re.compile(r"vis[iu]|image|img|(^|\.)(vit|sam|vpm)", re.IGNORECASE)
_NOT_TEXT = re.compile(rf"{_VISION.pattern}|audio|speech|sound|(^|\.)(vq|qformer|perceiver|resampler|connector)", re.IGNORECASE)
_NOT_A_TOWER = re.compile(
    r"audio|speech|sound|(^|\.|_)(vq|qformer|perceiver|resampler|connector)|merger|abstractor", re.IGNORECASE
)


def find_anatomy(hf: PreTrainedModel, *, part: Part = "text") -> Anatomy:
    """Find the heads of one part of a model.

    Args:
        hf: a transformers model with a language-model head.
        part: ``text`` for the decoder that writes text, ``cross`` for cross-attention beside its self-attention,
            ``vision`` for the tower that reads images.

    Returns:
        The anatomy, not yet proven: :func:`headpursuit.model.selfcheck.proven` does that.

    Raises:
        HeadPursuitError: there is no unembedding, no attention in that part, or an output projection that no head count
            divides.
    """
    check_choice(PARTS, part=part)
    architecture = type(hf).__name__
    names = {id(module): name for name, module in hf.named_modules()}
    unembedding = _find_unembedding(hf)
    width = cast("int", input_width(unembedding))
    stack = _find_stack(hf, names, width=width, architecture=architecture)
    anatomy = Anatomy(
        layers=(),
        width=width,
        unembedding=names[id(unembedding)],
        final_norm=None,
        decoder=_reads_tokens(hf, stack),
        image_token_id=_image_token_id(hf.config),
        context=getattr(hf.config.get_text_config(decoder=True), "max_position_embeddings", None),
        part=part,
    )
    if part == "vision":
        return _with_tower(hf, anatomy, stack=stack)
    crossing, unfed = _read_cross(hf, stack)
    layers, skipped = (crossing, unfed) if part == "cross" else _read_stack(hf, stack)
    if not layers:
        reasons = ", ".join(sorted({layer.reason for layer in skipped})) or "no cross-attention beside self-attention"
        raise HeadPursuitError(f"{architecture} has no softmax attention whose heads could be read: {reasons}")
    return replace(anatomy, layers=layers, skipped=skipped, across=bool(crossing))


def how_to_say(hf: PreTrainedModel) -> str:
    """Advice how to say where the heads are, filled in as far as the model tells."""
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
        if isinstance(found, nn.ModuleList):
            raise HeadPursuitError(
                f"{type(hf).__name__} writes {len(found)} streams of codes at once, each with an unembedding of its own, and "
                "no text, so its heads have no vocabulary to be named in"
            )
    raise HeadPursuitError(
        f"{type(hf).__name__} has no language-model head, so its heads have no vocabulary to be named in: "
        "load a causal language model or an image-text-to-text model"
    )


def _find_stack(hf: PreTrainedModel, names: dict[int, str], *, width: int, architecture: str) -> str:
    """Path of the list of layers that writes text."""
    stacks: dict[str, set[int | None]] = {}
    for name, module in hf.named_modules():
        if not isinstance(module, nn.ModuleList) or _NOT_TEXT.search(name) or any(name.startswith(f"{o}.") for o in stacks):
            continue
        widths = {
            output_width(hf.get_submodule(found.projection))
            for path in layer_paths(hf, name)
            for found in attention_in(hf, path)
        }
        if widths:
            stacks[name] = widths
    if not stacks:
        lists = [module for module in hf.modules() if isinstance(module, nn.ModuleList) and len(module)]
        kinds = sorted({mixer(layer) for layer in max(lists, key=len, default=nn.ModuleList())})
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
        [name for name in fitting if not CROSS.search(name)],
        [name for name in fitting if _inside(name, names.get(id(hf.get_decoder()), ""))],
        [name for name in fitting if "decoder" in name],
        [name for name in fitting if "encoder" not in name],
    ):
        kept = [name for name in fitting if name in narrower]
        fitting = kept or fitting
    if len(fitting) > 1:
        raise HeadPursuitError(
            f"{architecture} has several stacks of layers that could write its text ({', '.join(fitting)}): say which, "
            "with hp.Anatomy"
        )
    return fitting[0]


def _read_stack(hf: PreTrainedModel, stack: str) -> tuple[tuple[LayerAnatomy, ...], tuple[SkippedLayer, ...]]:
    layers: list[LayerAnatomy] = []
    skipped: list[SkippedLayer] = []
    fed = not _fed_from_outside(hf)
    for index, path in enumerate(layer_paths(hf, stack)):
        found = list(attention_in(hf, path))
        own = [one for one in found if not one.cross] or found
        if not own:
            skipped.append(SkippedLayer(index, path, f"no attention ({mixer(hf.get_submodule(path))})"))
        skipped.extend(
            SkippedLayer(index, one.attention, "cross-attention, which nothing inside the model feeds")
            for one in found
            if one not in own and not fed
        )
        layers.extend(_layer(index, one) for one in own)
    return _numbered(layers), tuple(skipped)


def _read_cross(hf: PreTrainedModel, stack: str) -> tuple[tuple[LayerAnatomy, ...], tuple[SkippedLayer, ...]]:
    """Cross-attention in layers that have self-attention too, or in a stack of its own between them."""
    if _fed_from_outside(hf):
        reason = "cross-attention, which nothing inside the model feeds"
        return (), (SkippedLayer(0, stack, reason),)
    holder = stack.rpartition(".")[0]
    stacks = [
        f"{holder}.{name}"
        for name, module in hf.get_submodule(holder).named_children()
        if isinstance(module, nn.ModuleList) and CROSS.search(name)
    ]
    layers: list[LayerAnatomy] = []
    for index, path in enumerate(layer_paths(hf, stack)):
        found = list(attention_in(hf, path))
        if not all(one.cross for one in found):
            layers.extend(_layer(index, one) for one in found if one.cross)
    for beside in stacks:
        for index, path in enumerate(layer_paths(hf, beside)):
            layers.extend(_layer(index, replace(one, cross=True)) for one in attention_in(hf, path))
    return _numbered(layers), ()


def _fed_from_outside(hf: PreTrainedModel) -> bool:
    """Whether what cross-attention looks at is an argument of the whole model, so that no text or image leads to it."""
    taken = inspect.signature(hf.forward).parameters
    return "encoder_hidden_states" in taken or ("encoder_outputs" in taken and not has_encoder(hf))


def _with_tower(hf: PreTrainedModel, anatomy: Anatomy, *, stack: str) -> Anatomy:
    """The same anatomy with the heads of the vision tower: its deepest stack of layers."""
    stacks: dict[str, tuple[LayerAnatomy, ...]] = {}
    encoder = hf.get_encoder() if reads_images_only(hf) else None
    inside = {id(module) for module in encoder.modules()} if encoder is not None else set()
    for name, module in hf.named_modules():
        visual = id(module) in inside or _VISION.search(name)
        if isinstance(module, nn.ModuleList) and visual and not _NOT_A_TOWER.search(name):
            found = [_layer(i, one) for i, path in enumerate(layer_paths(hf, name)) for one in attention_in(hf, path)]
            if found and not any(name.startswith(f"{outer}.") for outer in stacks):
                stacks[name] = tuple(found)
    if not stacks:
        raise HeadPursuitError(f"{type(hf).__name__} has no vision tower of attention layers: leave part='vision' out")
    deepest = max(stacks, key=lambda name: len(stacks[name]))
    layers = _numbered(stacks[deepest])
    width = cast("int", output_width(hf.get_submodule(layers[0].projection)))
    others = [
        SkippedLayer(index, name, "another stack of the vision tower") for index, name in enumerate(stacks) if name != deepest
    ]
    projector = _only_linear_between(hf, width, anatomy.width, outside=(deepest, stack))
    return replace(anatomy, layers=layers, width=width, skipped=tuple(others), projector=projector)


def _only_linear_between(hf: PreTrainedModel, width: int, text_width: int, *, outside: tuple[str, ...]) -> str | None:
    """Path of the one linear map from the tower's width to the text's that stands alone, norms aside, or None."""
    found = []
    for name, module in hf.named_modules():
        children = dict(module.named_children())
        linear = [path for path, one in children.items() if input_width(one) == width and output_width(one) == text_width]
        others = [one for path, one in children.items() if path not in linear and not is_norm(one)]
        away = not any(f"{name}.".startswith(f"{one}.") for one in outside)
        if name and away and len(linear) == 1 and not others and not list(module.parameters(recurse=False)):
            found.append(f"{name}.{linear[0]}")
    return found[0] if len(found) == 1 else None


def _layer(index: int, found: FoundAttention) -> LayerAnatomy:
    return LayerAnatomy(
        index=index,
        attention=found.attention,
        projection=found.projection,
        n_heads=found.n_heads,
        head_width=found.head_width,
        kind="cross" if found.cross else "self",
    )


def _numbered(layers: Iterable[LayerAnatomy]) -> tuple[LayerAnatomy, ...]:
    """The layers as they are, or attention modules one after the other where a layer holds several."""
    found = tuple(layers)
    if len({layer.index for layer in found}) == len(found):
        return found
    return tuple(replace(layer, index=position) for position, layer in enumerate(found))


def _numbers(widths: set[int | None]) -> str:
    return " and ".join(str(width) for width in sorted(widths, key=str))


def _inside(name: str, holder: str) -> bool:
    return name.startswith(f"{holder}.") if holder else True


def _reads_tokens(hf: PreTrainedModel, stack: str) -> str:
    """Path of the smallest module around the stack that takes token ids and embeds them itself."""
    split = has_encoder(hf)  # then the decoder may have an embedding of its own
    embedding = None if split else hf.get_input_embeddings()
    path = stack
    while path:
        path = path.rpartition(".")[0]
        module = hf.get_submodule(path)
        embeds = split or any(one is embedding for one in module.modules())
        if embeds and "input_ids" in inspect.signature(module.forward).parameters:
            return path
    return ""


def _image_token_id(config: Any) -> int | None:
    for name in ("image_token_id", "image_token_index"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return None
