"""Where the heads of a model are, found by structure and not by a list of model names.

The text decoder is what writes into the unembedding; an attention module is a module of the decoder that owns an output
projection (the last linear map before the residual stream). What is found is only believed after the self-check of
:mod:`headpursuit.model.selfcheck` has reproduced the attention module's own output from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn
    from transformers import PreTrainedModel

# Names that transformers gives to the map from concatenated heads to the residual stream, most specific first.
OUTPUT_PROJECTION_NAMES = ("o_proj", "out_proj", "c_proj", "dense", "wo", "out")


@dataclass(frozen=True)
class LayerAnatomy:
    """One decoder layer whose attention can be taken apart into heads.

    Attributes:
        index: the layer's position in the decoder, from zero.
        attention: module path of the attention module.
        projection: module path of its output projection.
        n_heads: number of query heads.
        head_width: width ``e`` of one head, ``in_features / n_heads`` (not ``d / n_heads``).
    """

    index: int
    attention: str
    projection: str
    n_heads: int
    head_width: int


@dataclass(frozen=True)
class Anatomy:
    """A transformer seen as a set of heads.

    Attributes:
        layers: the layers that have heads, in order.
        width: width ``d`` of the residual stream.
        unembedding: module path of the unembedding.
        final_norm: module path of the norm before the unembedding, or None.
        decoder: module path of the text decoder ("" when it is the whole model).
        image_token_id: id of the token that stands for one image patch, or None for a text model.
        context: number of positions that the decoder was built for, or None when it states none.
    """

    layers: tuple[LayerAnatomy, ...]
    width: int
    unembedding: str
    final_norm: str | None
    decoder: str
    image_token_id: int | None
    context: int | None

    @property
    def n_layers(self) -> int:
        """Number of rows of a layer × head table: the last layer with heads, plus one."""
        return self.layers[-1].index + 1

    @property
    def n_heads(self) -> int:
        """Number of columns of a layer × head table: the most heads that any layer has."""
        return max(layer.n_heads for layer in self.layers)

    def heads(self) -> tuple[Head, ...]:
        """Every head, layer by layer."""
        return tuple(Head(layer.index, head) for layer in self.layers for head in range(layer.n_heads))

    def layer(self, index: int) -> LayerAnatomy:
        """The layer with that index.

        Raises:
            HeadPursuitError: there is none, or it has no heads.
        """
        for layer in self.layers:
            if layer.index == index:
                return layer
        raise HeadPursuitError(f"the model has no attention layer L{index}: its heads lie in {self.extent()}")

    def require(self, heads: Iterable[Head]) -> None:
        """Check that every head exists.

        Raises:
            HeadPursuitError: naming the first that does not.
        """
        for head in heads:
            layer = self.layer(head.layer)
            if not 0 <= head.head < layer.n_heads:
                raise HeadPursuitError(f"the model has no head {head}: its heads lie in {self.extent()}")

    def extent(self) -> str:
        """First and last head, for messages."""
        first, last = self.layers[0], self.layers[-1]
        return f"{Head(first.index, 0)} to {Head(last.index, last.n_heads - 1)}"


def find_anatomy(hf: PreTrainedModel) -> Anatomy:
    """Find the heads of the module that writes text.

    Args:
        hf: a transformers model with a language-model head; a vision-language model's language backbone is used.

    Returns:
        The anatomy, not yet proven: :func:`headpursuit.model.selfcheck.check_decomposition` does that.

    Raises:
        HeadPursuitError: there is no unembedding, no decoder layer, or an output projection that no head count divides.
    """
    architecture = type(hf).__name__
    unembedding = hf.get_output_embeddings()
    if unembedding is None:
        raise HeadPursuitError(
            f"{architecture} has no language-model head, so its heads have no vocabulary to be named in: "
            "load a causal language model or an image-text-to-text model"
        )
    decoder = hf.get_decoder()
    names = {id(module): name for name, module in hf.named_modules()}
    layers = tuple(_find_layers(decoder, prefix=names[id(decoder)]))
    if not layers:
        raise HeadPursuitError(
            f"no attention layer with an output projection was found in {architecture}: headpursuit looks for modules "
            f"named like attention that own one of {', '.join(OUTPUT_PROJECTION_NAMES)}"
        )
    final_norm = _last_norm(decoder)
    text_config = hf.config.get_text_config(decoder=True)
    return Anatomy(
        layers=layers,
        width=text_config.hidden_size,
        unembedding=names[id(unembedding)],
        final_norm=None if final_norm is None else names[id(final_norm)],
        decoder=names[id(decoder)],
        image_token_id=getattr(hf.config, "image_token_id", None) or getattr(hf.config, "image_token_index", None),
        context=getattr(text_config, "max_position_embeddings", None),
    )


def input_width(projection: Any) -> int | None:
    """Width of what enters a linear map (``nn.Linear`` or GPT-2's ``Conv1D``), or None for another module."""
    if hasattr(projection, "in_features"):
        return int(projection.in_features)
    return int(projection.nx) if hasattr(projection, "nx") else None


def stores_input_first(projection: nn.Module) -> bool:
    """Whether the weight is ``(in, out)``, as in GPT-2's ``Conv1D``, and not ``(out, in)``, as in ``nn.Linear``."""
    return hasattr(projection, "nx")


def _find_layers(decoder: nn.Module, *, prefix: str) -> Iterable[LayerAnatomy]:
    for name, module in decoder.named_modules(prefix=prefix):
        inner = name[len(prefix) :]
        index = re.match(r"\.?\w+\.(\d+)\.", inner)
        if index is None or not re.search("attention|attn", type(module).__name__, re.IGNORECASE) or "cross" in inner:
            continue
        child = next(
            (own for own in OUTPUT_PROJECTION_NAMES if input_width(getattr(module, own, None)) is not None), None
        )
        if child is None:
            continue
        width = input_width(getattr(module, child))
        n_heads = _head_count(module)
        if width is None or n_heads is None or width % n_heads:
            raise HeadPursuitError(
                f"{name}.{child} takes {width} numbers, which {n_heads} heads do not divide: its heads cannot be told apart"
            )
        yield LayerAnatomy(
            index=int(index[1]),
            attention=name,
            projection=f"{name}.{child}",
            n_heads=n_heads,
            head_width=width // n_heads,
        )


def _head_count(attention: nn.Module) -> int | None:
    for holder in (attention, getattr(attention, "config", None)):
        for name in ("num_heads", "num_attention_heads", "n_heads", "n_head"):
            count = getattr(holder, name, None)
            if isinstance(count, int):
                return count
    return None


def _last_norm(decoder: nn.Module) -> nn.Module | None:
    norms = [child for child in decoder.children() if "norm" in type(child).__name__.lower()]
    return norms[-1] if norms else None
