"""The exact pursuit by lazy evaluation: bound every score, tighten only what could still win.

One loop serves a whole vocabulary and a small dictionary alike; they differ in how an atom's vector of head space is had
(`LargeDictionary`, `SmallDictionary`). The proof is short. Every atom carries an upper bound on its score. After a step the
residual changes by ``− s qᵀ``, so a score changes by at most ``|q·d|·‖s‖``: adding that keeps the bound valid without looking
at the atom. A step is over when the best exact score is not below any bound of an atom that was not scored exactly.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from headpursuit.pursuit.bounds import SLACK, accumulation
from headpursuit.pursuit.checks import TIE
from headpursuit.pursuit.whitening import WhitenedHeads

_NEVER = float("-inf")

# Bounds are kept in float32 and grow by an addition a step: this covers their own rounding, relative to the best score.
_MARGIN = 1e-4

# How many atoms a round bounds anew, scores approximately, and scores exactly: in a step's first round, which only looks
# for a good score to beat, and in the later ones. A small dictionary, whose vectors are exact, needs no approximations.
_FIRST, _LATER = (32, 8, 3), (2048, 256, 16)
_FIRST_EXACT, _LATER_EXACT = (12, 0, 12), (32, 0, 32)


# (problems (m,), atoms (m, c)) to ŷ (m, c, e) and its errors (m, c).
Approximation = Callable[["Tensor", "Tensor"], tuple["Tensor", "Tensor"]]


class AtomVectors(Protocol):
    """The atoms as vectors of head space, for a batch of ``p`` problems (a problem is one head with one dictionary)."""

    shape: tuple[int, int]
    width: int

    def bounds(self) -> Float[Tensor, "p v"]:
        """Upper bounds on ``‖y‖`` of all atoms at this step."""

    @property
    def approximate(self) -> Approximation | None:
        """A function to float32 ``ŷ`` of some atoms and bounds on ``‖y − ŷ‖``, where `exact` costs more than that."""

    def exact(
        self, problems: Int64[Tensor, " m"], atoms: Int64[Tensor, "m c"]
    ) -> tuple[Float[Tensor, "m c e"], Float[Tensor, "m c x"]]:
        """Float64 ``y`` of some unit atoms, and what `commit` needs to know of the one that is chosen."""

    def commit(
        self, atoms: Int64[Tensor, " p"], y: Float[Tensor, "p e"], component: Float[Tensor, "p x"], active: Bool[Tensor, " p"]
    ) -> tuple[Float[Tensor, "p e"], Float[Tensor, "p v"]]:
        """Take one atom a problem; returns ``u = A q`` and upper bounds on ``|q·d|`` for all atoms."""


class Scorer:
    """Scores ``‖Z y‖`` in the criterion's norm: bounds on them, close values, and exact ones for what is too close."""

    def __init__(self, whitened: WhitenedHeads) -> None:
        self._whitened = whitened
        n, h, e = whitened.samples.shape if whitened.samples is not None else (0, len(whitened.mass), 1)
        self._per_head = len(whitened.mass) // h
        # Rounding of Z and of its products, by Cauchy-Schwarz over the samples; then the sum of n terms.
        self._relative = accumulation(e + 4, whitened.mass.device) * e**0.5
        self.inflated = 1 + accumulation(whitened.metric.shape[1] + 4, whitened.mass.device)
        self._sum = accumulation(n + 4, whitened.mass.device)

    @property
    def sums_over_rows(self) -> bool:
        """Whether a score is more than a norm in head space (the L1 criterion)."""
        return self._whitened.rows is not None

    def upper(self, problems: Int64[Tensor, " m"], y: Float[Tensor, "m c e"], error: Float[Tensor, "m c"]) -> Tensor:
        """Upper bounds on the L1 scores of vectors that lie within `error` of `y`."""
        score = self._l1(problems, y)
        slack = torch.linalg.vector_norm(y, dim=2) * self._relative + error
        return score * (1 + self._sum) + self._whitened.mass[problems].float()[:, None] * slack

    def near(
        self, problems: Int64[Tensor, " m"], y: Float64[Tensor, "m c e"]
    ) -> tuple[Float64[Tensor, "m c"], Float64[Tensor, "m c"]]:
        """Scores, and how far each may be off."""
        if not self.sums_over_rows:
            score = self.energy(problems, y).sqrt()
            return score, torch.zeros_like(score)
        score = self._l1(problems, y.float()).double()
        slack = torch.linalg.vector_norm(y, dim=2) * (self._relative * self._whitened.mass[problems])[:, None]
        return score, score * self._sum + slack

    def exact(self, problems: Int64[Tensor, " m"], y: Float64[Tensor, "m c e"]) -> Float64[Tensor, "m c"]:
        """L1 scores in float64, from the rows as they were given."""
        whitened = self._whitened
        assert whitened.samples is not None
        score = y.new_empty(y.shape[:2])
        for i, problem in enumerate(problems.tolist()):
            head = problem // self._per_head
            z = whitened.samples[:, head].double() - whitened.mean[head]
            raw = torch.linalg.solve_triangular(whitened.factor[problem].T, y[i].T, upper=True)
            score[i] = (z @ raw).abs_().sum(dim=0)
        return score

    def energy(self, problems: Int64[Tensor, " m"], y: Float64[Tensor, "m c e"]) -> Float64[Tensor, "m c"]:
        """``‖Z y‖²`` without weights."""
        metric = self._whitened.metric
        metric = metric if len(problems) == len(metric) else metric[problems]
        return (torch.bmm(y, metric) * y).sum(dim=2).clamp_min_(0)

    def _l1(self, problems: Tensor, y: Float[Tensor, "m c e"]) -> Float[Tensor, "m c"]:
        rows = self._whitened.rows
        assert rows is not None
        m, c, e = y.shape
        if m == len(self._whitened.mass):
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
    vectors: AtomVectors, whitened: WhitenedHeads, *, n_atoms: int, gains: Float64[Tensor, "_ v"] | None = None
) -> tuple[Int64[Tensor, "p k"], Float64[Tensor, "p k"]]:
    """Run `n_atoms` steps for all problems at once.

    Args:
        vectors: the atoms.
        whitened: the heads.
        n_atoms: steps; a problem that exhausts its dictionary keeps ``-1`` from there on.
        gains: a factor on each atom's score (its length, for raw atoms).
    """
    p, v = vectors.shape
    device = whitened.mass.device
    scorer = Scorer(whitened)
    support = torch.full((p, n_atoms), -1, dtype=torch.int64, device=device)
    explained = torch.zeros(p, n_atoms, dtype=torch.float64, device=device)
    everyone = torch.arange(p, device=device)
    active = ~whitened.silent
    floor = whitened.floor if gains is None else whitened.floor * gains.amax(dim=1)
    gains = None if gains is None else gains.expand(p, v)
    scale = whitened.mass.float()[:, None] * (1 + 1e-6)
    growth: Tensor | float = 1.0
    if gains is not None:
        growth = gains.float() * (1 + 1e-6)
        scale = scale * growth

    upper = vectors.bounds() * scale
    energy = torch.zeros(p, dtype=torch.float64, device=device)
    for step in range(n_atoms):
        chosen = _best(vectors, scorer, upper, scale=scale, gains=gains, active=active)
        active = active & (chosen.score > floor)
        if not bool(active.any()):
            break
        u, reach = vectors.commit(chosen.atom, chosen.y, chosen.component, active)
        # ‖s‖ = ‖Z u‖, and u is the chosen atom's y over the length of its new part.
        shift = (chosen.score + chosen.slack) * torch.linalg.vector_norm(u, dim=1)
        shift /= torch.linalg.vector_norm(chosen.y, dim=1).clamp_min(1e-300)
        if gains is not None:
            shift /= gains[everyone, chosen.atom].clamp_min(1e-300)
        energy += scorer.energy(everyone, u[:, None])[:, 0]
        support[:, step] = torch.where(active, chosen.atom, support[:, step])
        explained[:, step] = energy
        reach *= (shift * (1 + 1e-6)).float()[:, None]
        reach *= growth
        upper += reach
        torch.minimum(upper, vectors.bounds() * scale, out=upper)
        upper[everyone, chosen.atom] = _NEVER
    else:
        step = n_atoms
    explained[:, step:] = energy[:, None]
    explained /= torch.where(whitened.silent, torch.ones_like(whitened.energy), whitened.energy)[:, None]
    return support, explained


class _Chosen:
    """The best atom so far of every problem; its score is exact, or known to be higher than any other by more than `slack`."""

    def __init__(self, p: int, e: int, device: torch.device) -> None:
        self.score = torch.zeros(p, dtype=torch.float64, device=device)
        self.slack = torch.zeros_like(self.score)
        self.atom = torch.full((p,), torch.iinfo(torch.int64).max, device=device)
        self.y = torch.zeros(p, e, dtype=torch.float64, device=device)
        self.component = torch.zeros(0)

    def low(self, problems: Int64[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Threshold that an atom's upper bound must exceed for the atom to matter."""
        return (self.score[problems] - self.slack[problems]).float() * (1 - _MARGIN)

    def offer(
        self,
        problems: Int64[Tensor, " m"],
        atoms: Int64[Tensor, "m c"],
        near: tuple[Float64[Tensor, "m c"], Float64[Tensor, "m c"]],
        y: Float64[Tensor, "m c e"],
        component: Float64[Tensor, "m c x"],
        *,
        scorer: Scorer,
        gains: Float64[Tensor, "_ v"] | None,
    ) -> None:
        """Keep the best of what was held and what is offered, the lower row where scores are equal."""
        if self.component.numel() == 0:
            self.component = component.new_zeros(len(self.score), component.shape[2])
        held = problems[:, None]
        atoms = torch.cat([self.atom[held], atoms], dim=1)
        score = torch.cat([self.score[held], near[0]], dim=1)
        slack = torch.cat([self.slack[held], near[1]], dim=1)
        contender = score + slack >= (score - slack).amax(dim=1, keepdim=True)
        close = ((contender.sum(dim=1) > 1) & (slack.amax(dim=1) > 0)).nonzero()[:, 0]
        if len(close):
            vectors = torch.cat([self.y[problems[close], None], y[close]], dim=1)
            exact = scorer.exact(problems[close], vectors)
            if gains is not None:
                line = problems[close][:, None]
                exact *= gains[line, atoms[close].clamp_max(gains.shape[1] - 1)]
            score[close] = torch.where(score[close] > 0, exact, 0)
            slack[close] = 0
        equal = 1 - TIE * torch.finfo(torch.float64).eps
        best = score.amax(dim=1, keepdim=True)
        winner = torch.where(score >= best * equal, atoms, torch.iinfo(torch.int64).max).argmin(dim=1)
        line = torch.arange(len(problems), device=problems.device)
        self.score[problems], self.slack[problems] = score[line, winner], slack[line, winner]
        self.atom[problems] = atoms[line, winner]
        new = (winner > 0).nonzero()[:, 0]
        self.y[problems[new]] = y[new, winner[new] - 1]
        self.component[problems[new]] = component[new, winner[new] - 1]


def _most(mask: Bool[Tensor, "m c"]) -> int:
    return max(1, int(mask.sum(dim=1).max()))


def _best(
    vectors: AtomVectors,
    scorer: Scorer,
    upper: Float[Tensor, "p v"],
    *,
    scale: Float[Tensor, "p _"],
    gains: Float64[Tensor, "_ v"] | None,
    active: Bool[Tensor, " p"],
) -> _Chosen:
    """The atom of highest score of every active problem; tightens `upper` on the way."""
    p, v = upper.shape
    chosen = _Chosen(p, vectors.width, upper.device)
    settled: list[tuple[Tensor, Tensor, Tensor]] = []
    problems = active.nonzero()[:, 0]
    first, later = (_FIRST, _LATER) if vectors.approximate else (_FIRST_EXACT, _LATER_EXACT)
    widths = first
    while len(problems):
        everyone = len(problems) == p
        best = chosen.low(problems)[:, None]
        line = problems[:, None]
        bound, atoms = (upper if everyone else upper[problems]).topk(min(v, widths[0]), dim=1)
        if vectors.approximate:
            y, error = vectors.approximate(problems, atoms)
            reach = torch.linalg.vector_norm(y, dim=2) * scorer.inflated + error
            reach *= scale[problems] if gains is None else scale[line, atoms]
            bound = torch.minimum(bound, reach)
        if vectors.approximate and scorer.sums_over_rows:
            width = min(widths[1], _most(bound > best))
            some_bound, some = bound.topk(width, dim=1)
            y = y.gather(1, some[:, :, None].expand(-1, -1, y.shape[2]))
            score = scorer.upper(problems, y, error.gather(1, some))
            if gains is not None:
                score *= gains[line, atoms.gather(1, some)].float() * (1 + 1e-6)
            bound.scatter_(1, some, torch.minimum(some_bound, score))

        few_bound, few = bound.topk(min(widths[2], _most(bound > best)), dim=1)
        few_atoms = atoms.gather(1, few)
        y64, component = vectors.exact(problems, few_atoms)
        score, slack = scorer.near(problems, y64)
        if gains is not None:
            score, slack = score * gains[line, few_atoms], slack * gains[line, few_atoms]
        # Atoms taken already carry no bound and must not come back as candidates.
        taken = few_bound == _NEVER
        score, slack = score.masked_fill(taken, 0), slack.masked_fill(taken, 0)
        chosen.offer(problems, few_atoms, (score, slack), y64, component, scorer=scorer, gains=gains)
        settled.append((problems, few_atoms, ((score + slack) * (1 + SLACK)).masked_fill(taken, _NEVER)))
        bound.scatter_(1, few, torch.full_like(few_bound, _NEVER))

        upper[line, atoms] = bound
        best = chosen.low(problems)[:, None]
        waiting = ((upper if everyone else upper[problems]) > best).sum(dim=1)
        left = waiting.nonzero()[:, 0]
        if len(left):
            problems = problems[left]
            # A small dictionary pays for each atom in full, so it takes a few more at a time as long as some are waiting.
            most = max(8, int(waiting.max())) if vectors.approximate else 2 * widths[0]
            widths = (min(later[0], most), later[1], later[2])
        else:
            problems = left
    for problems, atoms, score in settled:
        upper[problems[:, None], atoms] = score.float() * (1 + 1e-6)
    chosen.atom.clamp_max_(v - 1)
    return chosen
