"""The tokens at which a scale holds: a named group, or a mask that a user made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from headpursuit.errors import HeadPursuitError, check_choice

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool

TokenGroup = Literal["all", "image", "text", "prompt", "generated"]
TOKEN_GROUPS: tuple[str, ...] = get_args(TokenGroup)
ALL: Literal["all"] = "all"


@dataclass(frozen=True)
class TokenMask:
    """Chosen tokens of a prompt, as a value.

    Attributes:
        rows: for each row of a batch whether each of its tokens is chosen, padding included; or a single row, which holds
            for every row of a batch of that length.
    """

    rows: tuple[tuple[bool, ...], ...]

    @classmethod
    def of(cls, mask: Any) -> TokenMask:
        """Take over a boolean mask of shape ``(t,)`` or ``(b, t)``: a tensor, an array or nested lists.

        Raises:
            HeadPursuitError: it is not boolean, has another shape, or chooses nothing.
        """
        try:
            found = np.asarray(mask)
        except (TypeError, ValueError):
            found = np.zeros(())
        if found.dtype != np.bool_ or found.ndim not in (1, 2) or not found.any():
            raise HeadPursuitError(
                f"where={mask!r:.60}: choose one of {', '.join(TOKEN_GROUPS)}, or give a boolean mask of shape (t,) or (b, t) "
                "with at least one token in it"
            )
        return cls(tuple(tuple(row) for row in np.atleast_2d(found).tolist()))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and tokens, ``(b, t)``."""
        return len(self.rows), len(self.rows[0])

    def __str__(self) -> str:
        chosen = sum(map(sum, self.rows))
        return f"{chosen} masked token{'s' if chosen > 1 else ''}"

    def tensor(self, device: torch.device) -> Bool[torch.Tensor, "b t"]:
        """The mask as a tensor."""
        import torch

        return torch.tensor(self.rows, device=device)


Where = TokenGroup | TokenMask


def as_where(value: Any) -> Where:
    """Read the name of a group of tokens, or a mask.

    Raises:
        HeadPursuitError: it is neither.
    """
    if isinstance(value, TokenMask):
        return value
    if isinstance(value, str):
        check_choice(TOKEN_GROUPS, where=value)
        return value  # type: ignore[return-value]
    return TokenMask.of(value)


def in_words(where: Where) -> str:
    """Words for the tokens at which an edit holds; empty for all."""
    if where == ALL:
        return ""
    return f" on {where}" if isinstance(where, TokenMask) else f" on {where} tokens"


def to_json(where: Where) -> Any:
    """A group's name, or the mask's rows as lists of 0 and 1."""
    return {"mask": [list(map(int, row)) for row in where.rows]} if isinstance(where, TokenMask) else where


def from_json(stored: Any) -> Where:
    """Read what :func:`to_json` wrote.

    Raises:
        HeadPursuitError: it is neither a group of tokens nor a mask.
    """
    if isinstance(stored, dict):
        return TokenMask.of(np.asarray(stored["mask"]) == 1)
    return as_where(stored)
