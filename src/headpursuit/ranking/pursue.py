"""Pursue the heads of a capture, whether it kept rows or only their moments."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.pursuit.dictionary import Dictionary
from headpursuit.pursuit.fast import somp_heads, somp_many, somp_many_moments, somp_moments
from headpursuit.pursuit.results import HeadPursuits


def somp_capture(
    acts: HeadActivations | HeadMoments,
    layer: int,
    atoms: Float[Tensor, "v d"] | Dictionary,
    *,
    heads: Sequence[int],
    n_atoms: int,
) -> HeadPursuits:
    """Pursue some heads of a layer: by the paper's L1 criterion from rows, by L2 from moments.

    Args:
        acts: a capture.
        layer: which layer.
        atoms: the dictionary.
        heads: which heads of the layer.
        n_atoms: steps at most.
    """
    chosen = list(heads)
    projection = acts.weights.projection(layer)[chosen]
    if isinstance(acts, HeadMoments):
        return somp_moments(acts.centered(layer)[chosen], projection, atoms, n_atoms=n_atoms)
    return somp_heads(acts.z[layer][:, chosen], projection, atoms, n_atoms=n_atoms)


def somp_capture_many(
    acts: HeadActivations | HeadMoments,
    layer: int,
    atoms: Float[Tensor, "v d"] | Dictionary,
    dictionaries: Sequence[Sequence[int]],
    *,
    n_atoms: int,
) -> HeadPursuits:
    """Pursue all heads of a layer over many small dictionaries in one pass, by the criterion of `somp_capture`.

    Args:
        acts: a capture.
        layer: which layer.
        atoms: what the dictionaries are drawn from.
        dictionaries: rows of `atoms`, one list a dictionary.
        n_atoms: steps at most.

    Returns:
        Support (rows of `atoms`) and cumulative explained variance, ``(g, h, k)`` each.
    """
    projection = acts.weights.projection(layer)
    if isinstance(acts, HeadMoments):
        return somp_many_moments(acts.centered(layer), projection, atoms, dictionaries, n_atoms=n_atoms)
    return somp_many(acts.z[layer], projection, atoms, dictionaries, n_atoms=n_atoms)
