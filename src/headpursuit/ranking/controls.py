"""Random controls as the paper draws them: as many heads in each layer as were chosen, none of the chosen ones."""

from collections import Counter

import numpy as np

from headpursuit.activations.captured import Captured
from headpursuit.editing.edit import Factor, HeadEdit
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import Head, HeadsLike, parse_heads
from headpursuit.ranking.ranking import HeadRanking


def random_controls(
    heads: HeadsLike, among: HeadModel | Captured | HeadRanking | HeadsLike, *, draws: int = 10, seed: int = 0
) -> list[tuple[Head, ...]]:
    """Draw control head sets (Head Pursuit, section 4).

    Args:
        heads: the heads that the control stands beside.
        among: the model, a capture or a ranking of it, or a list of the heads to draw from.
        draws: how many sets; the paper uses 10.
        seed: seed of the draws.

    Returns:
        ``draws`` sets, each with the same number of heads in each layer as ``heads`` and disjoint from it.

    Raises:
        HeadPursuitError: a layer has too few other heads.

    Examples:
        >>> sets = hp.random_controls(["L0.H2", "L2.H10", "L2.H14"], model, draws=20)
        >>> len(sets), [head.layer for head in sets[0]]
        (20, [0, 2, 2])
    """
    check_counts(draws=draws)
    check_counts(*SEEDS, seed=seed)
    chosen = parse_heads(heads)
    rng = np.random.default_rng(seed)
    wanted = Counter(head.layer for head in chosen)
    known = _heads_of(among)
    others = {layer: [head for head in known if head.layer == layer and head not in chosen] for layer in wanted}
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


def control_edits(
    edit: HeadEdit, among: HeadModel | Captured | HeadRanking | HeadsLike, *, draws: int = 10, seed: int = 0
) -> list[HeadEdit]:
    """The edit with random heads in place of its own, each with one's scale; see :func:`random_controls`."""
    sets = [dict(zip(edit.heads, heads, strict=True)) for heads in random_controls(edit.heads, among, draws=draws, seed=seed)]
    return [HeadEdit.of(Factor(other[one.head], one.scale, one.where) for one in edit.factors) for other in sets]


def most_controlled(order: HeadsLike) -> int:
    """How many of the first heads of an order of all heads leave as many others in every layer that they are of."""
    chosen: Counter[int] = Counter()
    room = Counter(head.layer for head in parse_heads(order))
    for count, head in enumerate(parse_heads(order)):
        chosen[head.layer] += 1
        if 2 * chosen[head.layer] > room[head.layer]:
            return count
    return sum(room.values())


def _heads_of(source: HeadModel | Captured | HeadRanking | HeadsLike) -> list[Head]:
    """Heads in one order, whoever names them, so that a seed draws the same ones."""
    if isinstance(source, HeadModel):
        return sorted(source.anatomy.heads())
    if isinstance(source, Captured):
        return sorted(source.heads())
    return sorted(source.order() if isinstance(source, HeadRanking) else parse_heads(source))
