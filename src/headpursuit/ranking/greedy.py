"""Choose heads one after the other, each for what it adds to the edit of those before."""

from contextlib import nullcontext
from typing import Any

from tqdm.auto import tqdm

from headpursuit.concepts import ConceptLike, as_concept
from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import check_counts, check_finite
from headpursuit.model.heads import Head
from headpursuit.model.load import ModelLike, as_model
from headpursuit.model.samples import Samples
from headpursuit.ranking.attribution import attribute


def greedy_heads(
    model: ModelLike,
    samples: Samples,
    concept: ConceptLike,
    *,
    k: int,
    scale: float = -1.0,
    progress: bool = True,
    **options: Any,
) -> tuple[Head, ...]:
    """Take ``k`` heads, each with the largest derivative under the edit of those taken before: one backward pass a head.

    The effect of a head changes once others are edited. A ranking cannot see that, just as correlations with the signal cannot
    tell what the second step of a pursuit takes.

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        samples: samples with targets that speak of the concept.
        concept: as for :func:`headpursuit.rank`.
        k: how many heads.
        scale: the edit's factor.
        progress: show a progress bar.
        **options: options of :func:`headpursuit.ranking.attribution.attribute`.

    Returns:
        The heads in the order in which they were taken.

    Raises:
        HeadPursuitError: as ``attribute``; or ``k`` is not between 1 and the number of heads.

    Examples:
        >>> [head.name for head in hp.greedy_heads(model, samples, "colours", k=2, progress=False)]
        ['L0.H4', 'L0.H7']
    """
    check_counts(k=k)
    check_finite(scale=scale)
    words, model = as_concept(concept), as_model(model)
    heads = model.anatomy.heads()
    check_counts(1, len(heads), k=k)
    taken: list[Head] = []
    for _ in tqdm(range(k), desc="greedy heads", unit="head", disable=not progress, leave=False):
        with HeadEdit(taken, scale=scale).applied(model) if taken else nullcontext():
            ranking = attribute(model, samples, words, progress=False, **options)
        taken.append(next(head for head in ranking.order() if head not in taken))
    return tuple(taken)
