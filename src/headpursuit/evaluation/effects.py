"""Effects of edits as rows: an edit's number, its control's, and how far two of them differ, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from headpursuit.editing.edit import HeadEdit
from headpursuit.editing.where import ALL
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.intervals import RESAMPLES, interval, resampled_means, resampled_median
from headpursuit.evaluation.metrics import Metric
from headpursuit.evaluation.results import Comparison, Row
from headpursuit.ranking.methods import Selection

if TYPE_CHECKING:
    Edits: TypeAlias = Sequence[HeadEdit | None]

Wanted = Literal["less", "more", "same"]


def row(
    cells: Cells, metric: Metric, edits: Edits, *, concept: str, selection: Selection, scale: float = 1.0, seed: int
) -> Row:
    """One number of the table, with its interval; columns are given as in :class:`~headpursuit.evaluation.results.Row`.

    Args:
        cells: where the numbers are found.
        metric: what is measured.
        edits: one edit (None for the unedited model), or those of all random draws, of which the row is the median.
    """
    value = float(np.median([cells.value(metric, edit) for edit in edits]))
    effects = np.array([cells.effect(metric, edit) for edit in edits])
    q25, q75 = map(float, np.quantile(effects, [0.25, 0.75])) if selection == "random" else (None, None)
    found = None if selection == "none" else interval(_resampled(cells, metric, edits, seed=seed))
    low, high = found or (None, None)
    first = edits[0]
    return Row(
        task=metric.task,
        concept=concept,
        selection=selection,
        k=0 if first is None else len(first.heads),
        scale=scale,
        metric=metric.name,
        value=value,
        normalized=float(np.median(effects)) if cells.as_ratio(metric) else None,
        q25=q25,
        q75=q75,
        n=len(cells.tasks[metric.task].samples),
        seed=seed,
        change=value - cells.value(metric, None),
        low=low,
        high=high,
        where=ALL if first is None else " + ".join(map(str, first.token_groups)),
    )


def comparison(
    cells: Cells,
    metric: Metric,
    edit: HeadEdit,
    others: Edits,
    *,
    concept: str,
    against: Selection,
    scale: float,
    wanted: Wanted,
    seed: int,
) -> Comparison:
    """SOMP's edit beside another choice's (or the median over the draws), paired over samples.

    Columns are given as in :class:`~headpursuit.evaluation.results.Comparison`.

    Args:
        cells: where the numbers are found.
        metric: what is measured.
        edit: the edit of SOMP's heads.
        others: one edit of another choice's heads, or those of all random draws.
    """
    rest = float(np.median([cells.effect(metric, other) for other in others]))
    found = interval(_resampled(cells, metric, [edit], seed=seed) - _resampled(cells, metric, others, seed=seed))
    return Comparison(
        task=metric.task,
        concept=concept,
        k=len(edit.heads),
        scale=scale,
        metric=metric.name,
        against=against,
        difference=cells.effect(metric, edit) - rest,
        low=None if found is None else found[0],
        high=None if found is None else found[1],
        wanted=wanted,
        n=len(cells.tasks[metric.task].samples),
        seed=seed,
    )


def _resampled(cells: Cells, metric: Metric, edits: Edits, *, seed: int) -> Float[np.ndarray, " b"]:
    """The effect in every resample of the samples: a ratio to the unedited model, or the difference from it.

    A single sample, drawn again and again, would give an interval of no width; its effects are NaN, so that there is none.
    """
    rows = [cells.scores(metric, edit) for edit in (None, *edits)]
    if rows[0].size == 1:
        return np.full(RESAMPLES, np.nan)
    means = resampled_means(np.stack(rows), seed=seed)
    base, edited = means[:, 0], means[:, 1:]
    value = edited[:, 0] if len(edits) == 1 else resampled_median(edited, seed=seed)
    if not cells.as_ratio(metric):
        return value - base
    return np.divide(value, base, out=np.full_like(value, np.nan), where=base != 0)
