"""A model's vocabulary as a dictionary: the rows of its unembedding, each labelled by its token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.model.token_text import is_reserved, known_ids, token_text
from headpursuit.pursuit.dictionary import Dictionary


def vocabulary_dictionary(
    weight: Float[Tensor, "v d"], tokenizer: Any, *, gain: Float[Tensor, " d"] | None = None, ids: Sequence[int] | None = None
) -> Dictionary:
    """The paper's dictionary: the rows of the unembedding, each labelled by its token.

    Rows that are no token's (a vocabulary padded to a round number, holes in it) are left out, and so are those that are kept
    for tokens to come (``<unused7>``): see :func:`usable_ids` and :func:`atom_ids`.

    Args:
        weight: the unembedding matrix, tied or not.
        tokenizer: a Hugging Face tokenizer; a token is decoded when its label is first read.
        gain: the final norm's elementwise factor (for Gemma one plus its weight), folded into the rows so that an
            atom's correlation is a logit up to the norm's own scale. The product is kept in float32 or wider.
        ids: the rows to take, in this order, in place of all that are usable.

    Raises:
        HeadPursuitError: the gain is not one number per column.

    >>> dictionary = vocabulary_dictionary(acts.weights.unembedding(), acts.tokenizer)
    >>> len(dictionary), dictionary.labels[740]
    (2048, ' red')
    """
    if ids is None:
        ids = usable_ids(tokenizer, len(weight))
    if len(ids) < len(weight):
        at_front = not ids or (ids[-1] == len(ids) - 1 and ids == sorted(ids))  # then no row needs to be copied
        weight = weight[: len(ids)] if at_front else weight[torch.tensor(ids, device=weight.device)]
    if gain is not None:
        if gain.shape != weight.shape[1:]:
            raise HeadPursuitError(f"a gain of shape {tuple(gain.shape)} does not fit rows of {weight.shape[1]}")
        weight = weight * gain.to(torch.promote_types(gain.dtype, torch.float32))
    return Dictionary(weight, TokenLabels(tokenizer, ids))


def gather_atoms(unembedding: Float[Tensor, "v d"], rows: Sequence[tuple[int, ...]]) -> Float[Tensor, "k d"]:
    """The token rows, or means of token rows, that `ResolvedConcept.rows` and sets like it name, not normalised.

    Args:
        unembedding: one row a token, shape ``(v, d)``.
        rows: the token ids of every atom.

    Returns:
        One row an atom, shape ``(k, d)``, in the dtype of ``unembedding``; a mean is taken in float32 at least.

    Raises:
        HeadPursuitError: the matrix has no row for one of the tokens.

    >>> gather_atoms(torch.eye(3), [(0,), (1, 2)])
    tensor([[1.0000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.5000]])
    """
    if unembedding.ndim != 2:
        raise HeadPursuitError(f"atoms need an unembedding of shape (v, d), got {tuple(unembedding.shape)}")
    highest = max(token for row in rows for token in row)
    if highest >= len(unembedding):
        raise HeadPursuitError(
            f"a concept was resolved up to token {highest}, the unembedding has {len(unembedding)} rows: resolve it with this "
            "model's tokenizer and vocabulary_size"
        )
    device = unembedding.device
    flat = unembedding[torch.tensor([token for row in rows for token in row], device=device)]
    lengths = torch.tensor([len(row) for row in rows], device=device)
    if int(lengths.max()) == 1:
        return flat
    exact = flat.to(torch.promote_types(flat.dtype, torch.float32))
    owner = torch.repeat_interleave(torch.arange(len(rows), device=device), lengths)
    sums = exact.new_zeros(len(rows), exact.shape[1]).index_add_(0, owner, exact)
    return (sums / lengths[:, None]).to(unembedding.dtype)


def usable_ids(tokenizer: Any, n_rows: int) -> Sequence[int]:
    """Ids below ``n_rows`` of tokens that texts are made of, in order: not reserved ones, and no rows that are no token's."""
    if not hasattr(tokenizer, "get_vocab"):
        return range(n_rows)
    known = known_ids(tokenizer, n_rows)
    spellings = tokenizer.convert_ids_to_tokens(known)
    return [token for token, spelling in zip(known, spellings, strict=True) if not is_reserved(str(spelling))]


def atom_ids(dictionary: Dictionary) -> Sequence[int]:
    """The token id of each atom of a vocabulary, or the number of each row of another dictionary."""
    labels = dictionary.labels
    return labels.ids if isinstance(labels, TokenLabels) else range(len(dictionary))


class TokenLabels(Sequence[str]):
    """Labels that are decoded one by one, because a vocabulary is large and a description reads five."""

    def __init__(self, tokenizer: Any, ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self.ids = ids

    def at(self, positions: Sequence[int]) -> TokenLabels:
        """The labels at some positions, still undecoded."""
        return TokenLabels(self._tokenizer, [self.ids[i] for i in positions])

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return TokenLabels(self._tokenizer, self.ids[index])
        return token_text(self._tokenizer, self.ids[index])
