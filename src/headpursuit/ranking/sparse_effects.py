"""Effects of single heads from those of many sets of heads: a pursuit over the heads, and a ridge over what it leaves.

What a set changes is taken to be the sum of its heads' effects: a few large ones, which orthogonal matching pursuit finds one
after the other (the pursuit of this package, with the heads as atoms), and many small ones, which ridge regression spreads over
all heads. docs/selection.md compares this with the lasso, with either half alone, and with the mean over a head's sets.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from headpursuit.pursuit.results import EarlyStopWarning
from headpursuit.pursuit.somp import somp_literal

_MOST_ATOMS = 32
_FOLDS = 5
_PENALTIES = np.logspace(-4, 4, 33)


# Compared by identity: arrays have no one truth value.
@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of single columns of a design.

    Attributes:
        values: shape ``(j,)``, in the unit of the changes.
        errors: standard errors of a least-squares fit of each column beside those that the pursuit chose, shape ``(j,)``; NaN
            where a column cannot be told from them. For a column that ridge shrank they are too large rather than too small.
        n_chosen: how many columns the pursuit chose.
    """

    values: Float[np.ndarray, " j"]
    errors: Float[np.ndarray, " j"]
    n_chosen: int


def sparse_effects(design: Float[np.ndarray, "m j"], changes: Float[np.ndarray, " m"]) -> Effects:
    """Split the changes that sets of heads make into effects of single heads.

    Args:
        design: 1 where a column's head is in a row's set, else 0; every row has a 1.
        changes: what each set changes.

    Returns:
        The effects; where every set is one head, they are what it changed, and there are no errors. How many columns the
        pursuit chooses is settled by cross-validation over rows, the ridge's penalty by generalised cross-validation. What all
        heads do alike is an effect of its own, beside which the pursuit looks for those that differ.
    """
    if (design.sum(axis=1) == 1).all():  # every head was measured by itself, so there is nothing to split
        counts = design.sum(axis=0)
        return Effects(values=design.T @ changes / counts, errors=np.full(len(counts), np.nan), n_chosen=len(counts))
    X, y = _beside_the_common(design, design), _beside_the_common(changes, design)
    most = min(_MOST_ATOMS, len(X) // _FOLDS, X.shape[1])
    chosen = _path(X, y, most)[: _count(design, changes, most)]
    beta = np.zeros(X.shape[1])
    if chosen:
        beta[chosen] = np.linalg.lstsq(X[:, chosen], y, rcond=None)[0]
    left = y - X @ beta
    values = beta + _ridge(X, left)
    return Effects(
        values=values + _common(changes - design @ values, design), errors=_errors(X, left, chosen), n_chosen=len(chosen)
    )


def _common(changes: Float[np.ndarray, "m ..."], design: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "..."]:
    """The effect that all heads would have if they had the same one."""
    sizes = design.sum(axis=1)
    found: Float[np.ndarray, ...] = np.asarray(sizes @ changes / (sizes @ sizes))
    return found


def _beside_the_common(changes: Float[np.ndarray, "m ..."], design: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m ..."]:
    """What is left when all heads had the same effect: a pursuit looks for those that differ from the rest."""
    sizes = design.sum(axis=1)
    found: Float[np.ndarray, "m ..."] = changes - np.multiply.outer(sizes, _common(changes, design))
    return found


def _path(X: Float[np.ndarray, "m j"], y: Float[np.ndarray, " m"], most: int) -> list[int]:
    """Columns in the order in which orthogonal matching pursuit takes them."""
    if most < 1 or np.abs(y).max() == 0:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EarlyStopWarning)
        found = somp_literal(torch.tensor(y[None]), torch.tensor(X.T), n_atoms=most, center=False)
    return [int(column) for column in found.support]


def _count(design: Float[np.ndarray, "m j"], changes: Float[np.ndarray, " m"], most: int) -> int:
    """How many columns predict best what was left out."""
    squares = np.zeros(most + 1)
    for fold in range(min(_FOLDS, len(design))):
        out = np.arange(len(design)) % _FOLDS == fold
        seen, told = design[~out], changes[~out]
        X, y = _beside_the_common(seen, seen), _beside_the_common(told, seen)
        path = _path(X, y, most)
        for count in range(most + 1):
            beta = np.zeros(design.shape[1])
            if path[:count]:
                beta[path[:count]] = np.linalg.lstsq(X[:, path[:count]], y, rcond=None)[0]
            effects = beta + _common(told - seen @ beta, seen)
            squares[count] += np.square(changes[out] - design[out] @ effects).sum()
    return int(squares.argmin())


def _ridge(X: Float[np.ndarray, "m j"], y: Float[np.ndarray, " m"]) -> Float[np.ndarray, " j"]:
    """Ridge regression with the penalty of least generalised cross-validation (Golub, Heath and Wahba 1979)."""
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    along, best, found = U.T @ y, np.inf, np.zeros(X.shape[1])
    for penalty in _PENALTIES * max(float(s[0]) ** 2, np.finfo(float).tiny):
        kept = s**2 / (s**2 + penalty)
        left = np.square(y).sum() - np.square(along).sum() + np.square((1 - kept) * along).sum()
        score = left / max(len(y) - 1 - kept.sum(), 1e-9) ** 2  # one degree of freedom went into what all do alike
        if score < best:
            best, found = score, Vt.T @ (s / (s**2 + penalty) * along)
    return found


def _errors(X: Float[np.ndarray, "m j"], left: Float[np.ndarray, " m"], chosen: list[int]) -> Float[np.ndarray, " j"]:
    """Standard error of every column, fitted beside the chosen ones."""
    freedom = max(1, len(X) - 1 - len(chosen))
    Q = np.linalg.qr(X[:, chosen])[0]
    own = np.square(X).sum(axis=0) - np.square(Q.T @ X).sum(axis=0)
    own[chosen] = 1 / np.diag(np.linalg.pinv(X[:, chosen].T @ X[:, chosen]))
    told = own > 1e-9 * len(X)
    return np.where(told, np.sqrt(np.square(left).sum() / freedom / np.where(told, own, 1)), np.nan)
