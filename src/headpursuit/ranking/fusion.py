"""Fusion: the heads that cheap methods put first, each of them then knocked out by itself."""

from dataclasses import replace
from typing import Any

from headpursuit.activations.positions import Positions
from headpursuit.concepts import ConceptLike, MultiToken
from headpursuit.engines import LOCAL, Engine
from headpursuit.errors import HeadPursuitError
from headpursuit.model.head_model import HeadModel
from headpursuit.model.samples import Samples, as_samples
from headpursuit.ranking.attribution import attribution
from headpursuit.ranking.capturing import captured
from headpursuit.ranking.knockout import check_order, knockout
from headpursuit.ranking.methods import KnockoutOrder
from headpursuit.ranking.rank import rank
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.target import OwnMetric, own_samples


def fusion(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike,
    *,
    best: float = 0.1,
    metric: OwnMetric | None = None,
    scale: float = -1.0,
    neutral: Samples | None = None,
    order: KnockoutOrder = "effect",
    positions: Positions = "mean",
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 8,
    limit: int | None = None,
    engine: Engine = LOCAL,
    progress: bool = True,
) -> HeadRanking:
    """Knock out, one by one, the heads that attribution or the calibrated ranking of a capture has among its best.

    Args:
        model: the model.
        samples: as for :func:`headpursuit.ranking.attribution.attribution`.
        concept: as for :func:`headpursuit.rank`.
        best: share of the heads that each of the cheap methods hands on: attribution, and the calibrated
            ranking of a capture.
        metric: as for :func:`headpursuit.ranking.knockout.knockout`.
        scale: the edit's factor.
        neutral: as for the knock-out.
        order: as for the knock-out.
        positions: tokens whose mean is captured.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        batch_size: samples that run together; a backward pass keeps all that the forward pass computed.
        limit: only the first so many samples.
        engine: where samples are captured and heads are knocked out.
        progress: show progress bars.

    Returns:
        The ranking; scores as the knock-out's, 0 for heads that were no candidates.

    Raises:
        HeadPursuitError: as for attribution and the knock-out; a share that is not above 0 and at most 1.

    Examples:
        >>> ranking = hp.select(model, samples, "colours", method="fusion", positions="last", progress=False)
        >>> ranking.unit, int((ranking.scores != 0).sum())
        ('nats', 22)
    """
    heads, chosen = model.anatomy.heads(), None if samples is None else as_samples(samples, limit=limit)
    check_order(order, neutral)
    if not 0 < best <= 1:
        raise HeadPursuitError(f"best={best}: give the share of the heads that each method hands on, such as 0.1")
    count = max(1, round(best * len(heads)))
    options: dict[str, Any] = {"multi_token": multi_token, "variants": variants, "progress": progress}
    told: dict[str, Any] = {"batch_size": batch_size, "limit": limit, **options}
    read = own_samples(samples, concept, limit=limit)
    running: dict[str, Any] = {"batch_size": batch_size, "engine": engine, "progress": progress}
    acts = captured(model, read, None, positions=positions, **running)
    cheap = [rank(acts, concept, **options), attribution(model, chosen, concept, **told)]
    candidates = sorted({head for ranking in cheap for head in ranking.top(count)})
    more: dict[str, Any] = {"metric": metric, "scale": scale, "neutral": neutral, "order": order, "engine": engine}
    found = knockout(model, chosen, concept, heads=candidates, masks=len(candidates), **more, **told)
    return replace(found, method="fusion", about={**found.about, "best": best, "captured": positions})
