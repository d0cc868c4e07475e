"""Effects of edits at equal cost: the one footing on which ways to choose heads can be compared."""

import numpy as np
from jaxtyping import Float


def effect_at(
    effects: Float[np.ndarray, "*b k s"], costs: Float[np.ndarray, "*b k s"], limit: float
) -> Float[np.ndarray, "*b"]:
    """The largest effect that is reached for a cost: on the way from the unedited model over the scales, for the best k.

    Between two edits effect and cost are joined by a line, which understates the effect, since that grows with the scale and
    the divergence with its square. The unedited model (no effect, no cost) is always there.

    Args:
        effects: for every k and scale, scales from the nearest to 1 on.
        costs: likewise.
        limit: the cost.
    """
    start = np.zeros((*effects.shape[:-1], 1))
    e, c = np.concatenate([start, effects], axis=-1), np.concatenate([start, costs], axis=-1)
    reached = np.where(c <= limit, e, 0.0)
    before, after = c[..., :-1] - limit, c[..., 1:] - limit
    crosses = before * after < 0
    way = np.divide(before, before - after, out=np.zeros_like(before), where=crosses)
    between = np.where(crosses, e[..., :-1] + way * (e[..., 1:] - e[..., :-1]), 0.0)
    found: Float[np.ndarray, "*b"] = np.maximum(reached.max(axis=(-2, -1)), between.max(axis=(-2, -1)))
    return found
