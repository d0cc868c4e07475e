"""The cost of a ranking, counted while the model runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headpursuit.hooks import Hooks

if TYPE_CHECKING:
    from torch import nn

    from headpursuit.model.head_model import HeadModel


# Inputs of a model with a row for each text, the first that is there; logits are asked for at some tokens only.
_ROWS = ("decoder_input_ids", "input_ids", "inputs_embeds")


@dataclass(frozen=True)
class Cost:
    """What a ranking cost.

    Attributes:
        forward: rows that ran forward through the model: a text is one, and while it is written each new token is one more.
        backward: rows that ran backward.
        seconds: time that it took.
    """

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forward + other.forward, self.backward + other.backward, self.seconds + other.seconds)

    def __str__(self) -> str:
        return f"{self.forward} rows forward, {self.backward} backward, {self.seconds:.1f} s"


class Meter:
    """Counts rows and seconds since it was made.

    Attributes:
        forward: rows that ran forward.
        backward: rows that ran backward.
    """

    def __init__(self) -> None:
        self.forward, self.backward, self._start = 0, 0, time.perf_counter()

    @property
    def cost(self) -> Cost:
        """The cost so far."""
        return Cost(self.forward, self.backward, time.perf_counter() - self._start)


# Meters that are counting.
_counting: list[Meter] = []


def ran_elsewhere(cost: Cost) -> None:
    """Count what workers ran for this process with what it runs itself; the time that they take passes here, too."""
    for meter in _counting:
        meter.forward += cost.forward
        meter.backward += cost.backward


@contextmanager
def metered(model: HeadModel) -> Iterator[Meter]:
    """Count what runs through a model inside a ``with`` block.

    >>> with metered(model) as meter:
    ...     _ = hp.capture(model, samples, progress=False)
    >>> meter.forward, meter.backward
    (24, 0)
    """
    meter = Meter()

    def rows_of(args: tuple[Any, ...], inputs: dict[str, Any]) -> int:
        given = [inputs[name] for name in _ROWS if inputs.get(name) is not None] or args
        return len(given[0])

    def count(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        # Before the pass: one of a capture ends where the last heads have been read.
        meter.forward += rows_of(args, inputs)

    def watch(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any], output: Any) -> None:
        if output.logits.requires_grad:
            output.logits.register_hook(ran_backward(rows_of(args, inputs)))

    def ran_backward(rows: int) -> Any:
        def hook(gradient: Any) -> None:
            meter.backward += rows

        return hook

    with Hooks(looking=True) as hooks:
        hooks.before(model.hf, count, with_kwargs=True)
        hooks.after(model.hf, watch, with_kwargs=True)
        _counting.append(meter)
        hooks.callback(_counting.remove, meter)
        yield meter
