"""Attribution: the change of a concept's log-odds with each head's scale, for all heads by one backward pass.

An edit multiplies what a head writes by ``α``, so that the derivative by ``α`` at 1 says, to first order, what a small edit
does; heads are ordered by it. That is the head importance of Michel, Levy and Neubig (2019, "Are sixteen heads really better
than one?", equation 2) with its sign, and attribution patching (Syed, Rager and Conmy 2023) of a head's scale. SOMP asks what a
head writes; this asks what is made of it, and needs the model, answers, and memory for a backward pass.
"""

from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.recording import check_ran, projection_inputs
from headpursuit.activations.teacher_forcing import concept_tokens, log_odds, require_targets, teacher_forced_logits
from headpursuit.concepts import ConceptLike, MultiToken, as_concept, resolve
from headpursuit.errors import HeadPursuitError, check_choice, check_counts
from headpursuit.model.anatomy import LayerAnatomy
from headpursuit.model.head_model import HeadModel, evaluating
from headpursuit.model.load import ModelLike, as_model
from headpursuit.model.projection import weight_of
from headpursuit.model.samples import Sample, Samples, as_samples, fingerprint
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.versions import versions

METHOD = "attribution"
POSITIONS = "all"


def attribute(
    model: ModelLike,
    samples: Samples,
    concept: ConceptLike,
    *,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 8,
    limit: int | None = None,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by the derivative of a concept's log-odds with respect to their scale.

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        samples: samples with targets that speak of the concept; the log-odds are read where they do, see
            :func:`headpursuit.activations.teacher_forcing.log_odds`.
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
        >>> hp.attribute(model, samples, "colours", progress=False)
        HeadRanking(colours by attribution: L0.H4 0.33, L2.H14 0.25, L0.H7 0.22, …; 51 heads, 24 samples)
    """
    check_counts(batch_size=batch_size, limit=limit)
    check_choice(get_args(MultiToken), multi_token=multi_token)
    words, chosen = as_concept(concept), as_samples(samples, limit=limit)
    model = as_model(model)
    size = len(weight_of(model.module(model.anatomy.unembedding)))
    resolved = resolve(words, model.tokenizer, multi_token=multi_token, variants=variants, vocabulary_size=size)
    found = scale_derivatives(model, chosen, resolved.token_ids, batch_size=batch_size, progress=progress)
    return HeadRanking(
        scores=found.mean(axis=0),
        concept=resolved.name,
        method=METHOD,
        words=resolved.labels,
        n=len(chosen),
        positions=POSITIONS,
        model=model.identity,
        about={
            "multi_token": resolved.multi_token,
            "variants": variants,
            "data": fingerprint(chosen),
            "dtype": str(model.hf.dtype).removeprefix("torch."),
            "versions": versions(),
        },
    )


def scale_derivatives(
    model: HeadModel, samples: Sequence[Sample], tokens: Sequence[int], *, batch_size: int = 8, progress: bool = False
) -> Float[np.ndarray, "n l h"]:
    """Derivative of each sample's log-odds of some tokens with respect to the scale of every head.

    With ``z`` what enters an output projection, the derivative is ``Σ z · ∂L/∂z`` over the head's slice and all tokens: no
    parameter has to be put into the model.

    Args:
        model: the model, under whatever edit is applied; the derivative is then by a factor on top of the edit's.
        samples: each with a target.
        tokens: the concept's token ids.
        batch_size: samples that run together.
        progress: show a progress bar.

    Returns:
        Shape ``(n, l, h)``, in nats a unit of scale; NaN where a layer has no such head.

    Raises:
        HeadPursuitError: a sample without target, no token, a model that cannot be differentiated.
    """
    wanted = concept_tokens(tokens)
    require_targets(samples)
    if model.anatomy.part == "vision":
        batch_size = 1  # a tower sees images, several a sample or tiles of one, and no row of a batch is a sample's
    found = np.full((len(samples), model.anatomy.n_layers, model.anatomy.n_heads), np.nan)
    entered: dict[int, Tensor] = {}

    def enter(layer: LayerAnatomy, z: Tensor) -> Tensor:
        """Keep ``z`` of the last pass as a tensor that a gradient can be asked of."""
        entered[layer.index] = z if z.requires_grad else z.detach().requires_grad_()
        return entered[layer.index]

    bar = tqdm(total=len(samples), desc="derivatives", unit="sample", disable=not progress, leave=False)
    with bar, torch.enable_grad(), evaluating(model.hf), projection_inputs(model, enter):
        for rows, pieces in teacher_forced_logits(model, samples, batch_size=batch_size):
            # Rows of a batch do not see each other, so that the gradient of the sum holds every sample's own.
            total = torch.stack([log_odds(*piece, wanted) for piece in pieces]).sum()
            for layer, part in _derivatives(model, total, entered, rows=len(rows)):
                found[rows, layer.index, : layer.n_heads] = part.cpu().numpy()
            bar.update(len(rows))
    return found


def _derivatives(
    model: HeadModel, total: Tensor, entered: dict[int, Tensor], *, rows: int
) -> Iterator[tuple[LayerAnatomy, Float[Tensor, "b h"]]]:
    """For every layer the derivative by each head's scale, sample by sample."""
    name = model.source.architecture
    check_ran(model, entered)
    if not total.requires_grad:
        raise HeadPursuitError(f"{name}: its logits do not depend on its heads by differentiable steps; rank by SOMP instead")
    try:
        # What the logits do not depend on, such as a vision tower's last layer in LLaVA, has the derivative 0.
        gradients = torch.autograd.grad(total, list(entered.values()), allow_unused=True, materialize_grads=True)
    except NotImplementedError as error:  # some packed kernels have a forward pass alone
        raise HeadPursuitError(f"{name} cannot be differentiated ({error}); rank by SOMP instead") from error
    for (index, z), gradient in zip(entered.items(), gradients, strict=True):
        layer = model.anatomy.layer(index)
        dtype = torch.promote_types(z.dtype, torch.float32)
        product = z.detach().to(dtype) * gradient.to(dtype)
        columns = product.flatten(1, -2).sum(dim=1) if rows > 1 else product.flatten(0, -2).sum(dim=0)[None]
        yield layer, columns.unflatten(1, (layer.n_heads, layer.head_width)).sum(dim=2)
    entered.clear()
