"""The natural gradient: a target's derivative by each head's scale, divided by what the scale does to the model elsewhere.

A small change ``δ`` of a head's scale moves the target by ``g δ`` and the model's predictions on neutral text by a
Kullback-Leibler divergence of ``½ F δ²`` nats a token, ``F`` the Fisher information of the scale. Of all small edits with one
divergence, the one that moves the target furthest has ``δ`` proportional to ``g / F`` (natural gradient; Amari 1998, "Natural
gradient works efficiently in learning", theorem 1), and each head adds ``g² / F`` to it. So heads are ordered by
``|g| / √F``, and are scaled in proportion to ``g / F``, those that hold the target down in the other direction. Of ``F`` the
diagonal is taken: a few texts do not tell how two heads' changes meet.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headpursuit.concepts import ConceptLike, MultiToken
from headpursuit.errors import HeadPursuitError, check_counts
from headpursuit.model.head_model import HeadModel
from headpursuit.model.samples import Samples, as_samples, fingerprint
from headpursuit.ranking.attribution import measure_derivatives, scale_derivatives
from headpursuit.ranking.ranking import STEP, HeadRanking
from headpursuit.ranking.target import OwnMetric, quiet_texts, target_of, target_ranking

# Of the median head's Fisher information; one that seems to have less counts as having so much, lest luck put it first.
_LEAST = 0.25


def natural(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike | OwnMetric,
    *,
    neutral: Samples | None = None,
    passes: int = 2,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 8,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by the natural gradient of a concept's log-odds: passes forward and backward, a few of them.

    Args:
        model: the model.
        samples: as for :func:`headpursuit.ranking.attribution.attribution`.
        concept: as for :func:`headpursuit.rank`.
        neutral: texts on which the model should stay as it is, packaged ones when left out; those with the concept's words do
            not count.
        passes: over the neutral texts; each draws next tokens from the model's own predictions anew.
        multi_token: as for :func:`headpursuit.ranking.attribution.attribution`.
        variants: as for :func:`headpursuit.ranking.attribution.attribution`.
        batch_size: as for :func:`headpursuit.ranking.attribution.attribution`.
        limit: only the first so many samples.
        seed: seed of the drawn tokens.
        progress: show progress bars.

    Returns:
        The ranking; a score is ``g / √F``, what the head adds to the target for the square root of a nat of divergence.
        Negative ones hold the concept down. Beside it stand the derivative, the Fisher information and the step ``g / F``, by
        which :meth:`headpursuit.HeadRanking.edit` scales the heads.

    Raises:
        HeadPursuitError: as :func:`headpursuit.ranking.attribution.attribution`; no neutral texts, or some of which no head
            changes what is said.

    Examples:
        >>> ranking = hp.select(model, samples, "colours", method="natural", progress=False)
        >>> ranking.unit, list(ranking.values)
        ('nats a root of a neutral nat', ['derivative', 'fisher', 'step'])
        >>> ranking.edit(2)
        HeadEdit(L5.H6 × 2.5795; L5.H18 × -1)
    """
    check_counts(batch_size=batch_size, limit=limit, passes=passes)
    target = target_of(model, samples, concept, multi_token=multi_token, variants=variants, limit=limit)
    found = measure_derivatives(model, target.measure, batch_size=batch_size, progress=progress)
    texts = quiet_texts(neutral, concept)
    fisher = fisher_information(model, texts, passes=passes, batch_size=batch_size, seed=seed, progress=progress)
    middle = float(np.nanmedian(fisher))
    if not middle > 0:
        raise HeadPursuitError("no head changes what the model says of the neutral texts: give others, or longer ones")
    held = np.maximum(fisher, _LEAST * middle)
    return target_ranking(
        model,
        target,
        found / np.sqrt(held),
        method="natural",
        unit="nats a root of a neutral nat",
        values={"derivative": found, "fisher": fisher, STEP: found / held},
        about={"neutral": fingerprint(texts), "passes": passes, "seed": seed},
    )


def fisher_information(
    model: HeadModel, samples: Samples, *, passes: int = 2, batch_size: int = 8, seed: int = 0, progress: bool = False
) -> Float[np.ndarray, "l h"]:
    """Fisher information of every head's scale: the curvature at 1 of the divergence from the unedited model.

    It is the mean square of the derivative of the log-likelihood of tokens that the model itself would say, drawn anew in each
    pass. Over a text the derivatives of its tokens are summed before they are squared: tokens are drawn one by one, each given
    those of the text, so that products of two of them are 0 on average.

    Args:
        model: the model, under whatever edit is applied.
        samples: texts.
        passes: how often tokens are drawn.
        batch_size: samples that run together.
        seed: seed of the draws.
        progress: show progress bars.

    Returns:
        Shape ``(l, h)``, in nats a token and squared unit of scale; half of it is the divergence for a small squared change.
    """
    texts = as_samples(samples)
    generator = torch.Generator().manual_seed(seed)
    counts: list[int] = []

    def read(logits: Float[Tensor, "p v"], following: Int[Tensor, " p"]) -> Float[Tensor, ""]:
        with torch.no_grad():
            drawn = torch.multinomial(logits.softmax(dim=1).cpu(), 1, generator=generator)[:, 0].to(logits.device)
        counts.append(len(drawn))
        return -torch.nn.functional.cross_entropy(logits, drawn, reduction="sum")

    squares = np.zeros((model.anatomy.n_layers, model.anatomy.n_heads))
    for _ in range(passes):
        found = scale_derivatives(model, texts, read, batch_size=batch_size, progress=progress)
        squares += np.square(found).sum(axis=0)
    return squares / sum(counts)
