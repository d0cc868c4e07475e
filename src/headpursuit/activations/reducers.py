"""Reductions of a batch inside the hooks, and of batches to a whole: rows are joined, moments are added."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headpursuit.model.anatomy import LayerAnatomy

# Tensors by name: "L3" (b, h, e) for rows; "L3.total" (h, e), "L3.second" (h, e, e) and "count" () for moments. Rows that are
# kept beside moments have "places" (b), which samples of their block they are.
Reading = dict[str, "Tensor"]
Reducer = Callable[["LayerAnatomy", "Tensor"], Reading]

COUNT = "count"
TOTAL = "total"
SECOND = "second"
PLACES = "places"


def mean_rows(mask: Bool[Tensor, "b t"]) -> Reducer:
    """Reduce a layer's ``z`` to its mean over the masked tokens, ``(b, h, e)`` in float32.

    The mean of a float64 ``z`` is taken in float64, so that how a batch is padded does not show in it.
    """
    all_count = bool(mask.all())

    def reduce(layer: LayerAnatomy, z: Float[Tensor, "b t c"]) -> Reading:
        dtype = torch.promote_types(z.dtype, torch.float32)
        counts = mask.to(z.device)
        weights = counts.to(dtype) / counts.sum(dim=1, keepdim=True)
        # Nought times NaN is NaN: what stands at tokens that do not count must not reach the sum.
        counted = z.to(dtype) if all_count else z.to(dtype).masked_fill(~counts[..., None], 0)
        mean = torch.einsum("bt,btc->bc", weights, counted).float()
        return {f"L{layer.index}": mean.unflatten(1, (layer.n_heads, layer.head_width)).cpu()}

    return reduce


def token_moments(mask: Bool[Tensor, "b t"]) -> Reducer:
    """Reduce a layer's ``z`` to the sums of ``z`` and ``zᵀz`` over the masked tokens, in float64."""
    all_count = bool(mask.all())

    def reduce(layer: LayerAnatomy, z: Float[Tensor, "b t c"]) -> Reading:
        rows = (z.flatten(0, 1) if all_count else z[mask.to(z.device)]).unflatten(-1, (layer.n_heads, layer.head_width))
        return _moments(layer, rows, count=mask.sum().cpu())

    return reduce


def moments_and_rows(mask: Bool[Tensor, "b t"], *, kept: Sequence[int], of_tokens: bool) -> Reducer:
    """Reduce a layer's ``z`` to moments, and beside them to the rows of some samples, each the mean over the masked tokens.

    Args:
        mask: the tokens that count.
        kept: the samples of the batch whose rows are kept.
        of_tokens: whether the moments are those of all tokens, and not of the samples' rows.
    """
    chosen = torch.tensor(kept, dtype=torch.long)
    means, moments = mean_rows(mask[chosen] if of_tokens else mask), token_moments(mask)

    def reduce(layer: LayerAnatomy, z: Float[Tensor, "b t c"]) -> Reading:
        if of_tokens:
            return {**moments(layer, z), **(means(layer, z[chosen.to(z.device)]) if kept else {})}
        ((name, rows),) = means(layer, z).items()
        return {**_moments(layer, rows, count=torch.tensor(len(rows))), **({name: rows[chosen]} if kept else {})}

    return reduce


def _moments(layer: LayerAnatomy, rows: Float[Tensor, "n h e"], *, count: Tensor) -> Reading:
    # One pass widens and puts each head's rows side by side, as the product wants them.
    by_head = rows.transpose(0, 1).to(torch.float64, memory_format=torch.contiguous_format)
    return {
        f"L{layer.index}.{TOTAL}": by_head.sum(dim=1).cpu(),
        f"L{layer.index}.{SECOND}": torch.bmm(by_head.mT, by_head).cpu(),
        COUNT: count,
    }


def parted(reading: Reading) -> tuple[Reading, Reading]:
    """The moments of a reading, and the rows that were kept beside them."""
    moments = {name: value for name, value in reading.items() if name == COUNT or "." in name}
    return moments, {name: value for name, value in reading.items() if name not in moments}


def gathered(held: list[Reading], new: Sequence[Reading], *, add: bool) -> list[Reading]:
    """A capture's readings once new ones came: moments are added to the first's own tensors at once, rows wait to be joined."""
    if not new or not add:
        return [*held, *new]
    total, *others = [*held, *new]
    for other in others:
        for name, summed in total.items():
            summed += other[name]
    return [total]


def joined(readings: Sequence[Reading], *, add: bool) -> Reading:
    """One reading of several: rows one below the other, or moments added up."""
    if len(readings) == 1:
        return readings[0]
    return {
        name: torch.stack([one[name] for one in readings]).sum(dim=0) if add else torch.cat([one[name] for one in readings])
        for name in readings[0]
    }


def in_order(readings: Sequence[Reading], order: Sequence[int]) -> Reading:
    """One reading of several, its rows in ascending order of the numbers that they have where they stand now."""
    places = torch.tensor(order).argsort()
    return {name: torch.cat([one[name] for one in readings])[places] for name in readings[0]}
