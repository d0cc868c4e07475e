"""Positions: the tokens of a sample that are averaged into its one row (Head Pursuit, section 3, "one row per sample")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from headpursuit.errors import HeadPursuitError, check_choice
from headpursuit.model.heads import Part

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    from headpursuit.model.tokenize import Batch, Prompt

# Those that leave a row for every sample; "all" keeps moments alone.
RowPositions = Literal["mean", "last", "image", "answer"]
Positions = RowPositions | Literal["all"]
ALL: Literal["all"] = "all"
POSITIONS: tuple[str, ...] = (*get_args(RowPositions), ALL)


def check_positions(positions: str, *, part: Part = "text") -> None:
    """Refuse what is not the name of a choice of tokens, or not one in that part of a model.

    Raises:
        HeadPursuitError: naming the choices.
    """
    choices = ("mean", "image", ALL) if part == "vision" else POSITIONS
    check_choice(choices, "in a vision tower " if part == "vision" else "", positions=positions)


def position_mask(positions: Positions, batch: Batch, prompts: Sequence[Prompt]) -> Bool[Tensor, "b t"]:
    """The tokens whose activations are averaged.

    Args:
        positions: ``mean`` and ``all``: all tokens but padding; ``last`` the last of them; ``image`` the patch tokens;
            ``answer`` the tokens that predict the sample's target under teacher forcing (the last of the prompt up to the one
            before the end), since that is where a head writes what is said next.
        batch: the tokenized prompts, with targets for ``answer``.
        prompts: the same prompts, for messages.

    Raises:
        HeadPursuitError: a sample has no such token.
    """
    check_positions(positions)
    last = batch.real & (batch.real.flip(1).cumsum(1).flip(1) == 1)
    if positions in ("mean", ALL):
        mask = batch.real
    elif positions == "last":
        mask = last
    elif positions == "image":
        mask = batch.image
    else:
        mask = batch.answer.roll(-1, dims=1)
        mask[:, -1] = False
    for prompt, count in zip(prompts, mask.sum(dim=1).tolist(), strict=True):
        if count == 0:
            raise HeadPursuitError(
                f"{prompt.where}: no token at positions={positions!r}; give samples with "
                f"{'an image' if positions == 'image' else 'a target'}, or choose other positions"
            )
    return mask
