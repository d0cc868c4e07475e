"""Pursue the heads of a capture, whether it kept rows or only their moments: the criterion says which are looked at."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments, rows_of
from headpursuit.pursuit.checks import Criterion
from headpursuit.pursuit.dictionary import Dictionary
from headpursuit.pursuit.fast import somp_heads, somp_many, somp_many_moments, somp_moments
from headpursuit.pursuit.results import HeadPursuits
from headpursuit.ranking.methods import check_criterion


def seen_by(acts: HeadActivations | HeadMoments, criterion: Criterion | None) -> HeadActivations | HeadMoments:
    """The capture that a criterion looks at: of moments the kept rows for ``l1``, else the whole.

    Raises:
        HeadPursuitError: no such criterion, or no rows were kept.
    """
    check_criterion(criterion)
    return rows_of(acts, what="pursuits by the criterion l1") if criterion == "l1" else acts


def criterion_of(acts: HeadActivations | HeadMoments) -> Criterion:
    """The criterion where none is asked for: the paper's ``l1`` for rows, ``l2`` for moments, which know no other."""
    return "l2" if isinstance(acts, HeadMoments) else "l1"


def somp_capture(
    acts: HeadActivations | HeadMoments,
    layer: int,
    atoms: Float[Tensor, "v d"] | Dictionary,
    *,
    heads: Sequence[int],
    n_atoms: int,
    criterion: Criterion | None = None,
) -> HeadPursuits:
    """Pursue some heads of a layer.

    Args:
        acts: a capture.
        layer: which layer.
        atoms: the dictionary.
        heads: which heads of the layer.
        n_atoms: steps at most.
        criterion: as for :func:`seen_by`; that of :func:`criterion_of` when left out.
    """
    acts, chosen = seen_by(acts, criterion), list(heads)
    projection = acts.weights.projection(layer)[chosen]
    if isinstance(acts, HeadMoments):
        return somp_moments(acts.centered(layer)[chosen], projection, atoms, n_atoms=n_atoms)
    return somp_heads(acts.z[layer][:, chosen], projection, atoms, n_atoms=n_atoms, criterion=criterion or "l1")


def somp_capture_many(
    acts: HeadActivations | HeadMoments,
    layer: int,
    atoms: Float[Tensor, "v d"] | Dictionary,
    dictionaries: Sequence[Sequence[int]],
    *,
    n_atoms: int,
    criterion: Criterion | None = None,
) -> HeadPursuits:
    """Pursue all heads of a layer over many small dictionaries in one pass.

    Args:
        acts: a capture.
        layer: which layer.
        atoms: what the dictionaries are drawn from.
        dictionaries: rows of `atoms`, one list a dictionary.
        n_atoms: steps at most.
        criterion: as for `somp_capture`.

    Returns:
        Support (rows of `atoms`) and cumulative explained variance, ``(g, h, k)`` each.
    """
    acts, projection = seen_by(acts, criterion), acts.weights.projection(layer)
    if isinstance(acts, HeadMoments):
        return somp_many_moments(acts.centered(layer), projection, atoms, dictionaries, n_atoms=n_atoms)
    return somp_many(acts.z[layer], projection, atoms, dictionaries, n_atoms=n_atoms, criterion=criterion or "l1")
