"""The significance of scores: a null of random token sets, p-values, and the false-discovery rate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from jaxtyping import Float

from headpursuit.activations.store import ActsLike
from headpursuit.concepts import ConceptLike
from headpursuit.errors import SEEDS, check_choice, check_counts
from headpursuit.model.heads import Head
from headpursuit.optional import optional_import
from headpursuit.ranking.chance import Chance, beyond, logarithms
from headpursuit.ranking.methods import CALIBRATED, LOGIT_LENS
from headpursuit.ranking.null import random_token_sets
from headpursuit.ranking.rank import calibrated_ranking
from headpursuit.ranking.ranking import Beside, HeadRanking
from headpursuit.ranking.scorer import ScoreOptions, Scorer

Tail = Literal["fitted", "counted"]
TAILS = ("fitted", "counted")

# With fewer random sets than this at or above a score, their count says little of how rare the score is.
_COUNTED = 10


# Compared by identity: arrays, which are NaN in places, have no one truth value.
@dataclass(frozen=True, eq=False)
class Significance(Beside):
    """A ranking beside its null. All arrays are ``(l, h)``, NaN where a layer has no such head.

    Attributes:
        ranking: the heads in their order.
        null_mean: mean score of the random sets.
        null_deviation: its standard deviation (``ddof`` 1).
        z: how many deviations a score lies above that mean.
        p: probability of such a score under the null; by ``tail``.
        p_counted: the permutation p-value ``(b + 1) / (m + 1)``, where ``b`` of ``m`` random sets score as high.
        q: the lowest false-discovery rate at which a head is found (Benjamini and Hochberg 1995), over all heads.
        draws: number of random sets, ``m``.
        tail: ``counted``: ``p`` is ``p_counted``; ``fitted``: where fewer than 10 random sets score as high, ``p`` is the
            tail of a fitted distribution.
        matched: in what the random sets are like the concept besides their size.
        classes: in how many classes the vocabulary was cut for that.
        shared: mean share of the random sets' tokens that are the concept's own; where it is large, the test is cautious.
        seed: seed of the draws.
    """

    key: ClassVar[str] = "significance"

    ranking: HeadRanking
    null_mean: Float[np.ndarray, "l h"] = field(repr=False)
    null_deviation: Float[np.ndarray, "l h"] = field(repr=False)
    z: Float[np.ndarray, "l h"] = field(repr=False)
    p: Float[np.ndarray, "l h"] = field(repr=False)
    p_counted: Float[np.ndarray, "l h"] = field(repr=False)
    q: Float[np.ndarray, "l h"] = field(repr=False)
    draws: int
    tail: Tail
    matched: tuple[str, ...]
    classes: int
    shared: float
    seed: int

    def found(self, fdr: float = 0.05) -> tuple[Head, ...]:
        """The heads with ``q`` at most ``fdr``, highest z first."""
        heads = [head for head in self.ranking.order() if self.q[head.layer, head.head] <= fdr]
        return tuple(sorted(heads, key=lambda head: -self.z[head.layer, head.head]))

    def columns(self) -> Mapping[str, Float[np.ndarray, "l h"]]:
        """Values of every head, by name."""
        return {"null": self.null_mean, "z": self.z, "p": self.p, "p_counted": self.p_counted, "q": self.q}

    def summary(self) -> dict[str, Any]:
        """The settings of the measurement, in plain values."""
        return {
            "draws": self.draws,
            "tail": self.tail,
            "matched": list(self.matched),
            "classes": self.classes,
            "shared": self.shared,
            "false_discovery": "Benjamini-Hochberg",
            "seed": self.seed,
        }


def significance(
    acts: ActsLike,
    concept: ConceptLike,
    *,
    draws: int = 1000,
    frequencies: Float[np.ndarray, " v"] | None = None,
    tail: Tail = "fitted",
    seed: int = 0,
    **options: Unpack[ScoreOptions],
) -> Significance:
    """Rank heads for a concept and test every score against random token sets.

    Args:
        acts: a capture, or the folder of one.
        concept: as for :func:`headpursuit.rank`.
        draws: number of random sets; all are pursued in one pass.
        frequencies: how often each token is used, shape ``(v,)``, to match them, see
            :func:`headpursuit.ranking.null.token_counts`.
        tail: ``counted`` permutation p-values are exact, but never below ``1 / (draws + 1)``, which after the correction for
            many heads may be too high to find any; ``fitted`` goes below by a normal distribution of the random sets' scores
            (``logit_lens``, ``calibrated``) or of their logarithms (``somp``) with their mean and variance. Of ``somp`` on
            the demo model that tail was within a factor of two of the truth down to 1 in 5000 (docs/decisions/ranking.md).
        seed: seed of the draws.
        **options: those of :func:`headpursuit.rank`; random sets have as many atoms of as many tokens as the concept.

    Returns:
        z, p and q of every head, with the ranking.

    Raises:
        HeadPursuitError: as :func:`headpursuit.rank`; fewer than two draws, frequencies of another length.
        MissingExtraError: scipy is not installed.

    Notes:
        Heads' p-values go up and down together, for one random set serves all heads; Benjamini and Hochberg's correction
        holds under such positive dependence (Benjamini and Yekutieli 2001).

    Examples:
        >>> tested = hp.significance(acts, "colours", draws=20, progress=False)
        >>> [head.name for head in tested.found(fdr=0.05)][:3]
        ['L3.H2', 'L5.H7', 'L1.H6']
    """
    check_choice(TAILS, tail=tail)
    check_counts(2, draws=draws)
    check_counts(*SEEDS, seed=seed)
    stats = optional_import("scipy.stats", extra="stats", purpose="the significance of a ranking")
    scorer = Scorer(acts, **options)
    acts, resolved = scorer.acts, scorer.resolved(concept)
    null = random_token_sets(resolved.rows, scorer.unembedding, acts.tokenizer, draws=draws, frequencies=frequencies, seed=seed)
    sets, title = [resolved.rows, *null.sets], f"null of {resolved.name}"
    if scorer.method == CALIBRATED:
        explained, logits = scorer.scores(sets, view="somp", title=title), scorer.scores(sets, view=LOGIT_LENS)
        chance = Chance.of(logits[1:])
        ranking = calibrated_ranking(scorer, resolved, chance, explained[0], logits[0], draws=draws, seed=seed)
        # Measured by all sets, the concept among them: so it is one of them wherever chance is all there is.
        scores = Chance.of(logits).scores(explained, logits)
    else:
        scores = scorer.scores(sets, title=title)
        ranking = scorer.ranking(resolved, scores[0])
    measured = against_null(scores[0], scores[1:], logarithmic=scorer.method == "somp", tail=tail, stats=stats)
    return Significance(
        ranking=ranking,
        **measured,
        draws=draws,
        tail=tail,
        matched=null.matched,
        classes=null.classes,
        shared=null.shared,
        seed=seed,
    )


def against_null(
    scores: Float[np.ndarray, "l h"], null: Float[np.ndarray, "m l h"], *, logarithmic: bool, tail: Tail, stats: Any
) -> dict[str, Float[np.ndarray, "l h"]]:
    """Mean and deviation of the null, z, p and q."""
    there = ~np.isnan(scores)
    mean, deviation = null.mean(axis=0), null.std(axis=0, ddof=1)
    reached = (null >= scores).sum(axis=0)
    p_counted = np.where(there, (reached + 1) / (len(null) + 1), np.nan)
    p = p_counted.copy()
    if tail == "fitted":
        shape = logarithms if logarithmic else np.asarray
        fitted = beyond(shape(scores), shape(null))
        p = np.where(there & (reached < _COUNTED), stats.norm.sf(fitted), p)
    q = np.full_like(p, np.nan)
    q[there] = stats.false_discovery_control(p[there])
    return {
        "null_mean": mean,
        "null_deviation": deviation,
        "z": np.where(there, beyond(scores, null), np.nan),
        "p": p,
        "p_counted": p_counted,
        "q": q,
    }
