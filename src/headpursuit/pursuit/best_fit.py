"""How well the best atom fits a head, and how well it would fit a signal that has nothing to do with the dictionary.

The fit of a head is ``max_j E_j / mean_j E_j`` with ``E_j = Σ_k σ_k ⟨P v_k, d_j⟩²``: ``v_k`` are the principal
directions of its output, ``σ_k`` the amplitudes along them (square roots of variances, so that one contrast between
kinds of samples does not speak for the head alone), ``d_j`` the unit atoms, and ``P`` removes the direction that all
atoms share (their mean), which speaks of none of them. It says how many times better the best atom fits than an atom
does on average. Of a large dictionary some atom always fits, so a fit means little by itself. Chance gives the fit of
the same head turned at random: its directions are replaced by random orthonormal ones, and keep their amplitudes. A
head without any relation to the dictionary is one more of these: its p-values are uniform.

A turned signal is known by its spectrum and a random frame, so all heads of all layers share the frames, and with them the only
product of the size of the dictionary; a head then costs a few multiplications an atom and draw. Why this fit and this null, and
not the share of variance, see ``docs/decisions/ranking.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

# So many principal directions of a head are looked at; the test is exact for any number.
DIRECTIONS = 8
# Atoms at a time, and numbers that are made of them at a time: few enough for a core's cache, and for any memory.
_ROWS = 1024
_NUMBERS = 2**24


def principal(
    second_moment: Float[Tensor, "h e e"], projection: Float[Tensor, "h e d"], *, k: int = DIRECTIONS
) -> tuple[Float64[Tensor, "h k"], Float64[Tensor, "h k d"]]:
    """The strongest principal directions of what heads write.

    Args:
        second_moment: ``zᵀz`` of each head's centred rows.
        projection: each head's rows of the output projection.
        k: how many; fewer where heads or the model are narrower than that.

    Returns:
        The amplitude along each direction, relative to the whole (0 where a head has fewer), and the directions, orthonormal.
    """
    values, vectors = torch.linalg.eigh(second_moment.double())
    factor = (vectors * values.clamp_min(0).sqrt()[:, None]).mT @ projection.double()  # its Gram matrix is H's covariance
    variances, left = torch.linalg.eigh(factor @ factor.mT)
    k = min(k, *projection.shape[1:])
    total = variances.sum(dim=1, keepdim=True).clamp_min(1e-280)
    variances, left = variances.flip(1)[:, :k].clamp_min(0), left.flip(2)[:, :, :k]
    there = variances > 1e-18 * total
    directions = left.mT @ factor * torch.where(there, variances.clamp_min(1e-280).rsqrt(), 0)[:, :, None]
    return torch.where(there, variances / total, 0).sqrt(), directions


def best_fits(
    amplitudes: Float[Tensor, "h k"], directions: Float[Tensor, "h k d"], atoms: Float[Tensor, "v d"], *, n_best: int = 1
) -> tuple[Float64[Tensor, " h"], Int64[Tensor, "h b"]]:
    """The fit of each head's best atom (1 where no atom says more than another), and the atoms that fit best, best first.

    Args:
        amplitudes: along each principal direction of each head.
        directions: orthonormal for each head.
        atoms: a dictionary, of any length.
        n_best: how many atoms a head; fewer where there are no more.
    """
    h, k, d = directions.shape
    frame = _less(_shared(atoms), directions.reshape(h * k, d))
    weights = amplitudes.to(frame)
    total = torch.zeros(h, dtype=torch.float64, device=frame.device)
    best, rows = weights.new_empty(0, h), torch.empty(0, h, dtype=torch.int64, device=frame.device)
    done = 0
    for unit in _unit_rows(atoms, made=h * k):
        energy = ((unit @ frame).square_().view(-1, h, k) * weights).sum(dim=2)
        total += energy.sum(dim=0, dtype=torch.float64)
        new = energy.topk(min(n_best, len(unit)), dim=0)
        rows, best = torch.cat([rows, new.indices + done]), torch.cat([best, new.values])
        kept = best.topk(min(n_best, len(best)), dim=0)
        rows, best = rows.gather(0, kept.indices), kept.values
        done += len(unit)
    return _ratio(best[0], total, len(atoms)), rows.T.cpu()


def chance_fits(
    amplitudes: Float[Tensor, "h k"], atoms: Float[Tensor, "v d"], *, draws: int, seed: int = 0
) -> Float64[Tensor, "m h"]:
    """The fits of heads turned at random, one row a draw; a draw turns all heads alike.

    Args:
        amplitudes: along each principal direction of each head.
        atoms: a dictionary, of any length.
        draws: how many.
        seed: seed of the draws.
    """
    h, k = amplitudes.shape
    d = atoms.shape[1]
    random = torch.Generator().manual_seed(seed)
    room = d // k  # so many frames are made of one rotation; each by itself is a random one
    turns = [torch.linalg.qr(torch.randn(d, d, generator=random, dtype=torch.float64)) for _ in range(-(-draws // room))]
    frames = torch.cat([(turn.Q * turn.R.diagonal().sign()).T[: room * k] for turn in turns])[: draws * k]
    frame = _less(_shared(atoms), frames.to(atoms.device))
    weights = amplitudes.T.to(frame).contiguous()
    return _fits(
        (
            ((unit @ frame).square_().view(-1, k) @ weights).view(-1, draws, h)
            for unit in _unit_rows(atoms, made=draws * max(h, k))
        ),
        len(atoms),
    )


def _fits(energies: Iterator[Tensor], v: int) -> Tensor:
    """The highest energy over the mean one, of energies that come some atoms at a time."""
    best = total = torch.zeros(())
    for energy in energies:
        best = torch.maximum(best.to(energy), energy.amax(dim=0))
        total = total.to(energy.device) + energy.sum(dim=0, dtype=torch.float64)
    return _ratio(best, total, v)


def _ratio(best: Tensor, total: Tensor, v: int) -> Tensor:
    return torch.where(total > 0, best.double() * v / total.clamp_min(1e-280), 1.0).cpu()


def _shared(atoms: Float[Tensor, "v d"]) -> Float64[Tensor, " d"]:
    """The direction of the mean of all unit atoms; zero where there is none."""
    mean = torch.stack([unit.sum(dim=0, dtype=torch.float64) for unit in _unit_rows(atoms)]).sum(dim=0)
    return mean / torch.linalg.vector_norm(mean).clamp_min(1e-280)


def _less(shared: Float64[Tensor, " d"], rows: Float64[Tensor, "r d"]) -> Float[Tensor, "d r"]:
    """Directions without their part along the shared one, as columns."""
    rows = rows.to(shared)
    return (rows - (rows @ shared)[:, None] * shared).float().T.contiguous()


def _unit_rows(atoms: Float[Tensor, "v d"], *, made: int = 1) -> Iterator[Float[Tensor, "_ d"]]:
    for rows in atoms.split(max(1, min(_ROWS, _NUMBERS // made))):
        wide = rows.float()
        yield wide / torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(1e-30)
