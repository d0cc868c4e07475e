"""Groups of heads that are edited together, spread evenly over layers, so that none of them lames a layer."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice

import numpy as np

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head

SHARE = 0.05


def stratified_groups(heads: Sequence[Head], count: int, rng: np.random.Generator) -> Iterator[list[tuple[Head, ...]]]:
    """Cut heads into groups, again and again.

    The heads of each layer are shuffled, and so are the layers; laid end to end, every ``count``-th head is a group's. Groups
    differ by one head in size and by one in each layer, every head is in exactly one, and no two layers always meet.

    Args:
        heads: the heads, ordered by layer.
        count: number of groups; at most the number of heads.
        rng: what is drawn from.

    Yields:
        The groups, in random order.
    """
    layers = [list(group) for _, group in groupby(heads, key=lambda head: head.layer)]
    while True:
        row = [layers[one][index] for one in rng.permutation(len(layers)) for index in rng.permutation(len(layers[one]))]
        yield [tuple(sorted(row[start::count])) for start in rng.permutation(count)]


def random_masks(heads: Sequence[Head], *, masks: int, share: float | None, seed: int) -> list[tuple[Head, ...]]:
    """Draw sets of heads, each spread evenly over layers; every head is in as many of them as any other, up to one.

    Args:
        heads: the heads, ordered by layer.
        masks: how many sets; the first of a larger number are those of a smaller one.
        share: share of the heads in a set, at least one head; None for one head where there are as many sets as heads, and
            0.05 where there are not.
        seed: seed of the draw.

    Raises:
        HeadPursuitError: a share that makes all sets alike or is none; too few sets for every head to be in one.
    """
    if len(heads) == 1:
        return [tuple(heads)]
    if share is None:
        share = 1 / len(heads) if masks >= len(heads) else SHARE
    if not 0 < share <= 0.5:
        raise HeadPursuitError(f"share={share}: give a share of the heads above 0 and up to 0.5, such as 0.05")
    groups = max(2, min(len(heads), round(1 / share)))
    if masks < groups:
        raise HeadPursuitError(
            f"masks={masks}: {len(heads)} heads need {groups} masks of {share:.3g} of them for each to be in one, and several "
            "times as many to be told apart"
        )
    rounds = stratified_groups(heads, groups, np.random.default_rng(seed))
    return list(islice(chain.from_iterable(rounds), masks))
