"""Groups of heads that are edited together, spread evenly over layers, so that none of them lames a layer."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from headpursuit.model.heads import Head


def stratified_groups(heads: Sequence[Head], count: int, rng: np.random.Generator) -> Iterator[list[tuple[Head, ...]]]:
    """Cut heads into groups, again and again.

    A layer's heads are shuffled, layers are laid end to end, and a group is every ``count``-th head: groups differ by one head
    in size and by one in each layer, and every head is in exactly one.

    Args:
        heads: the heads, ordered by layer.
        count: number of groups; at most the number of heads.
        rng: what is drawn from.

    Yields:
        The groups, in random order.
    """
    layers = [list(group) for _, group in groupby(heads, key=lambda head: head.layer)]
    while True:
        row = [layer[index] for layer in layers for index in rng.permutation(len(layer))]
        yield [tuple(row[start::count]) for start in rng.permutation(count)]
