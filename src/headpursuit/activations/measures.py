"""Measures that need no generation: what the model would say is read from its logits along a given answer.

Counting a concept's words in generated text is noisy: a word is said or it is not. Here the answer is given (teacher forcing)
and the model's own probabilities are read at the tokens that predict it. All run under whatever edit is applied, so that
the effect of an edit is the difference of two calls on the same samples, paired sample by sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.teacher_forcing import concept_tokens, log_odds, require_targets, teacher_forced_logits
from headpursuit.errors import HeadPursuitError
from headpursuit.model.head_model import HeadModel, evaluating
from headpursuit.model.samples import Sample

if TYPE_CHECKING:
    from headpursuit.activations.teacher_forcing import Reading


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


@dataclass(frozen=True)
class Measure:
    """What edits should move: a number that is read along every one of some texts, and their weighted sum.

    Attributes:
        samples: the texts.
        read: what is read of each, in nats.
        weights: one a sample, shape ``(n,)``; they say how the numbers make one, of which more means more of the concept.
    """

    samples: Sequence[Sample] = field(repr=False)
    read: Reading = field(repr=False)
    weights: Float[np.ndarray, " n"] = field(repr=False)

    def each(self, model: HeadModel, *, batch_size: int = 16, progress: bool = False) -> Float[np.ndarray, " n"]:
        """What is read of every sample, shape ``(n,)``, under whatever edit is applied."""
        return _each(model, self.samples, self.read, batch_size=batch_size, progress=progress)

    def __call__(self, model: HeadModel, *, batch_size: int = 16) -> float:
        """The weighted sum."""
        return float(self.weights @ self.each(model, batch_size=batch_size))


def log_odds_measure(samples: Sequence[Sample], tokens: Sequence[int]) -> Measure:
    """The mean of a concept's log-odds over samples with targets; see :func:`concept_log_odds`.

    Raises:
        HeadPursuitError: no token, or a sample without a target.
    """
    wanted = concept_tokens(tokens)
    require_targets(samples)
    return Measure(samples, partial(log_odds, tokens=wanted), np.full(len(samples), 1 / len(samples)))


def contrast_measure(with_: Sequence[Sample], without: Sequence[Sample]) -> Measure:
    """How much likelier a token of the texts with a concept is than one of those without: mean log-likelihoods, subtracted.

    Args:
        with_: texts that have what should be found; where one has a target, its tokens count alone.
        without: texts that do not, and else are alike.
    """
    signs = [1 / len(with_)] * len(with_) + [-1 / len(without)] * len(without)
    return Measure((*with_, *without), log_likelihood, np.array(signs))


def log_likelihood(logits: Float[Tensor, "p v"], following: Int[Tensor, " p"]) -> Float[Tensor, ""]:
    """Mean log-likelihood of the tokens that follow, in nats a token."""
    return -torch.nn.functional.cross_entropy(logits, following)


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
    return log_odds_measure(samples, tokens).each(model, batch_size=batch_size, progress=progress)


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
    return -_each(model, samples, log_likelihood, batch_size=batch_size, progress=progress)


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
        for _, logits in self._logits(model):
            tokens = logits.topk(min(kept, logits.shape[1] - 1), dim=1).indices
            # In memory: workers of an engine may have other devices.
            self._likeliest.append((tokens.cpu(), _told_apart(logits, tokens).cpu()))

    def each(self, model: HeadModel) -> Float[np.ndarray, " n"]:
        """Mean divergence over the positions of every sample, shape ``(n,)``, in nats a token."""
        found = np.full(len(self._samples), np.nan)
        for (row, logits), (kept, likely) in zip(self._logits(model), self._likeliest, strict=True):
            tokens, before = kept.to(logits.device), likely.to(logits.device)
            found[row] = float((before.exp() * (before - _told_apart(logits, tokens))).sum(dim=1).mean())
        return found

    def __call__(self, model: HeadModel) -> float:
        """Mean over the samples, in nats a token."""
        return float(self.each(model).mean())

    def _logits(self, model: HeadModel) -> Iterator[tuple[int, Float[Tensor, "p v"]]]:
        with torch.no_grad(), evaluating(model.hf):
            for rows, pieces in teacher_forced_logits(model, self._samples, batch_size=self._batch_size):
                for row, (logits, _) in zip(rows, pieces, strict=True):
                    yield row, logits


def _told_apart(logits: Float[Tensor, "p v"], tokens: Int[Tensor, "p c"]) -> Float[Tensor, "p c+1"]:
    """Log-probabilities of some tokens, and of all others together."""
    own = logits.gather(1, tokens)
    others = logits.scatter(1, tokens, float("-inf")).logsumexp(dim=1, keepdim=True)
    return torch.cat([own, others], dim=1).log_softmax(dim=1)


def _each(
    model: HeadModel, samples: Sequence[Sample], read: Reading, *, batch_size: int, progress: bool
) -> Float[np.ndarray, " n"]:
    """What is read of every sample's logits."""
    values = np.full(len(samples), np.nan)
    bar = tqdm(total=len(samples), desc="measure", unit="sample", disable=not progress, leave=False)
    with bar, torch.no_grad(), evaluating(model.hf):
        for rows, pieces in teacher_forced_logits(model, samples, batch_size=batch_size):
            for row, piece in zip(rows, pieces, strict=True):
                values[row] = float(read(*piece))
            bar.update(len(rows))
    return values
