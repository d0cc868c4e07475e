"""Two measures that need no generation: what the model would say is read from its logits along a given answer.

Counting a concept's words in generated text is noisy: a word is said or it is not. Here the answer is given (teacher forcing)
and the model's own probabilities are read at the tokens that predict it. Both run under whatever edit is applied, so that
the effect of an edit is the difference of two calls on the same samples, paired sample by sample (issue 5, point 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from headpursuit.activations.positions import position_mask
from headpursuit.errors import HeadPursuitError
from headpursuit.model.batching import Prompt, collate, make_prompt
from headpursuit.model.head_model import evaluating

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from headpursuit.model.batching import Batch
    from headpursuit.model.head_model import HeadModel
    from headpursuit.model.samples import Sample


def with_targets(samples: Sequence[Sample], targets: Sequence[str]) -> list[Sample]:
    """The samples with new targets: the unedited model's own answers, or references that speak of the concept.

    A sample whose target is blank has nothing to be read along and is left out.

    Raises:
        HeadPursuitError: as many targets as samples are needed; or all of them are blank.
    """
    if len(samples) != len(targets):
        raise HeadPursuitError(f"{len(samples)} samples but {len(targets)} targets: give one target a sample")
    kept = [
        replace(sample, target=target.strip())
        for sample, target in zip(samples, targets, strict=True)
        if target.strip()
    ]
    if not kept:
        raise HeadPursuitError("every target is blank, so there is nothing to read along: give samples with targets")
    return kept


def concept_log_odds(
    model: HeadModel,
    samples: Sequence[Sample],
    *,
    tokens: Sequence[int],
    batch_size: int = 16,
    progress: bool = False,
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
    wanted = torch.tensor(sorted(set(tokens)), dtype=torch.long)
    if len(wanted) == 0:
        raise HeadPursuitError(
            "the concept has no tokens for this tokenizer: choose words that are tokens of their own"
        )
    for sample in samples:
        if not sample.target:
            raise HeadPursuitError(f"{sample.where or 'sample'}: no target to read along; give one, see with_targets")

    def measure(logits: Float[Tensor, "p v"], following: Int[Tensor, " p"]) -> float:
        own = wanted.to(logits.device)
        if own[0] < 0 or own[-1] >= logits.shape[1] or len(own) == logits.shape[1]:
            raise HeadPursuitError(
                f"tokens {int(own[0])} to {int(own[-1])} for a vocabulary of {logits.shape[1]}: "
                "resolve the concept with this model's tokenizer"
            )
        said = torch.isin(following, own)
        if bool(said.any()):
            logits = logits[said]
        inside = logits[:, own].logsumexp(dim=1)
        # The sum over the others, and not 1 − P: where P is nearly 1 the difference has no digits left.
        outside = logits.index_fill(1, own, float("-inf")).logsumexp(dim=1)
        return float((inside - outside).mean())

    return _read_along(model, samples, measure, batch_size=batch_size, progress=progress, label="log-odds")


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

    return _read_along(model, samples, measure, batch_size=batch_size, progress=progress, label="likelihood")


def _read_along(
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
        for rows in _batches(samples, batch_size):
            prompts = [make_prompt(model, samples[row]) for row in rows]
            batch = collate(model, prompts, side="right", with_target=samples[rows[0]].target is not None)
            mask = _predicting(batch, prompts)
            logits, kept = _logits(model, batch, mask)
            following = batch.inputs["input_ids"].roll(-1, dims=1)
            for index, row in enumerate(rows):
                # One sample at a time: half-precision logits of a whole batch would be copied to float32 at once.
                places = mask[index, kept]
                chosen = logits[index, places.to(logits.device)]
                chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
                values[row] = measure(chosen, following[index, kept][places].to(chosen.device))
            bar.update(len(rows))
    return values


def _batches(samples: Sequence[Sample], size: int) -> Iterator[list[int]]:
    """Rows that run together: with and without a target apart, since they are tokenized differently."""
    for has_target in (True, False):
        rows = [row for row, sample in enumerate(samples) if (sample.target is not None) == has_target]
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def _predicting(batch: Batch, prompts: Sequence[Prompt]) -> Bool[Tensor, "b t"]:
    """The positions whose next token counts."""
    if bool(batch.answer.any()):
        return position_mask("answer", batch, prompts)
    mask = (batch.real & ~batch.image).roll(-1, dims=1)
    mask[:, -1] = False
    mask &= batch.real
    for prompt, count in zip(prompts, mask.sum(dim=1).tolist(), strict=True):
        if count == 0:
            raise HeadPursuitError(f"{prompt.where}: one token alone has no likelihood; give a longer text or a target")
    return mask


def _logits(
    model: HeadModel, batch: Batch, mask: Bool[Tensor, "b t"]
) -> tuple[Float[Tensor, "b p v"], Int[Tensor, " p"]]:
    """Logits at the positions that any sample needs, and which these are."""
    kept = mask.any(dim=0).nonzero().flatten()
    options = {"use_cache": False, "logits_to_keep": kept}
    logits = model.hf(**batch.inputs, **{name: value for name, value in options.items() if model.takes(name)}).logits
    if logits.shape[1] == len(kept):
        return logits, kept
    if logits.shape[1] == mask.shape[1]:
        return logits[:, kept.to(logits.device)], kept
    raise HeadPursuitError(
        f"{model.source.architecture} returns {logits.shape[1]} rows of logits for {mask.shape[1]} tokens, "
        "so which token each belongs to cannot be told"
    )
