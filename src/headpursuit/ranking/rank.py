"""Order all heads for a concept: by explained variance above chance, by the paper's SOMP, or by the logit lens."""

import warnings

import numpy as np
from jaxtyping import Float

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.concepts import ConceptLike, MultiToken, ResolvedConcept
from headpursuit.model.heads import Head
from headpursuit.ranking.methods import CALIBRATED, LOGIT_LENS
from headpursuit.ranking.null import above_chance, random_token_sets, within_chance
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.scorer import Scorer


class ChanceWarning(UserWarning):
    """Chance explains as much of the head that stands first in a ranking."""


def rank(
    acts: HeadActivations | HeadMoments,
    concept: ConceptLike,
    *,
    method: str = CALIBRATED,
    n_atoms: int = 50,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    fold_norm: bool = False,
    draws: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by how much a concept explains of what they write (Head Pursuit, section 3).

    Args:
        acts: a capture.
        concept: the word list: the name of a built-in one, words, a file, or a :class:`headpursuit.Concept`.
        method: ``calibrated``: how far the share of a head's variance over samples that at most ``n_atoms`` of the concept's
            atoms explain lies above what random token sets explain of it; ``somp``: that share itself, the paper's score;
            ``logit_lens``: mean logit that the head gives to the concept's tokens.
        n_atoms: pursuit steps at most.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        fold_norm: multiply the unembedding by the gain of the norm before it.
        draws: number of random token sets that explained variances are compared with, see
            :func:`headpursuit.ranking.null.random_token_sets`; 0 lets ``somp`` do without.
        seed: seed of their draw.
        progress: show a progress bar.

    Returns:
        The ranking, scores of shape ``(l, h)``. A calibrated score is at most 1, and above 0 only where explained variance is
        higher than chance has it in one of 20 models: see :func:`headpursuit.ranking.null.within_chance`.

    Raises:
        HeadPursuitError: no such concept, one without a token in the vocabulary, an unknown method.

    Warns:
        ChanceWarning: chance explains as much of the head that stands first.

    Examples:
        >>> ranking = hp.rank(acts, "colours", progress=False)
        >>> [head.name for head in ranking.top(3)]
        ['L2.H14', 'L2.H10', 'L1.H1']
    """
    scorer = Scorer(
        acts, method=method, n_atoms=n_atoms, multi_token=multi_token, variants=variants, fold_norm=fold_norm, progress=progress
    )
    return rank_resolved(scorer, scorer.resolved(concept), draws=draws, seed=seed)[0]


def rank_resolved(
    scorer: Scorer, resolved: ResolvedConcept, *, draws: int = 200, seed: int = 0
) -> tuple[HeadRanking, Float[np.ndarray, "l h"] | None]:
    """The ranking of a resolved concept and, where it is calibrated, the explained variance that chance reaches, ``(l, h)``."""
    sets = [resolved.rows]
    if scorer.calibrated or (draws and scorer.method != LOGIT_LENS):
        sets += random_token_sets(resolved.rows, scorer.unembedding, scorer.acts.tokenizer, draws=draws, seed=seed).sets
    scores = scorer.scores(sets, title=f"rank {resolved.name}")
    ranking, chance = scorer.ranking(resolved, scores[0]), None
    if len(sets) > 1:
        chance = within_chance(scores[1:])
        above = above_chance(scores[0], chance)
        if scorer.calibrated:
            ranking = scorer.ranking(resolved, above, draws=draws, seed=seed)
        first = ranking.order()[0]
        if not above[first.layer, first.head] > 0:
            _warn_of_chance(ranking, first, scores[0], chance)
    return ranking, chance if scorer.calibrated else None


def _warn_of_chance(
    ranking: HeadRanking, first: Head, explained: Float[np.ndarray, "l h"], chance: Float[np.ndarray, "l h"]
) -> None:
    at = first.layer, first.head
    advice = "capture more samples that speak of the concept, or at other positions"
    warnings.warn(
        f"{ranking.concept}: its words explain {explained[at]:.0%} of what {first} writes, which stands first, and random words "
        f"reach {chance[at]:.0%}: {advice if ranking.method == CALIBRATED else 'rank by method=calibrated'}",
        ChanceWarning,
        stacklevel=4,
    )
