"""The samples of which a capture of moments keeps the rows: a seeded draw that depends on the samples and on nothing else."""

import hashlib
from collections import Counter
from collections.abc import Mapping

import numpy as np

from headpursuit.activations.blocks import Survey

# For each block that has some its chosen samples by their places in it, and the number by which each was chosen.
Drawn = Mapping[str, Mapping[int, int]]


def drawn(found: Survey, *, count: int, seed: int) -> dict[str, dict[int, int]]:
    """Draw so many samples without replacement, each set of them as likely as any other; all where there are no more.

    Every sample has a number made of the seed, the content of its block and its place in it, and the lowest ones are drawn. So
    neither the model nor the order in which blocks are read, nor who reads them, has a say, and samples that are added later
    take the places of some without moving the others.

    Args:
        found: the samples.
        count: how many.
        seed: seed of the numbers.

    Returns:
        The chosen samples, see :data:`Drawn`.
    """
    numbers, seen = [], Counter[str]()
    for content, size in zip(found.contents, found.sizes, strict=True):
        told = hashlib.sha256(f"{seed} {content} {seen[content]}".encode()).digest()
        seen[content] += 1
        # Of all that numpy draws by, what generators of bits give is the same in every version.
        numbers.append(np.random.PCG64(int.from_bytes(told)).random_raw(size) >> np.uint64(1))
    flat = np.concatenate(numbers)
    chosen = np.sort(np.argsort(flat, kind="stable")[:count])
    starts = np.cumsum([0, *found.sizes])
    drawn: dict[str, dict[int, int]] = {}
    for number, block in zip(chosen, np.searchsorted(starts, chosen, side="right") - 1, strict=True):
        drawn.setdefault(found.keys[block], {})[int(number - starts[block])] = int(flat[number])
    return drawn
