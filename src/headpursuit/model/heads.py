"""The name of a head: ``L18.H27``, layer and head both counted from zero (Head Pursuit, Table 1).

Heads beside those of the paper have a letter of their own: ``L3.X5`` attends from the text to an encoder's output, beside
the self-attention of the same layer; ``L3.V5`` stands in the vision tower.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from headpursuit.errors import HeadPursuitError

if TYPE_CHECKING:
    from collections.abc import Iterable

Part = Literal["text", "cross", "vision"]
PARTS: tuple[Part, ...] = get_args(Part)
_LETTERS: dict[Part, str] = {"text": "H", "cross": "X", "vision": "V"}
_PART_OF_LETTER = {letter: part for part, letter in _LETTERS.items()}
_NAME = re.compile(rf"L(\d+)\.?([{''.join(_PART_OF_LETTER)}])(\d+)", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Head:
    """One attention head.

    Attributes:
        layer: index of the layer, from zero.
        head: index of the query head within the layer, from zero.
        part: ``text`` for the decoder that writes text, ``cross`` for cross-attention beside its self-attention,
            ``vision`` for the vision tower.
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
    def parse(cls, text: str | Head) -> Head:
        """Read a name such as ``L18.H27``.

        Raises:
            HeadPursuitError: the text is not the name of a head.
        """
        if isinstance(text, Head):
            return text
        match = _NAME.fullmatch(text.strip())
        if match is None:
            raise HeadPursuitError(
                f"{text!r} is not the name of a head: write L18.H27 for layer 18, head 27 (from zero)"
            )
        return cls(int(match[1]), int(match[3]), _PART_OF_LETTER[match[2].upper()])


def parse_heads(heads: Iterable[str | Head]) -> tuple[Head, ...]:
    """Read several heads, in order.

    Raises:
        HeadPursuitError: one of them is not the name of a head, or stands twice.
    """
    parsed = tuple(Head.parse(head) for head in heads)
    for position, head in enumerate(parsed):
        if head in parsed[:position]:
            raise HeadPursuitError(f"{head} is named twice: name each head once")
    return parsed
