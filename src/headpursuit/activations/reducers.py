"""Reductions of a batch inside the hooks, and of batches to a whole: rows are joined, moments are added."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headpursuit.model.anatomy import LayerAnatomy

# Tensors by name: "L3" (b, h, e) for rows; "L3.total" (h, e), "L3.second" (h, e, e) and "count" () for moments.
Reading = dict[str, "Tensor"]
Reducer = Callable[["LayerAnatomy", "Tensor"], Reading]

COUNT = "count"
TOTAL = "total"
SECOND = "second"


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
        # One pass widens and puts each head's rows side by side, as the product wants them.
        by_head = rows.transpose(0, 1).to(torch.float64, memory_format=torch.contiguous_format)
        return {
            f"L{layer.index}.{TOTAL}": by_head.sum(dim=1).cpu(),
            f"L{layer.index}.{SECOND}": torch.bmm(by_head.mT, by_head).cpu(),
            COUNT: mask.sum().cpu(),
        }

    return reduce


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
