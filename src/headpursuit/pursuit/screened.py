"""The exact pursuit by lazy evaluation: bound every score, tighten only what could still win.

One loop serves a whole vocabulary and a small dictionary alike; they differ in how an atom's vector of head space is had
(`WideField`, `GramField`). The proof is short. Every atom carries an upper bound on its score. After a step the residual
changes by ``− s qᵀ``, so a score changes by at most ``|q·d|·‖s‖``: adding that keeps the bound valid without looking at
the atom. A step is over when the best exact score is not below any bound of an atom that was not scored exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from headpursuit.pursuit.bounds import SLACK, accumulation
from headpursuit.pursuit.rules import TIE

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Int64
    from torch import Tensor

    from headpursuit.pursuit.frame import Frame

_NEVER = float("-inf")


class Field(Protocol):
    """The atoms as vectors of head space, for a batch of ``p`` problems (a problem is one head with one dictionary)."""

    shape: tuple[int, int]

    def bounds(self) -> Float[Tensor, "p v"]:
        """Upper bounds on ``‖y‖`` of all atoms at this step."""

    def approximate(
        self, problems: Int64[Tensor, " m"], atoms: Int64[Tensor, "m c"]
    ) -> tuple[Float[Tensor, "m c e"], Float[Tensor, "m c"]]:
        """Float32 ``ŷ`` of some atoms, and bounds on ``‖y − ŷ‖``."""

    def exact(
        self, problems: Int64[Tensor, " m"], atoms: Int64[Tensor, "m c"]
    ) -> tuple[Float[Tensor, "m c e"], Float[Tensor, "m c x"]]:
        """Float64 ``y`` of some unit atoms, and what `commit` needs to know of the one that is chosen."""

    def commit(
        self,
        atoms: Int64[Tensor, " p"],
        y: Float[Tensor, "p e"],
        component: Float[Tensor, "p x"],
        active: Bool[Tensor, " p"],
    ) -> tuple[Float[Tensor, "p e"], Float[Tensor, "p v"]]:
        """Take one atom a problem; returns ``u = A q`` and upper bounds on ``|q·d|`` for all atoms."""


class Scorer:
    """``‖Z y‖`` in the criterion's norm, in float32 with an error bound or in float64."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._per_head = 1 if frame.rows is None else len(frame.mass) // len(frame.rows)
        self._rows = None if frame.rows is None else frame.rows.float()
        n, e = (0, 1) if frame.rows is None else frame.rows.shape[1:]
        # Rounding of Z and of its products, by Cauchy-Schwarz over the samples; then the sum of n terms.
        self._relative = accumulation(e + 4, frame.mass.device) * e**0.5
        self._sum = accumulation(n + 4, frame.mass.device)

    @property
    def sums_over_rows(self) -> bool:
        """Whether a score is more than a norm in head space (the L1 criterion)."""
        return self._rows is not None

    def upper(self, problems: Int64[Tensor, " m"], y: Float[Tensor, "m c e"], error: Float[Tensor, "m c"]) -> Tensor:
        """Upper bounds on the L1 scores of vectors that lie within `error` of `y`."""
        score = self._l1(self._rows, problems, y)
        slack = torch.linalg.vector_norm(y, dim=2) * self._relative + error
        return score * (1 + self._sum) + self._frame.mass[problems].float()[:, None] * slack

    def exact(self, problems: Int64[Tensor, " m"], y: Float64[Tensor, "m c e"]) -> Float64[Tensor, "m c"]:
        """Scores in float64."""
        if self._frame.rows is None:
            return self.energy(problems, y).sqrt()
        return self._l1(self._frame.rows, problems, y)

    def energy(self, problems: Int64[Tensor, " m"], y: Float64[Tensor, "m c e"]) -> Float64[Tensor, "m c"]:
        """``‖Z y‖²`` without weights."""
        return (torch.bmm(y, self._frame.metric[problems]) * y).sum(dim=2).clamp_min_(0)

    def _l1(self, rows: Tensor | None, problems: Tensor, y: Tensor) -> Tensor:
        assert rows is not None
        m, c, e = y.shape
        if m == len(self._frame.mass):
            y = y.reshape(len(rows), -1, e)
            return torch.bmm(y, rows.mT).abs_().sum(dim=2).view(m, c)
        score = torch.empty(m, c, dtype=y.dtype, device=y.device)
        # One head after the other: indexing by a list of heads would copy their rows.
        heads, counts = torch.unique_consecutive(problems // self._per_head, return_counts=True)
        start = 0
        for head, count in zip(heads.tolist(), counts.tolist(), strict=True):
            part = slice(start, start + count)
            score[part] = (y[part].reshape(-1, e) @ rows[head].T).abs_().sum(dim=1).view(count, c)
            start += count
        return score


def pursue(
    field: Field, frame: Frame, *, n_atoms: int, gains: Float64[Tensor, "_ v"] | None = None
) -> tuple[Int64[Tensor, "p k"], Float64[Tensor, "p k"]]:
    """Run `n_atoms` steps for all problems at once.

    Args:
        field: the atoms.
        frame: the heads.
        n_atoms: steps; a problem that exhausts its dictionary keeps ``-1`` from there on.
        gains: a factor on each atom's score (its length, for raw atoms).
    """
    p, v = field.shape
    device = frame.mass.device
    scorer = Scorer(frame)
    support = torch.full((p, n_atoms), -1, dtype=torch.int64, device=device)
    explained = torch.zeros(p, n_atoms, dtype=torch.float64, device=device)
    everyone = torch.arange(p, device=device)
    active = ~frame.silent
    floor = frame.floor if gains is None else frame.floor * gains.amax(dim=1)
    gains = None if gains is None else gains.expand(p, v)
    scale = frame.mass.float()[:, None] * (1 + 1e-6)
    growth: Tensor | float = 1.0
    if gains is not None:
        growth = gains.float() * (1 + 1e-6)
        scale = scale * growth

    upper = field.bounds() * scale
    energy = torch.zeros(p, dtype=torch.float64, device=device)
    for step in range(n_atoms):
        chosen = _best(field, scorer, upper, scale=scale, gains=gains, active=active)
        active = active & (chosen.score > floor)
        if not bool(active.any()):
            break
        u, reach = field.commit(chosen.atom, chosen.y, chosen.component, active)
        shift = scorer.exact(everyone, u[:, None])[:, 0]
        energy += scorer.energy(everyone, u[:, None])[:, 0]
        support[:, step] = torch.where(active, chosen.atom, support[:, step])
        explained[:, step] = energy
        reach *= (shift * (1 + 1e-6)).float()[:, None]
        reach *= growth
        upper += reach
        torch.minimum(upper, field.bounds() * scale, out=upper)
        upper[everyone, chosen.atom] = _NEVER
    else:
        step = n_atoms
    explained[:, step:] = energy[:, None]
    explained /= torch.where(frame.silent, torch.ones_like(frame.energy), frame.energy)[:, None]
    return support, explained


class _Chosen:
    """The best atom so far of every problem."""

    def __init__(self, p: int, device: torch.device) -> None:
        self.score = torch.zeros(p, dtype=torch.float64, device=device)
        self.atom = torch.zeros(p, dtype=torch.int64, device=device)
        self.y = self.component = torch.zeros(0)

    def update(self, problems: Tensor, atoms: Tensor, score: Tensor, y: Tensor, component: Tensor) -> None:
        """Take over what is better, the lower row where scores are equal."""
        if self.y.numel() == 0:
            self.y = y.new_zeros(len(self.score), y.shape[2])
            self.component = component.new_zeros(len(self.score), component.shape[2])
        equal = 1 - TIE * torch.finfo(torch.float64).eps
        best = score.amax(dim=1, keepdim=True)
        lowest = torch.where(score >= best * equal, atoms, torch.iinfo(torch.int64).max).argmin(dim=1)
        line = torch.arange(len(problems), device=problems.device)
        score, atoms = score[line, lowest], atoms[line, lowest]
        before, held = self.score[problems], self.atom[problems]
        better = (score * equal > before) | ((score >= before * equal) & (atoms < held))
        better &= score > 0
        self.score[problems] = torch.where(better, score, before)
        self.atom[problems] = torch.where(better, atoms, held)
        self.y[problems] = torch.where(better[:, None], y[line, lowest], self.y[problems])
        self.component[problems] = torch.where(better[:, None], component[line, lowest], self.component[problems])


def _best(
    field: Field,
    scorer: Scorer,
    upper: Float[Tensor, "p v"],
    *,
    scale: Float[Tensor, "p _"],
    gains: Float64[Tensor, "_ v"] | None,
    active: Bool[Tensor, " p"],
) -> _Chosen:
    """The atom of highest score of every active problem; tightens `upper` on the way."""
    p, v = upper.shape
    chosen = _Chosen(p, upper.device)
    settled: list[tuple[Tensor, Tensor, Tensor]] = []
    problems = active.nonzero()[:, 0]
    widths = (min(v, 64), 16, 4)
    while len(problems):
        everyone = len(problems) == p
        best = chosen.score[problems].float()[:, None] * (1 - 1e-6)
        bound, atoms = (upper if everyone else upper[problems]).topk(widths[0], dim=1)
        y, error = field.approximate(problems, atoms)
        line = problems[:, None]
        reach = torch.linalg.vector_norm(y, dim=2) * (1 + 1e-5) + error
        reach *= scale[problems] if gains is None else scale[line, atoms]
        bound = torch.minimum(bound, reach)

        if scorer.sums_over_rows:
            width = min(widths[1], max(1, int((bound > best).sum(dim=1).max())))
            some_bound, some = bound.topk(width, dim=1)
            y = y.gather(1, some[:, :, None].expand(-1, -1, y.shape[2]))
            error = error.gather(1, some)
            score = scorer.upper(problems, y, error)
            if gains is not None:
                score *= gains[line, atoms.gather(1, some)].float() * (1 + 1e-6)
            bound.scatter_(1, some, torch.minimum(some_bound, score))

        width = min(widths[2], max(1, int((bound > best).sum(dim=1).max())))
        few_bound, few = bound.topk(width, dim=1)
        few_atoms = atoms.gather(1, few)
        y64, component = field.exact(problems, few_atoms)
        score = scorer.exact(problems, y64)
        if gains is not None:
            score *= gains[line, few_atoms]
        # Chosen and padded atoms carry no bound and must not come back as candidates.
        score = torch.where(few_bound == _NEVER, 0, score)
        chosen.update(problems, few_atoms, score, y64, component)
        settled.append((problems, few_atoms, torch.where(few_bound == _NEVER, _NEVER, score)))
        bound.scatter_(1, few, torch.full_like(few_bound, _NEVER))

        upper[line, atoms] = bound
        best = chosen.score[problems].float() * (1 - 1e-6)
        waiting = ((upper if everyone else upper[problems]) > best[:, None]).sum(dim=1)
        left = waiting.nonzero()[:, 0]
        if len(left):
            problems = problems[left]
            most = int(waiting.max())
            widths = (min(v, 2048, max(16, most)), 256, 16)
        else:
            problems = left
    for problems, atoms, score in settled:
        upper[problems[:, None], atoms] = (score * (1 + SLACK)).float() * (1 + 1e-6)
    return chosen
