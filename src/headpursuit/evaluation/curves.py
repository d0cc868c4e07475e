"""Trade-off curves: how far edits move a target for what they cost, and what two ways to choose heads reach at equal cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from headpursuit.ranking.equal_cost import effect_at

# Costs up to the largest of interest at which a curve is read for its area.
_STEPS = 20


@dataclass(frozen=True)
class CurvePoint:
    """One edit of a curve.

    Attributes:
        k: number of heads.
        scale: their factor.
        effect: how far the target moved as was wanted, the mean over test samples.
        cost: the divergence from the unedited model on neutral text, in nats a token.
    """

    k: int
    scale: float
    effect: float
    cost: float


@dataclass(frozen=True)
class AtCost:
    """How far a way to choose heads moves the target for a given cost.

    Attributes:
        cost: what the edit may cost, in nats a token.
        effect: how far the target moved, see :func:`effect_at`.
        low: lower end of its 95 % interval.
        high: upper end.
        ahead: by how much less the first of the compared ways moves it.
        ahead_low: lower end of the 95 % interval of that, paired over samples.
        ahead_high: upper end.
    """

    cost: float
    effect: float
    low: float
    high: float
    ahead: float
    ahead_low: float
    ahead_high: float


@dataclass(frozen=True)
class Curve:
    """What one way to choose heads does for one concept, in one direction.

    Attributes:
        concept: the concept.
        kind: ``suppress`` or ``enhance``.
        method: the way, as the recipe calls it; ``random`` for drawn heads, whose numbers are means over the draws.
        unit: unit of the effects.
        points: the edits that were tried.
        at_costs: what is reached at given costs.
        area: the mean effect over costs up to the largest of those, with its interval.
        heads: the best heads, as many as the largest k; empty for random ones.
        forward: passes over the selection samples that the choice took.
        backward: passes backward.
        seconds: time that it took.
        stability: share of the best heads that two halves of the selection samples agree on; None where it was not measured.
        n: test samples.
    """

    concept: str
    kind: Literal["suppress", "enhance"]
    method: str
    unit: str
    points: tuple[CurvePoint, ...]
    at_costs: tuple[AtCost, ...]
    area: tuple[float, float, float]
    heads: tuple[str, ...] = ()
    forward: float = 0.0
    backward: float = 0.0
    seconds: float = 0.0
    stability: float | None = None
    n: int = 0


def frontier(curve: Curve) -> list[tuple[float, float]]:
    """What a way to choose heads reaches at costs up to the largest at which it was read: pairs of cost and effect."""
    by_k = {point.k: [one for one in curve.points if one.k == point.k] for point in curve.points}
    effects, costs = (np.array([[getattr(one, key) for one in own] for own in by_k.values()]) for key in ("effect", "cost"))
    most = curve.at_costs[-1].cost
    return [(most * step / _STEPS, float(effect_at(effects, costs, most * step / _STEPS))) for step in range(_STEPS + 1)]


def standings(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Every way over all concepts and directions: its mean share of the furthest effect, and its place beside the first way.

    Returns:
        For each way its name, at every cost the mean share of what the furthest way reaches, the number of cases, and those in
        which the 95 % interval of its distance to the first way lies above 0, and below.
    """
    cases = list(dict.fromkeys((one.concept, one.kind) for one in curves))
    furthest = {
        (case, at.cost): max(other.at_costs[index].effect for other in curves if (other.concept, other.kind) == case)
        for case in cases
        for index, at in enumerate(curves[0].at_costs)
    }
    found = []
    for method in dict.fromkeys(one.method for one in curves):
        own = [one for one in curves if one.method == method]
        line: dict[str, Any] = {"method": method}
        for index, at in enumerate(own[0].at_costs):
            best = [furthest[(one.concept, one.kind), at.cost] for one in own]
            shares = [one.at_costs[index].effect / top for one, top in zip(own, best, strict=True) if top > 0]
            line[f"at {at.cost:g}"] = float(np.mean(shares)) if shares else math.nan
        line["cases"] = len(own)
        line["ahead"] = sum(one.at_costs[-1].ahead_low > 0 for one in own)
        line["behind"] = sum(one.at_costs[-1].ahead_high < 0 for one in own)
        found.append(line)
    return found


def area(effects: Float[np.ndarray, "*b k s"], costs: Float[np.ndarray, "*b k s"], limit: float) -> Float[np.ndarray, "*b"]:
    """The mean of :func:`effect_at` over costs from 0 to a limit."""
    read = np.stack([effect_at(effects, costs, limit * (step + 0.5) / _STEPS) for step in range(_STEPS)])
    found: Float[np.ndarray, "*b"] = read.mean(axis=0)
    return found


def in_words(curves: Sequence[Curve]) -> list[str]:
    """A sentence for each concept and direction: what moves the target furthest at the largest cost, and what surely less.

    A way is surely behind where the 95 % interval of its distance to the furthest, paired over samples, leaves 0 out.
    """
    said = []
    for concept, kind in dict.fromkeys((one.concept, one.kind) for one in curves):
        own = [one for one in curves if (one.concept, one.kind) == (concept, kind)]
        first = own[0]
        best = max(own, key=lambda one: one.at_costs[-1].effect)
        at = best.at_costs[-1]
        reached = f"{at.effect:.2f} {best.unit} ({at.low:.2f} to {at.high:.2f})"
        text = f"{concept}, {kind}: at {at.cost:g} nats {best.method} moves {reached}"
        if best is not first:
            rest = first.at_costs[-1]
            sure = "surely" if at.ahead_low > 0 else "not surely"
            text += f", {sure} more than {first.method} ({rest.effect:.2f})"
        behind = [one.method for one in own[1:] if one.at_costs[-1].ahead_high < 0]
        if behind:
            text += f"; surely behind {first.method}: {', '.join(behind)}"
        said.append(f"{text}.")
    return said
