"""Two measures that need no generation: what the model would say is read from its logits along a given answer.

Counting a concept's words in generated text is noisy: a word is said or it is not. Here the answer is given (teacher forcing)
and the model's own probabilities are read at the tokens that predict it. Both run under whatever edit is applied, so that
the effect of an edit is the difference of two calls on the same samples, paired sample by sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.teacher_forcing import concept_tokens, log_odds, require_targets, teacher_forced_logits
from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError
from headpursuit.model.head_model import HeadModel, evaluating
from headpursuit.model.samples import Sample


def with_targets(samples: Sequence[Sample], targets: Sequence[str]) -> list[Sample]:
    """The samples with new targets: the unedited model's own answers, or references that speak of the concept.

    A sample whose target is blank has nothing to be read along and is left out.

    Raises:
        HeadPursuitError: as many targets as samples are needed; or all of them are blank.
    """
    if len(samples) != len(targets):
        raise HeadPursuitError(f"{len(samples)} samples but {len(targets)} targets: give one target a sample")
    kept = [replace(sample, target=target.strip()) for sample, target in zip(samples, targets, strict=True) if target.strip()]
    if not kept:
        raise HeadPursuitError("every target is blank, so there is nothing to read along: give samples with targets")
    return kept


def concept_log_odds(
    model: HeadModel, samples: Sequence[Sample], *, tokens: Sequence[int], batch_size: int = 16, progress: bool = False
) -> Float[np.ndarray, " n"]:
    """Log-odds that the next token is one of the concept's, where the concept could be said, shape ``(n,)``, in nats.

    At one position it is ``log(P / (1 − P))``, ``P`` the summed probability of the concept's tokens. The positions that count
    are those that predict a token of the target which is one of the concept's: there the context asks for the concept, and
    the number says whether the model still would. A target without such a token counts at all its positions, since the
    concept might have come anywhere in it. Which positions count depends on the target and never on the model or its edit, so
    two calls compare like with like; compare samples with themselves, for the two kinds differ in level.

    Args:
        model: the model, under whatever edit is applied.
        samples: each with a target (see :func:`with_targets`).
        tokens: the concept's token ids, such as ``resolve(concept, model.tokenizer).token_ids``.
        batch_size: samples that run together, padded on the right.
        progress: show a progress bar.

    Raises:
        HeadPursuitError: no token, tokens that the model does not have or all that it has, or a sample without a target.
    """
    wanted = concept_tokens(tokens)
    require_targets(samples)

    def measure(logits: Float[Tensor, "p v"], following: Int[Tensor, " p"]) -> float:
        return float(log_odds(logits, following, wanted))

    return _per_sample(model, samples, measure, batch_size=batch_size, progress=progress, label="log-odds")


def negative_log_likelihood(
    model: HeadModel, samples: Sequence[Sample], *, batch_size: int = 16, progress: bool = False
) -> Float[np.ndarray, " n"]:
    """Negative log-likelihood per token, shape ``(n,)``, in nats: what an edit costs where the concept is not spoken of.

    Args:
        model: the model, under whatever edit is applied.
        samples: neutral texts. Where a sample has a target, its tokens count, given the text; without one all tokens of the
            text count but the first and those of an image (give such samples ``chat=False``, or the template counts too).
        batch_size: samples that run together, padded on the right.
        progress: show a progress bar.

    Raises:
        HeadPursuitError: a text without target has only one token.
    """

    def measure(logits: Float[Tensor, "p v"], following: Int[Tensor, " p"]) -> float:
        return float(torch.nn.functional.cross_entropy(logits, following))

    return _per_sample(model, samples, measure, batch_size=batch_size, progress=progress, label="likelihood")


def fluency_cost(model: HeadModel, edit: HeadEdit, samples: Sequence[Sample], answers: Sequence[str]) -> float:
    """Nats that the median token of the unedited model's own answers loses under an edit.

    A concept that is suppressed costs a few tokens much and the others little; an edit that breaks the model costs all of
    them, so that the median tells the one from the other.

    Args:
        model: the unedited model.
        edit: the edit.
        samples: prompts.
        answers: what the unedited model wrote; blank ones are left out.

    Raises:
        HeadPursuitError: all answers are blank.
    """
    asked = with_targets(samples, answers)
    unedited = _token_likelihoods(model, asked)
    with edit.applied(model):
        edited = _token_likelihoods(model, asked)
    return float((unedited - edited).median())


def _token_likelihoods(model: HeadModel, samples: Sequence[Sample]) -> Float[Tensor, " p"]:
    with torch.no_grad(), evaluating(model.hf):
        return torch.cat(
            [
                -torch.nn.functional.cross_entropy(logits, following, reduction="none").cpu()
                for _, pieces in teacher_forced_logits(model, samples, batch_size=16)
                for logits, following in pieces
            ]
        )


def _per_sample(
    model: HeadModel,
    samples: Sequence[Sample],
    measure: Callable[[Float[Tensor, "p v"], Int[Tensor, " p"]], float],
    *,
    batch_size: int,
    progress: bool,
    label: str,
) -> Float[np.ndarray, " n"]:
    """One number a sample, from the logits at the positions that predict its answer and from the tokens that follow there."""
    values = np.full(len(samples), np.nan)
    bar = tqdm(total=len(samples), desc=label, unit="sample", disable=not progress, leave=False)
    with bar, torch.no_grad(), evaluating(model.hf):
        for rows, pieces in teacher_forced_logits(model, samples, batch_size=batch_size):
            for row, piece in zip(rows, pieces, strict=True):
                values[row] = measure(*piece)
            bar.update(len(rows))
    return values
