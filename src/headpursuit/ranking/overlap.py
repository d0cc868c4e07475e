"""Several concepts side by side: how many of their best heads they share, and a map of concepts over all heads."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float

from headpursuit.activations.store import ActsLike
from headpursuit.concepts import Concept, ConceptLike, as_concept
from headpursuit.drawing import Figure
from headpursuit.engines import held
from headpursuit.errors import SEEDS, HeadPursuitError, check_choice, check_counts
from headpursuit.model.heads import Head, HeadsLike, parse_heads
from headpursuit.ranking.methods import MEASURES, Method, as_method
from headpursuit.ranking.scorer import ScoreOptions, Scorer
from headpursuit.ranking.significance import significance


def jaccard(left: Collection[Hashable], right: Collection[Hashable]) -> float:
    """Shared members over all members of two sets, such as heads; 1 for two empty sets."""
    a, b = set(left), set(right)
    return len(a & b) / len(a | b) if a | b else 1.0


def head_overlap(sets: Mapping[str, HeadsLike]) -> pd.DataFrame:
    """Jaccard similarity of every pair of head sets (Head Pursuit, section 5).

    Args:
        sets: head sets of one model by name, for example ``{"colours": ranking.top(16), …}``.

    Returns:
        A symmetric table with the names as rows and columns.

    Raises:
        HeadPursuitError: fewer than two sets.

    Notes:
        Two random sets of ``k`` of ``N`` heads share ``k² / N`` on average, a similarity of about ``k / (2N − k)``.

    Examples:
        >>> sets = {"some": ["L0.H1", "L0.H2"], "others": "L0.H2"}
        >>> float(hp.head_overlap(sets).loc["some", "others"])
        0.5
    """
    if len(sets) < 2:
        raise HeadPursuitError(f"{len(sets)} head set(s) have nothing to be compared with: give at least two")
    heads = {name: parse_heads(one) for name, one in sets.items()}
    values = [[jaccard(one, other) for other in heads.values()] for one in heads.values()]
    return pd.DataFrame(values, index=list(heads), columns=list(heads))


# Compared by identity: arrays, which are NaN in places, have no one truth value.
@dataclass(frozen=True, eq=False)
class ConceptMap:
    """Scores of many concepts for all heads.

    Attributes:
        concepts: names, in the order given.
        scores: shape ``(c, l, h)``; NaN where a layer has no such head.
        z: the same against random token sets, see :func:`headpursuit.significance`; None if none were drawn.
        method: ``somp`` (share of variance explained) or ``logit_lens`` (mean logit).
        n: number of samples.
        positions: which tokens each sample was the mean of.
        model: whose heads these are.
    """

    concepts: tuple[str, ...]
    scores: Float[np.ndarray, "c l h"] = field(repr=False)
    z: Float[np.ndarray, "c l h"] | None = field(repr=False)
    method: Method
    n: int
    positions: str
    model: Mapping[str, Any]

    def heads(self) -> tuple[Head, ...]:
        """All heads, layer by layer."""
        part = self.model.get("part", "text")
        return tuple(Head(int(layer), int(head), part) for layer, head in np.argwhere(~np.isnan(self.scores[0])))

    def to_frame(self, values: Literal["scores", "z"] = "scores") -> pd.DataFrame:
        """Concepts as rows, heads (``L18.H27``) as columns.

        Raises:
            HeadPursuitError: z asked for, and no random sets were drawn.
        """
        check_choice(("scores", "z"), values=values)
        table = self.scores if values == "scores" else self.z
        if table is None:
            raise HeadPursuitError("this map has no z: make it with draws=1000")
        heads = self.heads()
        cells = [[one[head.layer, head.head] for head in heads] for one in table]
        return pd.DataFrame(cells, index=list(self.concepts), columns=[head.name for head in heads])

    def plot(self, *, z: bool | None = None) -> Figure:
        """A line a concept over all heads of the model, layers marked off.

        z is shaded on one scale from 0. Scores are shaded from 0 to each concept's highest, since explained variances of
        concepts of different sizes do not compare.

        Args:
            z: draw z, and not the scores; where left out, z if the map has it.

        Raises:
            HeadPursuitError: z asked for, and the map has none.
            MissingExtraError: matplotlib is not installed.
        """
        from headpursuit.drawing import heat_map

        z = self.z is not None if z is None else z
        table = self.to_frame("z" if z else "scores").clip(lower=0)
        label = f"z of {MEASURES[self.method]} against random token sets"
        if not z:
            highest = table.max(axis=1)
            table = table.div(highest.where(highest > 0, 1.0), axis=0)
            label = f"{MEASURES[self.method]}, each concept's highest = 1: lines do not compare, z (draws=1000) does"
        return heat_map(table, title=f"{len(table)} concepts over all heads, {self.n} samples", label=label)


def concept_map(
    acts: ActsLike,
    concepts: Concept | str | Path | Iterable[ConceptLike],
    *,
    draws: int = 0,
    seed: int = 0,
    **options: Unpack[ScoreOptions],
) -> ConceptMap:
    """Score all heads for many concepts in one pass.

    Scores are those of :func:`headpursuit.rank`, by the paper's ``somp`` where nothing is said. Explained variance grows with
    the number of atoms, so scores compare the heads of one concept, and not the concepts of one head; z compares both.

    Args:
        acts: a capture, or the folder of one.
        concepts: word lists with different names, each given as for :func:`headpursuit.rank`; a lone name or file is one.
        draws: number of random token sets a concept that z is measured against; none when 0.
        seed: seed of the draws.
        **options: those of :func:`headpursuit.rank`; what ``calibrated`` is for, z tells here.

    Raises:
        HeadPursuitError: no concepts, two of one name, one without a token in the vocabulary.
        MissingExtraError: z was asked for, and scipy is not installed.

    Examples:
        >>> found = hp.concept_map(acts, ["colours", "numbers"], progress=False)
        >>> found.to_frame().idxmax(axis=1).to_dict()
        {'colours': 'L3.H11', 'numbers': 'L1.H4'}
    """
    check_counts(0, draws=draws)
    check_counts(*SEEDS, seed=seed)
    lists = [as_concept(one) for one in ([concepts] if isinstance(concepts, str | Path | Concept) else concepts)]
    names = tuple(one.name for one in lists)
    if not names or len(set(names)) < len(names):
        raise HeadPursuitError(f"concepts {', '.join(names) or '(none)'}: give at least one, each with a name of its own")
    options = {**options, "method": as_method(options.get("method", "somp"))}
    scorer, z = Scorer(acts, **options), None
    acts = scorer.acts
    if draws:
        with held(scorer.engine) as engine:
            options = {**options, "engine": engine}
            tested = [significance(acts, one, draws=draws, seed=seed, **options) for one in lists]
        scores = np.stack([one.ranking.scores for one in tested])
        z = np.stack([one.z for one in tested])
    else:
        scores = scorer.scores([scorer.resolved(one).rows for one in lists], title="map concepts")
    return ConceptMap(names, scores, z, as_method(scorer.method), acts.n, acts.positions, acts.model)
