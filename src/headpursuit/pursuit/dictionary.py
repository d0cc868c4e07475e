"""Dictionaries: which directions of the residual stream have a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from headpursuit.errors import HeadPursuitError


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Atoms with their labels; any tensor with one label a row will do.

    The atoms stay as they are stored, in their own dtype and length; a pursuit gives them unit length at use. What a
    pursuit over a whole vocabulary has to work out about them first is kept as long as the dictionary lives (for float32
    atoms half as much memory again), so use one dictionary for all layers of a model and do not change its atoms in place.
    Two dictionaries are equal when they are the same object.

    Attributes:
        atoms: one direction of the residual stream a row, shape ``(v, d)``.
        labels: one text a row.

    Raises:
        HeadPursuitError: not a matrix of floating-point numbers, or not one label a row.

    >>> import torch
    >>> colours = Dictionary(torch.eye(3), ["red", "green", "blue"])
    >>> colours.restricted([2, 0]).labels
    ['blue', 'red']
    """

    atoms: Float[Tensor, "v d"]
    labels: Sequence[str]

    def __post_init__(self) -> None:
        if self.atoms.ndim != 2 or not self.atoms.is_floating_point():
            raise HeadPursuitError(
                f"a dictionary needs a floating-point matrix (v, d), got {self.atoms.dtype} {tuple(self.atoms.shape)}"
            )
        if len(self.labels) != len(self.atoms):
            raise HeadPursuitError(f"a dictionary of {len(self.atoms)} atoms got {len(self.labels)} labels: one a row")

    def restricted(self, rows: Sequence[int] | Int64[Tensor, " r"]) -> Dictionary:
        """Keep only some rows, in the given order: a concept's dictionary.

        Raises:
            HeadPursuitError: a row that does not exist.
        """
        index = torch.as_tensor(rows, dtype=torch.int64).reshape(-1)
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= len(self.atoms)):
            raise HeadPursuitError(
                f"rows {int(index.min())}..{int(index.max())} do not all lie in a dictionary of {len(self.atoms)}"
            )
        chosen = index.tolist()
        return Dictionary(self.atoms[index.to(self.atoms.device)], _at(self.labels, chosen))

    def __len__(self) -> int:
        return len(self.atoms)


def rows_of(atoms: Float[Tensor, "v d"] | Dictionary) -> Float[Tensor, "v d"]:
    """The matrix of a dictionary, or the tensor that was given in its place."""
    return atoms.atoms if isinstance(atoms, Dictionary) else atoms


def _at(labels: Sequence[str], chosen: Sequence[int]) -> Sequence[str]:
    """Some of the labels; those that are made when they are read, such as a vocabulary's, are left unread."""
    pick = getattr(labels, "at", None)
    return [labels[i] for i in chosen] if pick is None else pick(chosen)
