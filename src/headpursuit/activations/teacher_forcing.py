"""Teacher forcing: a model's logits where they predict a given answer, and what they say of a concept.

Nothing is generated, so that the answer, and with it the positions that count, is the same under every edit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from headpursuit.activations.positions import position_mask
from headpursuit.errors import HeadPursuitError
from headpursuit.hooks import Hooks
from headpursuit.model.head_model import HeadModel
from headpursuit.model.samples import Sample
from headpursuit.model.tokenize import Batch, Prompt, collate, make_prompt

if TYPE_CHECKING:
    Piece = tuple[Float[Tensor, "p v"], Int[Tensor, " p"]]
    # A number that is read of one sample's logits, and of the tokens that follow there.
    Reading = Callable[[Float[Tensor, "p v"], Int[Tensor, " p"]], Float[Tensor, ""]]


def teacher_forced_logits(
    model: HeadModel, samples: Sequence[Sample], *, batch_size: int
) -> Iterator[tuple[list[int], Iterator[Piece]]]:
    """Run samples through a model, batch by batch.

    Whether gradients are kept, and the model's mode, are the caller's.

    Args:
        model: the model, under whatever edit is applied.
        samples: the tokens of its target count; of a sample without one, all tokens of the text but the first and those
            of an image.
        batch_size: samples that run together, padded on the right; those of like lengths do.

    Yields:
        The indices of a batch's samples in ``samples``, and for each of them the logits ``(p, v)`` where something is predicted
        that counts, in float32 or better, with the tokens ``(p,)`` that follow there. The unembedding runs at these positions
        alone.

    Raises:
        HeadPursuitError: a text without target has only one token; the model gives other logits than were asked for.
    """
    for rows in _batches(samples, batch_size):
        prompts = [make_prompt(model, samples[row]) for row in rows]
        batch = collate(model, prompts, side="right", with_target=samples[rows[0]].target is not None)
        mask = _predicting(batch, prompts)
        following = batch.inputs["input_ids"].roll(-1, dims=1)[mask]
        yield rows, _pieces(_logits(model, batch, mask), following, mask.sum(dim=1).tolist())


def log_odds(logits: Float[Tensor, "p v"], following: Int[Tensor, " p"], tokens: Int[Tensor, " c"]) -> Float[Tensor, ""]:
    """Log-odds that the next token is one of a concept's, in nats: the mean over positions of ``log(P / (1 − P))``.

    The positions that count are those where one of the concept's tokens follows; where none does, all of them.

    Args:
        logits: one row a position.
        following: the token behind each.
        tokens: the concept's tokens, in ascending order.

    Raises:
        HeadPursuitError: tokens that the model does not have, or all that it has.
    """
    own = tokens.to(logits.device)
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
    return (inside - outside).mean()


def concept_tokens(tokens: Sequence[int]) -> Int[Tensor, " c"]:
    """A concept's token ids as :func:`log_odds` takes them.

    Raises:
        HeadPursuitError: there is none.
    """
    if not tokens:
        raise HeadPursuitError("the concept has no tokens for this tokenizer: choose words that are tokens of their own")
    return torch.tensor(sorted(set(tokens)), dtype=torch.long)


def require_targets(samples: Sequence[Sample]) -> None:
    """Check that every sample has a target.

    Raises:
        HeadPursuitError: naming the first that has none.
    """
    for sample in samples:
        if not sample.target:
            raise HeadPursuitError(f"{sample.where or 'sample'}: no target, whose tokens are to be predicted; give one")


def _pieces(logits: Float[Tensor, "m v"], following: Int[Tensor, " m"], counts: list[int]) -> Iterator[Piece]:
    for chosen, behind in zip(logits.split(counts), following.split(counts), strict=True):
        # One sample at a time: half-precision logits of a whole batch would be copied to float32 at once.
        yield chosen.to(torch.promote_types(chosen.dtype, torch.float32)), behind.to(chosen.device)


def _batches(samples: Sequence[Sample], size: int) -> Iterator[list[int]]:
    """Rows that run together: with and without a target apart, since they are tokenized differently; those of like lengths."""
    for has_target in (True, False):
        rows = [row for row, sample in enumerate(samples) if (sample.target is not None) == has_target]
        rows.sort(key=lambda row: len(samples[row].text) + len(samples[row].target or ""))
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


def _logits(model: HeadModel, batch: Batch, mask: Bool[Tensor, "b t"]) -> Float[Tensor, "m v"]:
    """Logits at the positions of a mask, all samples' behind each other."""

    def gather(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not args or args[0].shape[:2] != mask.shape:
            return None
        return (args[0][mask.to(args[0].device)][None], *args[1:])

    with Hooks() as hooks:
        hooks.before(model.module(model.anatomy.unembedding), gather)
        options = {"use_cache": False} if model.takes("use_cache") else {}
        logits = model.hf(**batch.inputs, **options).logits
    if logits.shape[:2] == (1, int(mask.sum())):
        return logits[0]
    if logits.shape[:2] == mask.shape:
        return logits[mask.to(logits.device)]
    raise HeadPursuitError(
        f"{model.source.architecture} returns logits of shape {tuple(logits.shape[:2])} for {tuple(mask.shape)} tokens, "
        "so which token each belongs to cannot be told"
    )
