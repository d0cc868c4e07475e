"""An edit: heads and the factor that each one's contribution is multiplied by (Head Pursuit, section 3, "intervene")."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headpursuit.editing.applying import scaled
from headpursuit.editing.where import ALL, TokenGroup, TokenMask, Where, as_where, from_json, in_words, to_json
from headpursuit.errors import HeadPursuitError
from headpursuit.files import write_sealed
from headpursuit.model.anatomy import Anatomy, LayerAnatomy
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import HEADS_FORMAT, Head, Part, parse_heads, read_heads_content
from headpursuit.model.identity import require_same_model
from headpursuit.model.load import ModelLike, as_model

_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Factor:
    """The factor of one head, and the tokens at which it holds.

    Attributes:
        head: the head.
        scale: −1 suppresses, 0 ablates, 1 changes nothing, 5 enhances.
        where: the tokens at which it holds.
    """

    head: Head
    scale: float
    where: Where = ALL


@dataclass(frozen=True, init=False, repr=False)
class HeadEdit:
    """Heads, and a scale ``alpha`` for each.

    Scaling a head's slice of the output projection's input scales its contribution ``z W_h`` by the same factor, whatever
    attention kernel computed it, with and without a cache. Where a norm stands behind the projection (Gemma 2 and 3,
    OLMo 2, …), scaling one head rescales the others of its layer, and scaling all of them alike is undone. An edit is a
    value: edits are equal when they do the same, ``+`` makes one edit of two, and :meth:`save` keeps one for another day.

    Attributes:
        factors: one for each head and group of tokens, in order of layer, head and group.

    >>> edit = hp.HeadEdit(["L1.H2", "L0.H3"], scale=-1)
    >>> edit + hp.HeadEdit(["L1.H2"], scale=2, where="generated")
    HeadEdit(L0.H3, L1.H2 × -1; L1.H2 × 2 on generated tokens)
    >>> with edit.applied(model):
    ...     answer = model.generate("Which country has Paris as its capital?", max_new_tokens=8)
    """

    factors: tuple[Factor, ...]

    def __init__(
        self,
        heads: Iterable[str | Head],
        *,
        scale: float | Sequence[float] | Float[np.ndarray, " n"] = -1.0,
        where: TokenGroup | TokenMask | Bool[Tensor, "b t"] = ALL,
    ) -> None:
        """Scale heads.

        Args:
            heads: the heads, each once, or a ranking, for the few best of it.
            scale: one scale for all of them, or one for each, in their order; −1, which suppresses, when left out.
            where: ``all`` tokens; those of an ``image``, or all others (``text``); those of the ``prompt``, or those that
                ``generate`` wrote (``generated``); or a boolean mask over the tokens of a prompt, ``(t,)`` for every row of
                a batch or ``(b, t)``, padding included. Outside of ``generate`` every token counts as the prompt's; what is
                generated behind a mask lies outside of it.

        Raises:
            HeadPursuitError: no head, one named twice, a scale that is not finite, or another number of scales than heads.
        """
        chosen = parse_heads(heads)
        tokens = as_where(where)
        scales = zip(chosen, _one_each(scale, len(chosen)), strict=True)
        self._become(Factor(head, one, tokens) for head, one in scales)

    @classmethod
    def of(cls, factors: Iterable[Factor]) -> HeadEdit:
        """Make one edit of factors; those of one head at the same tokens multiply.

        Raises:
            HeadPursuitError: there is none, or a scale is not finite.
        """
        edit = cls.__new__(cls)
        edit._become(factors)
        return edit

    def _become(self, factors: Iterable[Factor]) -> None:
        scales: dict[tuple[Head, Where], float] = {}
        for factor in factors:
            key = factor.head, factor.where
            scales[key] = scales.get(key, 1.0) * factor.scale
        if not scales:
            raise HeadPursuitError("an edit needs at least one head")
        for (head, _), scale in scales.items():
            if not abs(scale) <= _LARGEST:
                raise HeadPursuitError(f"{head}: scale={scale}: give a finite number; −1 suppresses, 5 enhances")
        ordered = sorted(scales.items(), key=lambda item: (item[0][0], str(to_json(item[0][1]))))
        made = tuple(Factor(head, scale, where) for (head, where), scale in ordered)
        object.__setattr__(self, "factors", made)

    def __add__(self, other: HeadEdit) -> HeadEdit:
        """Both edits at once; where they meet in one head their scales multiply, as edits inside each other do."""
        if not isinstance(other, HeadEdit):
            return NotImplemented
        return HeadEdit.of((*self.factors, *other.factors))

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads, in layer order."""
        return tuple(dict.fromkeys(factor.head for factor in self.factors))

    @property
    def scale(self) -> float:
        """The scale of every head.

        Raises:
            HeadPursuitError: the edit has several.
        """
        scales = {factor.scale for factor in self.factors}
        if len(scales) > 1:
            raise HeadPursuitError(f"this edit has {len(scales)} scales ({self}): read them from its factors")
        return scales.pop()

    @property
    def token_groups(self) -> tuple[Where, ...]:
        """The groups of tokens at which its scales hold, each once."""
        return tuple(dict.fromkeys(factor.where for factor in self.factors))

    def __str__(self) -> str:
        alike: dict[tuple[float, Where], list[str]] = {}
        for factor in self.factors:
            alike.setdefault((factor.scale, factor.where), []).append(factor.head.name)
        return "; ".join(f"{', '.join(names)} × {scale:g}{in_words(where)}" for (scale, where), names in alike.items())

    def __repr__(self) -> str:
        return f"HeadEdit({self})"

    def column_scales(self, layer: LayerAnatomy, *, where: Where = ALL) -> Float[Tensor, " he"]:
        """Factor of every input column of a layer's output projection at one group of tokens, shape ``(h·e,)``, float32."""
        scales = torch.ones(layer.n_heads, layer.head_width)
        for factor in self.factors:
            if factor.head.layer == layer.index and factor.where == where:
                scales[factor.head.head] = factor.scale
        return scales.flatten()

    def applied(self, model: ModelLike) -> AbstractContextManager[HeadModel]:
        """Apply the edit inside a ``with`` block, which gives the model; leaving it restores the model bit for bit.

        Raises:
            HeadPursuitError: the model has no such head, or no such tokens.
        """
        model = as_model(model)
        model.anatomy.require(self.heads)
        self._warn_where_undone(model.anatomy)
        return scaled(model, {where: self._layers(model, where) for where in self.token_groups})

    def _warn_where_undone(self, anatomy: Anatomy) -> None:
        behind_norms = [layer for layer in anatomy.layers if layer.norm is not None]
        undone: dict[tuple[float, Where], list[str]] = {}
        for layer, where in itertools.product(behind_norms, self.token_groups):
            scales = self.column_scales(layer, where=where)
            if (scales == scales[0]).all() and abs(float(scales[0])) not in (0, 1):
                undone.setdefault((float(scales[0]), where), []).append(f"L{layer.index}")
        for (scale, _), layers in undone.items():
            warnings.warn(
                f"every head of {', '.join(layers)} is scaled by {scale:g}, and the norm behind their projection undoes "
                "all of it but the sign: leave some heads of the layer out, or use a scale of 0 or −1",
                stacklevel=3,
            )

    def _layers(self, model: HeadModel, where: Where) -> dict[int, Tensor]:
        touched = sorted({factor.head.layer for factor in self.factors if factor.where == where})
        return {index: self.column_scales(model.anatomy.layer(index), where=where) for index in touched}

    def to_dict(self) -> dict[str, Any]:
        """The edit as an edit file holds it: ``heads``, each with layer, head, name, scale and where."""
        return {
            "heads": [
                {
                    "layer": factor.head.layer,
                    "head": factor.head.head,
                    "name": factor.head.name,
                    "scale": factor.scale,
                    "where": to_json(factor.where),
                }
                for factor in self.factors
            ]
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], *, part: Part = "text") -> HeadEdit:
        """Read what :meth:`to_dict` gives.

        Raises:
            HeadPursuitError: it is something else, or a scale or the tokens at which it holds make no sense.
        """
        try:
            return cls.of(
                Factor(
                    Head(int(entry["layer"]), int(entry["head"]), part),
                    float(entry["scale"]),
                    from_json(entry.get("where", ALL)),
                )
                for entry in stored["heads"]
            )
        except (AttributeError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise HeadPursuitError(f"this is no edit ({error!r}): write one with HeadEdit.save") from error

    def save(self, path: str | Path, *, model: ModelLike) -> None:
        """Write the edit, and the model that it belongs to, as JSON that :func:`headpursuit.load_edit` reads."""
        write_edit(path, self, model=as_model(model).identity)


def load_edit(path: str | Path, *, model: ModelLike) -> HeadEdit:
    """Read an edit that :meth:`HeadEdit.save` wrote.

    Raises:
        HeadPursuitError: the file cannot be read, or its heads are another model's.

    >>> edit = hp.HeadEdit(["L1.H2"], scale=[0.5])
    >>> edit.save(tmp_path / "edit.json", model=model)
    >>> hp.load_edit(tmp_path / "edit.json", model=model) == edit
    True
    """
    edit, origin = read_edit_file(path)
    model = as_model(model)
    require_same_model(path, origin, model.identity)
    model.anatomy.require(edit.heads)
    return edit


def read_edit_file(path: str | Path) -> tuple[HeadEdit, Mapping[str, Any]]:
    """Read an edit file before its model is there.

    Returns:
        The edit, and the model that it belongs to, as :attr:`headpursuit.HeadModel.identity` names it.

    Raises:
        HeadPursuitError: there is no such file, or it is no edit file.
    """
    found, stored = read_heads_content(Path(path), what="edit file", remedy="write one with HeadEdit.save")
    if any("scale" not in entry for entry in stored["heads"]):
        raise HeadPursuitError(f"{path} holds heads without scales: give it as heads (--heads {path} --scale -1)")
    try:
        return HeadEdit.from_dict(stored, part=found.model.part), stored["model"]
    except HeadPursuitError as error:
        raise HeadPursuitError(f"{path}: {error}") from error


def write_edit(path: str | Path, edit: HeadEdit, *, model: Mapping[str, Any], **beside: Any) -> None:
    """Write an edit file, whole or not at all.

    Args:
        path: the file.
        edit: the edit.
        model: identity of the model that it belongs to.
        **beside: further keys.
    """
    write_sealed(path, {"format": HEADS_FORMAT, "model": dict(model), **edit.to_dict(), **beside})


def _one_each(scale: Any, count: int) -> Iterator[float]:
    try:
        given = np.asarray(scale, dtype=float)
    except (TypeError, ValueError) as error:
        raise HeadPursuitError(f"scale={scale!r:.60}: give a number, or one for each head") from error
    if given.ndim and given.shape != (count,):
        raise HeadPursuitError(f"{given.size} scales for {count} heads: give one scale, or one for each head")
    return (float(one) for one in np.broadcast_to(given, count))
