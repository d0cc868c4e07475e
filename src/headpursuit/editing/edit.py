"""An edit: heads and the factor that each one's contribution is multiplied by (Head Pursuit, section 3, "intervene")."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head, parse_heads

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from headpursuit.model.anatomy import Anatomy, LayerAnatomy
    from headpursuit.model.head_model import HeadModel


@dataclass(frozen=True, init=False)
class HeadEdit:
    """A set of heads with one scale ``alpha``.

    Scaling a head's slice of the output projection's input scales its contribution ``z W_h`` by the same factor, whatever
    attention kernel computed it, at every token, with and without a cache. Where a norm stands behind the projection
    (Gemma 2 and 3, OLMo 2, …), scaling one head rescales the others of its layer, and scaling all of them is undone.

    Attributes:
        heads: the heads, in layer order.
        scale: −1 suppresses, 0 ablates, 1 changes nothing, 5 enhances.

    Raises:
        HeadPursuitError: no head, one named twice, or a scale that is not finite.
    """

    heads: tuple[Head, ...]
    scale: float

    def __init__(self, heads: Iterable[str | Head], *, scale: float) -> None:
        chosen = tuple(sorted(parse_heads(heads)))
        if not chosen:
            raise HeadPursuitError("an edit needs at least one head")
        if not math.isfinite(scale):
            raise HeadPursuitError(f"scale={scale}: give a finite number; −1 suppresses, 5 enhances")
        object.__setattr__(self, "heads", chosen)
        object.__setattr__(self, "scale", float(scale))

    def __str__(self) -> str:
        return f"{', '.join(head.name for head in self.heads)} × {self.scale:g}"

    def column_scales(self, layer: LayerAnatomy) -> Float[Tensor, " he"]:
        """Factor of every input column of a layer's output projection, shape ``(h·e,)``, float32."""
        scales = torch.ones(layer.n_heads, layer.head_width)
        for head in self.heads:
            if head.layer == layer.index:
                scales[head.head] = self.scale
        return scales.flatten()

    def _warn_where_undone(self, anatomy: Anatomy) -> None:
        counts = Counter(head.layer for head in self.heads)
        undone = [f"L{layer.index}" for layer in anatomy.layers if layer.norm and counts[layer.index] == layer.n_heads]
        if undone and abs(self.scale) not in (0, 1):
            warnings.warn(
                f"every head of {', '.join(undone)} is scaled by {self.scale:g}, and the norm behind their projection undoes "
                "all of it but the sign: leave some heads of the layer out, or use a scale of 0 or −1",
                stacklevel=4,
            )

    @contextmanager
    def applied(self, model: HeadModel) -> Iterator[HeadModel]:
        """Apply the edit inside a ``with`` block; leaving it restores the model bit for bit.

        Raises:
            HeadPursuitError: the model has no such head.
        """
        model.anatomy.require(self.heads)
        self._warn_where_undone(model.anatomy)
        edited = {head.layer for head in self.heads}
        handles = [
            model.module(layer.projection).register_forward_pre_hook(_scaling_hook(self.column_scales(layer)))
            for layer in model.anatomy.layers
            if layer.index in edited
        ]
        try:
            yield model
        finally:
            for handle in handles:
                handle.remove()


def _scaling_hook(scales: Float[Tensor, " he"]) -> Any:
    ready: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        z = args[0]
        if (z.dtype, z.device) not in ready:
            ready[z.dtype, z.device] = scales.to(z.device, z.dtype)
        return (z * ready[z.dtype, z.device], *args[1:])

    return hook
