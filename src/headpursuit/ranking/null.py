"""Random token sets that look like a concept's: as many atoms, of the same lengths, of tokens as frequent."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.model.token_text import known_ids
from headpursuit.ranking.scorer import AtomRows

# At most so many classes of length, and of frequency.
_CLASSES = 10
# A class should hold so many times a whole concept, or the random sets could only be the concept itself.
_ROOM = 4


@dataclass(frozen=True)
class TokenSets:
    """Random sets beside a concept's.

    Attributes:
        sets: the token ids of every atom of every set.
        matched: what the sets share with the concept besides their size: ``norm``, ``frequency``.
        classes: in how many classes the vocabulary was cut for that.
        shared: mean share of a set's tokens that are the concept's own.
    """

    sets: list[AtomRows]
    matched: tuple[str, ...]
    classes: int
    shared: float


def token_counts(tokenizer: Any, texts: Iterable[str], *, vocabulary_size: int) -> Int[np.ndarray, " v"]:
    """Count the tokens of some texts, shape ``(v,)``; tokens beyond ``vocabulary_size`` are left out.

    Raises:
        HeadPursuitError: the texts hold no token.

    Examples:
        >>> counts = token_counts(model.tokenizer, ["a red circle", "a red square"], vocabulary_size=1000)
        >>> counts.shape, int(counts[740])
        ((1000,), 2)
    """
    given = [text for text in texts if text.strip()]
    encoded = tokenizer(given, add_special_tokens=False, return_attention_mask=False)["input_ids"] if given else []
    ids = np.array([token for row in encoded for token in row], dtype=np.int64)
    if not len(ids):
        raise HeadPursuitError("the texts for token frequencies hold no token: give plain text in the model's language")
    return np.bincount(ids[ids < vocabulary_size], minlength=vocabulary_size)


def random_token_sets(
    rows: AtomRows,
    unembedding: Float[Tensor, "v d"],
    tokenizer: Any,
    *,
    draws: int,
    frequencies: Float[np.ndarray, " v"] | None = None,
    seed: int = 0,
) -> TokenSets:
    """Draw sets in which every token of a concept is replaced by a random one of its class.

    The vocabulary's ordinary tokens (not special, known to the tokenizer, with visible text and a direction) are cut into
    classes of equal size by the length of their unembedding rows and, where frequencies are known, by those (tokens never
    seen are a class). How many classes there are depends on the vocabulary and the size of the concept alone, and a set may
    draw the concept's own tokens: so a concept that was itself drawn at random is one more of these sets, exchangeable with
    them, which is what makes permutation p-values valid.

    Args:
        rows: the concept's atoms.
        unembedding: the rows as they are pursued, shape ``(v, d)``.
        tokenizer: tells ordinary tokens from others.
        draws: how many sets.
        frequencies: how often each token is used, shape ``(v,)``, in any unit.
        seed: seed of the draws.

    Raises:
        HeadPursuitError: fewer than two draws, frequencies of another length.

    Examples:
        >>> null = random_token_sets(((740,), (947,)), acts.weights.unembedding(), acts.tokenizer, draws=3)
        >>> len(null.sets), [len(row) for row in null.sets[0]], null.matched
        (3, [1, 1], ('norm',))
    """
    check_counts(2, draws=draws)
    check_counts(*SEEDS, seed=seed)
    if frequencies is not None and np.shape(frequencies) != (len(unembedding),):
        raise HeadPursuitError(
            f"frequencies have shape {np.shape(frequencies)}, the vocabulary has {len(unembedding)} rows: "
            "count with token_counts(tokenizer, texts, vocabulary_size=…)"
        )
    tokens = np.array(list(dict.fromkeys(token for row in rows for token in row)))
    lengths = unembedding.norm(dim=1).cpu().numpy()
    candidates = np.union1d(_ordinary(tokenizer, lengths), tokens)
    wanted = max(1, len(candidates) // (_ROOM * len(tokens)))
    kinds = [lengths[candidates]]
    if frequencies is not None:
        wanted = int(wanted**0.5)
        kinds.append(np.asarray(frequencies, dtype=float)[candidates])
    labels = np.zeros(len(candidates), dtype=np.int64)
    for values in kinds:
        labels = labels * (_CLASSES + 1) + _classes(values, min(_CLASSES, max(1, wanted)))
    own = labels[np.searchsorted(candidates, tokens)]
    rng = np.random.default_rng(seed)
    drawn = np.empty((draws, len(tokens)), dtype=np.int64)
    for label in np.unique(own):
        members, columns = candidates[labels == label], np.flatnonzero(own == label)
        for draw in drawn:
            draw[columns] = rng.choice(members, size=len(columns), replace=False)
    column_of = {int(token): column for column, token in enumerate(tokens)}
    sets = [tuple(tuple(int(draw[column_of[token]]) for token in row) for row in rows) for draw in drawn]
    return TokenSets(
        sets=sets,
        matched=("norm",) if frequencies is None else ("norm", "frequency"),
        classes=len(np.unique(labels)),
        shared=float(np.isin(drawn, tokens).mean()),
    )


def _ordinary(tokenizer: Any, lengths: Float[np.ndarray, " v"]) -> Int[np.ndarray, " t"]:
    """Ids of the tokens that a concept could have been made of."""
    ids = known_ids(tokenizer, len(lengths))
    special = frozenset(tokenizer.all_special_ids)
    texts = tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
    # A piece of a letter's bytes reads as the replacement character.
    visible = (bool(text.strip("\ufffd").strip()) for text in texts)
    return np.array(
        [token for token, seen in zip(ids, visible, strict=True) if seen and token not in special and lengths[token] > 0]
    )


def _classes(values: Float[np.ndarray, " t"], count: int) -> Int[np.ndarray, " t"]:
    """Cut values into ``count`` classes of about equal size; zeros, where they are many, fall into one."""
    inner = np.quantile(values, np.linspace(0, 1, count + 1)[1:-1])
    return np.searchsorted(np.unique(inner), values, side="right")
