"""Simultaneous orthogonal matching pursuit as the paper writes it (Algorithm 1): the oracle of every faster one.

Each step correlates the whole residual with the whole dictionary, takes the best atom, refits,
and subtracts: ``2·v·n·d`` operations a step. `headpursuit.pursuit.screened` gives the same answer for far less.
"""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.pursuit.checks import (
    CONSTANT,
    EXHAUSTED,
    Criterion,
    check_finite,
    check_options,
    describe_early_stop,
    first_best,
    no_variance,
)
from headpursuit.pursuit.dictionary import Dictionary
from headpursuit.pursuit.results import EarlyStopWarning, Pursuit
from headpursuit.pursuit.signal import HeadSignal


def somp_literal(
    signal: Float[Tensor, "n d"] | HeadSignal,
    atoms: Float[Tensor, "v d"] | Dictionary,
    *,
    n_atoms: int = 50,
    criterion: Criterion = "l1",
    center: bool = True,
    normalize: bool = True,
) -> Pursuit:
    """Explain a head's output by a few atoms: Algorithm 1 of Head Pursuit, line by line.

    Args:
        signal: the head output ``H``, one row per sample, or its two factors.
        atoms: the dictionary ``D``, one atom a row.
        n_atoms: how many steps to take.
        criterion: what an atom is chosen by: the sum over samples of its absolute correlations with the residual
            (``"l1"``, the paper's) or of their squares (``"l2"``).
        center: subtract the mean over samples from ``H`` first, so that variances are explained and not a bias.
        normalize: give every atom unit length first; off, longer atoms are chosen more readily.

    Returns:
        The chosen rows of ``atoms`` in order, and the share of ``‖H‖²`` explained after every step. Fewer than
        `n_atoms` entries, with one `EarlyStopWarning`, when no atom is left that correlates with the residual. Equal
        scores go to the lower row.

    Raises:
        HeadPursuitError: shapes or options that do not fit, NaN or infinite entries, a signal without variance.

    Notes:
        Works in the dtype of the signal, at least float32. For one sample, not centred, this is scikit-learn's
        `orthogonal_mp`; for one step of one sample over raw atoms, not centred, it is the logit lens. The algorithm is
        due to Tropp, Gilbert and Strauss (2006).

    >>> import torch
    >>> signal = torch.tensor([[3.0, 0, 1], [-3, 0, 1], [0, 2, 1], [0, -2, 1]])
    >>> found = hp.pursuit.somp_literal(signal, torch.eye(3), n_atoms=2)
    >>> found.support.tolist(), [round(share, 3) for share in found.explained_variance.tolist()]
    ([0, 1], [0.692, 1.0])
    """
    H, D = _as_matrices(signal, atoms, n_atoms=n_atoms, criterion=criterion)
    scale = torch.linalg.vector_norm(H)
    if center:
        H = H - H.mean(dim=0)
    if normalize:
        norms = torch.linalg.vector_norm(D, dim=1, keepdim=True)
        D = torch.where(norms > 0, D / norms, torch.zeros_like(D))
    variance = H.square().sum()
    if variance.sqrt() <= CONSTANT * torch.finfo(H.dtype).eps * scale:
        raise HeadPursuitError(no_variance(len(H)))
    floor = EXHAUSTED * torch.linalg.vector_norm(H, dim=1).sum() * torch.linalg.vector_norm(D, dim=1).max()
    if criterion == "l2":
        floor = EXHAUSTED * variance.sqrt() * torch.linalg.vector_norm(D, dim=1).max()

    R = H
    S: list[int] = []
    explained: list[float] = []
    while len(S) < min(n_atoms, len(D)):
        correlations = R @ D.T
        scores = correlations.abs_().sum(dim=0) if criterion == "l1" else correlations.square_().sum(dim=0).sqrt_()
        scores[S] = 0
        p = first_best(scores)
        if scores[p] <= floor:
            break
        S.append(p)
        D_S = D[S]
        W = torch.linalg.lstsq(D_S.T, H.T).solution.T
        R = H - W @ D_S
        explained.append(float(1 - R.square().sum() / variance))

    if len(S) < n_atoms:
        warnings.warn(describe_early_stop(len(S), n_atoms, len(D)), EarlyStopWarning, stacklevel=2)
    return Pursuit(support=torch.tensor(S, dtype=torch.int64), explained_variance=torch.tensor(explained, dtype=torch.float64))


def _as_matrices(
    signal: Tensor | HeadSignal, atoms: Tensor | Dictionary, *, n_atoms: int, criterion: str
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "v d"]]:
    """Check what was given and bring both sides to one dtype, float32 or wider."""
    from headpursuit.pursuit.dictionary import rows_of

    D = rows_of(atoms)
    factors = (signal.z, signal.projection) if isinstance(signal, HeadSignal) else (signal,)
    check_options(n_atoms=n_atoms, criterion=criterion)
    check_finite("the signal", *factors)
    check_finite("the dictionary", D)
    dtype = torch.promote_types(torch.promote_types(factors[0].dtype, D.dtype), torch.float32)
    H = factors[0].to(dtype)
    for factor in factors[1:]:
        H = H @ factor.to(dtype)
    if H.ndim != 2 or D.ndim != 2 or H.shape[1] != D.shape[1] or 0 in H.shape or 0 in D.shape:
        raise HeadPursuitError(
            f"a pursuit needs a signal (n, d) and atoms (v, d) of the same width, neither empty; "
            f"got {tuple(H.shape)} and {tuple(D.shape)}"
        )
    return H, D.to(dtype)
