"""Attribution: the change of a concept's log-odds with each head's scale, for all heads by one backward pass or a few.

An edit multiplies what a head writes by ``α``, so that the derivative by ``α`` at 1 says, to first order, what a small edit
does; heads are ordered by it. That is the head importance of Michel, Levy and Neubig (2019, "Are sixteen heads really better
than one?", equation 2) with its sign, and attribution patching (Syed, Rager and Conmy 2023) of a head's scale. SOMP asks what a
head writes; this asks what is made of it, and needs the model, answers, and memory for a backward pass.

A large edit is no small one: the derivative is then integrated along the way from 1 to the edit's scale (integrated gradients,
Sundararajan, Taly and Yan 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.measures import Measure
from headpursuit.activations.recording import check_ran, projection_inputs
from headpursuit.activations.teacher_forcing import teacher_forced_logits
from headpursuit.concepts import ConceptLike, MultiToken
from headpursuit.errors import HeadPursuitError, check_counts
from headpursuit.model.anatomy import LayerAnatomy
from headpursuit.model.head_model import HeadModel, evaluating
from headpursuit.model.heads import Head
from headpursuit.model.projection import without_derivatives
from headpursuit.model.samples import Sample, Samples
from headpursuit.ranking.masks import stratified_groups
from headpursuit.ranking.own_metrics import function_name
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.target import OwnMetric, target_of, target_ranking

if TYPE_CHECKING:
    from headpursuit.activations.teacher_forcing import Reading


def attribution(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike | OwnMetric,
    *,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 8,
    limit: int | None = None,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by the derivative of a concept's log-odds with respect to their scale: one pass forward and backward.

    Args:
        model: the model.
        samples: samples with targets that speak of the concept; the log-odds are read where they do, see
            :func:`headpursuit.activations.teacher_forcing.log_odds`. None for a concept that is made of texts: their contrast
            is then what is moved, see :func:`headpursuit.activations.measures.contrast_measure`.
        concept: as for :func:`headpursuit.rank`.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        batch_size: samples that run together; a backward pass keeps all that the forward pass computed.
        limit: only the first so many samples.
        progress: show a progress bar.

    Returns:
        The ranking; a score is the mean over samples of the derivative at scale 1, in nats a unit of scale. A head that says
        the concept has a positive one: suppressing it lowers the log-odds.

    Raises:
        HeadPursuitError: a sample without target, a concept without tokens, a model that cannot be differentiated.

    Examples:
        >>> hp.select(model, samples, "colours", method="attribution", progress=False)
        HeadRanking(colours by attribution: L3.H11 0.22, L5.H18 0.15, L3.H7 0.14, …; 120 heads, 24 samples)
    """
    check_counts(batch_size=batch_size, limit=limit)
    target = target_of(model, samples, concept, multi_token=multi_token, variants=variants, limit=limit)
    found = measure_derivatives(model, target.measure, batch_size=batch_size, progress=progress)
    return target_ranking(model, target, found, method="attribution", unit="nats a unit of scale")


def integrated(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike | OwnMetric,
    *,
    scale: float = -1.0,
    steps: int = 8,
    groups: int = 1,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 8,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by the derivative of a concept's log-odds, integrated along their scale from 1 to an edit's.

    Args:
        model: the model.
        samples: as for :func:`attribution`.
        concept: as for :func:`headpursuit.rank`.
        scale: the edit's factor, where the way ends.
        steps: points along the way (midpoint rule), each a pass forward and backward for every group.
        groups: into how many groups the heads are cut, evenly over layers; those of a group go along the way together while
            all others stay as they are. One is cheapest, but all heads halfway is far from any edit of a few.
        multi_token: as for :func:`attribution`.
        variants: as for :func:`attribution`.
        batch_size: as for :func:`attribution`.
        limit: only the first so many samples.
        seed: seed of the groups.
        progress: show a progress bar.

    Returns:
        The ranking; a score is what the head lends, in nats: the share of the log-odds' change that falls to it, counted
        positive where the head says the concept. Over a group scores add up to what scaling the whole group changes, up to the
        error of the midpoint rule; where the log-odds are linear in the scale, one step is exact.

    Raises:
        HeadPursuitError: as :func:`attribution`; no step, or another number of groups than there can be, or a scale of 1.

    Examples:
        >>> hp.select(model, samples, "colours", method="integrated", steps=2, progress=False)
        HeadRanking(colours by integrated: L0.H17 0.95, L0.H0 0.67, L0.H2 0.49, …; 120 heads, 24 samples)
    """
    heads = model.anatomy.heads()
    if steps < 1 or not 1 <= groups <= len(heads):
        raise HeadPursuitError(f"steps={steps}, groups={groups}: give at least one step, and 1 to {len(heads)} groups")
    sign = direction(scale)
    target = target_of(model, samples, concept, multi_token=multi_token, variants=variants, limit=limit)
    found = np.full((model.anatomy.n_layers, model.anatomy.n_heads), np.nan)
    parts = next(stratified_groups(heads, groups, np.random.default_rng(seed)))
    bar = tqdm(total=steps * groups, desc="along the scale", unit="step", disable=not progress, leave=False)
    with bar:
        for part in parts:
            rows = tuple(zip(*((head.layer, head.head) for head in part), strict=True))
            total = np.zeros(len(part))
            for step in range(steps):
                alpha = 1 + (scale - 1) * (step + 0.5) / steps
                here = measure_derivatives(model, target.measure, at=dict.fromkeys(part, alpha), batch_size=batch_size)
                total += here[rows]
                bar.update()
            found[rows] = sign * (scale - 1) / steps * total
    about = {"scale": scale, "steps": steps, "groups": groups, "seed": seed}
    return target_ranking(model, target, found, method="integrated", unit="nats", about=about)


def direction(scale: float) -> int:
    """The sign that makes an edit's change of the log-odds positive for a head that says the concept.

    Raises:
        HeadPursuitError: the edit changes nothing, or the scale is no finite number.
    """
    if not np.isfinite(scale) or scale == 1:
        raise HeadPursuitError(f"scale={scale}: give a finite number other than 1; −1 suppresses, 0 ablates, 5 enhances")
    return 1 if scale > 1 else -1


def measure_derivatives(
    model: HeadModel,
    measure: Measure | OwnMetric,
    *,
    at: Mapping[Head, float] | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> Float[np.ndarray, "l h"]:
    """Derivative of a measure with respect to the scale of every head; arguments as for :func:`scale_derivatives`.

    Returns:
        Shape ``(l, h)``, in nats a unit of scale.

    Raises:
        HeadPursuitError: a metric of one's own, which has no derivative; a model that cannot be differentiated.
    """
    if not isinstance(measure, Measure):
        raise HeadPursuitError(f"{function_name(measure)} has no derivative: use method='knockout' for a metric of your own")
    found = scale_derivatives(model, measure.samples, measure.read, at=at, batch_size=batch_size, progress=progress)
    total: Float[np.ndarray, "l h"] = np.einsum("n,nlh->lh", measure.weights, found)
    return total


def scale_derivatives(
    model: HeadModel,
    samples: Sequence[Sample],
    read: Reading,
    *,
    at: Mapping[Head, float] | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> Float[np.ndarray, "n l h"]:
    """Derivative of what is read of each sample with respect to the scale of every head.

    Every head's slice of ``z`` is multiplied by a factor of its own, sample by sample, and the derivatives are those of the
    factors: no parameter has to be put into the model.

    Args:
        model: the model, under whatever edit is applied; the factors are then on top of the edit's.
        samples: the tokens of its target count; of a sample without one, all tokens of the text but the first.
        read: what is read of a sample's logits, such as those of a :class:`headpursuit.activations.measures.Measure`.
        at: the factors of some heads at which the derivatives are taken, those of all heads; 1 for the others.
        batch_size: samples that run together.
        progress: show a progress bar.

    Returns:
        Shape ``(n, l, h)``, in the reading's unit a unit of scale; NaN where a layer has no such head.

    Raises:
        HeadPursuitError: a model that cannot be differentiated, as some of packed weights.
    """
    if model.anatomy.part == "vision":
        batch_size = 1  # a tower sees images, several a sample or tiles of one, and no row of a batch is a sample's
    stuck = without_derivatives(model.hf, like=torch.zeros((), device=model.device, dtype=model.hf.dtype))
    if stuck is not None:
        raise HeadPursuitError(
            f"{model.source.id}: derivatives do not come back through its packed weights ({type(stuck).__name__}): take a "
            "method that needs none (calibrated, somp, logit_lens, cosine, knockout), or load the model without quantisation"
        )
    found = np.full((len(samples), model.anatomy.n_layers, model.anatomy.n_heads), np.nan)
    factors: dict[int, Tensor] = {}

    def enter(layer: LayerAnatomy, z: Tensor) -> Tensor:
        """Scale each head by a factor that a gradient can be asked of."""
        own = [(at or {}).get(Head(layer.index, head, model.anatomy.part), 1.0) for head in range(layer.n_heads)]
        wide = torch.promote_types(z.dtype, torch.float32)
        factor = torch.tensor(own, dtype=wide, device=z.device).repeat(1 if batch_size == 1 else len(z), 1).requires_grad_()
        factors[layer.index] = factor
        spread = factor.view(len(factor), *[1] * (z.ndim - 2), layer.n_heads, 1)
        scaled: Tensor = z.to(wide).unflatten(-1, (layer.n_heads, layer.head_width)) * spread
        return scaled.flatten(-2).to(z.dtype)

    bar = tqdm(total=len(samples), desc="derivatives", unit="sample", disable=not progress, leave=False)
    with bar, torch.enable_grad(), evaluating(model.hf), projection_inputs(model, enter):
        for rows, pieces in teacher_forced_logits(model, samples, batch_size=batch_size):
            # Rows of a batch do not see each other, so that the gradient of the sum holds every sample's own.
            total = torch.stack([read(*piece) for piece in pieces]).sum()
            for layer, part in _derivatives(model, total, factors):
                found[rows, layer.index, : layer.n_heads] = part.cpu().numpy()
            bar.update(len(rows))
    return found


def _derivatives(
    model: HeadModel, total: Tensor, factors: dict[int, Tensor]
) -> Iterator[tuple[LayerAnatomy, Float[Tensor, "b h"]]]:
    """For every layer the derivative by each head's factor, sample by sample."""
    name = model.source.architecture
    check_ran(model, factors)
    if not total.requires_grad:
        raise HeadPursuitError(f"{name}: its logits do not depend on its heads by differentiable steps; rank by SOMP instead")
    try:
        # What the logits do not depend on, such as a vision tower's last layer in LLaVA, has the derivative 0.
        gradients = torch.autograd.grad(total, list(factors.values()), allow_unused=True, materialize_grads=True)
    except NotImplementedError as error:  # some packed kernels have a forward pass alone
        raise HeadPursuitError(f"{name} cannot be differentiated ({error}); rank by SOMP instead") from error
    for index, gradient in zip(factors, gradients, strict=True):
        yield model.anatomy.layer(index), gradient
    factors.clear()
