"""From tidy result rows to what is drawn: per edit and metric the chosen heads beside their controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headpursuit.report.content import ConceptSection
from headpursuit.report.text import readable, signed

if TYPE_CHECKING:
    from headpursuit.evaluation.results import Selection

SELECTIONS: tuple[Selection, ...] = ("somp", "logit_lens", "attribution", "random")
SELECTION_NAMES = {
    "somp": "SOMP",
    "logit_lens": "logit lens",
    "attribution": "attribution",
    "tuned": "tuned",
    "random": "random heads",
    "none": "unedited",
}


@dataclass(frozen=True)
class Effect:
    """One number of one selection, relative to the unedited model where that is known."""

    relative: float | None
    value: float | None
    q25: float | None
    q75: float | None
    n: int | None

    @property
    def shown(self) -> float | None:
        """What is drawn: relative where known, otherwise the plain value."""
        return self.value if self.relative is None else self.relative


@dataclass(frozen=True)
class Measure:
    """One metric under one edit for every selection."""

    task: str
    metric: str
    k: int
    scale: float
    is_target: bool
    effects: Mapping[str, Effect]
    unedited: float | None

    @property
    def label(self) -> str:
        """The metric's name, readable."""
        return readable(self.metric)

    @property
    def n(self) -> int | None:
        """Samples behind the numbers."""
        return next((effect.n for effect in self.effects.values() if effect.n is not None), None)

    def relative(self, selection: str) -> float | None:
        """The shown number of a selection, None if it was not measured."""
        effect = self.effects.get(selection)
        return None if effect is None else effect.shown


@dataclass(frozen=True)
class Panel:
    """All measures of one edit, on one axis from 0 to ``highest``."""

    kind: str
    scale: float
    measures: tuple[Measure, ...]
    highest: float

    @property
    def title(self) -> str:
        """Such as "Suppress, α = −1"."""
        return f"{self.kind.capitalize()}, α = {signed(self.scale)}"

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round numbers along the axis."""
        step = next(step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, math.inf) if self.highest / step <= 6)
        if math.isinf(step):
            return (0.0, 1.0)
        return tuple(sorted({1.0, *(step * i for i in range(int(self.highest / step + 1e-9) + 1))}))


@dataclass(frozen=True)
class Headline:
    """One line of the summary."""

    section: ConceptSection
    suppress: Measure | None
    kept: Measure | None
    enhance: Measure | None
    enhance_kept: Measure | None


def measures(section: ConceptSection) -> tuple[Measure, ...]:
    """Gather a section's rows into measures: targets first, then in the order of the rows.

    Args:
        section: a concept's section.

    Returns:
        One measure for every (scale, k, task, metric) that some selection was measured on.
    """
    keys: dict[tuple[float, int, str, str], dict[str, Effect]] = {}
    unedited: dict[tuple[str, str], float | None] = {}
    for row in section.rows:
        task, metric = str(row.get("task") or ""), str(row.get("metric") or "")
        selection = str(row.get("selection") or "none")
        scale, k = _number(row.get("scale")), _number(row.get("k"))
        if selection == "none" or scale is None or k is None:
            unedited.setdefault((task, metric), _number(row.get("value")))
            continue
        keys.setdefault((scale, int(k), task, metric), {})[selection] = _effect(row)
    target = section.target_metric or next((metric for *_, metric in keys), None)
    target_task = section.target_task
    if target_task is None and section.target_metric is None:
        target_task = next((task for _, _, task, _ in keys), None)
    found = [
        Measure(
            task=task,
            metric=metric,
            k=k,
            scale=scale,
            is_target=metric == target and target_task in (None, task),
            effects=effects,
            unedited=unedited.get((task, metric)),
        )
        for (scale, k, task, metric), effects in keys.items()
    ]
    return tuple(sorted(found, key=lambda measure: not measure.is_target))


def panels(section: ConceptSection) -> tuple[Panel, ...]:
    """Group a section's measures by edit, suppressing ones first.

    Args:
        section: a concept's section.

    Returns:
        One panel a scale; a metric other than the target appears with the summary's number of heads only.
    """
    found = measures(section)
    result = []
    for scale in sorted({measure.scale for measure in found}):
        of_scale = [measure for measure in found if measure.scale == scale]
        k = _chosen_k(of_scale, section)
        shown = tuple(measure for measure in of_scale if measure.is_target or measure.k == k)
        result.append(Panel("suppress" if scale < 1 else "enhance", scale, shown, _axis_end(shown)))
    return tuple(result)


def headline(section: ConceptSection) -> Headline:
    """Pick the numbers of a section that belong in the summary.

    Args:
        section: a concept's section.

    Returns:
        For the smallest scale below 1 and the largest above: the target, and the metric that lost most beside it.
    """
    found = measures(section)
    scales = sorted({measure.scale for measure in found})
    below = [scale for scale in scales if scale < 1]
    above = [scale for scale in scales if scale > 1]
    suppress, kept = _target_and_kept(found, section, below[0] if below else None)
    enhance, enhance_kept = _target_and_kept(found, section, above[-1] if above else None)
    return Headline(section, suppress, kept, enhance, enhance_kept)


def _target_and_kept(
    found: Sequence[Measure], section: ConceptSection, scale: float | None
) -> tuple[Measure | None, Measure | None]:
    of_scale = [measure for measure in found if measure.scale == scale]
    k = _chosen_k(of_scale, section)
    of_k = [measure for measure in of_scale if measure.k == k]
    target = next((measure for measure in of_k if measure.is_target), None)
    others = [measure for measure in of_k if not measure.is_target and measure.relative("somp") is not None]
    return target, min(others, key=lambda measure: measure.relative("somp") or 0.0, default=None)


def _chosen_k(found: Sequence[Measure], section: ConceptSection) -> int | None:
    ks = [measure.k for measure in found if measure.is_target] or [measure.k for measure in found]
    if not ks or section.n_edited in ks:
        return section.n_edited
    return max(ks)


def _axis_end(shown: Sequence[Measure]) -> float:
    numbers = [1.0]
    for measure in shown:
        for effect in measure.effects.values():
            numbers += [x for x in (effect.shown, effect.q25, effect.q75) if x is not None]
    highest = max(numbers)
    return max(1.25, math.ceil(highest * 4 * 1.02) / 4) if highest < 3 else float(math.ceil(highest * 1.04))


def _effect(row: Mapping[str, Any]) -> Effect:
    n = _number(row.get("n"))
    return Effect(
        relative=_number(row.get("normalized")),
        value=_number(row.get("value")),
        q25=_number(row.get("q25")),
        q75=_number(row.get("q75")),
        n=None if n is None else int(n),
    )


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None
