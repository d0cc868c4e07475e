"""Score every head for a concept: the paper's SOMP ranking, and the logit lens beside it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.concepts import ConceptLike, MultiToken, ResolvedConcept, as_concept, resolve
from headpursuit.concepts.resolve import gather_atoms
from headpursuit.pursuit.batches import SMALL
from headpursuit.pursuit.logit_lens import mean_logits
from headpursuit.pursuit.results import EarlyStopWarning
from headpursuit.ranking.methods import Method, as_method
from headpursuit.ranking.pursue import somp_capture, somp_capture_many
from headpursuit.ranking.ranking import HeadRanking

# The token ids of every atom of a set, as in `ResolvedConcept.rows`.
AtomRows = tuple[tuple[int, ...], ...]

# Sets whose atoms are in memory at once.
_SETS = 256


def rank(
    acts: HeadActivations | HeadMoments,
    concept: ConceptLike,
    *,
    method: str = "somp",
    n_atoms: int = 50,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    fold_norm: bool = False,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by how much a concept explains of what they write (Head Pursuit, section 3).

    Args:
        acts: a capture.
        concept: the word list: the name of a built-in one, words, a file, or a :class:`headpursuit.Concept`.
        method: ``somp``: share of a head's variance over samples that at most ``n_atoms`` of the concept's atoms explain;
            ``logit_lens``: mean logit that the head gives to the concept's tokens.
        n_atoms: pursuit steps at most.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        fold_norm: multiply the unembedding by the gain of the norm before it.
        progress: show a progress bar.

    Returns:
        The ranking, scores of shape ``(l, h)``.

    Raises:
        HeadPursuitError: no such concept, one without a token in the vocabulary, an unknown method.

    Examples:
        >>> ranking = hp.rank(acts, "colours", progress=False)
        >>> [head.name for head in ranking.top(3)]
        ['L2.H14', 'L2.H10', 'L1.H1']
    """
    view, words = as_method(method), as_concept(concept)
    unembedding = unembedding_of(acts, fold_norm=fold_norm)
    resolved = resolve(words, acts.tokenizer, multi_token=multi_token, variants=variants, vocabulary_size=len(unembedding))
    scores = score_sets(
        acts, unembedding, [resolved.rows], method=view, n_atoms=n_atoms, progress=progress, title=f"rank {words.name}"
    )
    return as_ranking(acts, resolved, scores[0], method=view, n_atoms=n_atoms, variants=variants, fold_norm=fold_norm)


def unembedding_of(acts: HeadActivations | HeadMoments, *, fold_norm: bool) -> Float[Tensor, "v d"]:
    """The rows that concepts are resolved to, float32, with the final norm's gain on them if asked for."""
    unembedding = acts.weights.unembedding().float()
    return unembedding * acts.weights.final_norm_gain() if fold_norm else unembedding


def score_sets(
    acts: HeadActivations | HeadMoments,
    unembedding: Float[Tensor, "v d"],
    sets: Sequence[AtomRows],
    *,
    method: Method,
    n_atoms: int,
    progress: bool,
    title: str,
) -> Float[np.ndarray, "g l h"]:
    """Score every head for each of several sets of atoms, those of small sets in one pass.

    Args:
        acts: a capture.
        unembedding: what :func:`unembedding_of` gives.
        sets: for every set the token ids of each of its atoms.
        method: see :func:`rank`.
        n_atoms: pursuit steps at most.
        progress: show a progress bar.
        title: what the bar says.

    Returns:
        Scores, shape ``(g, l, h)``; NaN where a layer has no such head.
    """
    scores = np.full((len(sets), *acts.shape), np.nan)
    size = 1 if max(map(len, sets)) > SMALL else _SETS
    parts = [slice(start, start + size) for start in range(0, len(sets), size)]
    with (
        tqdm(total=len(parts) * len(acts.layers), desc=title, disable=not progress, leave=False) as bar,
        warnings.catch_warnings(),
    ):
        # A head whose variance a few atoms explain to the end has its score; nothing is amiss.
        warnings.simplefilter("ignore", EarlyStopWarning)
        for part in parts:
            distinct = dict.fromkeys(row for rows in sets[part] for row in rows)
            index_of = {row: index for index, row in enumerate(distinct)}
            atoms = gather_atoms(unembedding, list(distinct))
            dictionaries = [[index_of[row] for row in rows] for rows in sets[part]]
            tokens = [list(dict.fromkeys(token for row in rows for token in row)) for rows in sets[part]]
            for layer, count in acts.head_counts.items():
                if method == "somp":
                    found = _explained(acts, layer, atoms, dictionaries, n_atoms=n_atoms)
                else:
                    found = _mean_logits(acts, layer, unembedding, tokens)
                scores[part, layer, :count] = found.cpu().numpy()
                bar.update()
    return scores


def _explained(
    acts: HeadActivations | HeadMoments, layer: int, atoms: Float[Tensor, "v d"], dictionaries: list[list[int]], *, n_atoms: int
) -> Float[Tensor, "g h"]:
    steps = min(n_atoms, max(map(len, dictionaries)))
    if len(dictionaries) > 1:
        return somp_capture_many(acts, layer, atoms, dictionaries, n_atoms=steps).explained_variance[:, :, -1]
    heads = range(acts.head_counts[layer])
    return somp_capture(acts, layer, atoms, heads=heads, n_atoms=steps).explained_variance[None, :, -1]


def _mean_logits(
    acts: HeadActivations | HeadMoments, layer: int, unembedding: Float[Tensor, "v d"], tokens: list[list[int]]
) -> Float[Tensor, "g h"]:
    distinct = sorted({token for one in tokens for token in one})
    column = {token: index for index, token in enumerate(distinct)}
    logits = mean_logits(acts.mean(layer), acts.weights.projection(layer), unembedding[distinct])
    return torch.stack([logits[:, [column[token] for token in one]].mean(dim=1) for one in tokens])


def as_ranking(
    acts: HeadActivations | HeadMoments,
    resolved: ResolvedConcept,
    scores: Float[np.ndarray, "l h"],
    *,
    method: Method,
    n_atoms: int,
    variants: bool,
    fold_norm: bool,
) -> HeadRanking:
    """Scores with what is needed to know and repeat them."""
    return HeadRanking(
        scores=scores,
        concept=resolved.name,
        method=method,
        words=resolved.labels,
        n=acts.n,
        positions=acts.positions,
        model=acts.model,
        about={
            "n_atoms": n_atoms,
            "multi_token": resolved.multi_token,
            "variants": variants,
            "fold_norm": fold_norm,
            **acts.about,
        },
    )
