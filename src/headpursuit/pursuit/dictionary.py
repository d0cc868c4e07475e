"""Dictionaries: which directions of the residual stream have a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import torch

from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor


@dataclass(frozen=True)
class Dictionary:
    """Atoms with their labels; any tensor with one label a row will do.

    The atoms stay as they are stored, in their own dtype and length; a pursuit gives them unit length at use. What a
    pursuit over a whole vocabulary has to work out about them first is kept with the dictionary (for float32 atoms half
    as much memory again), so use one dictionary for all layers of a model and do not change its atoms in place.

    Attributes:
        atoms: one direction of the residual stream a row, shape ``(v, d)``.
        labels: one text a row.

    Raises:
        HeadPursuitError: not a matrix of floating-point numbers, or not one label a row.
    """

    atoms: Float[Tensor, "v d"]
    labels: Sequence[str]
    prepared: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.atoms.ndim != 2 or not self.atoms.is_floating_point():
            raise HeadPursuitError(
                f"a dictionary needs a floating-point matrix (v, d), got {self.atoms.dtype} {tuple(self.atoms.shape)}"
            )
        if len(self.labels) != len(self.atoms):
            raise HeadPursuitError(f"a dictionary of {len(self.atoms)} atoms got {len(self.labels)} labels: one a row")

    @classmethod
    def from_unembedding(
        cls, weight: Float[Tensor, "v d"], tokenizer: Any, *, gain: Float[Tensor, " d"] | None = None
    ) -> Dictionary:
        """The paper's dictionary: the rows of the unembedding, each labelled by its token.

        Args:
            weight: the unembedding matrix, tied or not.
            tokenizer: a Hugging Face tokenizer; a token is decoded when its label is first read.
            gain: the final norm's elementwise factor (for Gemma one plus its weight), folded into the rows so that an
                atom's correlation is a logit up to the norm's own scale. The product is kept in float32 or wider.

        Raises:
            HeadPursuitError: the gain is not one number per column.
        """
        if gain is not None:
            if gain.shape != weight.shape[1:]:
                raise HeadPursuitError(f"a gain of shape {tuple(gain.shape)} does not fit rows of {weight.shape[1]}")
            weight = weight * gain.to(torch.promote_types(gain.dtype, torch.float32))
        return cls(weight, TokenLabels(tokenizer, range(len(weight))))

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
        labels = self.labels.at(chosen) if isinstance(self.labels, TokenLabels) else [self.labels[i] for i in chosen]
        return Dictionary(self.atoms[index.to(self.atoms.device)], labels)

    def __len__(self) -> int:
        return len(self.atoms)


class TokenLabels(Sequence[str]):
    """Labels that are decoded one by one, because a vocabulary is large and a description reads five."""

    def __init__(self, tokenizer: Any, ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = ids

    def at(self, positions: Sequence[int]) -> TokenLabels:
        """The labels at some positions, still undecoded."""
        return TokenLabels(self._tokenizer, [self._ids[i] for i in positions])

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return TokenLabels(self._tokenizer, self._ids[index])
        return token_text(self._tokenizer, self._ids[index])


def token_text(tokenizer: Any, token_id: int) -> str:
    """A token as text, its leading space kept; rows beyond the tokenizer's vocabulary read ``<id>``."""
    token = tokenizer.convert_ids_to_tokens(token_id) if token_id < len(tokenizer) else None
    if token is None:
        return f"<{token_id}>"
    if "▁" in token:
        # Decoding one SentencePiece token drops its leading space, which is what tells " May" from "May".
        return token.replace("▁", " ")
    return tokenizer.convert_tokens_to_string([token])


def rows_of(atoms: Float[Tensor, "v d"] | Dictionary) -> Float[Tensor, "v d"]:
    """The matrix of a dictionary, or the tensor that was given in its place."""
    return atoms.atoms if isinstance(atoms, Dictionary) else atoms
