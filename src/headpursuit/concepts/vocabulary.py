"""A model's vocabulary as a dictionary: the rows of its unembedding, each labelled by its token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.pursuit.dictionary import Dictionary


def vocabulary_dictionary(
    weight: Float[Tensor, "v d"], tokenizer: Any, *, gain: Float[Tensor, " d"] | None = None
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
    return Dictionary(weight, TokenLabels(tokenizer, range(len(weight))))


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
        return str(token).replace("▁", " ")
    return str(tokenizer.convert_tokens_to_string([token]))
