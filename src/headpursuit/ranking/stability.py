"""Tests of how firmly the best heads stay the best when samples are drawn again, and when words are left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Unpack

import numpy as np
from jaxtyping import Float, Int

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import rows_of
from headpursuit.activations.store import ActsLike
from headpursuit.concepts import ConceptLike, ResolvedConcept
from headpursuit.engines import held
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.model.heads import Head
from headpursuit.ranking.chance import Chance
from headpursuit.ranking.methods import METHODS
from headpursuit.ranking.one_layer import Layer, layer_by_layer
from headpursuit.ranking.overlap import jaccard
from headpursuit.ranking.rank import rank_resolved
from headpursuit.ranking.ranking import Beside, HeadRanking
from headpursuit.ranking.scorer import AtomRows, ScoreOptions, Scorer

# Fewer samples than this, drawn with replacement, are too often all the same one.
_FEWEST = 8


# Compared by identity: arrays, which are NaN in places, have no one truth value.
@dataclass(frozen=True, eq=False)
class Stability(Beside):
    """The share of rankings of disturbed data in which each head is among the best ``k``.

    Attributes:
        ranking: the undisturbed ranking.
        k: how many heads are looked at.
        samples: share of the bootstrap draws in which a head is among the best ``k``, shape ``(l, h)``; NaN throughout where
            a capture kept no rows to draw from; one of moments with kept rows draws from those.
        words: the same over draws that leave words out; NaN throughout for a concept of one word.
        jaccard_samples: mean Jaccard similarity of those head sets to the undisturbed best ``k``, or None.
        jaccard_words: the same for words, or None.
        draws: number of draws of each kind.
        leave_out: share of the words that each draw leaves out.
        seed: seed of the draws.
    """

    key: ClassVar[str] = "stability"

    ranking: HeadRanking
    k: int
    samples: Float[np.ndarray, "l h"] = field(repr=False)
    words: Float[np.ndarray, "l h"] = field(repr=False)
    jaccard_samples: float | None
    jaccard_words: float | None
    draws: int
    leave_out: float
    seed: int

    def columns(self) -> Mapping[str, Float[np.ndarray, "l h"]]:
        """Values of every head, by name."""
        measured = {
            "stays_samples": None if self.jaccard_samples is None else self.samples,
            "stays_words": None if self.jaccard_words is None else self.words,
        }
        return {name: values for name, values in measured.items() if values is not None}

    def summary(self) -> dict[str, Any]:
        """The settings of the measurement, and the mean similarities, in plain values."""
        names = ("k", "jaccard_samples", "jaccard_words", "draws", "leave_out", "seed")
        return {name: getattr(self, name) for name in names}


def stability(
    acts: ActsLike,
    concept: ConceptLike,
    *,
    k: int = 16,
    draws: int = 100,
    leave_out: float = 0.2,
    seed: int = 0,
    **options: Unpack[ScoreOptions],
) -> Stability:
    """Rank again on samples drawn with replacement, and on parts of the word list.

    The model does not run again: a draw of samples is a choice of rows of the capture, and a draw of words a choice of atoms.

    Args:
        acts: a capture, or the folder of one.
        concept: as for :func:`headpursuit.rank`.
        k: how many of the best heads to look at; at most the number of heads.
        draws: number of draws of samples, and of words.
        leave_out: share of the words that each draw leaves out, rounded up and never all of them.
        seed: seed of the draws.
        **options: those of :func:`headpursuit.rank`; a word is left out with all its forms. What chance reaches is measured
            once, on all samples and words.

    Returns:
        How often each head stays, with the ranking.

    Raises:
        HeadPursuitError: as :func:`headpursuit.rank`; options out of range, fewer than 8 samples.

    Examples:
        >>> made = hp.stability(acts, "colours", k=4, draws=10, progress=False)
        >>> round(made.jaccard_samples, 2), round(made.jaccard_words, 2)
        (0.41, 0.49)
    """
    check_counts(k=k, draws=draws)
    check_counts(*SEEDS, seed=seed)
    if not 0 < leave_out < 1:
        raise HeadPursuitError(f"leave_out={leave_out}: give a share between 0 and 1")
    scorer = Scorer(acts, **options)
    acts, resolved = scorer.acts, scorer.resolved(concept)
    rng = np.random.default_rng(seed)
    with held(scorer.engine) as scorer.engine:
        ranking, chance = rank_resolved(scorer, resolved, seed=seed)
        best = ranking.top(k)
        samples = None
        if acts.rows is not None:
            kept = rows_of(acts, what="draws of samples")
            samples = _drawn(scorer, kept, resolved, chance, _row_draws(kept.n, draws, rng))
        words = None
        if len(resolved.kept_words) > 1:
            parts = list(_word_draws(resolved, draws, leave_out, rng))
            words = _scores(scorer, parts, chance, title="leave out words")
    stays_samples, jaccard_samples = _kept(samples, ranking, best)
    stays_words, jaccard_words = _kept(words, ranking, best)
    return Stability(
        ranking=ranking,
        k=k,
        samples=stays_samples,
        words=stays_words,
        jaccard_samples=jaccard_samples,
        jaccard_words=jaccard_words,
        draws=draws,
        leave_out=leave_out,
        seed=seed,
    )


def _drawn(
    scorer: Scorer, acts: HeadActivations, resolved: ResolvedConcept, chance: Chance | None, draws: Int[np.ndarray, "m n"]
) -> Float[np.ndarray, "m l h"]:
    """Scores of rows drawn again, one layer at a time, so that never more than one is copied."""
    engine = scorer.engine
    scores = np.full((len(draws), *acts.shape), np.nan)
    used, (rows,) = (scorer, [resolved.rows]) if engine.name == "local" else scorer.sent([resolved.rows])
    work = partial(_drawn_of_layer, scorer=used, rows=rows, chance=chance, draws=draws, width=acts.shape[1])
    for layer, given in layer_by_layer(acts, acts.layers, work, engine=engine, title="draw samples", progress=scorer.progress):
        scores[:, layer] = given
    return scores


def _drawn_of_layer(
    part: Layer, *, scorer: Scorer, rows: AtomRows, chance: Chance | None, draws: Int[np.ndarray, "m n"], width: int
) -> Float[np.ndarray, "m h"]:
    layer, acts = part
    assert isinstance(acts, HeadActivations)
    # Copies, since an array that came to a worker cannot be written to, which torch warns of.
    parts = (replace(acts, z={layer: acts.z[layer][chosen.copy()]}) for chosen in draws)
    return np.stack([_scores(scorer, [rows], chance, acts=one, layer=layer, width=width)[0] for one in parts])


def _scores(
    scorer: Scorer, sets: Sequence[AtomRows], chance: Chance | None, *, layer: int | None = None, width: int = 0, **options: Any
) -> Float[np.ndarray, "m *l h"]:
    """Scores of sets as the ranking has them, of all layers or of one of them, NaN where a layer has no such head."""
    if chance is None:
        return _of_layer(scorer.scores(sets, **options), layer, width)
    explained, logits = (_of_layer(scorer.scores(sets, view=view, **options), layer, width) for view in METHODS)
    if layer is not None:
        chance = Chance(chance.mean[layer], chance.deviation[layer])
    return chance.scores(explained, logits)


def _of_layer(scores: Float[np.ndarray, "m l h"], layer: int | None, width: int) -> Float[np.ndarray, "m *l h"]:
    if layer is None:
        return scores
    missing = width - scores.shape[2]
    return np.pad(scores[:, layer], ((0, 0), (0, missing)), constant_values=np.nan)


def _row_draws(n: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "m n"]:
    if n < _FEWEST:
        raise HeadPursuitError(f"{n} samples are too few to draw from again: capture at least {_FEWEST}, better hundreds")
    return rng.integers(n, size=(draws, n))


def _word_draws(resolved: ResolvedConcept, draws: int, leave_out: float, rng: np.random.Generator) -> Iterator[AtomRows]:
    words = resolved.kept_words
    out = min(len(words) - 1, int(np.ceil(leave_out * len(words))))
    for _ in range(draws):
        gone = {words[index] for index in rng.choice(len(words), size=out, replace=False)}
        yield tuple(row for row, word in zip(resolved.rows, resolved.words, strict=True) if word not in gone)


def _kept(
    scores: Float[np.ndarray, "m l h"] | None, ranking: HeadRanking, best: tuple[Head, ...]
) -> tuple[Float[np.ndarray, "l h"], float | None]:
    """The share of draws that have each head among the best, and the mean similarity of their sets to the undisturbed one."""
    stays = np.where(np.isnan(ranking.scores), np.nan, 0.0)
    if scores is None:
        return np.full_like(stays, np.nan), None
    similar = []
    for one in scores:
        top = replace(ranking, scores=one).top(len(best))
        similar.append(jaccard(top, best))
        for head in top:
            stays[head.layer, head.head] += 1
    return stays / len(scores), float(np.mean(similar))
