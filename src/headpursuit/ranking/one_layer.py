"""Work on a capture layer by layer, here or by workers, to whom no more of it travels than they look at."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.engines import Engine, LostPartError, mapped

# A layer, and a capture that has it.
Layer = tuple[int, HeadActivations | HeadMoments]
R = TypeVar("R")


def layer_by_layer(
    acts: HeadActivations | HeadMoments,
    layers: Collection[int],
    work: Callable[[Layer], R],
    *,
    engine: Engine,
    title: str,
    progress: bool,
) -> Iterator[tuple[int, R]]:
    """Each layer, and what is made of it.

    Args:
        acts: a capture.
        layers: some of its layers.
        work: what is done with each; it travels to the workers, where there are some.
        engine: where.
        title: what the progress bar says.
        progress: show it.

    Raises:
        LostPartError: workers died of a layer.
    """
    parts = ((layer, acts) for layer in layers) if engine.name == "local" else _alone(acts, layers)
    found = mapped(parts, partial(partial, work), engine=engine, name=lambda part: f"layer {part[0]}")
    for (layer, _), given in tqdm(found, desc=title, total=len(layers), unit="layer", disable=not progress, leave=False):
        if isinstance(given, LostPartError):
            raise given
        yield layer, given


@dataclass(frozen=True)
class LayerWeights:
    """The one projection of a layer that is by itself.

    Attributes:
        heads: ``W_h`` of its heads, float32.
    """

    heads: Float[Tensor, "h e d"] = field(repr=False)

    def projection(self, layer: int) -> Float[Tensor, "h e d"]:
        """See :class:`headpursuit.model.weights.HeadWeights`."""
        return self.heads

    def unembedding(self) -> Float[Tensor, "v d"]:
        """Not there: what is looked for travels by itself."""
        raise NotImplementedError

    def final_norm_gain(self) -> Float[Tensor, " d"]:
        """Not there, likewise."""
        raise NotImplementedError


def _alone(acts: HeadActivations | HeadMoments, layers: Collection[int]) -> Iterator[Layer]:
    """Layers and the captures of each alone: in memory, without the model, its files and its tokenizer."""
    for layer in layers:
        weights = LayerWeights(acts.weights.projection(layer).cpu())
        own = acts.of_layer(layer)
        if isinstance(own, HeadMoments):
            total, second = ({layer: one[layer].cpu().clone()} for one in (own.total, own.second))
            yield layer, replace(own, weights=weights, tokenizer=None, total=total, second=second)
        else:  # a copy, since a part of a tensor would take the whole of it along
            yield layer, replace(own, weights=weights, tokenizer=None, z={layer: own.z[layer].cpu().clone()})
