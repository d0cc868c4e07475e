"""Paired bootstrap: how far a number could have come out otherwise on other samples of the same kind.

Samples are drawn with replacement, the same ones for every edit of a task, so that what makes a sample hard for all of them
cancels (percentile intervals; Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
LEVEL = 0.95
# Weights of at most so many samples times resamples are made at once.
_AT_ONCE = 20_000_000


def resampled_means(scores: Float[np.ndarray, "c n"], *, resamples: int = RESAMPLES, seed: int = 0) -> Float[np.ndarray, "b c"]:
    """Means over samples drawn with replacement.

    Args:
        scores: one row a cell, one column a sample, shape ``(c, n)``.
        resamples: how many drawings ``b``.
        seed: the same seed and number of samples give the same drawings, which is what pairs two calls.

    Returns:
        Shape ``(b, c)``.
    """
    n = scores.shape[1]
    size = max(1, _AT_ONCE // n)
    parts = []
    for start in range(0, resamples, size):
        weights = _weights(n, min(size, resamples - start), seed + start)
        parts.append(weights @ scores.T.astype(np.float64))
    return np.concatenate(parts)


def resampled_median(means: Float[np.ndarray, "b c"], *, seed: int = 0) -> Float[np.ndarray, " b"]:
    """Median over random head sets, these drawn again with replacement too: they are a sample like the others.

    Args:
        means: what :func:`resampled_means` gives for the cells of the draws, shape ``(b, c)``.
        seed: seed of the drawing.
    """
    picks = np.random.default_rng((seed, 1)).integers(means.shape[1], size=means.shape)
    return np.median(np.take_along_axis(means, picks, axis=1), axis=1)


def interval(drawn: Float[np.ndarray, " b"], *, level: float = LEVEL) -> tuple[float, float] | None:
    """The middle ``level`` of resampled values; None where they are not all finite (an unedited mean of 0)."""
    if not np.isfinite(drawn).all():
        return None
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _weights(n: int, resamples: int, seed: int) -> Float[np.ndarray, "b n"]:
    drawn = np.random.default_rng((seed, 0)).multinomial(n, np.full(n, 1 / n), size=resamples)
    return drawn / n
