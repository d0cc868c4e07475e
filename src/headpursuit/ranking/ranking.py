"""All heads in the order of a score for one concept, and the heads file that carries the best of them elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pandas as pd

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head
from headpursuit.model.identity import require_same_model

if TYPE_CHECKING:
    from jaxtyping import Float

    from headpursuit.model.head_model import HeadModel


class Beside(Protocol):
    """What else is known of every head of a ranking: how far its score is from chance, how firmly it keeps its place.

    Attributes:
        key: what the heads file calls it.
    """

    key: ClassVar[str]

    def columns(self) -> Mapping[str, Float[np.ndarray, "l h"]]:
        """A value a head by name, each of shape ``(l, h)``."""

    def summary(self) -> Mapping[str, Any]:
        """How it was measured, in plain values."""


@dataclass(frozen=True)
class HeadRanking:
    """Every head's score for one concept.

    Attributes:
        scores: shape ``(l, h)``; NaN where a layer has no such head.
        concept: name of the concept.
        method: ``somp`` (share of variance explained), ``logit_lens`` (mean logit), or ``attribution`` (derivative of the
            concept's log-odds by the head's scale).
        words: labels of the atoms that the concept came to.
        n: number of samples.
        positions: which tokens each sample was the mean of; for ``attribution`` those at which the heads were scaled.
        model: whose heads these are.
        about: what is needed to rank again.
    """

    scores: Float[np.ndarray, "l h"] = field(repr=False)
    concept: str
    method: str
    words: tuple[str, ...] = field(repr=False)
    n: int
    positions: str
    model: Mapping[str, Any]
    about: Mapping[str, Any] = field(repr=False)

    def order(self) -> list[Head]:
        """All heads, best first; of equal scores the earlier head first."""
        part = self.model.get("part", "text")
        heads = [Head(int(layer), int(head), part) for layer, head in np.argwhere(~np.isnan(self.scores))]
        return sorted(heads, key=lambda head: (-self.score(head), head))

    def score(self, head: Head) -> float:
        """Score of one head."""
        return float(self.scores[head.layer, head.head])

    def top(self, k: int) -> tuple[Head, ...]:
        """The best ``k`` heads.

        Raises:
            HeadPursuitError: ``k`` is not between 1 and the number of heads.
        """
        order = self.order()
        if not 1 <= k <= len(order):
            raise HeadPursuitError(f"k={k}: choose between 1 and the model's {len(order)} heads")
        return tuple(order[:k])

    def to_frame(self, *, beside: Sequence[Beside] = ()) -> pd.DataFrame:
        """A row a head, best first: rank (from one), name, layer, head, score, and the columns of what stands beside."""
        rows = [{"rank": rank, **self._entry(head, beside)} for rank, head in enumerate(self.order(), start=1)]
        return pd.DataFrame(rows)[["rank", "name", "layer", "head", "score", *_columns(beside)]]

    def to_dict(self, k: int, *, beside: Sequence[Beside] = ()) -> dict[str, Any]:
        """What ``heads.json`` holds for the best ``k`` heads; what stands beside adds keys to it and to every head."""
        return {
            "model": dict(self.model),
            "concept": self.concept,
            "method": self.method,
            "heads": [self._entry(head, beside) for head in self.top(k)],
            "words": list(self.words),
            "n": self.n,
            "positions": self.positions,
            "about": dict(self.about),
            **{one.key: dict(one.summary()) for one in beside},
        }

    def save(self, path: str | Path, *, k: int, beside: Sequence[Beside] = ()) -> None:
        """Write the best ``k`` heads as ``heads.json``."""
        content = json.dumps(self.to_dict(k, beside=beside), indent=1, ensure_ascii=False)
        Path(path).write_text(content + "\n", encoding="utf-8")

    def _entry(self, head: Head, beside: Sequence[Beside]) -> dict[str, Any]:
        more = {name: float(values[head.layer, head.head]) for name, values in _columns(beside).items()}
        return {"layer": head.layer, "head": head.head, "name": head.name, "score": self.score(head), **more}


def _columns(beside: Sequence[Beside]) -> dict[str, Float[np.ndarray, "l h"]]:
    return {name: values for one in beside for name, values in one.columns().items()}


@dataclass(frozen=True)
class StoredHeads:
    """What a heads file holds that another command needs.

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
    """Read a ``heads.json`` without its model; keys that are not known here are left alone.

    Raises:
        HeadPursuitError: there is no such file, or it is no heads file.
    """
    if not Path(path).is_file():
        raise HeadPursuitError(f"there is no file {path}: write one with `headpursuit rank --out`")
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        model = dict(stored["model"])
        part = model.get("part", "text")
        heads = tuple(Head(int(entry["layer"]), int(entry["head"]), part) for entry in stored["heads"])
        has_scales = any("scale" in entry for entry in stored["heads"])
        found = StoredHeads(heads, str(stored.get("concept", "")), model, Path(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadPursuitError(f"{path} is no heads file ({error}): write one with `headpursuit rank --out`") from error
    if has_scales:
        raise HeadPursuitError(f"{path} holds an edit, with scales of its own: give it as an edit (--edit {path})")
    return found


def load_heads(path: str | Path, *, model: HeadModel) -> tuple[Head, ...]:
    """Read the heads of a ``heads.json``.

    Raises:
        HeadPursuitError: the file cannot be read, or its heads are another model's, or of another part than it was loaded as.
    """
    stored = read_heads(path)
    require_same_model(path, stored.model, model.identity)
    model.anatomy.require(stored.heads)
    return stored.heads
