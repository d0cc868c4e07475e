"""All heads in the order of a score for one concept, and the heads file that carries the best of them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float

from headpursuit.drawing import Figure
from headpursuit.editing.edit import HeadEdit
from headpursuit.errors import HeadPursuitError, check_counts, check_finite, shown
from headpursuit.files import read_sealed, write_sealed
from headpursuit.model.heads import HEADS_FORMAT, Head, HeadLike, read_heads_content
from headpursuit.ranking.chance import threshold
from headpursuit.ranking.cost import Cost
from headpursuit.ranking.methods import CALIBRATED, MEASURES, SHOWN
from headpursuit.stores import address

# The value of a ranking by which its edits scale each head, relative to each other.
STEP = "step"
_WRITE_ONE = "write one with `headpursuit rank --out`"


class Beside(Protocol):
    """A value of every head beside its score: how far that is from chance, or how firmly the head stays among the best.

    Attributes:
        key: what the heads file calls it.
        ranking: the scores that it stands beside.
    """

    key: ClassVar[str]
    ranking: HeadRanking

    def columns(self) -> Mapping[str, Float[np.ndarray, "l h"]]:
        """A value a head by name, each of shape ``(l, h)``."""

    def summary(self) -> Mapping[str, Any]:
        """The settings of the measurement, in plain values."""

    def to_frame(self) -> pd.DataFrame:
        """A row a head, best score first: the ranking's columns, then those of :meth:`columns`."""
        return self.ranking.to_frame(beside=[self])


@dataclass(frozen=True, eq=False, repr=False)
class HeadRanking:
    """Every head's score for one concept.

    Rankings are values: two are equal when their scores and all that is told of them are.

    Attributes:
        scores: shape ``(l, h)``; NaN where a layer has no such head.
        concept: name of the concept.
        method: what gave the scores: ``calibrated``, ``somp``, ``logit_lens``, or one of those that
            :func:`headpursuit.select` knows.
        words: labels of the atoms that the concept came to.
        n: number of samples.
        positions: which tokens each sample was the mean of; for ``attribution`` those at which the heads were scaled.
        model: whose heads these are.
        about: what is needed to rank again, in plain values.
        unit: unit of the scores; empty where it was not said.
        values: further values of every head by name, such as standard errors; each of shape ``(l, h)``.
        cost: what the ranking cost, or None where it was not counted. Two rankings that differ in it alone are equal.

    Examples:
        >>> ranking = hp.rank(acts, ["red", "green", "blue", "yellow"], progress=False)
        >>> ranking
        HeadRanking(red, green, blue, … by calibrated: L5.H18 1.91, L3.H7 1.76, L5.H1 1.62, …; 120 heads, 24 samples)
        >>> [head.name for head in ranking.top(2)]
        ['L5.H18', 'L3.H7']
    """

    scores: Float[np.ndarray, "l h"]
    concept: str
    method: str
    words: tuple[str, ...]
    n: int
    positions: str
    model: Mapping[str, Any]
    about: Mapping[str, Any]
    unit: str = ""
    values: Mapping[str, Float[np.ndarray, "l h"]] = field(default_factory=dict)
    cost: Cost | None = None

    def order(self) -> list[Head]:
        """All heads, best first; of equal scores the earlier head first."""
        part = self.model.get("part", "text")
        heads = [Head(int(layer), int(head), part) for layer, head in np.argwhere(~np.isnan(self.scores))]
        return sorted(heads, key=lambda head: (-self.score(head), head))

    def score(self, head: HeadLike) -> float:
        """Score of one head.

        Raises:
            HeadPursuitError: the head's name cannot be read, or the ranking has no such head.
        """
        head = Head.parse(head)
        if not (head.layer < self.scores.shape[0] and head.head < self.scores.shape[1]):
            raise HeadPursuitError(f"{head}: no head of this ranking, which has {self.scores.shape[0]} layers")
        return float(self.scores[head.layer, head.head])

    def top(self, k: int) -> tuple[Head, ...]:
        """The best ``k`` heads.

        Raises:
            HeadPursuitError: ``k`` is not between 1 and the number of heads.
        """
        order = self.order()
        if not (isinstance(k, int) and 1 <= k <= len(order)):
            raise HeadPursuitError(f"k={shown(k)}: choose between 1 and the model's {len(order)} heads")
        return tuple(order[:k])

    def few(self) -> int:
        """How many of the best heads are edited where nothing else is asked for: 2 % of all, at most 8, at least 1.

        They end before the first that does not stand out from chance, where the ranking knows that.
        """
        most, beyond = few_of(self._count()), self.beyond_chance()
        if beyond is None:
            return most
        return max(1, next((count for count, head in enumerate(self.top(most)) if head not in beyond), most))

    def beyond_chance(self) -> tuple[Head, ...] | None:
        """The heads that stand out from chance, best first: their mean logit lies above that of random token sets by more than
        that of any head would in 19 of 20 models; None where the ranking does not know."""
        z = self.values.get("logit_z") if CALIBRATED in (self.method, self.about.get("won")) else None
        least = threshold(self._count())
        return None if z is None else tuple(head for head in self.order() if z[head.layer, head.head] > least)

    def edit(self, k: int | None = None, *, scale: float = -1.0) -> HeadEdit:
        """The edit of the best heads.

        Args:
            k: how many; :meth:`few` where left out.
            scale: their factor. Where the ranking knows a step for each head, the one with the largest is scaled by so much and
                the others in proportion, those that hold the concept down in the other direction (for −1 up to 3); the heads
                are then those with the largest scores, whatever their signs.

        Raises:
            HeadPursuitError: ``k`` is not between 1 and the number of heads, or a scale that is not finite.
        """
        check_finite(scale=scale)
        k = self.few() if k is None else k
        if STEP not in self.values:
            return HeadEdit(self.top(k), scale=scale)
        heads = replace(self, scores=np.abs(self.scores)).top(k)
        steps = np.array([self.values[STEP][head.layer, head.head] for head in heads])
        largest = np.abs(steps).max()
        return HeadEdit(heads, scale=1 + (scale - 1) * (steps / largest if largest > 0 else steps))

    def to_frame(self, *, beside: Sequence[Beside] = ()) -> pd.DataFrame:
        """A row a head, best first: rank (from one), name, layer, head, score, and the columns of what stands beside."""
        rows = [{"rank": rank, **self._entry(head, beside)} for rank, head in enumerate(self.order(), start=1)]
        return pd.DataFrame(rows)[["rank", "name", "layer", "head", "score", *self._columns(beside)]]

    def to_dict(self) -> dict[str, Any]:
        """The whole ranking in plain values, for JSON; NaN is None."""
        return {
            "model": dict(self.model),
            "concept": self.concept,
            "method": self.method,
            "words": list(self.words),
            "n": self.n,
            "positions": self.positions,
            "about": dict(self.about),
            "unit": self.unit,
            "cost": None if self.cost is None else asdict(self.cost),
            "scores": _plain(self.scores),
            "values": {name: _plain(values) for name, values in self.values.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> HeadRanking:
        """A ranking from what :meth:`to_dict` gave, or from what a heads file holds.

        Raises:
            HeadPursuitError: something is missing, or is of another kind than it was written as.
        """
        try:
            scores = np.array(content["scores"], dtype=float)
            if scores.ndim != 2 or any(np.shape(values) != scores.shape for values in content.get("values", {}).values()):
                raise ValueError(f"scores of shape {scores.shape}")
            return cls(
                scores=scores,
                words=tuple(map(str, content["words"])),
                n=int(content["n"]),
                model=dict(content["model"]),
                about=dict(content["about"]),
                unit=str(content.get("unit", "")),
                values={name: np.array(values, dtype=float) for name, values in content.get("values", {}).items()},
                cost=None if content.get("cost") is None else Cost(**content["cost"]),
                **{name: str(content[name]) for name in ("concept", "method", "positions")},
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise HeadPursuitError(f"this is no whole ranking ({error!r}): rank again, and keep it with save") from error

    def heads_file(self, *, top: int | None = None, beside: Sequence[Beside] = ()) -> dict[str, Any]:
        """The content of a heads file: the whole ranking, and under ``heads`` the best heads with what stands beside them."""
        check_counts(top=top)
        chosen = self.top(self.few() if top is None else min(top, self._count()))
        return {
            **self.to_dict(),
            "heads": [self._entry(head, beside) for head in chosen],
            **{one.key: dict(one.summary()) for one in beside},
        }

    def save(self, path: str | Path, *, top: int | None = None, beside: Sequence[Beside] = ()) -> Path:
        """Write a heads file: all scores, and a list of the best heads, which is what an edit takes from it.

        Args:
            path: the file; its folder is made if needed.
            top: how many heads that list has, :meth:`few` where left out; all where the model has no more.
            beside: what else is known of every head; adds keys to the file and to every head.

        Returns:
            The path written.

        Examples:
            >>> ranking = hp.rank(acts, ["red", "green", "blue"], progress=False)
            >>> hp.HeadRanking.load(ranking.save(tmp_path / "heads.json", top=4)) == ranking
            True
        """
        return write_sealed(path, {"format": HEADS_FORMAT, **self.heads_file(top=top, beside=beside)})

    @classmethod
    def load(cls, path: str | Path) -> HeadRanking:
        """Read a whole ranking from a heads file.

        Raises:
            HeadPursuitError: the file cannot be read, or holds only the best heads of a ranking.
        """
        if address(path) is None and not Path(path).is_file():
            raise HeadPursuitError(f"there is no file {path}: {_WRITE_ONE}")
        stored = read_sealed(Path(path), format=HEADS_FORMAT, what="heads file", remedy=_WRITE_ONE, by_hand=True)
        try:
            return cls.from_dict(stored)
        except HeadPursuitError as error:
            raise HeadPursuitError(f"{path}: {error}") from error

    def plot(self, *, k: int = SHOWN, title: str = "", width: float = 7.5) -> Figure:
        """The score of every head as a map of layers and heads.

        Args:
            k: how many of the best heads are outlined; all where there are fewer.
            title: the line above; the concept and the number of samples where left out.
            width: of the map, at most, in inches.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from headpursuit.drawing import heat_map
        from headpursuit.drawing.style import readable

        check_counts(0, k=k)
        look: Any = {"label": self._measure, "outlined": self.order()[:k], "selection": self.method, "width": width}
        return heat_map(self.scores, title=title or f"{readable(self.concept)}, {self.n} samples", **look)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HeadRanking):
            return NotImplemented
        arrays, others = ({"": one.scores, **one.values} for one in (self, other))
        alike = arrays.keys() == others.keys() and all(np.array_equal(arrays[key], others[key], True) for key in arrays)
        return alike and self._told() == other._told()

    def __hash__(self) -> int:
        return hash((self.concept, self.method, self.words, self.n, self.positions, self.scores.shape))

    def __repr__(self) -> str:
        count = self._count()
        best = ", ".join(f"{head} {self.score(head):.2f}" for head in self.order()[:3])
        more = ", …" if count > 3 else ""
        return f"HeadRanking({self.concept} by {self.method}: {best}{more}; {count} heads, {self.n} samples)"

    def _repr_html_(self) -> str:
        count = self._count()
        title = f"{self.concept} by {self.method} ({self._measure}), {self.n} samples; "
        title += f"the best {min(SHOWN, count)} of {count} heads"
        table = self.to_frame().head(SHOWN).to_html(index=False, float_format="{:.3f}".format)
        return f"<p>{escape(title)}</p>{table}"

    @property
    def _measure(self) -> str:
        measure = MEASURES.get(self.method, self.method)
        return f"{measure} ({self.unit})" if self.unit else measure

    def _count(self) -> int:
        return int((~np.isnan(self.scores)).sum())

    def _told(self) -> tuple[Any, ...]:
        about, model = dict(self.about), dict(self.model)
        return self.concept, self.method, self.words, self.n, self.positions, model, about, self.unit

    def _columns(self, beside: Sequence[Beside]) -> dict[str, Float[np.ndarray, "l h"]]:
        return {**self.values, **{name: values for one in beside for name, values in one.columns().items()}}

    def _entry(self, head: Head, beside: Sequence[Beside]) -> dict[str, Any]:
        found = {name: float(values[head.layer, head.head]) for name, values in self._columns(beside).items()}
        more = {name: None if np.isnan(value) else value for name, value in found.items()}
        return {"layer": head.layer, "head": head.head, "name": head.name, "score": self.score(head), **more}


def few_of(count: int) -> int:
    """How many of so many heads are edited where nothing else is asked for: 2 %, at most 8, at least 1."""
    return max(1, min(8, count // 50))


def by_order(heads: Sequence[Head], shape: tuple[int, ...]) -> Float[np.ndarray, "l h"]:
    """Scores of heads that have an order and nothing more: the number of heads behind each, shape ``(l, h)``."""
    scores = np.full(shape, np.nan)
    for behind, head in enumerate(reversed(heads)):
        scores[head.layer, head.head] = behind
    return scores


def _plain(values: Float[np.ndarray, "l h"]) -> list[list[float | None]]:
    """Rows of numbers for JSON, which has no NaN."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


@dataclass(frozen=True)
class StoredHeads:
    """The list of heads that a heads file holds, and whose heads they are.

    Attributes:
        heads: best first.
        concept: what they were ranked for.
        model: whose heads these are.
        path: where they were read.
    """

    heads: tuple[Head, ...]
    concept: str
    model: Mapping[str, Any]
    path: Path


def read_heads(path: str | Path) -> StoredHeads:
    """Read the list of heads of a heads file, without its model; keys that are not known here are left alone.

    Raises:
        HeadPursuitError: there is no such file, or it is no heads file.
    """
    found, stored = read_heads_content(Path(path), what="heads file", remedy=_WRITE_ONE)
    if any("scale" in entry for entry in stored["heads"]):
        raise HeadPursuitError(f"{path} holds an edit, with scales of its own: give it as an edit (--edit {path})")
    return StoredHeads(found.named(), str(stored.get("concept", "")), stored["model"], Path(path))
