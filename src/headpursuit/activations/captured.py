"""The common part of every capture, whether it keeps rows or only their moments."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head, Part
from headpursuit.model.weights import HeadWeights


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Captured(ABC):
    """Heads of one model, seen on some samples.

    Captures are equal when they hold the same numbers, of the same model, positions and origin.

    Attributes:
        positions: which tokens each row is the mean of.
        weights: output projections and unembedding.
        tokenizer: names the rows of the unembedding and resolves concepts.
        model: ``{"id", "revision", "architecture", "fingerprint"}``, and ``part`` where it is not the text's.
        about: what is needed to capture again: data fingerprint, versions, options, samples that were skipped.
    """

    positions: str
    weights: HeadWeights = field(compare=False)
    tokenizer: Any = field(compare=False)
    model: Mapping[str, Any]
    about: Mapping[str, Any]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        compared = [one.name for one in fields(self) if one.compare]
        return all(_same(getattr(self, name), getattr(other, name)) for name in compared)

    def __hash__(self) -> int:
        return hash((type(self), self.positions, self.n, self.model.get("fingerprint"), self.about.get("data")))

    def __repr__(self) -> str:
        n_heads = sum(self.head_counts.values())
        return (
            f"{type(self).__name__}({self.model.get('id')}, n={self.n}, positions={self.positions!r}: "
            f"{n_heads} {self.part} heads in {len(self.layers)} layers)"
        )

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of rows."""

    @property
    @abstractmethod
    def head_counts(self) -> dict[int, int]:
        """Number of heads of each layer that has some."""

    @property
    @abstractmethod
    def rows(self) -> "Captured | None":
        """The capture of those samples whose rows were kept; None where none were."""

    @abstractmethod
    def of_layer(self, layer: int) -> Self:
        """The capture of one layer alone."""

    @abstractmethod
    def mean(self, layer: int) -> Float[Tensor, "h e"]:
        """Mean of ``z`` over the rows."""

    @abstractmethod
    def check(self) -> None:
        """Check that there is something to explain.

        Raises:
            HeadPursuitError: values that are not finite, or nothing that varies.
        """

    @property
    def part(self) -> Part:
        """The part of the model that the heads are of."""
        return self.model.get("part", "text")

    def head(self, layer: int, head: int) -> Head:
        """The head in that row and column of a layer × head table."""
        return Head(layer, head, self.part)

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the layers that have heads."""
        return tuple(self.head_counts)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a layer × head table."""
        return max(self.head_counts) + 1, max(self.head_counts.values())

    def heads(self) -> tuple[Head, ...]:
        """Every head, layer by layer."""
        return tuple(self.head(layer, head) for layer, count in self.head_counts.items() for head in range(count))

    def require(self, heads: Iterable[Head]) -> None:
        """Check that every head was captured.

        Raises:
            HeadPursuitError: naming the first that was not.
        """
        known = self.heads()
        for head in heads:
            if head not in known:
                raise HeadPursuitError(f"there is no head {head} in this capture: its heads lie in {known[0]} to {known[-1]}")


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Mapping):
        return bool(one == other)
    if one.keys() != other.keys():
        return False
    pairs = ((one[key], other[key]) for key in one)
    return all(torch.equal(*pair) if isinstance(pair[0], torch.Tensor) else pair[0] == pair[1] for pair in pairs)
