"""Sentences about what an edit did to its target and to all else, made from an evaluation's rows and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headpursuit.drawing.style import readable, signed
from headpursuit.report.text import percent

if TYPE_CHECKING:
    from headpursuit.evaluation.results import Comparison, ConceptResult, Results, Row, Verdict

# Less than this is lost elsewhere where a sentence says that all else stays.
_STAYS = 0.9


@dataclass(frozen=True)
class EditSummary:
    """One edit of one concept's heads.

    Attributes:
        concept: whose heads were edited.
        target: the rows of the metric that should move, by how heads were chosen.
        rows: all rows of the edit, the target's first.
        kept: rows of what should stay, of the edit alone.
        n_heads: heads that the model has, as far as they were ranked.
        verdict: what was wished; None for a recipe without goals.
        against_random: SOMP's heads beside random ones, on the target.
    """

    concept: ConceptResult
    target: Mapping[str, Row]
    rows: tuple[Row, ...]
    kept: tuple[Row, ...]
    n_heads: int | None
    verdict: Verdict | None
    against_random: Comparison | None

    @property
    def row(self) -> Row:
        """The edit's own row of the target."""
        return self.target.get("tuned") or self.target.get("somp") or next(iter(self.target.values()))

    @property
    def name(self) -> str:
        """Such as "Suppress, α = −1"."""
        return f"{'Suppress' if self.row.scale < 1 else 'Enhance'}, α = {signed(round(self.row.scale, 2))}"

    @property
    def worst(self) -> Row | None:
        """Of what should stay, the metric that lost most."""
        return min(self.kept, key=lambda row: row.effect or 0.0, default=None)

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
        """The sentence: what happened, with the number of heads, all else and the control."""
        row, metric = self.row, readable(self.row.metric)
        many = metric.endswith("s") and not metric.endswith("ss")
        if not self.has_effect or row.effect is None:
            stays = "stay where they were" if many else "stays where it was"
            what = f"{stays} ({_amount(row)}): no effect can be told"
        elif row.normalized is None:
            what = f"{_verb(row.effect < 0, many)} by {_amount(row).lstrip('−')}"
        else:
            what = f"{_verb(row.effect < 1, many)} to {_amount(row)} of the unedited model's"
        among = "" if self.n_heads is None else f" of {self.n_heads}"
        heads = f"{row.k}{among} head{'' if row.k == 1 and not among else 's'}"
        scaled = f"{heads} scaled by {signed(round(row.scale, 2))}"
        return f"{metric[:1].upper()}{metric[1:]} {what} with {scaled}{self._rest()}.{self._control()}"

    def _rest(self) -> str:
        worst = self.worst
        if worst is None or worst.effect is None:
            return ""
        named = f"{readable(worst.metric)} of {readable(worst.task)}"
        if worst.effect >= _STAYS:
            return f"; all else stays at {percent(worst.effect)} or above (least: {named})"
        return f"; what is lost most beside it is {named}, which comes to {percent(worst.effect)}"

    def _control(self) -> str:
        fixed, random = self.target.get("somp"), self.target.get("random")
        if "tuned" in self.target and fixed is not None:
            beside = f" The fixed edit, k = {fixed.k} and α = {signed(fixed.scale)}, brings it to {_amount(fixed)}."
            return beside + ("" if random is None else f" As many random heads as tuned ones: {_amount(random)}.")
        if random is None or random.effect is None:
            return ""
        amount = _amount(random)
        if self.verdict is not None and not self.verdict.control_held:
            return f" The control moved: as many random heads bring it to {amount}."
        told = {"better": "", "worse": ", further than these", "open": ", which cannot be told apart from these"}
        beside = told[self.against_random.verdict] if self.against_random is not None else ""
        return f" As many random heads bring it to {amount}{beside}."


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
    main = "tuned" if "tuned" in by_selection else "somp"
    scales = {row.scale for row in own}
    compared = [
        one
        for one in results.comparisons
        if one.concept == concept.name and (one.scale in scales or main == "tuned") and one.k in {row.k for row in own}
    ]
    if verdict is not None:
        stay = {(one.task, one.metric) for one in verdict.kept}
    else:
        stay = {(one.task, one.metric) for one in compared if one.wanted == "same"}
        good = {(one.task, one.name) for one in results.metrics if one.better == "higher"}
        stay = stay & good or stay
    return EditSummary(
        concept=concept,
        target=by_selection,
        rows=tuple(sorted(rows, key=lambda row: (row.task, row.metric) != target)),
        kept=tuple(
            row
            for row in rows
            if row.selection == main and row.normalized is not None and (row.task, row.metric) in stay - {target}
        ),
        n_heads=None if "somp" not in concept.rankings else int(np.isfinite(concept.rankings["somp"].scores).sum()),
        verdict=verdict,
        against_random=next((one for one in compared if (one.task, one.metric) == target and one.against == "random"), None),
    )


def _verb(falls: bool, many: bool) -> str:
    return ("fall" if falls else "rise") + ("" if many else "s")


def _amount(row: Row) -> str:
    if row.normalized is None:
        return f"{row.effect or 0.0:.2f}".replace("-", "−")
    return percent(row.effect)
