"""Results of pursuits."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float64, Int64
from torch import Tensor


class EarlyStopWarning(UserWarning):
    """A pursuit ended before its last step because no atom was left that could explain more."""


@dataclass(frozen=True)
class Pursuit:
    """The atoms that explain one head (Algorithm 1's S), in the order they were chosen.

    Attributes:
        support: rows of the dictionary, shape ``(k,)``; shorter than asked for after an early stop.
        explained_variance: share of the centred signal's ``‖H‖²`` explained after each step, in 0..1, shape ``(k,)``.

    >>> import torch
    >>> found = hp.pursuit.somp(torch.tensor([[1.0, 0, 0], [0, 2, 0]]), torch.eye(3), n_atoms=2, center=False)
    >>> found.support, found.explained_variance
    (tensor([1, 0]), tensor([0.8000, 1.0000], dtype=torch.float64))
    """

    support: Int64[Tensor, " k"]
    explained_variance: Float64[Tensor, " k"]

    def __len__(self) -> int:
        return len(self.support)


class HeadPursuits(NamedTuple):
    """The pursuits of several heads, unpacked as ``support, explained_variance = somp_heads(...)``.

    Attributes:
        support: rows of the dictionary, shape ``(h, k)``; ``-1`` where a head stopped early.
        explained_variance: cumulative, shape ``(h, k)``; after an early stop the last value repeats, and it is 0
            throughout for a head without variance.
    """

    support: Int64[Tensor, "h k"]
    explained_variance: Float64[Tensor, "h k"]

    def head(self, index: int) -> Pursuit:
        """One head's pursuit, without the padding of an early stop."""
        kept = int((self.support[index] >= 0).sum())
        return Pursuit(self.support[index, :kept], self.explained_variance[index, :kept])
