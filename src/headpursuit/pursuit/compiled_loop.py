"""Algorithm 1 for one head with all its correlations in the cache, compiled by numba (the extra ``fast``)."""

import math

import numba
import numpy as np

from headpursuit.pursuit.bounds import SLACK
from headpursuit.pursuit.checks import TIE

# Numbers that are added up in float32 before float64 takes their sum.
_RUN = 1024
# Relative errors: of such a sum (Higham's γ), of a few operations in float32, and of scores that count as equal.
_SUM = _RUN * 2.0**-24 * (1 + SLACK)
_EPS = 4 * 2.0**-24
_EQUAL = TIE * 2.0**-52
# A direction of which less than this is left of its atom has lost digits: its part of the signal is computed afresh.
_SHORT = 0.05

# Sums may be reordered, which makes vectors of loops; NaN and infinities keep their meaning.
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@_jit
def _dot(a, b):
    total = 0.0
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@_jit
def _sum(row):
    part = np.float32(0)
    for i in range(len(row)):
        part += abs(row[i])
    return part


@_jit
def _caught_up(row, S, coefficients):
    """Take ``Σ_t c_t S_t`` off a row; returns the sum of its sizes."""
    total = 0.0
    for start in range(0, len(row), _RUN):
        part = row[start : start + _RUN]
        for t in range(len(S)):
            _lower(part, S[t, start : start + _RUN], np.float32(coefficients[t]))
        total += _sum(part)
    return total


@_jit
def _lower(row, s, factor):
    for i in range(len(row)):
        row[i] -= factor * s[i]


@_jit
def _written(samples, mean, y, out):
    """Write a direction of head space on every sample, in float64; returns the sum of the sizes."""
    shift = _dot(mean, y)
    total = 0.0
    for i in range(len(samples)):
        value = _dot(samples[i], y) - shift
        out[i] = value
        total += abs(value)
    return total


@_jit
def _residual(image, own, u, y):
    """The image of an atom without its part along the directions ``u``."""
    y[:] = image
    for r in range(len(own)):
        for j in range(len(y)):
            y[j] -= own[r] * u[r, j]


@_jit
def pursue_correlations(C, samples, mean, images, gram, gains, slack, floor, support, energies):
    """Pursue one head over one small dictionary, by the L1 criterion (Head Pursuit, section 3).

    Args:
        C: correlations of unit atoms and samples, float32 ``(v, n)``; overwritten.
        samples: rows as they were given, ``(n, e)``.
        mean: what is subtracted from them, float64 ``(e,)``.
        images: unit atoms in head space, float64 ``(v, e)``.
        gram: inner products of the unit atoms, float64 ``(v, v)``.
        gains: factors on the scores, ``(v,)``.
        slack: how far the sums of `C`'s rows may be off, ``(v,)``; overwritten.
        floor: a score that is not above it ends the pursuit.
        support: where the chosen atoms go, ``(k,)``.
        energies: where the energies that they explain go, cumulative, ``(k,)``.
    """
    v, n = C.shape
    steps = len(support)
    u = np.zeros((steps, samples.shape[1]))
    S = np.zeros((steps, n), dtype=np.float32)
    coefficients = np.zeros((v, steps))
    scores = np.empty(v)
    # A row is brought up to date when its atom could win: what steps it misses can have added to its score, at most.
    done = np.zeros(v, dtype=np.int64)
    reach = np.zeros(v)
    taken = np.zeros(v, dtype=np.bool_)
    upper = np.empty(v)
    rivals = np.empty(v, dtype=np.int64)
    exact = np.empty(v)
    s64 = np.empty(n)
    y = np.empty(samples.shape[1])
    for a in range(v):
        scores[a] = _caught_up(C[a], S[:0], coefficients[a, :0])
    energy = 0.0
    for t in range(steps):
        low = -1.0
        for a in range(v):
            upper[a] = -1.0 if taken[a] else (scores[a] * (1 + _SUM) + slack[a] + reach[a]) * gains[a]
            if done[a] == t and not taken[a]:
                low = max(low, (scores[a] * (1 - _SUM) - slack[a]) * gains[a])
        count = 0
        while True:
            a = int(upper.argmax())
            if upper[a] < max(low, 0.0):
                break
            if done[a] < t:
                slack[a] += (scores[a] + reach[a]) * _EPS * (t - done[a])
                scores[a] = _caught_up(C[a], S[done[a] : t], coefficients[a, done[a] : t])
                done[a] = t
                reach[a] = 0.0
                low = max(low, (scores[a] * (1 - _SUM) - slack[a]) * gains[a])
            exact[count] = (scores[a] * (1 + _SUM) + slack[a]) * gains[a]
            rivals[count] = a
            count += 1
            upper[a] = -1.0
        kept = 0
        for i in range(count):
            if exact[i] >= low:
                rivals[kept] = rivals[i]
                kept += 1
        if kept == 0:
            break
        found = np.sort(rivals[:kept])
        best = 0.0
        if kept > 1 or low <= floor:
            for i in range(kept):
                _residual(images[found[i]], coefficients[found[i], :t], u, y)
                exact[i] = _written(samples, mean, y, s64) * gains[found[i]]
            best = exact[:kept].max()
            if best <= floor:
                break
        else:
            exact[0] = 0.0
        first = 0
        while exact[first] < best * (1 - _EQUAL):
            first += 1
        chosen = found[first]
        taken[chosen] = True
        own = coefficients[chosen, :t]
        left = max(gram[chosen, chosen] - _dot(own, own), 0.0)
        share = 1 / max(math.sqrt(left), 1e-12)
        _residual(images[chosen], own, u, y)
        for j in range(len(y)):
            u[t, j] = y[j] * share
        doubt = 0.0
        if share * _SHORT > 1:
            _written(samples, mean, u[t], s64)
            for i in range(n):
                S[t, i] = s64[i]
        else:
            doubt = slack[chosen] * share
            for i in range(n):
                S[t, i] = C[chosen, i] * share
        size = 0.0
        for start in range(0, n, _RUN):
            part = S[t, start : start + _RUN]
            energy += float(_dot(part, part))
            size += _sum(part) * (1 + _SUM)
        support[t] = chosen
        energies[t:] = energy
        for a in range(v):
            if not taken[a]:
                change = (gram[chosen, a] - _dot(own, coefficients[a, :t])) * share
                coefficients[a, t] = change
                slack[a] += abs(change) * (doubt + size * _EPS)
                reach[a] += abs(change) * size
