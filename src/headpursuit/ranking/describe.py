"""Name heads: a pursuit over the whole unembedding, its first atoms' tokens are the name (Head Pursuit, Table 1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from tqdm.auto import tqdm

from headpursuit.activations.moments import HeadMoments
from headpursuit.concepts.vocabulary import vocabulary_dictionary
from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head, parse_heads
from headpursuit.pursuit.logit_lens import frequent_tokens
from headpursuit.ranking.pursue import somp_capture

if TYPE_CHECKING:
    from headpursuit.activations.head_activations import HeadActivations
    from headpursuit.pursuit.dictionary import Dictionary

METHODS = ("somp", "logit-lens")


@dataclass(frozen=True)
class HeadDescription:
    """What one head writes, in tokens.

    Attributes:
        head: which head.
        tokens: the tokens, in the order in which they were chosen.
        token_ids: their ids.
        explained_variance: share of the head's variance over samples that the first so many tokens explain
            (``somp``), or None (``logit-lens``).
        frequency: share of samples that have the token among their highest (``logit-lens``), or None.
        method: ``somp`` or ``logit-lens``.
        n: number of samples.
    """

    head: Head
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    explained_variance: tuple[float, ...] | None
    frequency: tuple[float, ...] | None
    method: str
    n: int

    def __str__(self) -> str:
        share = "" if self.explained_variance is None else f"  {self.explained_variance[-1]:.1%} of variance"
        return f"{self.head}: {', '.join(repr(token) for token in self.tokens)}{share}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.head.name, **asdict(self.head), **{k: v for k, v in asdict(self).items() if k != "head"}}


def describe(
    acts: HeadActivations | HeadMoments,
    *,
    heads: Iterable[str | Head] | None = None,
    n_atoms: int = 5,
    method: Literal["somp", "logit-lens"] = "somp",
    fold_norm: bool = False,
    dictionary: Dictionary | None = None,
    progress: bool = True,
) -> list[HeadDescription]:
    """Name heads by the tokens that explain what they write.

    Args:
        acts: a capture.
        heads: which heads; all when left out.
        n_atoms: tokens a head.
        method: ``somp`` explains the variance over samples (Table 1); ``logit-lens`` counts the tokens of highest logit
            (Table 6).
        fold_norm: multiply the unembedding by the gain of the norm before it.
        dictionary: directions to name heads by in place of the unembedding, such as text features for a vision tower.
        progress: show a progress bar.

    Returns:
        One description a head, in the order asked for.

    Raises:
        HeadPursuitError: a head that was not captured, an unknown method, a dictionary of another width than the heads'.
    """
    if method not in METHODS:
        raise HeadPursuitError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    wanted = acts.heads() if heads is None else parse_heads(heads)
    acts.require(wanted)
    if dictionary is None:
        gain = acts.weights.final_norm_gain() if fold_norm else None
        dictionary = vocabulary_dictionary(acts.weights.unembedding(), acts.tokenizer, gain=gain)
    elif fold_norm:
        raise HeadPursuitError("fold_norm is about the unembedding: leave it out where a dictionary is given")
    width = acts.weights.projection(acts.layers[0]).shape[-1]
    if dictionary.atoms.shape[1] != width:
        raise HeadPursuitError(
            f"the dictionary has atoms of width {dictionary.atoms.shape[1]}, the heads write {width}"
        )
    by_layer: dict[int, list[int]] = {}
    for head in wanted:
        by_layer.setdefault(head.layer, []).append(head.head)
    explain = _somp if method == "somp" else _lens
    found: dict[Head, HeadDescription] = {}
    for layer, columns in tqdm(by_layer.items(), desc="describe", unit="layer", disable=not progress, leave=False):
        described = explain(acts, layer, columns, dictionary, n_atoms)
        for column, (ids, variance, frequency) in zip(columns, described, strict=True):
            head = acts.head(layer, column)
            found[head] = HeadDescription(
                head=head,
                tokens=tuple(dictionary.labels[token] for token in ids),
                token_ids=tuple(ids),
                explained_variance=variance,
                frequency=frequency,
                method=method,
                n=acts.n,
            )
    return [found[head] for head in wanted]


def _somp(
    acts: HeadActivations | HeadMoments, layer: int, heads: list[int], dictionary: Dictionary, n_atoms: int
) -> Iterable[tuple[Any, Any, None]]:
    result = somp_capture(acts, layer, dictionary, heads=heads, n_atoms=n_atoms)
    for head in range(len(heads)):
        pursuit = result.head(head)
        yield pursuit.support.tolist(), tuple(pursuit.explained_variance.tolist()), None


def _lens(
    acts: HeadActivations | HeadMoments, layer: int, heads: list[int], dictionary: Dictionary, n_atoms: int
) -> Iterable[tuple[Any, None, Any]]:
    if isinstance(acts, HeadMoments):
        raise HeadPursuitError(
            "the logit lens looks at samples, and positions='all' kept none: capture other positions"
        )
    projection = acts.weights.projection(layer)
    for head in heads:
        ids, share = frequent_tokens(acts.z[layer][:, head], projection[head], dictionary.atoms, n_tokens=n_atoms)
        yield ids.tolist(), None, tuple(share.tolist())
