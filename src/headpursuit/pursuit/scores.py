"""Scores of atoms for heads: bounds on them, close values, and exact ones for what is too close."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from headpursuit.pursuit.bounds import accumulation
from headpursuit.pursuit.whitening import WhitenedHeads


@dataclass(frozen=True)
class Places:
    """Some of the pairs of a problem and an atom, those of a problem together.

    Attributes:
        problems: shape ``(m,)``.
        atoms: shape ``(m,)``.
        flat: their places in a table ``(p, v)`` laid out as one line.
    """

    problems: Int64[Tensor, " m"]
    atoms: Int64[Tensor, " m"]
    flat: Int64[Tensor, " m"]

    @classmethod
    def of(cls, flat: Int64[Tensor, " m"], atoms: int) -> Places:
        """Places in a table of so many atoms a line, line by line."""
        problems = flat // atoms
        return cls(problems, flat - problems * atoms, flat)

    def parts(self) -> Iterator[tuple[int, slice]]:
        """Each problem with its part of the pairs."""
        problems, counts = torch.unique_consecutive(self.problems, return_counts=True)
        start = 0
        for problem, count in zip(problems.tolist(), counts.tolist(), strict=True):
            yield problem, slice(start, start + count)
            start += count

    def only(self, kept: Int64[Tensor, " k"]) -> Places:
        """Some of them, in the same order."""
        return Places(self.problems[kept], self.atoms[kept], self.flat[kept])


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
        # Rounding of ``yᵀ metric y`` relative to ``‖y‖²``: no eigenvalue of the metric is above one where this is asked for.
        width = whitened.metric.shape[1]
        self._square = accumulation(2 * width + 6, whitened.mass.device) * (1 + width**0.5)

    @property
    def sums_over_rows(self) -> bool:
        """Whether a score is more than a norm in head space (the L1 criterion)."""
        return self._whitened.rows is not None

    def between(
        self, places: Places, y: Float[Tensor, "m e"], error: Float[Tensor, " m"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Lower and upper bounds on the scores of vectors that lie within `error` of `y`."""
        length = torch.linalg.vector_norm(y, dim=1)
        score = torch.empty_like(length)
        rows = self._whitened.rows
        for problem, part in places.parts():
            if rows is not None:
                score[part] = (y[part] @ rows[problem // self._per_head].T).abs_().sum(dim=1)
            else:
                score[part] = ((y[part] @ self._whitened.metric[problem].float()) * y[part]).sum(dim=1)
        if rows is not None:
            slack = score * self._sum + self._whitened.mass.float()[places.problems] * (length * self._relative + error)
            return score - slack, score + slack
        slack = length.square_() * self._square
        return (score - slack).clamp_min_(0).sqrt_() - error, (score + slack).clamp_min_(0).sqrt_() + error

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
