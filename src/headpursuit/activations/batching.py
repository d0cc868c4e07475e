"""Which samples of a block run together: those of like lengths, so that little of what runs is padding."""

from collections.abc import Sequence

# What one more pass through a model costs, in tokens of a batch: weights are read again, kernels started again. On a CPU
# measured, elsewhere assumed.
_PASS_ON_CPU, _PASS = 64, 512


def batches(rows: Sequence[int], lengths: Sequence[int], *, batch_size: int, device: str) -> list[list[int]]:
    """Samples in batches, the longest first, so that padded tokens and passes through the model together cost least.

    Batches are cut where a sample's padding would cost more than a pass of its own.

    Args:
        rows: the samples' numbers.
        lengths: the tokens that samples have, by their numbers.
        batch_size: the most samples of a batch.
        device: the type of device that they run on.

    Returns:
        The samples' numbers, batch by batch.

    >>> batches(range(5), [3, 90, 4, 91, 3], batch_size=4, device="cpu")
    [[3, 1], [2, 0, 4]]
    """
    order = sorted(rows, key=lengths.__getitem__, reverse=True)
    one_pass = _PASS_ON_CPU if device == "cpu" else _PASS
    # From the end on: what the samples from each place on cost at least, and where the first batch of them ends.
    costs, ends = [0] * (len(order) + 1), [0] * len(order)
    for first in range(len(order) - 1, -1, -1):
        longest = lengths[order[first]]
        fullest = min(first + batch_size, len(order))
        ends[first] = min(range(fullest, first, -1), key=lambda end: (end - first) * longest + costs[end])
        costs[first] = (ends[first] - first) * longest + one_pass + costs[ends[first]]
    found, first = [], 0
    while first < len(order):
        found.append(order[first : ends[first]])
        first = ends[first]
    return found
