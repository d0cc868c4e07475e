"""All heads in the order of a score for one concept, and the heads file that carries the best of them elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head
from headpursuit.model.identity import require_same_model

if TYPE_CHECKING:
    from jaxtyping import Float

    from headpursuit.model.head_model import HeadModel


@dataclass(frozen=True)
class HeadRanking:
    """Every head's score for one concept.

    Attributes:
        scores: shape ``(l, h)``; NaN where a layer has no such head.
        concept: name of the concept.
        method: ``somp`` (share of variance explained) or ``logit_lens`` (mean logit).
        words: labels of the atoms that the concept came to.
        n: number of samples.
        positions: which tokens each sample was the mean of.
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
        heads = [Head(int(layer), int(head)) for layer, head in np.argwhere(~np.isnan(self.scores))]
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

    def to_frame(self) -> pd.DataFrame:
        """A row a head, best first: rank (from one), name, layer, head, score."""
        rows = [
            {"rank": rank, "name": head.name, "layer": head.layer, "head": head.head, "score": self.score(head)}
            for rank, head in enumerate(self.order(), start=1)
        ]
        return pd.DataFrame(rows)

    def to_dict(self, k: int) -> dict[str, Any]:
        """What ``heads.json`` holds for the best ``k`` heads."""
        return {
            "model": dict(self.model),
            "concept": self.concept,
            "method": self.method,
            "heads": [
                {"layer": head.layer, "head": head.head, "name": head.name, "score": self.score(head)}
                for head in self.top(k)
            ],
            "words": list(self.words),
            "n": self.n,
            "positions": self.positions,
            "about": dict(self.about),
        }

    def save(self, path: str | Path, *, k: int) -> None:
        """Write the best ``k`` heads as ``heads.json``."""
        Path(path).write_text(json.dumps(self.to_dict(k), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_heads(path: str | Path, *, model: HeadModel) -> tuple[Head, ...]:
    """Read the heads of a ``heads.json``.

    Raises:
        HeadPursuitError: the file cannot be read, or its heads are another model's.
    """
    heads, origin = read_heads_file(path)
    require_same_model(path, origin, model.identity)
    model.anatomy.require(heads)
    return heads


def read_heads_file(path: str | Path) -> tuple[tuple[Head, ...], Mapping[str, Any]]:
    """Read a ``heads.json`` before its model is there.

    Returns:
        The heads, best first, and the model that they belong to, as :attr:`headpursuit.HeadModel.identity` names it.

    Raises:
        HeadPursuitError: there is no such file, or it is no heads file.
    """
    if not Path(path).is_file():
        raise HeadPursuitError(f"there is no file {path}: write one with `headpursuit rank --out`")
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        heads = tuple(Head(int(entry["layer"]), int(entry["head"])) for entry in stored["heads"])
        has_scales = any("scale" in entry for entry in stored["heads"])
        origin = dict(stored["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HeadPursuitError(f"{path} is no heads file ({error}): write one with `headpursuit rank --out`") from error
    if has_scales:
        raise HeadPursuitError(f"{path} holds an edit, with scales of its own: give it as an edit (--edit {path})")
    return heads, origin
