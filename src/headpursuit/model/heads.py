"""The name of a head: ``L18.H27``, layer and head both counted from zero (Head Pursuit, Table 1).

Heads beside those of the paper have a letter of their own: ``L3.X5`` attends from the text to an encoder's output, beside
the self-attention of the same layer; ``L3.V5`` stands in the vision tower.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from headpursuit.errors import HeadPursuitError, shown
from headpursuit.files import checked, read_sealed

Part = Literal["text", "cross", "vision"]
PARTS: tuple[Part, ...] = get_args(Part)
_LETTERS: dict[Part, str] = {"text": "H", "cross": "X", "vision": "V"}
_PART_OF_LETTER = {letter: part for part, letter in _LETTERS.items()}
_NAME = re.compile(rf"L?(\d+)(?:\.?([{''.join(_PART_OF_LETTER)}])|\.)(\d+)", re.IGNORECASE)
_HOW = "write L18.H27 for layer 18, head 27 (from zero)"


@dataclass(frozen=True, order=True)
class Head:
    """One attention head.

    Attributes:
        layer: index of the layer, from zero.
        head: index of the query head within the layer, from zero.
        part: ``text`` for the decoder that writes text, ``cross`` for cross-attention beside its self-attention,
            ``vision`` for the vision tower.

    Examples:
        >>> print(hp.Head(18, 27))
        L18.H27
    """

    layer: int
    head: int
    part: Part = "text"

    @property
    def name(self) -> str:
        """The head's name as the paper writes it."""
        return f"L{self.layer}.{_LETTERS[self.part]}{self.head}"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, head: HeadLike) -> Head:
        """A head from its name (``L18.H27``, ``l18h27``, ``18.27``) or from a layer and a head (``(18, 27)``).

        Raises:
            HeadPursuitError: this names no head.

        Examples:
            >>> hp.Head.parse("18.27") == hp.Head.parse((18, 27)) == hp.Head.parse("l18h27")
            True
        """
        if isinstance(head, Head):
            return head
        if _is_pair(head):
            layer, index = (int(number) for number in head)
            if layer >= 0 and index >= 0:
                return cls(layer, index)
        match = _NAME.fullmatch(head.strip()) if isinstance(head, str) else None
        if match is None:
            raise HeadPursuitError(f"{shown(head)} is not the name of a head: {_HOW}")
        return cls(int(match[1]), int(match[3]), _PART_OF_LETTER[(match[2] or "H").upper()])


# What is taken for a head, and for heads.
HeadLike = str | Head | tuple[int, int]
HeadsLike = HeadLike | Iterable[HeadLike]


def parse_heads(heads: HeadsLike) -> tuple[Head, ...]:
    """Several heads, in order, from names, pairs or heads; one name may hold several, with commas between them.

    Args:
        heads: such as ``["L18.H27", (3, 5)]``, ``"L18.H27, L3.H5"``, one head alone, or a ranking, for the few best of it.

    Raises:
        HeadPursuitError: one of them is not the name of a head, or stands twice.

    Examples:
        >>> [head.name for head in parse_heads("L18.H27, 3.5")]
        ['L18.H27', 'L3.H5']
    """
    parsed = tuple(Head.parse(head) for head in _each(heads))
    for position, head in enumerate(parsed):
        if head in parsed[:position]:
            raise HeadPursuitError(f"{head} is named twice: name each head once")
    return parsed


def _each(heads: Any) -> Iterator[Any]:
    if isinstance(heads, str | Head) or _is_pair(heads):
        heads = [heads]
    if isinstance(heads, Mapping):
        raise HeadPursuitError(f"{shown(heads)} is a mapping: give the heads as a list, and their scales as scale=[…]")
    if hasattr(heads, "few"):  # a ranking, which is a later room's: the best heads that it would edit itself
        heads = heads.top(heads.few())
    if not isinstance(heads, Iterable):
        raise HeadPursuitError(f"{shown(heads)} is not a list of heads: {_HOW}")
    for head in heads:
        if isinstance(head, str) and "," in head:
            yield from (name for name in head.split(",") if name.strip())
        else:
            yield head


def _is_pair(head: Any) -> bool:
    return isinstance(head, tuple | list) and len(head) == 2 and all(isinstance(one, Integral) for one in head)


# Format of the files of heads and of edits.
HEADS_FORMAT = 1
_Index = Annotated[int, Field(ge=0, strict=True)]


class StoredHead(BaseModel):
    """A head as a file of heads or an edit file names it, with whatever else is known of it."""

    model_config = ConfigDict(extra="allow")
    layer: _Index
    head: _Index


class StoredModel(BaseModel):
    """The model that a file's heads are of, see :attr:`headpursuit.HeadModel.identity`."""

    model_config = ConfigDict(extra="allow")
    part: Part = "text"


class HeadsContent(BaseModel):
    """What a file of heads and an edit file have in common; keys that are not known here are left alone."""

    model_config = ConfigDict(extra="allow")
    model: StoredModel
    heads: list[StoredHead]

    def named(self) -> tuple[Head, ...]:
        """The heads, in the file's order."""
        return tuple(Head(one.layer, one.head, self.model.part) for one in self.heads)


def read_heads_content(path: Path, *, what: str, remedy: str) -> tuple[HeadsContent, dict[str, Any]]:
    """The content of a file that names heads of a model, one that a user wrote by hand included: checked, and as it is.

    Raises:
        HeadPursuitError: there is no such file, it is something else, or is not as it was written.
    """
    if not path.is_file():
        raise HeadPursuitError(f"there is no file {path}: {remedy}")
    content = read_sealed(path, format=HEADS_FORMAT, what=what, remedy=remedy, by_hand=True)
    return checked(HeadsContent, content, what=f"{path} is no {what}", remedy=remedy), content
