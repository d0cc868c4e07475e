"""Choose heads one after the other, each for what it adds to the edit of those before."""

from contextlib import nullcontext

import numpy as np
from tqdm.auto import tqdm

from headpursuit.concepts import ConceptLike, MultiToken
from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import check_counts
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import Head
from headpursuit.model.samples import Samples
from headpursuit.ranking.attribution import direction, measure_derivatives
from headpursuit.ranking.ranking import HeadRanking, by_order
from headpursuit.ranking.target import OwnMetric, target_of, target_ranking


def greedy(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike | OwnMetric,
    *,
    k: int = 16,
    scale: float = -1.0,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 8,
    limit: int | None = None,
    progress: bool = True,
) -> HeadRanking:
    """Take ``k`` heads, each with the largest derivative under the edit of those taken before: one backward pass a head.

    The effect of a head changes once others are edited. A derivative at scale 1 cannot see that, just as correlations with the
    signal cannot tell what the second step of a pursuit takes.

    Args:
        model: the model.
        samples: as for :func:`headpursuit.ranking.attribution.attribution`.
        concept: as for :func:`headpursuit.rank`.
        k: how many heads; all where the model has no more.
        scale: the edit's factor.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        batch_size: samples that run together; a backward pass keeps all that the forward pass computed.
        limit: only the first so many samples.
        progress: show a progress bar.

    Returns:
        The ranking: first the heads taken, in the order in which they were, then the others by their last derivative. The score
        is the number of heads behind it; the derivative when a head was taken, or the last one, stands beside it.

    Raises:
        HeadPursuitError: a sample without target, a concept without tokens, a model that cannot be differentiated;
            ``k`` below 1, or a scale of 1.

    Examples:
        >>> [head.name for head in hp.select(model, samples, "colours", method="greedy", k=2, progress=False).top(2)]
        ['L3.H11', 'L5.H18']
    """
    check_counts(k=k)
    direction(scale)
    heads = model.anatomy.heads()
    target = target_of(model, samples, concept, multi_token=multi_token, variants=variants, limit=limit)
    taken: list[Head] = []
    values = np.full((model.anatomy.n_layers, model.anatomy.n_heads), np.nan)
    for _ in tqdm(range(min(k, len(heads))), desc="greedy heads", unit="head", disable=not progress, leave=False):
        with HeadEdit(taken, scale=scale).applied(model) if taken else nullcontext():
            found = measure_derivatives(model, target.measure, batch_size=batch_size)
        left = [head for head in heads if head not in taken]
        for head in left:
            values[head.layer, head.head] = found[head.layer, head.head]
        taken.append(min(left, key=lambda head: (-found[head.layer, head.head], head)))
    rest = sorted(set(heads) - set(taken), key=lambda head: (-values[head.layer, head.head], head))
    return target_ranking(
        model,
        target,
        by_order([*taken, *rest], values.shape),
        method="greedy",
        unit="heads",
        values={"derivative": values},
        about={"k": len(taken), "scale": scale},
    )
