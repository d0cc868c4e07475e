"""Name heads: a pursuit over the whole unembedding, its first atoms' tokens are the name (Head Pursuit, Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from html import escape
from typing import Any, Unpack, overload

import pandas as pd

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments, rows_of
from headpursuit.activations.store import ActsLike, as_acts
from headpursuit.concepts import ConceptLike
from headpursuit.concepts.vocabulary import atom_ids
from headpursuit.drawing import Figure
from headpursuit.engines import EngineOptions, as_engine
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.model.heads import Head, HeadsLike, parse_heads
from headpursuit.model.samples import Sample, Samples, as_samples
from headpursuit.pursuit.checks import Criterion
from headpursuit.pursuit.dictionary import Dictionary
from headpursuit.pursuit.logit_lens import frequent_tokens
from headpursuit.ranking.examples import HeadExample, check_samples, driving_samples
from headpursuit.ranking.methods import Method, as_method
from headpursuit.ranking.name_dictionary import name_dictionary
from headpursuit.ranking.name_evidence import FDR, NameEvidence, name_evidence
from headpursuit.ranking.one_layer import Layer, layer_by_layer
from headpursuit.ranking.pursue import seen_by, somp_capture

_SHARES = {"somp": "of variance explained", "logit_lens": "of samples"}
# So many descriptions are printed of a long list.
_SHOWN = 20
# So many are drawn of them.
_DRAWN = 40
# What is said of a head whose first token fits no better than some token fits any signal.
NO_NAME = "no name better than chance"


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
        evidence: what chance would give (``significance=N``), or None.
        examples: the samples that drive it (``examples=N``), the strongest first.

    Examples:
        >>> print(hp.describe(acts, heads="L3.H11", n_atoms=3, progress=False)[0])
        L3.H11: ' blue', ' pink', ' golden'  73.3% of variance explained
    """

    head: Head
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    explained_variance: tuple[float, ...] | None
    frequency: tuple[float, ...] | None
    method: Method
    n: int
    evidence: NameEvidence | None = None
    examples: tuple[HeadExample, ...] = ()

    @property
    def named(self) -> bool | None:
        """Whether a token fits it better than chance, at a false-discovery rate of 0.05; None where that was not tested."""
        return None if self.evidence is None else self.evidence.found

    def name(self, write: Callable[[str], str] = repr) -> str:
        """Its tokens as ``write`` writes them; of a tested head those that fit best, or that no name beats chance."""
        tokens = self.tokens if self.evidence is None else self.evidence.tokens
        return NO_NAME if self.named is False else ", ".join(map(write, tokens))

    @property
    def share(self) -> float:
        """The number that is shown of a description: the variance that all tokens explain, or the first token's frequency."""
        return self.explained_variance[-1] if self.explained_variance else (self.frequency or (0.0,))[0]

    def __str__(self) -> str:
        measured = f"{self.share:.1%} {_SHARES[self.method]}" if self.evidence is None else str(self.evidence)
        driven = "".join(f"\n    {one.score:+.3g} at sample {one.sample}: {one.text}" for one in self.examples)
        return f"{self.head}: {self.name()}  {measured}{driven}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        del plain["head"]
        plain["named"] = self.named
        return {"name": self.head.name, **asdict(self.head), **plain}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> HeadDescription:
        """A description from what :meth:`to_dict` gave.

        Raises:
            HeadPursuitError: something is missing, or is of another kind than it was written as.
        """
        try:
            variance, frequency, evidence = content["explained_variance"], content["frequency"], content.get("evidence")
            return cls(
                head=Head(int(content["layer"]), int(content["head"]), content["part"]),
                tokens=tuple(map(str, content["tokens"])),
                token_ids=tuple(map(int, content["token_ids"])),
                explained_variance=None if variance is None else tuple(map(float, variance)),
                frequency=None if frequency is None else tuple(map(float, frequency)),
                method=as_method(content["method"]),
                n=int(content["n"]),
                evidence=None if evidence is None else NameEvidence(**{**evidence, "tokens": tuple(evidence["tokens"])}),
                examples=tuple(HeadExample(**one) for one in content.get("examples", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HeadPursuitError(f"this is no description of a head ({error!r}): describe again") from error


@dataclass(frozen=True, repr=False)
class Descriptions(Sequence[HeadDescription]):
    """Descriptions of several heads, in the order in which they were asked for.

    Attributes:
        each: one a head.
        unused_rows: rows of the unembedding that are no token's, and were left out.
        reserved_rows: rows that are kept for tokens to come (``<unused7>``), and were left out.
        dictionary: what heads were named by: ``all``, ``words+latin``, the name of a concept, or ``own``.
        n_tokens: how many tokens that is.

    Examples:
        >>> hp.describe(acts, heads=["L3.H11", "L5.H5"], n_atoms=3, progress=False)
        L3.H11: ' blue', ' pink', ' golden'  73.3% of variance explained
        L5.H5: '0', '6', '2'  50.9% of variance explained
    """

    each: tuple[HeadDescription, ...]
    unused_rows: int = 0
    reserved_rows: int = 0
    dictionary: str = "all"
    n_tokens: int = 0

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
        return "\n".join([*shown, *(f"({remark})" for remark in self.remarks())]) or "no heads"

    def remarks(self) -> list[str]:
        """What is to be known of all heads together, a line each."""
        found = []
        if self.unused_rows:
            found.append(f"{self.unused_rows} rows of the unembedding are no token's and were left out")
        if self.reserved_rows:
            found.append(f"{self.reserved_rows} rows of the unembedding are kept for tokens to come and were left out")
        tested = [one for one in self.each if one.evidence is not None]
        if tested:
            draws = tested[0].evidence.draws  # type: ignore[union-attr]
            found.append(
                f"{sum(bool(one.named) for one in tested)} of {len(tested)} heads have a name better than chance: q ≤ {FDR} "
                f"(Benjamini-Hochberg) against {draws} random turns of what they write"
            )
        return found

    def to_frame(self) -> pd.DataFrame:
        """A row a head: name, layer, head, tokens, share (see :attr:`HeadDescription.share`), method and n.

        Where names were tested also named, best (the tokens that fit best), fit, by_chance, p and q; with examples their texts.
        """
        columns = ["name", "layer", "head", "tokens", "share", "method", "n"]
        rows = [(one.head.name, one.head.layer, one.head.head, one.tokens, one.share, one.method, one.n) for one in self.each]
        frame = pd.DataFrame(rows, columns=columns)
        if any(one.evidence for one in self.each):
            frame["named"] = [one.named for one in self.each]
            frame["best"] = [one.evidence.tokens if one.evidence else () for one in self.each]
            for name in ("fit", "by_chance", "p", "q"):
                frame[name] = [getattr(one.evidence, name, None) for one in self.each]
        if any(one.examples for one in self.each):
            frame["examples"] = [tuple(example.text for example in one.examples) for one in self.each]
        return frame

    def plot(self, *, title: str = "") -> Figure:
        """A bar a head, as long as its share, labelled by its tokens, or by there being no name better than chance.

        Of more than 40 heads those with the largest shares are drawn.

        Args:
            title: the line above.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from headpursuit.drawing import bars
        from headpursuit.drawing.style import token

        drawn = self.each if len(self) <= _DRAWN else sorted(self.each, key=lambda one: -one.share)[:_DRAWN]
        labels = [f"{one.head}  {one.name(token)}" for one in drawn]
        label = f"share {_SHARES[drawn[0].method]}" if drawn else ""
        label += f"; the {_DRAWN} largest of {len(self)} heads" if len(self) > _DRAWN else ""
        return bars(labels, [one.share for one in drawn], title=title, label=label)

    def _repr_html_(self) -> str:
        if not self.each:
            return "<p>no heads</p>"
        first = self.each[0]
        frame = self.to_frame()
        shares = ("fit", "by_chance", "q") if first.evidence else ("share",)
        frame = frame[[name for name in ("name", "tokens", *shares, "examples") if name in frame]]
        frame["tokens"] = [one.name() for one in self.each]
        forms: dict[str, Any] = {"share": "{:.1%}".format} | dict.fromkeys(("fit", "by_chance", "q"), "{:.2g}".format)
        title = f"{len(self)} heads by {first.method}, {first.n} samples"
        title += "" if first.evidence else f"; share {_SHARES[first.method]}"
        return f"<p>{escape(title)}</p>{frame.to_html(index=False, formatters=forms)}"


def describe(
    acts: ActsLike,
    *,
    heads: HeadsLike | None = None,
    n_atoms: int = 5,
    method: str = "somp",
    criterion: Criterion | None = None,
    fold_norm: bool = False,
    dictionary: ConceptLike | Dictionary = "all",
    significance: int = 0,
    examples: int = 0,
    samples: Samples | None = None,
    seed: int = 0,
    progress: bool = True,
    **where: Unpack[EngineOptions],
) -> Descriptions:
    """Name heads by the tokens that explain what they write.

    Args:
        acts: a capture, or the folder of one.
        heads: which heads, such as ``["L18.H27", (3, 5)]`` or ``"L18.H27"``; all when left out.
        n_atoms: tokens a head.
        method: ``somp`` explains the variance over samples (Table 1); ``logit_lens`` counts the tokens of highest logit
            (Table 6).
        criterion: by what the pursuit chooses, as for :func:`headpursuit.rank`.
        fold_norm: multiply the unembedding by the gain of the norm before it.
        dictionary: what heads are named by: ``all`` tokens (the paper's); those that are whole ``words`` of letters, of one
            script (``latin``, ``cyrillic``, ``han``, …), ``seen`` in the samples or in a text (``seen:FILE``), or several of
            these (``words+latin``); a concept's words; or directions of your own, such as text features for a vision tower.
            Rows that are no token's or are reserved are left out always.
        significance: test every head's name against so many random turns of what it writes (``somp``), see
            :class:`headpursuit.ranking.name_evidence.NameEvidence`; 0 for no test.
        examples: so many samples at which the head writes most of its first token, or against it.
        samples: the captured samples, for their texts: a capture keeps none. Needed for ``examples`` and for ``seen``.
        seed: seed of the random turns.
        progress: show a progress bar.
        **where: ``engine``, ``workers``, ``cpus_per_worker`` and ``gpus_per_worker`` as for :func:`headpursuit.capture`;
            workers name the heads of a layer each.

    Returns:
        One description a head, in the order asked for.

    Raises:
        HeadPursuitError: a head that was not captured, an unknown method, a dictionary of another width than the heads',
            other samples than those of the capture, or a test or examples of what has none.

    Examples:
        >>> hp.describe(acts, heads=["L3.H11", "L5.H5"], n_atoms=2, dictionary="words", significance=50, progress=False)
        L3.H11: ' blue', ' orange'  fit 92.8, by chance 18.3, q 5...e-17
        L5.H5: ' sad', ' triangle'  fit 25.5, by chance 17.8, q 0.024
        (2 of 2 heads have a name better than chance: q ≤ 0.05 (Benjamini-Hochberg) against 50 random turns of what they write)
    """
    check_counts(n_atoms=n_atoms)
    check_counts(0, significance=significance, examples=examples)
    check_counts(*SEEDS, seed=seed)
    engine = as_engine(**where)
    view, whole = as_method(method), as_acts(acts)
    acts = rows_of(whole, what="heads by the logit lens") if view != "somp" else seen_by(whole, criterion)
    wanted = acts.heads() if heads is None else parse_heads(heads)
    acts.require(wanted)
    driving = rows_of(acts, what="driving samples") if examples else None
    texts = _samples(acts if driving is None else driving, samples, needed=examples > 0)
    if significance and view != "somp":
        raise HeadPursuitError("significance is that of names by SOMP: leave it out, or the logit lens")
    named = name_dictionary(acts, dictionary, samples=texts, fold_norm=fold_norm)
    atoms = named.atoms
    width = acts.weights.projection(acts.layers[0]).shape[-1]
    if atoms.atoms.shape[1] != width:
        raise HeadPursuitError(f"the dictionary has atoms of width {atoms.atoms.shape[1]}, the heads write {width}")
    by_layer: dict[int, list[int]] = {}
    for head in wanted:
        by_layer.setdefault(head.layer, []).append(head.head)
    evidence = (
        name_evidence(acts, wanted, atoms, draws=significance, n_best=n_atoms, seed=seed, progress=progress)
        if significance
        else {}
    )
    found: dict[Head, HeadDescription] = {}
    token_ids = atom_ids(atoms)
    # Labels are read where what is found comes back.
    used = atoms if engine.name == "local" else Dictionary(atoms.atoms.cpu(), [""] * len(atoms))
    work = partial(_explained, view=view, columns=by_layer, n_atoms=n_atoms, dictionary=used, criterion=criterion)
    for layer, described in layer_by_layer(acts, by_layer, work, engine=engine, title="describe", progress=progress):
        columns = by_layer[layer]
        for column, (ids, variance, frequency) in zip(columns, described, strict=True):
            head = acts.head(layer, column)
            found[head] = HeadDescription(
                head=head,
                tokens=tuple(atoms.labels[row] for row in ids),
                token_ids=tuple(token_ids[row] for row in ids),
                explained_variance=variance,
                frequency=frequency,
                method=view,
                n=acts.n,
                evidence=evidence.get(head),
                examples=driving_samples(driving, head, atoms.atoms[ids[0]], texts, count=examples) if driving and ids else (),
            )
    return Descriptions(
        tuple(found[head] for head in wanted),
        unused_rows=named.unused_rows,
        reserved_rows=named.reserved_rows,
        dictionary=named.name,
        n_tokens=len(atoms),
    )


def _samples(acts: HeadActivations | HeadMoments, samples: Samples | None, *, needed: bool) -> list[Sample]:
    """The captured samples, checked; none where they are not asked for."""
    if samples is None:
        if needed:
            raise HeadPursuitError("a capture keeps no texts: give the samples it was made of (samples=…, --samples FILE)")
        return []
    given = as_samples(samples)
    check_samples(acts, given)
    return given


def _explained(
    part: Layer,
    *,
    view: Method,
    columns: Mapping[int, list[int]],
    n_atoms: int,
    dictionary: Dictionary,
    criterion: Criterion | None,
) -> list[tuple[Any, Any, Any]]:
    layer, acts = part
    explain = partial(_somp, criterion=criterion) if view == "somp" else _lens
    return list(explain(acts, layer, columns[layer], dictionary, n_atoms))


def _somp(
    acts: HeadActivations | HeadMoments,
    layer: int,
    heads: list[int],
    dictionary: Dictionary,
    n_atoms: int,
    *,
    criterion: Criterion | None,
) -> Iterable[tuple[Any, Any, None]]:
    result = somp_capture(acts, layer, dictionary, heads=heads, n_atoms=n_atoms, criterion=criterion)
    for head in range(len(heads)):
        pursuit = result.head(head)
        yield pursuit.support.tolist(), tuple(pursuit.explained_variance.tolist()), None


def _lens(
    acts: HeadActivations | HeadMoments, layer: int, heads: list[int], dictionary: Dictionary, n_atoms: int
) -> Iterable[tuple[Any, None, Any]]:
    assert isinstance(acts, HeadActivations)
    projection = acts.weights.projection(layer)
    for head in heads:
        ids, share = frequent_tokens(acts.z[layer][:, head], projection[head], dictionary.atoms, n_tokens=n_atoms)
        yield ids.tolist(), None, tuple(share.tolist())
