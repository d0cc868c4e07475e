"""Random controls as the paper draws them: as many heads in each layer as were chosen, none of the chosen ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head


def random_controls(
    chosen: Iterable[Head], all_heads: Sequence[Head], *, draws: int = 10, seed: int = 0
) -> list[tuple[Head, ...]]:
    """Draw control head sets (Head Pursuit, section 4).

    Args:
        chosen: the heads that the control stands beside.
        all_heads: every head of the model.
        draws: how many sets; the paper uses 10.
        seed: seed of the draws.

    Returns:
        ``draws`` sets, each with the same number of heads in each layer as ``chosen`` and disjoint from it.

    Raises:
        HeadPursuitError: a layer has too few other heads.
    """
    chosen = frozenset(chosen)
    rng = np.random.default_rng(seed)
    wanted = Counter(head.layer for head in chosen)
    others = {layer: [head for head in all_heads if head.layer == layer and head not in chosen] for layer in wanted}
    for layer, count in wanted.items():
        if len(others[layer]) < count:
            raise HeadPursuitError(
                f"L{layer} has {len(others[layer])} heads beside the {count} chosen ones, too few for a disjoint control: "
                "choose fewer heads"
            )
    return [
        tuple(
            others[layer][index]
            for layer, count in sorted(wanted.items())
            for index in sorted(rng.choice(len(others[layer]), size=count, replace=False))
        )
        for _ in range(draws)
    ]
