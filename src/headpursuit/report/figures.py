"""Figures of a result: maps of heads, effects beside their controls, transfer, shared heads, trade-offs, named heads."""

from __future__ import annotations

import pandas as pd

from headpursuit.drawing import Figure, effects, matrices, overlap, sweep
from headpursuit.drawing.style import readable, signed
from headpursuit.evaluation.results import ConceptResult, Results
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.report.tables import Reportable, choice_in_words, largest_k, shared_heads, transfer
from headpursuit.tuning.tune import Tuned


def figures(what: Reportable) -> dict[str, Figure]:
    """All figures of a result, by the names of their files.

    Args:
        what: an evaluation, several, a tuned edit, or a ranking.

    Raises:
        MissingExtraError: matplotlib is not installed.

    >>> list(figures(hp.rank(acts, hp.concept("colours"))))
    ['colours-map']
    """
    if isinstance(what, HeadRanking):
        return {f"{_file_name(what.concept)}-map": what.plot(k=0)}
    if isinstance(what, Tuned):
        return {"trade-off": what.plot(), **_of_results(what.results)}
    if isinstance(what, Results):
        return _of_results(what)
    return {f"{_file_name(one.recipe)}-{name}": figure for one in what for name, figure in _of_results(one).items()}


def sweeps(results: Results, concept: ConceptResult) -> dict[str, Figure]:
    """A concept's effects over k, a figure a scale; or over the scale, a figure a k, where more scales were tried than numbers
    of heads (the paper's Figure 10); a chart of the effects where neither was varied.
    """
    rows = [row for row in results.rows if row.concept == concept.name and row.selection != "none"]
    if not rows:
        return {}
    target, name = (concept.task, concept.target), readable(concept.name)
    if any(row.selection == "tuned" for row in rows):
        return {"effects": effects(rows, title=name)}
    ks, scales = (sorted({getattr(row, key) for row in rows}) for key in ("k", "scale"))
    found = {}
    if len(scales) > len(ks):
        for k in ks:
            own = [row for row in rows if row.k == k]
            found[f"k{k}"] = sweep(own, over="scale", target=target, title=f"{name}, k = {k}")
        return found
    for scale in scales:
        own = [row for row in rows if row.scale == scale]
        title, key = f"{name}, α = {signed(scale)}", f"alpha{scale:g}"
        # The same concept can be the target in another task, where captions are drawn and not greedy.
        aimed = next(((row.task, row.metric) for row in own if row.metric == concept.target), target)
        aimed = target if any((row.task, row.metric) == target for row in own) else aimed
        found[key] = sweep(own, over="k", target=aimed, title=title) if len(ks) > 1 else effects(own, title=title)
    return found


def transfer_figures(results: Results) -> dict[str, Figure]:
    """The transfer matrices of every choice of heads, at the largest k, and the heads that the choices share."""
    by_scale: dict[float, dict[str, pd.DataFrame]] = {}
    for (selection, k, scale), cells in transfer(results).items():
        if k == largest_k(results):
            values = cells.map(lambda row: None if row is None else row.effect).astype(float)
            by_scale.setdefault(scale, {})[choice_in_words(selection, k, scale)] = values
    found = {}
    for scale, shown in by_scale.items():
        name = "transfer" if len(by_scale) == 1 else f"transfer-alpha{scale:g}"
        found[name] = matrices(shown, title="What is left of each target", strongest=0.0)
    if found and (similar := shared_heads(results)) is not None:
        found["overlap"] = overlap(similar)
    return found


def described_figure(results: Results) -> Figure | None:
    """The heads that their tokens explain best, with those tokens; None where no head was described."""
    best = results.best_described()
    return best.plot(title="Heads that a few tokens explain best") if best else None


def _of_results(results: Results) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for concept in results.concepts:
        name = _file_name(concept.name)
        for method, ranking in concept.rankings.items():
            found[f"{name}-map-{_file_name(method)}"] = ranking.plot(k=largest_k(results, concept))
        found |= {f"{name}-{key}": figure for key, figure in sweeps(results, concept).items()}
    found |= transfer_figures(results)
    if results.curves:
        found["at-equal-cost"] = results.plot()
    described = described_figure(results)
    return found if described is None else {**found, "described": described}


def _file_name(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in name)
