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

from headpursuit.pursuit.bounds import SLACK
from headpursuit.pursuit.checks import TIE
from headpursuit.pursuit.scores import Places, Scorer
from headpursuit.pursuit.whitening import WhitenedHeads

_NEVER = float("-inf")

# Bounds are kept in float32 and grow by an addition a step: this covers their own rounding, relative to the best score.
_MARGIN = 1e-4

# Where vectors come in low precision: of so many atoms a problem that may score highest, so many are scored for a score to
# beat; then so many pairs of a problem and an atom, out of those that may beat it, are looked at together: few enough for a
# core's cache, or enough to keep a GPU busy.
_FIRST, _FIRST_SCORED, _TOGETHER, _TOGETHER_CUDA = 512, 16, 2**14, 2**17

# How many atoms are scored exactly in a step's first round and in later ones, where that is dear and where it is cheap.
_DEAR, _CHEAP = (4, 16), (12, 32)


# Pairs to ŷ ``(m, e)`` and its errors ``(m,)``.
Approximation = Callable[[Places], tuple["Tensor", "Tensor"]]


class AtomVectors(Protocol):
    """The atoms as vectors of head space, for a batch of ``p`` problems (a problem is one head with one dictionary)."""

    shape: tuple[int, int]
    width: int

    def bounds(self) -> Float[Tensor, "p v"] | None:
        """Upper bounds on ``‖y‖`` of all atoms at this step, wherever they may be lower than what is known; always at first."""

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

    bounds = vectors.bounds()
    assert bounds is not None
    upper = bounds * scale
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
        upper[everyone, chosen.atom] = _NEVER
        reach *= (shift * (1 + 1e-6)).float()[:, None]
        reach *= growth
        upper += reach
        bounds = vectors.bounds()
        if bounds is not None:
            torch.minimum(upper, bounds * scale, out=upper)
    else:
        step = n_atoms
    explained[:, step:] = energy[:, None]
    explained /= torch.where(whitened.silent, torch.ones_like(whitened.energy), whitened.energy)[:, None]
    return support, explained


class _Chosen:
    """The best atom so far of every problem; its score is exact, or known to be higher than any other by more than `slack`.

    Some atom, be it this one or not, is known to reach the score `sure`.
    """

    def __init__(self, p: int, e: int, device: torch.device) -> None:
        self.score = torch.zeros(p, dtype=torch.float64, device=device)
        self.slack = torch.zeros_like(self.score)
        self.sure = torch.zeros(p, device=device)
        self.atom = torch.full((p,), torch.iinfo(torch.int64).max, device=device)
        self.y = torch.zeros(p, e, dtype=torch.float64, device=device)
        self.component = torch.zeros(0)

    def low(self, problems: Int64[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Threshold that an atom's upper bound must exceed for the atom to matter."""
        found = (self.score[problems] - self.slack[problems]).float()
        return torch.maximum(found, self.sure[problems]) * (1 - _MARGIN)

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
    if vectors.approximate:
        _narrow(vectors.approximate, scorer, upper, chosen, scale=scale, gains=gains, problems=problems)
    first, later = _DEAR if vectors.approximate else _CHEAP
    width = first
    while len(problems):
        line = problems[:, None]
        bound, atoms = _of(upper, problems).topk(min(v, width), dim=1)
        some = _most(bound > chosen.low(problems)[:, None])
        bound, atoms = bound[:, :some], atoms[:, :some]
        y, component = vectors.exact(problems, atoms)
        score, slack = scorer.near(problems, y)
        if gains is not None:
            score, slack = score * gains[line, atoms], slack * gains[line, atoms]
        # Atoms that were taken, or scored in this step, carry no bound and must not come back as candidates.
        known = bound == _NEVER
        score, slack = score.masked_fill(known, 0), slack.masked_fill(known, 0)
        chosen.offer(problems, atoms, (score, slack), y, component, scorer=scorer, gains=gains)
        settled.append((problems, atoms, ((score + slack) * (1 + SLACK)).masked_fill(known, _NEVER).float() * (1 + 1e-6)))
        upper[line, atoms] = _NEVER
        waiting = (_of(upper, problems) > chosen.low(problems)[:, None]).sum(dim=1)
        problems = problems[waiting > 0]
        # A small dictionary pays for each atom in full, so it takes a few more at a time as long as some are waiting.
        width = later if vectors.approximate else min(later, 2 * width)
    for problems, atoms, score in settled:
        line = problems[:, None]
        upper[line, atoms] = torch.maximum(upper[line, atoms], score)
    chosen.atom.clamp_max_(v - 1)
    return chosen


def _narrow(
    approximate: Approximation,
    scorer: Scorer,
    upper: Float[Tensor, "p v"],
    chosen: _Chosen,
    *,
    scale: Float[Tensor, "p _"],
    gains: Float64[Tensor, "_ v"] | None,
    problems: Int64[Tensor, " m"],
) -> None:
    """Raise `chosen.sure` and lower `upper` until every atom whose bound is above the former was scored approximately."""
    m, v = len(problems), upper.shape[1]
    everyone = torch.arange(len(upper), device=upper.device)
    line = upper.view(-1)

    def look(places: Places) -> tuple[Float[Tensor, " c"], Float[Tensor, "c e"], Float[Tensor, " c"]]:
        y, error = approximate(places)
        reach = torch.linalg.vector_norm(y, dim=1) * scorer.inflated + error
        reach *= scale[places.problems, 0] if gains is None else scale.view(-1)[places.flat]
        line[places.flat] = bound = torch.minimum(line[places.flat], reach)
        return bound, y, error

    def score(places: Places, y: Float[Tensor, "c e"], error: Float[Tensor, " c"]) -> None:
        floor, ceiling = scorer.between(places, y, error)
        if gains is not None:
            gain = gains.reshape(-1)[places.flat].float()
            floor, ceiling = floor * gain, ceiling * gain * (1 + 1e-6)
        bound = line[places.flat]
        line[places.flat] = torch.minimum(bound, ceiling)
        chosen.sure.scatter_reduce_(0, places.problems, floor.masked_fill_(bound == _NEVER, 0), "amax")

    width = min(v, _FIRST)
    first = _of(upper, problems).topk(width, dim=1).indices + problems[:, None] * v
    places = Places.of(first.view(-1), v)
    bound, y, error = look(places)
    best = bound.view(m, width).topk(min(width, _FIRST_SCORED), dim=1).indices
    some = (best + everyone[:m, None] * width).view(-1)
    score(places.only(some), y[some], error[some])
    row, atoms = (_of(upper, problems) > chosen.low(problems)[:, None]).nonzero(as_tuple=True)
    together = _TOGETHER if upper.device.type == "cpu" else _TOGETHER_CUDA
    for flat in (problems[row] * v + atoms).split(together):
        places = Places.of(flat, v)
        bound, y, error = look(places)
        some = (bound > chosen.low(everyone)[places.problems]).nonzero()[:, 0]
        score(places.only(some), y[some], error[some])


def _of(values: Float[Tensor, "p v"], problems: Int64[Tensor, " m"]) -> Float[Tensor, "m v"]:
    """The rows of some problems; no copy where these are all."""
    return values if len(problems) == len(values) else values[problems]
