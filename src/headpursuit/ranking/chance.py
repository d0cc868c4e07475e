"""What random token sets score, and how far above that a concept's own score lies."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

# In so few of all models should one head or more stand out by chance.
_LEVEL = 0.05
# Scores that are all alike differ by so little at most when their mean is taken.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Chance:
    """The mean logits that heads give random token sets, by which a concept's are measured. Arrays are ``(l, h)``.

    Attributes:
        mean: their mean over the sets.
        deviation: their standard deviation (``ddof`` 1).
    """

    mean: Float[np.ndarray, "l h"]
    deviation: Float[np.ndarray, "l h"]

    @classmethod
    def of(cls, logits: Float[np.ndarray, "m l h"]) -> Chance:
        """Measure chance by the mean logits of ``m`` random sets."""
        return cls(logits.mean(axis=0), logits.std(axis=0, ddof=1))

    def deviations(self, logits: Float[np.ndarray, "*g l h"]) -> Float[np.ndarray, "*g l h"]:
        """How far other mean logits lie above the random sets', in deviations."""
        return ratio(logits - self.mean, self.deviation)

    def scores(
        self, explained: Float[np.ndarray, "*g l h"], logits: Float[np.ndarray, "*g l h"]
    ) -> Float[np.ndarray, "*g l h"]:
        """The calibrated score: the correlation with a concept, times how far its mean logit lies above chance.

        The square root of an explained variance is a multiple correlation: how much of what a head writes is about the concept.
        The deviations tell whether it speaks for it or against it, and whether any other words would do.
        """
        return np.asarray(np.sqrt(np.maximum(explained, 0)) * self.deviations(logits))


def beyond(scores: Float[np.ndarray, ...], null: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, ...]:
    """How far scores lie above the mean of ``m`` random sets', in deviations."""
    return ratio(scores - null.mean(axis=0), null.std(axis=0, ddof=1))


def logarithms(explained: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """Logarithms of explained variances, finite where nothing is explained; random sets spread them normally."""
    return np.asarray(np.log(np.maximum(explained, np.finfo(float).tiny)))


def ratio(distance: Float[np.ndarray, ...], deviation: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """Distances in deviations; 0 for a head that wrote nothing and so scores alike on every set."""
    differs = deviation > _ROUNDING
    return np.where(differs, distance / np.where(differs, deviation, 1), np.where(np.isnan(deviation), np.nan, 0.0))


def threshold(heads: int) -> float:
    """Deviations that none of so many heads reaches by chance in 19 of 20 models (normal distribution, Bonferroni)."""
    return NormalDist().inv_cdf(1 - _LEVEL / heads)
