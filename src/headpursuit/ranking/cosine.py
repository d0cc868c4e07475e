"""The cosine of what a head writes on average with a direction that stands for the concept.

That is the attention module discovery (SAMD) of Su, Kempe and Ullrich (2025, arXiv 2506.17052), with the mean of the concept's
rows of the unembedding as the direction, or the difference that the concept makes to the residual stream.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.captured import Captured
from headpursuit.activations.positions import Positions, position_mask
from headpursuit.concepts import ConceptLike, MultiToken, as_concept
from headpursuit.errors import HeadPursuitError
from headpursuit.hooks import Hooks
from headpursuit.model.head_model import HeadModel, accepted, evaluating
from headpursuit.model.samples import Samples, as_samples, fingerprint
from headpursuit.model.tokenize import collate, make_prompt
from headpursuit.ranking.capturing import captured
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.target import own_samples, resolved_for


def cosine(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike,
    *,
    without: Samples | None = None,
    acts: Captured | None = None,
    positions: Positions = "mean",
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 16,
    limit: int | None = None,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by the cosine between their mean output and the concept's direction: one pass forward.

    Args:
        model: the model.
        samples: samples that speak of the concept, or call for it; None for a concept that is made of texts, which then are
            those with and without.
        concept: as for :func:`headpursuit.rank`.
        without: samples without the concept; the direction is then the difference of the mean residual stream in front of the
            unembedding's norm, in place of the mean of the concept's rows of the unembedding, each of length 1.
        acts: a capture of this model in place of one of the samples.
        positions: the tokens whose mean counts, see :func:`headpursuit.activations.positions.position_mask`.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        batch_size: samples that run together.
        limit: only the first so many samples.
        progress: show a progress bar.

    Returns:
        The ranking; a score is a cosine, 0 for a head that writes nothing.

    Raises:
        HeadPursuitError: no concept's token, a capture of another model, samples with and without that do not differ, a part of
            the model whose heads do not write into the text's residual stream.

    Examples:
        >>> hp.select(model, samples, "colours", method="cosine", positions="last", progress=False)
        HeadRanking(colours by cosine: L5.H7 0.34, L2.H12 0.33, L5.H3 0.27, …; 120 heads, 24 samples)
    """
    resolved = resolved_for(model, concept, multi_token=multi_token, variants=variants)
    options: dict[str, Any] = {"positions": positions, "batch_size": batch_size}
    texts = as_concept(concept).texts
    if samples is None and without is None and texts is not None:
        without = texts.without[:limit]
    own = own_samples(samples, concept, limit=limit) if acts is None or without is not None else ()
    found = captured(model, own, acts, progress=progress, **options)
    about = dict(found.about)
    if without is None:
        rows = torch.nn.functional.normalize(found.weights.unembedding()[list(resolved.token_ids)].float(), dim=1)
        direction = rows.mean(dim=0)
    else:
        if model.anatomy.part == "vision":
            raise HeadPursuitError("heads of a vision tower do not write into the text's residual stream: leave without out")
        options["positions"] = found.positions
        direction = mean_residual(model, own, **options)
        direction -= mean_residual(model, others := as_samples(without, limit=limit), **options)
        about["without"] = fingerprint(others)
    if not float(direction.norm()) > 0:
        raise HeadPursuitError("the concept's direction is zero: give samples that differ from those without the concept")
    scores = np.full(found.shape, np.nan)
    for layer, count in found.head_counts.items():
        outputs = torch.einsum("he,hed->hd", found.mean(layer).float(), found.weights.projection(layer))
        cosines = torch.nn.functional.cosine_similarity(outputs, direction.to(outputs.device)[None], dim=1)
        scores[layer, :count] = cosines.cpu().numpy()
    return HeadRanking(
        scores=scores,
        concept=resolved.name,
        method="cosine",
        words=resolved.labels,
        n=found.n,
        positions=found.positions,
        model=found.model,
        about={"multi_token": resolved.multi_token, "variants": variants, **about},
        unit="cosine",
    )


def mean_residual(model: HeadModel, samples: Samples, *, positions: Positions, batch_size: int) -> Float[Tensor, " d"]:
    """The mean of the residual stream in front of the last norm, over samples and each one's positions, float32."""
    chosen, total = as_samples(samples), torch.zeros(model.anatomy.width)
    seen: list[Tensor] = []
    before = model.module(model.anatomy.final_norm or model.anatomy.unembedding)
    with Hooks() as hooks, torch.no_grad(), evaluating(model.hf):
        hooks.before(before, lambda module, args: seen.append(args[0].detach()))
        for start in range(0, len(chosen), batch_size):
            prompts = [make_prompt(model, sample) for sample in chosen[start : start + batch_size]]
            batch = collate(model, prompts, side="right", with_target=positions == "answer")
            model.hf(**batch.inputs, **accepted(model.hf.forward, {"use_cache": False}))
            weight = position_mask(positions, batch, prompts).float()
            states = seen.pop().float().cpu()
            total += torch.einsum("bt,btd->d", weight / weight.sum(dim=1, keepdim=True), states)
    return total / len(chosen)
