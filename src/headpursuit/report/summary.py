"""Sentences about what an edit did to its target and to all else, made from an evaluation's rows and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headpursuit.drawing.style import readable, signed
from headpursuit.evaluation.goals import Limit
from headpursuit.evaluation.metrics import Metric
from headpursuit.evaluation.results import Comparison, ConceptResult, Results, Row, Verdict
from headpursuit.report.text import percent

# At most this is lost elsewhere where a sentence says that all else stays: a share, or nats, which come to about that share.
_STAYS = 0.1


@dataclass(frozen=True)
class EditSummary:
    """One edit of one concept's heads.

    Attributes:
        concept: whose heads were edited.
        target: the rows of the metric that should move, by how heads were chosen.
        rows: all rows of the edit, the target's first.
        kept: rows of what should stay, of the edit alone, each with the loss that is allowed (a tenth where nothing was
            wished); broken limits first, and then what lost most.
        n_heads: heads that the model has, as far as they were ranked.
        verdict: what was wished; None for a recipe without goals.
        against_random: the edit's heads beside random ones, on the target.
    """

    concept: ConceptResult
    target: Mapping[str, Row]
    rows: tuple[Row, ...]
    kept: tuple[tuple[Row, Limit], ...]
    n_heads: int | None
    verdict: Verdict | None
    against_random: Comparison | None

    @property
    def row(self) -> Row:
        """The edit's own row of the target."""
        return self.target.get("tuned") or self.target.get(self.concept.method or "") or next(iter(self.target.values()))

    @property
    def verb(self) -> str:
        """``suppress`` or ``enhance``."""
        return "suppress" if self.row.scale < 1 else "enhance"

    @property
    def name(self) -> str:
        """Such as "Suppress, α = −1"."""
        return f"{self.verb.capitalize()}, α = {signed(round(self.row.scale, 2))}"

    @property
    def worst(self) -> Row | None:
        """The row of what should stay and lost most."""
        return self.kept[0][0] if self.kept else None

    @property
    def has_effect(self) -> bool:
        """Whether the target's interval lies on one side of the unedited model; unknown intervals count as doing so."""
        unedited = 0.0 if self.row.normalized is None else 1.0
        return self.row.spread is None or not self.row.spread[0] <= unedited <= self.row.spread[1]

    @property
    def state(self) -> tuple[str, str] | None:
        """A class (``good``, ``bad`` or ``open``) and words for it; None where nothing was wished and something happened."""
        if self.verdict is not None and not self.verdict.reached:
            return ("bad", "missed" if self.has_effect else "missed: no effect")
        if self.verdict is not None and not self.verdict.control_held:
            return ("open", "reached, control moved too")
        if self.verdict is not None:
            return ("good", "reached")
        return None if self.has_effect else ("open", "no effect")

    @property
    def sentence(self) -> str:
        """What happened, with the number of heads, all else and the control."""
        return " ".join([f"{'; '.join(filter(None, (self.claim, self.beside)))}.", *filter(None, [self.control])])

    @property
    def claim(self) -> str:
        """What became of the target, and with which heads."""
        row, metric = self.row, readable(self.row.metric)
        many = metric.endswith("s") and not metric.endswith("ss")
        if not self.has_effect or row.effect is None:
            stays = "stay where they were" if many else "stays where it was"
            what = f"{stays} ({amount(row)}): no effect can be told"
        elif row.normalized is None:
            what = _moved(row, many=many)
        elif amount(row) == percent(1):
            what = f"{'stay' if many else 'stays'} at {amount(row)} of the unedited model's"
        else:
            what = f"{_verb(row.effect < 1, many)} to {amount(row)} of the unedited model's"
        among = "" if self.n_heads is None else f" of {self.n_heads}"
        heads = f"{row.k}{among} head{'' if row.k == 1 and not among else 's'}"
        scaled = f"{heads} scaled by {signed(round(row.scale, 2))}"
        return f"{metric[:1].upper()}{metric[1:]} {what} with {scaled}"

    @property
    def sure(self) -> str:
        """How sure that is: the interval, and the number of samples."""
        low, high = self.row.spread or (None, None)
        spread = "" if low is None else f"95 % interval {amount(self.row, low)} to {amount(self.row, high)}, "
        return f"{spread}{self.row.n} sample{'' if self.row.n == 1 else 's'}"

    @property
    def beside(self) -> str:
        """What became of all else; empty where nothing should stay."""
        if not self.kept:
            return ""
        row, limit = self.kept[0]
        loss = _loss(row, limit)
        named, came = f"{readable(row.metric)} of {readable(row.task)}", f"comes to {percent(row.effect)}"
        if row.normalized is None:
            came = _moved(row)
        if loss > min(limit.at_most, _STAYS):
            return f"what is lost most beside it is {named}, which {came}"
        if row.normalized is None or limit.metric.better == "lower":
            return f"all else stays (least: {named}, which {came})"
        return f"all else stays at {percent(row.effect)} or above (least: {named})"

    @property
    def control(self) -> str:
        """What as many random heads do; empty where there is no control."""
        fixed, random = self.target.get("somp"), self.target.get("random")
        if "tuned" in self.target and fixed is not None:
            beside = f"The fixed edit, k = {fixed.k} and α = {signed(fixed.scale)}, brings it to {amount(fixed)}."
            return beside + ("" if random is None else f" As many random heads as tuned ones: {amount(random)}.")
        if random is None or random.effect is None:
            return ""
        if self.verdict is not None and not self.verdict.control_held:
            return f"The control moved: as many random heads bring it to {amount(random)}."
        told = {"better": "", "worse": ", further than these", "open": ", which cannot be told apart from these"}
        beside = told[self.against_random.verdict] if self.against_random is not None else ""
        return f"As many random heads bring it to {amount(random)}{beside}."


def edits(results: Results, concept: ConceptResult) -> list[EditSummary]:
    """The edits of a concept's heads that a reader should know of, suppressing ones first.

    Those that the recipe's goals settled on; without goals those of the smallest scale below 1 and the largest above, at the
    largest k; for a tuned edit that one.
    """
    rows = [row for row in results.rows if row.concept == concept.name and row.selection != "none"]
    if any(row.selection == "tuned" for row in rows):
        return [_summary(results, concept, (concept.task, concept.target), rows, None)]
    if concept.verdicts:
        return [
            _summary(
                results,
                concept,
                (verdict.task, verdict.metric),
                [row for row in rows if (row.k, row.scale) == (verdict.k, verdict.scale)],
                verdict,
            )
            for verdict in concept.verdicts
            if any((row.k, row.scale) == (verdict.k, verdict.scale) for row in rows)
        ]
    scales = sorted({row.scale for row in rows if row.metric == concept.target})
    told = [*[scale for scale in scales if scale < 1][:1], *[scale for scale in scales if scale > 1][-1:]]
    found = []
    for scale in told:
        of_scale = [row for row in rows if row.scale == scale]
        aimed = [row for row in of_scale if row.metric == concept.target]
        task = concept.task if any(row.task == concept.task for row in aimed) else aimed[0].task
        k = concept.k if any(row.k == concept.k for row in aimed) else max(row.k for row in aimed)
        found.append(_summary(results, concept, (task, concept.target), [row for row in of_scale if row.k == k], None))
    return found


def _summary(
    results: Results, concept: ConceptResult, target: tuple[str, str], rows: list[Row], verdict: Verdict | None
) -> EditSummary:
    own = [row for row in rows if (row.task, row.metric) == target]
    by_selection: dict[str, Row] = {row.selection: row for row in own}
    main = "tuned" if "tuned" in by_selection else concept.method
    scales = {row.scale for row in own}
    compared = [
        one
        for one in results.comparisons
        if one.concept == concept.name and (one.scale in scales or main == "tuned") and one.k in {row.k for row in own}
    ]
    metrics = {(one.task, one.name): one for one in results.metrics}
    if verdict is not None:
        allowed = {(one.task, one.metric): one.limit for one in verdict.kept}
    else:
        same = {(one.task, one.metric) for one in compared if one.wanted == "same"}
        judged = {key for key in same if key in metrics and metrics[key].better is not None}
        allowed = dict.fromkeys(judged or same, _STAYS)
    kept = []
    for row in rows:
        key = (row.task, row.metric)
        if row.selection == main and key in allowed and key != target:
            metric = metrics.get(key, Metric(*key))
            # A ratio to an unedited model that scores 0 says nothing of what was lost.
            if row.normalized is not None or metric.compared_by == "change":
                kept.append((row, Limit(metric, allowed[key])))
    return EditSummary(
        concept=concept,
        target=by_selection,
        rows=tuple(sorted(rows, key=lambda row: (row.task, row.metric) != target)),
        kept=tuple(sorted(kept, key=lambda one: (_loss(*one) <= one[1].at_most, -_loss(*one)))),
        n_heads=None if concept.method is None else int(np.isfinite(concept.rankings[concept.method].scores).sum()),
        verdict=verdict,
        against_random=next((one for one in compared if (one.task, one.metric) == target and one.against == "random"), None),
    )


def _loss(row: Row, limit: Limit) -> float:
    return limit.loss_of(row.effect or 0.0)


def _moved(row: Row, *, many: bool = False) -> str:
    return f"{_verb((row.effect or 0.0) < 0, many)} by {amount(row).lstrip('−')}"


def _verb(falls: bool, many: bool) -> str:
    return ("fall" if falls else "rise") + ("" if many else "s")


def amount(row: Row, value: float | None = None) -> str:
    """The effect of a row, or another value in its unit: a share of the unedited model's as a percentage, or else a change."""
    value = row.effect if value is None else value
    if row.normalized is None:
        return f"{value or 0.0:.2f}".replace("-", "−")
    return percent(value)
