"""The public pursuits: one signal, or all heads of a layer."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from headpursuit.errors import HeadPursuitError
from headpursuit.pursuit.results import EarlyStopWarning, HeadPursuits, Pursuit
from headpursuit.pursuit.signal import HeadSignal
from headpursuit.pursuit.somp import somp_literal

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from headpursuit.pursuit.dictionary import Dictionary
    from headpursuit.pursuit.rules import Criterion


def somp(
    signal: Float[Tensor, "n d"] | HeadSignal,
    atoms: Float[Tensor, "v d"] | Dictionary,
    *,
    n_atoms: int = 50,
    criterion: Criterion = "l1",
    center: bool = True,
    normalize: bool = True,
) -> Pursuit:
    """`somp_literal`'s answer, fast. Arguments, result and errors are the same."""
    return somp_literal(signal, atoms, n_atoms=n_atoms, criterion=criterion, center=center, normalize=normalize)


def somp_heads(
    z: Float[Tensor, "n h e"],
    projection: Float[Tensor, "h e d"],
    atoms: Float[Tensor, "v d"] | Dictionary,
    *,
    n_atoms: int = 50,
    criterion: Criterion = "l1",
    center: bool = True,
    normalize: bool = True,
) -> HeadPursuits:
    """Pursue all heads of a layer, each as `somp` would."""
    if z.ndim != 3 or projection.ndim != 3 or z.shape[1:] != projection.shape[:2]:
        raise HeadPursuitError(
            f"heads need z (n, h, e) and projection (h, e, d), got {tuple(z.shape)} and {tuple(projection.shape)}"
        )
    h = z.shape[1]
    support = torch.full((h, n_atoms), -1)
    explained = torch.zeros(h, n_atoms, dtype=torch.float64)
    stopped, silent = [], []
    for head in range(h):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EarlyStopWarning)
            try:
                found = somp(
                    HeadSignal(z[:, head], projection[head]),
                    atoms,
                    n_atoms=n_atoms,
                    criterion=criterion,
                    center=center,
                    normalize=normalize,
                )
            except HeadPursuitError as error:
                if "no variance" not in str(error):
                    raise
                silent.append(head)
                continue
        k = len(found)
        support[head, :k] = found.support
        explained[head, :k] = found.explained_variance
        if k < n_atoms:
            explained[head, k:] = found.explained_variance[-1] if k else 0
            stopped.append(head)
    if len(silent) == h:
        raise HeadPursuitError(f"no head of the {h} has variance over its {len(z)} sample(s)")
    if stopped or silent:
        warnings.warn(
            f"stopped early in {len(stopped)} and no variance in {len(silent)} of {h} heads",
            EarlyStopWarning,
            stacklevel=2,
        )
    return HeadPursuits(support, explained)
