"""The rules that every pursuit here obeys alike: what counts as a tie, as exhausted, as constant, as bad input."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.errors import HeadPursuitError, check_choice, check_counts

Criterion = Literal["l1", "l2"]

# A correlation below a millionth of the signal's own size is rounding, whatever the dtype: the dictionary is exhausted.
EXHAUSTED = 1e-6

# Centring n equal rows leaves a few units in the last place; this many of them still mean "constant".
CONSTANT = 64

# Scores this many units in the last place apart are equal: two identical rows must not be ordered by how a product was
# blocked. The lower row wins.
TIE = 16


def first_best(scores: Float[Tensor, " v"]) -> int:
    """The lowest index among the (numerically) highest scores."""
    threshold = scores.max() * (1 - TIE * torch.finfo(scores.dtype).eps)
    return int((scores >= threshold).nonzero()[0, 0])


def check_options(*, n_atoms: int, criterion: str) -> None:
    """Refuse options that no pursuit can follow.

    Raises:
        HeadPursuitError: fewer than one step, or an unknown criterion.
    """
    check_counts(n_atoms=n_atoms)
    check_choice(get_args(Criterion), criterion=criterion)


def check_finite(what: str, *tensors: Tensor) -> None:
    """Refuse NaN and infinite entries, which would win or poison every comparison.

    Raises:
        HeadPursuitError: an entry is not finite, or the tensor is not of a floating dtype.
    """
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise HeadPursuitError(f"{what} has dtype {tensor.dtype}; a pursuit needs floating-point numbers")
        # A sum is finite unless an entry is not (or the sum overflows): one pass and no mask in the usual case.
        if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise HeadPursuitError(
                f"{what} has {bad} NaN or infinite of {tensor.numel()} entries: check the activations and weights it "
                "was made from (an overflow in float16 is the usual cause)"
            )


def describe_early_stop(taken: int, asked: int, atoms: int) -> str:
    """The text of the one warning that an early stop gives."""
    if taken == atoms:
        return f"only {atoms} atoms for {asked} steps: the pursuit used them all"
    return f"stopped after {taken} of {asked} steps: no atom is left that correlates with the residual"


def no_variance(samples: int | None) -> str:
    """The text of the error for a signal that does not vary."""
    over = "" if samples is None else f" over its {samples} sample(s)"
    return f"the signal has no variance{over}: there is nothing to explain; give samples that differ, or center=False"
