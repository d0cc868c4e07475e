"""Name heads: a pursuit over the whole unembedding, its first atoms' tokens are the name (Head Pursuit, Table 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any, overload

import pandas as pd
from tqdm.auto import tqdm

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.store import ActsLike, as_acts
from headpursuit.concepts.vocabulary import atom_ids, vocabulary_dictionary
from headpursuit.drawing import Figure
from headpursuit.errors import HeadPursuitError, check_counts
from headpursuit.model.heads import Head, HeadsLike, parse_heads
from headpursuit.pursuit.dictionary import Dictionary
from headpursuit.pursuit.logit_lens import frequent_tokens
from headpursuit.ranking.methods import Method, as_method
from headpursuit.ranking.pursue import somp_capture

_SHARES = {"somp": "of variance explained", "logit_lens": "of samples"}
# So many descriptions are printed of a long list.
_SHOWN = 20


@dataclass(frozen=True)
class HeadDescription:
    """The tokens that explain what one head writes.

    Attributes:
        head: which head.
        tokens: the tokens, in the order in which they were chosen.
        token_ids: their ids.
        explained_variance: share of the head's variance over samples that the first so many tokens explain
            (``somp``), or None (``logit_lens``).
        frequency: share of samples that have the token among their highest (``logit_lens``), or None.
        method: ``somp`` or ``logit_lens``.
        n: number of samples.

    Examples:
        >>> print(hp.describe(acts, heads="L2.H14", n_atoms=3, progress=False)[0])
        L2.H14: ' red', ' green', ' purple'  44.6% of variance explained
    """

    head: Head
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    explained_variance: tuple[float, ...] | None
    frequency: tuple[float, ...] | None
    method: Method
    n: int

    @property
    def share(self) -> float:
        """The number that is shown of a description: the variance that all tokens explain, or the first token's frequency."""
        return self.explained_variance[-1] if self.explained_variance else (self.frequency or (0.0,))[0]

    def __str__(self) -> str:
        tokens = ", ".join(repr(token) for token in self.tokens)
        return f"{self.head}: {tokens}  {self.share:.1%} {_SHARES[self.method]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        del plain["head"]
        return {"name": self.head.name, **asdict(self.head), **plain}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> HeadDescription:
        """A description from what :meth:`to_dict` gave.

        Raises:
            HeadPursuitError: something is missing, or is of another kind than it was written as.
        """
        try:
            variance, frequency = content["explained_variance"], content["frequency"]
            return cls(
                head=Head(int(content["layer"]), int(content["head"]), content["part"]),
                tokens=tuple(map(str, content["tokens"])),
                token_ids=tuple(map(int, content["token_ids"])),
                explained_variance=None if variance is None else tuple(map(float, variance)),
                frequency=None if frequency is None else tuple(map(float, frequency)),
                method=as_method(content["method"]),
                n=int(content["n"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HeadPursuitError(f"this is no description of a head ({error!r}): describe again") from error


@dataclass(frozen=True, repr=False)
class Descriptions(Sequence[HeadDescription]):
    """Descriptions of several heads, in the order in which they were asked for.

    Attributes:
        each: one a head.
        unused_rows: rows of the unembedding that are no token's, and were left out.

    Examples:
        >>> hp.describe(acts, heads=["L2.H14", "L1.H1"], n_atoms=3, progress=False)
        L2.H14: ' red', ' green', ' purple'  44.6% of variance explained
        L1.H1: ' red', ' blue', 'bil'  29.8% of variance explained
    """

    each: tuple[HeadDescription, ...]
    unused_rows: int = 0

    @overload
    def __getitem__(self, index: int) -> HeadDescription: ...
    @overload
    def __getitem__(self, index: slice) -> Descriptions: ...
    def __getitem__(self, index: int | slice) -> HeadDescription | Descriptions:
        return replace(self, each=self.each[index]) if isinstance(index, slice) else self.each[index]

    def __len__(self) -> int:
        return len(self.each)

    def __repr__(self) -> str:
        shown = [str(one) for one in self.each[:_SHOWN]]
        if len(self) > _SHOWN:
            shown.append(f"… and {len(self) - _SHOWN} more heads")
        if self.unused_rows:
            shown.append(f"({self.unused_rows} rows of the unembedding are no token's and were left out)")
        return "\n".join(shown) or "no heads"

    def to_frame(self) -> pd.DataFrame:
        """A row a head: name, layer, head, tokens, share (see :attr:`HeadDescription.share`), method and n."""
        columns = ["name", "layer", "head", "tokens", "share", "method", "n"]
        rows = [(one.head.name, one.head.layer, one.head.head, one.tokens, one.share, one.method, one.n) for one in self.each]
        return pd.DataFrame(rows, columns=columns)

    def plot(self, *, title: str = "") -> Figure:
        """A bar a head, as long as its share, labelled by its tokens.

        Args:
            title: the line above.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from headpursuit.drawing import bars
        from headpursuit.drawing.style import token

        labels = [f"{one.head}  {', '.join(map(token, one.tokens))}" for one in self.each]
        label = f"share {_SHARES[self.each[0].method]}" if self.each else ""
        return bars(labels, [one.share for one in self.each], title=title, label=label)

    def _repr_html_(self) -> str:
        if not self.each:
            return "<p>no heads</p>"
        first = self.each[0]
        frame = self.to_frame()[["name", "tokens", "share"]]
        frame["tokens"] = [", ".join(map(repr, tokens)) for tokens in frame["tokens"]]
        title = f"{len(self)} heads by {first.method}, {first.n} samples; share {_SHARES[first.method]}"
        return f"<p>{escape(title)}</p>{frame.to_html(index=False, float_format='{:.1%}'.format)}"


def describe(
    acts: ActsLike,
    *,
    heads: HeadsLike | None = None,
    n_atoms: int = 5,
    method: str = "somp",
    fold_norm: bool = False,
    dictionary: Dictionary | None = None,
    progress: bool = True,
) -> Descriptions:
    """Name heads by the tokens that explain what they write.

    Args:
        acts: a capture, or the folder of one.
        heads: which heads, such as ``["L18.H27", (3, 5)]`` or ``"L18.H27"``; all when left out.
        n_atoms: tokens a head.
        method: ``somp`` explains the variance over samples (Table 1); ``logit_lens`` counts the tokens of highest logit
            (Table 6).
        fold_norm: multiply the unembedding by the gain of the norm before it.
        dictionary: directions to name heads by in place of the unembedding, such as text features for a vision tower.
        progress: show a progress bar.

    Returns:
        One description a head, in the order asked for.

    Raises:
        HeadPursuitError: a head that was not captured, an unknown method, a dictionary of another width than the heads'.
    """
    check_counts(n_atoms=n_atoms)
    view, acts = as_method(method), as_acts(acts)
    wanted = acts.heads() if heads is None else parse_heads(heads)
    acts.require(wanted)
    unused_rows = 0
    if dictionary is None:
        gain = acts.weights.final_norm_gain() if fold_norm else None
        dictionary = vocabulary_dictionary(acts.weights.unembedding(), acts.tokenizer, gain=gain)
        unused_rows = len(acts.weights.unembedding()) - len(dictionary)
    elif fold_norm:
        raise HeadPursuitError("fold_norm is about the unembedding: leave it out where a dictionary is given")
    width = acts.weights.projection(acts.layers[0]).shape[-1]
    if dictionary.atoms.shape[1] != width:
        raise HeadPursuitError(f"the dictionary has atoms of width {dictionary.atoms.shape[1]}, the heads write {width}")
    by_layer: dict[int, list[int]] = {}
    for head in wanted:
        by_layer.setdefault(head.layer, []).append(head.head)
    explain = _somp if view == "somp" else _lens
    found: dict[Head, HeadDescription] = {}
    token_ids = atom_ids(dictionary)
    for layer, columns in tqdm(by_layer.items(), desc="describe", unit="layer", disable=not progress, leave=False):
        described = explain(acts, layer, columns, dictionary, n_atoms)
        for column, (ids, variance, frequency) in zip(columns, described, strict=True):
            head = acts.head(layer, column)
            found[head] = HeadDescription(
                head=head,
                tokens=tuple(dictionary.labels[row] for row in ids),
                token_ids=tuple(token_ids[row] for row in ids),
                explained_variance=variance,
                frequency=frequency,
                method=view,
                n=acts.n,
            )
    return Descriptions(tuple(found[head] for head in wanted), unused_rows=unused_rows)


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
        raise HeadPursuitError("the logit lens looks at samples, and positions='all' kept none: capture other positions")
    projection = acts.weights.projection(layer)
    for head in heads:
        ids, share = frequent_tokens(acts.z[layer][:, head], projection[head], dictionary.atoms, n_tokens=n_atoms)
        yield ids.tolist(), None, tuple(share.tolist())
