"""The anatomy of a model: where its heads are, as everything behind this room reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head, Part


@dataclass(frozen=True)
class LayerAnatomy:
    """One decoder layer whose attention can be taken apart into heads.

    Attributes:
        index: the layer's position in the decoder, from zero; where a decoder layer holds several attention modules, the
            attention module's position instead.
        attention: module path of the attention module.
        projection: module path of its output projection.
        n_heads: number of query heads.
        head_width: width ``e`` of one head, ``in_features / n_heads`` (not ``d / n_heads``).
        norm: module path of a norm between output projection and residual stream (a sandwich norm), or None.
        kind: ``self``, or ``cross`` for attention to an image or an encoder's output, which text alone does not reach.
    """

    index: int
    attention: str
    projection: str
    n_heads: int
    head_width: int
    kind: Literal["self", "cross"] = "self"
    norm: str | None = None


@dataclass(frozen=True)
class SkippedLayer:
    """A part of the decoder without heads that can be read.

    Attributes:
        index: the layer's position in the decoder, from zero.
        module: module path.
        reason: why, for messages.
    """

    index: int
    module: str
    reason: str


@dataclass(frozen=True)
class Anatomy:
    """A transformer seen as a set of heads.

    Attributes:
        layers: the layers that have heads, in order.
        width: width ``d`` of the residual stream that the heads write into.
        unembedding: module path of the unembedding.
        final_norm: module path of the norm before the unembedding, or None.
        decoder: module path of the text decoder ("" when it is the whole model).
        image_token_id: id of the token that stands for one image patch, or None for a text model.
        context: number of positions that the decoder was built for, or None when it states none.
        skipped: parts of the decoder that were passed over, and why.
        pads_left: whether padding on the left changes nothing; false where positions are counted from the padding on, so
            that only texts of one length can be generated from together.
        prefix_sees_ahead: whether tokens of type 0 see the tokens behind them (PaliGemma's prompts), so that what the model
            itself writes must be of type 1.
        across: whether the model has cross-attention to what stands outside the text, in these layers or in another part.
        part: which of the model's heads these are, see :class:`headpursuit.model.heads.Head`.
        projector: for the vision tower, module path of the one linear map from its width to the text's, or None.

    >>> model.anatomy.extent(), len(model.anatomy.heads()), model.anatomy.width
    ('L0.H0 to L5.H19', 120, 120)
    >>> model.anatomy.layer(1).projection
    'model.language_model.layers.1.self_attn.o_proj'
    """

    layers: tuple[LayerAnatomy, ...]
    width: int
    unembedding: str
    final_norm: str | None
    decoder: str
    image_token_id: int | None
    context: int | None
    skipped: tuple[SkippedLayer, ...] = ()
    pads_left: bool = True
    prefix_sees_ahead: bool = False
    across: bool = False
    part: Part = "text"
    projector: str | None = None

    @classmethod
    def repeated(
        cls,
        *,
        layers: Iterable[int],
        attention: str,
        projection: str,
        n_heads: int,
        head_width: int,
        width: int,
        unembedding: str = "lm_head",
        decoder: str = "model",
        final_norm: str | None = None,
        image_token_id: int | None = None,
        context: int | None = None,
    ) -> Anatomy:
        """Say where the heads are, for a model of equal layers whose structure is not recognised.

        Args:
            layers: indices of the layers that have heads.
            attention: module path of the attention modules, with ``{}`` where the index stands.
            projection: the same of their output projections.
            n_heads: number of query heads ``h`` of each.
            head_width: width ``e`` of one head.
            width: width ``d`` of the residual stream.
            unembedding: see :class:`Anatomy`, as the remaining ones.

        Returns:
            A claim; ``hp.load(…, anatomy=…)`` and ``hp.wrap(…, anatomy=…)`` prove it before they use it.
        """
        return cls(
            layers=tuple(
                LayerAnatomy(
                    index=index,
                    attention=attention.format(index),
                    projection=projection.format(index),
                    n_heads=n_heads,
                    head_width=head_width,
                )
                for index in layers
            ),
            width=width,
            unembedding=unembedding,
            final_norm=final_norm,
            decoder=decoder,
            image_token_id=image_token_id,
            context=context,
        )

    @property
    def n_layers(self) -> int:
        """Number of rows of a layer × head table: the last layer with heads, plus one."""
        return self.layers[-1].index + 1

    @property
    def n_heads(self) -> int:
        """Number of columns of a layer × head table: the most heads that any layer has."""
        return max(layer.n_heads for layer in self.layers)

    @property
    def attends_across(self) -> bool:
        """Whether these layers attend to something outside the text, which must be there for them to run."""
        return any(layer.kind == "cross" for layer in self.layers)

    def heads(self) -> tuple[Head, ...]:
        """Every head, layer by layer."""
        return tuple(Head(layer.index, head, self.part) for layer in self.layers for head in range(layer.n_heads))

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
            if head.part != self.part:
                raise HeadPursuitError(
                    f"{head} is a head of another part: load the model with part={head.part!r} to read or edit it; "
                    f"here heads lie in {self.extent()}"
                )
            layer = self.layer(head.layer)
            if not 0 <= head.head < layer.n_heads:
                raise HeadPursuitError(f"the model has no head {head}: its heads lie in {self.extent()}")

    def extent(self) -> str:
        """First and last head, for messages."""
        first, last = self.layers[0], self.layers[-1]
        return f"{Head(first.index, 0, self.part)} to {Head(last.index, last.n_heads - 1, self.part)}"
