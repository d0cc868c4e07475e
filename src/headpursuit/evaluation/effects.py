"""From cells to rows: an edit's number, its control's, and how far two of them differ, each with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from headpursuit.editing.where import ALL
from headpursuit.evaluation.intervals import interval, resampled_means, resampled_median
from headpursuit.evaluation.results import Comparison, Row, Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float

    from headpursuit.editing.edit import HeadEdit
    from headpursuit.evaluation.cells import Bench, Measure

    Edits: TypeAlias = Sequence[HeadEdit | None]

Wanted = Literal["less", "more", "same"]


def row(
    bench: Bench, measure: Measure, edits: Edits, *, concept: str, selection: Selection, scale: float = 1.0, seed: int
) -> Row:
    """One number of the table, with its interval.

    Args:
        bench: where the cells are.
        measure: what is measured.
        edits: one edit (None for the unedited model), or those of all random draws, of which the row is the median.
        concept: whose heads were edited.
        selection: how they were chosen.
        scale: the edit's factor; 1 for the unedited model.
        seed: seed of sampling, draws and resampling.
    """
    base = bench.value(measure, None)
    values = np.array([bench.value(measure, edit) for edit in edits])
    value = float(np.median(values))
    is_ratio = bench.ratio(measure, None) is not None
    effects = values / base if is_ratio else values - base
    spread = np.quantile(effects, [0.25, 0.75]) if selection == "random" else (None, None)
    found = None if selection == "none" else interval(_resampled(bench, measure, edits, seed=seed))
    first = edits[0]
    return Row(
        task=measure.task,
        concept=concept,
        selection=selection,
        k=0 if first is None else len(first.heads),
        scale=scale,
        metric=measure.metric,
        value=value,
        normalized=float(np.median(effects)) if is_ratio else None,
        q25=None if spread[0] is None else float(spread[0]),
        q75=None if spread[1] is None else float(spread[1]),
        n=bench.size(measure),
        seed=seed,
        change=value - base,
        low=None if found is None else found[0],
        high=None if found is None else found[1],
        where=ALL if first is None else " + ".join(map(str, first.token_groups)),
    )


def comparison(
    bench: Bench,
    measure: Measure,
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

    Args:
        bench: where the cells are.
        measure: what is measured.
        edit: the edit of SOMP's heads.
        others: one edit of another choice's heads, or those of all random draws.
        concept: whose heads were edited.
        against: the other choice.
        scale: the edits' factor.
        wanted: what the metric was meant to become.
        seed: seed of sampling, draws and resampling.
    """
    unit = bench.value(measure, None) if bench.ratio(measure, None) is not None else 1.0
    rest = float(np.median([bench.value(measure, other) for other in others]))
    found = interval(_resampled(bench, measure, [edit], seed=seed) - _resampled(bench, measure, others, seed=seed))
    return Comparison(
        task=measure.task,
        concept=concept,
        k=len(edit.heads),
        scale=scale,
        metric=measure.metric,
        against=against,
        difference=(bench.value(measure, edit) - rest) / unit,
        low=None if found is None else found[0],
        high=None if found is None else found[1],
        wanted=wanted,
        n=bench.size(measure),
        seed=seed,
    )


def _resampled(bench: Bench, measure: Measure, edits: Edits, *, seed: int) -> Float[np.ndarray, " b"]:
    """The effect in every resample of the samples: a ratio to the unedited model, or the difference from it."""
    rows = [bench.scores(measure, edit) for edit in (None, *edits)]
    means = resampled_means(np.stack(rows), seed=seed)
    base, edited = means[:, 0], means[:, 1:]
    value = edited[:, 0] if len(edits) == 1 else resampled_median(edited, seed=seed)
    if bench.ratio(measure, None) is None:
        return value - base
    return np.divide(value, base, out=np.full_like(value, np.nan), where=base != 0)
