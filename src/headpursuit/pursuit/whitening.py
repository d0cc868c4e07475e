"""Head space: each head's rows and weights, whitened once, so that everything after lives in ``e`` dimensions.

`WhitenedHeads` holds a factor ``L`` with ``zᵀ diag(1/w) z ≼ L Lᵀ``. In its coordinates an atom ``d`` of unit length is the
vector ``y = Lᵀ W (I − QQᵀ) d`` of ``e`` numbers (``Q`` spans the chosen atoms), and

    R d = Z y          with ``Z = z L⁻ᵀ``,
    ‖R d‖₁ ≤ mass·‖y‖  with ``mass = √Σ w`` (Cauchy-Schwarz with the weights ``w``),

so one norm bounds a sum over all samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headpursuit.pursuit.checks import CONSTANT, EXHAUSTED, Criterion

# The ridge that keeps the factor regular where samples are fewer than e; relative to the trace, a few roundings of float64.
_RIDGE = 1e-13


# Bytes of rows in float64 at a time: few enough to stay in a core's cache, or enough to keep a GPU busy.
_BLOCK = 2**22
_BLOCK_CUDA = 2**30


@dataclass(frozen=True)
class WhitenedHeads:
    """The heads of one batch in whitened coordinates; ``h`` heads of width ``e``.

    Attributes:
        samples: the rows as given, shape ``(n, h, e)``; None where scores need no rows (the L2 criterion).
        mean: what is subtracted from them, shape ``(h, e)``.
        rows: ``Z``, shape ``(h, n, e)``, in float32; None where scores need no rows.
        factor: ``L``, shape ``(h, e, e)``, lower triangular.
        metric: ``Zᵀ Z`` without weights, shape ``(h, e, e)``: ``‖R d‖² = yᵀ metric y``.
        mass: the factor of the bound on a score, shape ``(h,)``.
        energy: ``‖H‖²`` of the centred head output, shape ``(h,)``.
        floor: a unit atom whose score is below this counts as rounding, shape ``(h,)``.
        silent: heads without variance, shape ``(h,)``.
    """

    samples: Float[Tensor, "n h e"] | None
    mean: Float[Tensor, "h e"]
    rows: Float[Tensor, "h n e"] | None
    factor: Float[Tensor, "h e e"]
    metric: Float[Tensor, "h e e"]
    mass: Float[Tensor, " h"]
    energy: Float[Tensor, " h"]
    floor: Float[Tensor, " h"]
    silent: Bool[Tensor, " h"]

    def repeated(self, times: int) -> WhitenedHeads:
        """The same heads for several dictionaries each, head by head; the rows are shared."""
        if times == 1:
            return self
        small = {name: getattr(self, name).repeat_interleave(times, dim=0) for name in _PER_PROBLEM}
        return replace(self, **small)


_PER_PROBLEM = ("factor", "metric", "mass", "energy", "floor", "silent")


def whiten_rows(
    z: Float[Tensor, "n h e"], width: Float[Tensor, "h e e"], *, criterion: Criterion, center: bool
) -> WhitenedHeads:
    """Whiten heads that are given by their rows; `width` is ``W Wᵀ``, so that ``‖H_i‖² = z_iᵀ width z_i``."""
    n, h, e = z.shape
    rows = None if criterion == "l2" else torch.empty(h, n, e, device=z.device)
    size = _BLOCK // (8 * n * e) if z.device.type == "cpu" else _BLOCK_CUDA // (8 * n * e)
    blocks = [slice(start, start + max(1, size)) for start in range(0, h, max(1, size))]
    parts = [_block(z[:, heads], width[heads], criterion, center, rows, heads) for heads in blocks]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    samples = None if criterion == "l2" else z
    return WhitenedHeads(samples=samples, rows=rows, **joined)


def _block(
    z: Float[Tensor, "n h e"],
    width: Float[Tensor, "h e e"],
    criterion: Criterion,
    center: bool,
    rows: Float[Tensor, "H n e"] | None,
    heads: slice,
) -> dict[str, Tensor]:
    """A few heads' part of `WhitenedHeads`, small enough to stay in the cache; fills their part of `rows`."""
    z = z.double().transpose(0, 1)
    mean = z.mean(dim=1, keepdim=True) if center else torch.zeros_like(z[:, :1])
    z = (z - mean).contiguous()
    moment = z.mT @ z
    energy = _energy(moment, width)
    size = energy + z.shape[1] * _energy(mean.mT @ mean, width)
    if rows is None:
        return _of_moment(moment, width, size=size) | {"mean": mean[:, 0]}
    # Any positive weights make a valid bound; these need no more than float32.
    short = z.float()
    lengths = ((short @ width.float()) * short).sum(dim=2).clamp_min_(0).sqrt_().double()
    weights = lengths.clamp_min(1e-6 * lengths.amax(dim=1, keepdim=True).clamp_min(1e-300))
    factor = _root(z.mT @ (z / weights[:, :, None]))
    rows[heads] = torch.linalg.solve_triangular(factor.mT, z, upper=True, left=False)
    return {
        "mean": mean[:, 0],
        "factor": factor,
        "metric": _whitened(moment, factor),
        "mass": weights.sum(dim=1).sqrt(),
        "energy": energy,
        "floor": EXHAUSTED * lengths.sum(dim=1),
        "silent": is_silent(energy, size),
    }


def whiten_moments(second_moment: Float[Tensor, "h e e"], width: Float[Tensor, "h e e"]) -> WhitenedHeads:
    """Whiten heads that are given by ``zᵀz`` of their centred rows alone; only the L2 criterion can be asked."""
    moment = second_moment.double()
    trace = moment.diagonal(dim1=1, dim2=2).sum(1) * width.diagonal(dim1=1, dim2=2).sum(1)
    parts = _of_moment((moment + moment.mT) / 2, width, size=trace)
    return WhitenedHeads(samples=None, rows=None, mean=moment.new_zeros(moment.shape[:2]), **parts)


def _of_moment(
    moment: Float[Tensor, "h e e"], width: Float[Tensor, "h e e"], *, size: Float[Tensor, " h"]
) -> dict[str, Tensor]:
    factor = _root(moment)
    energy = _energy(moment, width)
    return {
        "factor": factor,
        "metric": _whitened(moment, factor),
        "mass": torch.ones_like(energy),
        "energy": energy,
        "floor": EXHAUSTED * energy.clamp_min(0).sqrt(),
        "silent": is_silent(energy, size),
    }


def _whitened(moment: Float[Tensor, "h e e"], factor: Float[Tensor, "h e e"]) -> Float[Tensor, "h e e"]:
    inner = torch.linalg.solve_triangular(factor, moment, upper=False)
    metric = torch.linalg.solve_triangular(factor.mT, inner, upper=True, left=False)
    return (metric + metric.mT) / 2


def _energy(moment: Float[Tensor, "h e e"], width: Float[Tensor, "h e e"]) -> Float[Tensor, " h"]:
    return (moment * width).sum(dim=(1, 2))


def is_silent(energy: Float[Tensor, " h"], size: Float[Tensor, " h"]) -> Bool[Tensor, " h"]:
    """Tell which heads do not vary: what is left after centring is the rounding of their size."""
    return energy.clamp_min(0).sqrt() <= CONSTANT * torch.finfo(torch.float64).eps * size.clamp_min(0).sqrt()


def _root(moment: Float[Tensor, "h e e"]) -> Float[Tensor, "h e e"]:
    """A triangular ``L`` with ``moment ≼ L Lᵀ``, regular even where the moment is not."""
    ridge = _RIDGE * moment.diagonal(dim1=1, dim2=2).sum(1).clamp_min(1e-280)
    regular = moment + torch.diag_embed(ridge[:, None].expand(moment.shape[:2]))
    return torch.linalg.cholesky(regular)
