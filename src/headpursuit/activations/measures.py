"""Measures that need no generation: what the model would say is read from its logits along a given answer.

Counting a concept's words in generated text is noisy: a word is said or it is not. Here the answer is given (teacher forcing)
and the model's own probabilities are read at the tokens that predict it. All run under whatever edit is applied, so that
the effect of an edit is the difference of two calls on the same samples, paired sample by sample.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.teacher_forcing import concept_tokens, log_odds, require_targets, teacher_forced_logits
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


class Divergence:
    """How far an edit takes a model from itself on neutral texts, where a likelihood may also rise by luck.

    The measure is the Kullback-Leibler divergence of the edited model's next token from that of the model as it was, where
    all tokens but the ``kept`` likeliest count as one, so that little has to be kept; it is a lower bound that hardly differs.

    Args:
        model: the model as it is to be compared with.
        samples: as for :func:`negative_log_likelihood`.
        batch_size: samples that run together, padded on the right.
        kept: tokens that are told apart at each position.

    Raises:
        HeadPursuitError: a text without target has only one token.

    >>> with hp.HeadEdit(["L0.H4"], scale=1).applied(model):
    ...     Divergence(model, samples)(model)
    0.0
    """

    def __init__(self, model: HeadModel, samples: Sequence[Sample], *, batch_size: int = 16, kept: int = 256) -> None:
        self._samples, self._batch_size = samples, batch_size
        self._likeliest: list[tuple[Int[Tensor, "p c"], Float[Tensor, "p c"]]] = []
        for logits in self._logits(model):
            tokens = logits.topk(min(kept, logits.shape[1] - 1), dim=1).indices
            self._likeliest.append((tokens, _told_apart(logits, tokens)))

    def __call__(self, model: HeadModel) -> float:
        """Mean divergence over all positions of all samples, in nats a token."""
        total, count = 0.0, 0
        for logits, (tokens, before) in zip(self._logits(model), self._likeliest, strict=True):
            after = _told_apart(logits, tokens)
            total += float((before.exp() * (before - after)).sum())
            count += len(logits)
        return total / count

    def _logits(self, model: HeadModel) -> Iterator[Float[Tensor, "p v"]]:
        with torch.no_grad(), evaluating(model.hf):
            for _, pieces in teacher_forced_logits(model, self._samples, batch_size=self._batch_size):
                for logits, _ in pieces:
                    yield logits


def _told_apart(logits: Float[Tensor, "p v"], tokens: Int[Tensor, "p c"]) -> Float[Tensor, "p c+1"]:
    """Log-probabilities of some tokens, and of all others together."""
    own = logits.gather(1, tokens)
    others = logits.scatter(1, tokens, float("-inf")).logsumexp(dim=1, keepdim=True)
    return torch.cat([own, others], dim=1).log_softmax(dim=1)


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
