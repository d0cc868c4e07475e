"""What random token sets score, and how far above that a concept's own score lies."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

# In so few of all models should one head or more stand out by chance.
_LEVEL = 0.05
# The logit lens counts twice: it alone knows whether a head writes for a concept or against it (docs/decisions/ranking.md).
_WEIGHTS = (1.0, 2.0)
# Scores that are all alike differ by so little at most when their mean is taken.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Chance:
    """The scores of random token sets, by which others are measured. All arrays are ``(w, l, h)`` or ``(l, h)``.

    Attributes:
        mean: mean of every view of the heads (log explained variance, mean logit) over the random sets.
        deviation: its standard deviation (``ddof`` 1).
        spread: standard deviation of the views' weighted sum.
    """

    mean: Float[np.ndarray, "w l h"]
    deviation: Float[np.ndarray, "w l h"]
    spread: Float[np.ndarray, "l h"]

    @classmethod
    def of(cls, views: Float[np.ndarray, "w m l h"]) -> Chance:
        """Measure chance by the explained variances and mean logits of ``m`` random sets."""
        mean, deviation = _logarithmic(views).mean(axis=1), _logarithmic(views).std(axis=1, ddof=1)
        return cls(mean, deviation, _summed(views, mean, deviation).std(axis=0, ddof=1))

    def deviations(self, views: Float[np.ndarray, "w g l h"]) -> Float[np.ndarray, "g l h"]:
        """How far other sets lie above the random ones: both views in deviations, added, and again in deviations."""
        return ratio(_summed(views, self.mean, self.deviation), self.spread)


def _logarithmic(views: Float[np.ndarray, "w g l h"]) -> Float[np.ndarray, "w g l h"]:
    """Explained variances by their logarithms, which random sets spread normally (docs/decisions/ranking.md)."""
    return np.stack([logarithms(views[0]), views[1]])


def _summed(
    views: Float[np.ndarray, "w g l h"], mean: Float[np.ndarray, "w l h"], deviation: Float[np.ndarray, "w l h"]
) -> Float[np.ndarray, "g l h"]:
    distances = ratio(_logarithmic(views) - mean[:, None], deviation[:, None])
    explained, said = distances
    return np.asarray(_WEIGHTS[0] * explained + _WEIGHTS[1] * said)


def logarithms(explained: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """Logarithms of explained variances, finite where nothing is explained."""
    return np.asarray(np.log(np.maximum(explained, np.finfo(float).tiny)))


def ratio(distance: Float[np.ndarray, ...], deviation: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """Distances in deviations; 0 for a head that wrote nothing and so scores alike on every set."""
    differs = deviation > _ROUNDING
    return np.where(differs, distance / np.where(differs, deviation, 1), np.where(np.isnan(deviation), np.nan, 0.0))


def threshold(heads: int) -> float:
    """Deviations that none of so many heads reaches by chance in 19 of 20 models (normal distribution, Bonferroni)."""
    return NormalDist().inv_cdf(1 - _LEVEL / heads)
