"""Order all heads for a concept: by the paper's SOMP, by the logit lens, or by both, measured by chance."""

import warnings
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float

from headpursuit.activations.store import ActsLike
from headpursuit.concepts import ConceptLike, MultiToken, ResolvedConcept
from headpursuit.engines import EngineOptions
from headpursuit.errors import SEEDS, check_counts
from headpursuit.pursuit.checks import Criterion
from headpursuit.ranking.chance import Chance, beyond, logarithms, threshold
from headpursuit.ranking.methods import CALIBRATED, LOGIT_LENS
from headpursuit.ranking.null import random_token_sets
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.scorer import AtomRows, Scorer

# So many random sets tell whether chance explains as much of one head.
_CHECKED = 20
_BETTER = f"method {CALIBRATED} may"


class ChanceWarning(UserWarning):
    """Chance does as well for the head that stands first in a ranking."""


def rank(
    acts: ActsLike,
    concept: ConceptLike,
    *,
    method: str = CALIBRATED,
    n_atoms: int = 50,
    criterion: Criterion | None = None,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    fold_norm: bool = False,
    draws: int = 200,
    seed: int = 0,
    progress: bool = True,
    **where: Unpack[EngineOptions],
) -> HeadRanking:
    """Order all heads by how much a concept explains of what they write (Head Pursuit, section 3).

    Args:
        acts: a capture, or the folder of one.
        concept: the word list: the name of a built-in one, words, a file, or a :class:`headpursuit.Concept`.
        method: ``somp``: share of a head's variance over samples that at most ``n_atoms`` of the concept's atoms explain, the
            paper's score; ``logit_lens``: mean logit that the head gives to the concept's tokens; ``calibrated``: the square
            root of the one, times how far the other lies above that of random token sets, in deviations.
        n_atoms: pursuit steps at most.
        criterion: by what a pursuit chooses: ``l1``, the paper's, from rows (of moments those that were kept), or ``l2``, from
            rows or moments; when left out, ``l1`` for a capture of rows and ``l2`` for one of moments.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        fold_norm: multiply the unembedding by the gain of the norm before it.
        draws: number of random token sets of ``calibrated``, see :func:`headpursuit.ranking.null.random_token_sets`; 0 lets
            ``somp`` do without a look at what chance explains of the first head.
        seed: seed of their draw.
        progress: show a progress bar.
        **where: ``engine``, ``workers``, ``cpus_per_worker`` and ``gpus_per_worker`` as for :func:`headpursuit.capture`;
            workers pursue a layer each.

    Returns:
        The ranking, scores of shape ``(l, h)``.

    Raises:
        HeadPursuitError: no such concept, one without a token in the vocabulary, an unknown method.

    Warns:
        ChanceWarning: random words do as well for the head that stands first.

    Examples:
        >>> ranking = hp.rank(acts, "colours", progress=False)
        >>> [head.name for head in ranking.top(3)]
        ['L5.H7', 'L5.H3', 'L0.H17']
    """
    check_counts(0, draws=draws)
    check_counts(*SEEDS, seed=seed)
    options: dict[str, Any] = {"n_atoms": n_atoms, "criterion": criterion, "multi_token": multi_token, "variants": variants}
    scorer = Scorer(acts, method=method, fold_norm=fold_norm, progress=progress, **options, **where)
    return rank_resolved(scorer, scorer.resolved(concept), draws=draws, seed=seed)[0]


def rank_resolved(
    scorer: Scorer, resolved: ResolvedConcept, *, draws: int = 200, seed: int = 0
) -> tuple[HeadRanking, Chance | None]:
    """The ranking of a resolved concept, and what it is compared with where it is calibrated."""
    title = f"rank {resolved.name}"

    def null(draws: int) -> list[AtomRows]:
        return random_token_sets(resolved.rows, scorer.unembedding, scorer.acts.tokenizer, draws=draws, seed=seed).sets

    explained = scorer.scores([resolved.rows], view="logit_lens" if scorer.method == LOGIT_LENS else "somp", title=title)[0]
    if scorer.method != CALIBRATED:
        ranking = scorer.ranking(resolved, explained)
        if draws and scorer.method != LOGIT_LENS:
            first = ranking.order()[0]
            part = scorer.acts.of_layer(first.layer)
            logs = logarithms(scorer.scores([resolved.rows, *null(_CHECKED)], acts=part)[:, first.layer, first.head])
            found = float(beyond(logs[0], logs[1:]))
            _warn_of_chance(ranking, found, f"explained variance alone does not tell heads apart here; {_BETTER}")
        return ranking, None
    logits = scorer.scores([resolved.rows, *null(draws)], view=LOGIT_LENS)
    chance = Chance.of(logits[1:])
    ranking = calibrated_ranking(scorer, resolved, chance, explained, logits[0], draws=draws, seed=seed)
    first = ranking.order()[0]
    found = float(ranking.values["logit_z"][first.layer, first.head])
    _warn_of_chance(ranking, found, "capture more samples that speak of the concept, or at other positions")
    return ranking, chance


def calibrated_ranking(
    scorer: Scorer,
    resolved: ResolvedConcept,
    chance: Chance,
    explained: Float[np.ndarray, "l h"],
    logits: Float[np.ndarray, "l h"],
    **about: Any,
) -> HeadRanking:
    """A calibrated ranking, with what it is made of beside its scores."""
    values = {"explained": explained, "logit_z": chance.deviations(logits)}
    return scorer.ranking(resolved, chance.scores(explained, logits), values, **about)


def _warn_of_chance(ranking: HeadRanking, deviations: float, advice: str) -> None:
    """Warn where the first head lies so few deviations beyond random sets."""
    order = ranking.order()
    if not deviations > threshold(len(order)):
        said = f"{ranking.concept}: random words do as well for {order[0]}, which stands first"
        warnings.warn(f"{said} ({ranking.n} samples, {ranking.positions}): {advice}", ChanceWarning, stacklevel=4)
