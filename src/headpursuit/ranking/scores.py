"""Score every head for a concept: the paper's SOMP ranking, and the logit lens beside it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from tqdm.auto import tqdm

from headpursuit.concepts import resolve
from headpursuit.errors import HeadPursuitError
from headpursuit.pursuit.logit_lens import mean_logits
from headpursuit.pursuit.of_capture import somp_capture
from headpursuit.pursuit.results import EarlyStopWarning
from headpursuit.ranking.ranking import HeadRanking

if TYPE_CHECKING:
    from headpursuit.activations.head_activations import HeadActivations
    from headpursuit.activations.moments import HeadMoments
    from headpursuit.concepts import Concept

METHODS = ("somp", "logit_lens")


def rank(
    acts: HeadActivations | HeadMoments,
    concept: Concept,
    *,
    method: Literal["somp", "logit_lens"] = "somp",
    n_atoms: int = 50,
    multi_token: Literal["skip", "first", "mean"] = "skip",
    variants: bool = True,
    fold_norm: bool = False,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by how much a concept explains of what they write (Head Pursuit, section 3).

    Args:
        acts: a capture.
        concept: the word list.
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
        HeadPursuitError: the concept has no token in the vocabulary, an unknown method.
    """
    if method not in METHODS:
        raise HeadPursuitError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    unembedding = acts.weights.unembedding().float()
    if fold_norm:
        unembedding = unembedding * acts.weights.final_norm_gain()
    resolved = resolve(
        concept, acts.tokenizer, multi_token=multi_token, variants=variants, vocabulary_size=unembedding.shape[0]
    )
    atoms = resolved.atoms(unembedding)
    token_rows = unembedding[list(resolved.token_ids)]
    scores = np.full(acts.shape, np.nan)
    counts = acts.head_counts
    for layer, count in tqdm(
        counts.items(), desc=f"rank {concept.name}", unit="layer", disable=not progress, leave=False
    ):
        if method == "somp":
            with warnings.catch_warnings():
                # A head whose variance a few atoms explain to the end has its score; nothing is amiss.
                warnings.simplefilter("ignore", EarlyStopWarning)
                steps = min(n_atoms, len(atoms))
                found = somp_capture(acts, layer, atoms, heads=range(count), n_atoms=steps).explained_variance[:, -1]
        else:
            found = mean_logits(acts.mean(layer), acts.weights.projection(layer), token_rows).mean(dim=1)
        scores[layer, :count] = found.cpu().numpy()
    return HeadRanking(
        scores=scores,
        concept=concept.name,
        method=method,
        words=tuple(resolved.labels),
        n=acts.n,
        positions=acts.positions,
        model=acts.model,
        about={
            "n_atoms": n_atoms,
            "multi_token": multi_token,
            "variants": variants,
            "fold_norm": fold_norm,
            **acts.about,
        },
    )
