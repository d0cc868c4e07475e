"""Scaling while a model runs: hooks in front of output projections multiply what enters."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headpursuit.editing.tokens import TokenTracker, tracked
from headpursuit.editing.where import ALL, Where
from headpursuit.errors import HeadPursuitError
from headpursuit.hooks import Hooks
from headpursuit.model.head_model import HeadModel


@contextmanager
def scaled(model: HeadModel, scales: Mapping[Where, Mapping[int, Float[Tensor, " he"]]]) -> Iterator[HeadModel]:
    """Multiply the input columns of output projections inside a ``with`` block.

    Args:
        model: the model, which is left as it was found.
        scales: for each group of tokens, by layer, the factor of every input column, shape ``(h·e,)``.

    Raises:
        HeadPursuitError: the model has no such tokens.
    """
    for where in scales:
        _check_tokens(model, where)
    with Hooks() as hooks:
        tracker = None if set(scales) <= {ALL} else hooks.enter_context(tracked(model))
        for where, layers in scales.items():
            for index, columns in layers.items():
                hook = _hook(columns) if where == ALL or tracker is None else _hook_at(where, columns, tracker)
                hooks.before(model.module(model.anatomy.layer(index).projection), hook)
        yield model


def _check_tokens(model: HeadModel, where: Where) -> None:
    if where != ALL and (model.anatomy.part == "vision" or model.has_encoder):
        raise HeadPursuitError(
            f"the tokens that these heads of {model.source.architecture} see are not the prompt's: use where='all'"
        )
    if where not in ("image", "text"):
        return
    if model.attends_across:
        raise HeadPursuitError(
            f"{model.source.architecture} attends to the image from outside the text, so that no token stands for a patch: "
            "use where='all', 'prompt' or 'generated'"
        )
    if where == "image" and model.anatomy.image_token_id is None and model.images is None:
        raise HeadPursuitError(f"{model.source.id} takes no images, so it has no image tokens: choose other tokens")


def _hook(columns: Tensor) -> Any:
    cast = _Cast(columns)

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] * cast.like(args[0]), *args[1:])

    return hook


def _hook_at(where: Where, columns: Tensor, tracker: TokenTracker) -> Any:
    cast = _Cast(columns)

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        z = args[0]
        chosen = tracker.current(z).tokens_of(where)
        if chosen is False:
            return None
        factor = cast.like(z)
        if chosen is not True:
            factor = torch.where(chosen.to(z.device)[..., None], factor, torch.ones_like(factor))
        return (z * factor, *args[1:])

    return hook


class _Cast:
    """Column factors in whatever dtype and on whatever device they are met, converted once for each."""

    def __init__(self, columns: Tensor) -> None:
        self._ready = {(columns.dtype, columns.device): columns}
        self._columns = columns

    def like(self, z: Tensor) -> Tensor:
        """The factors as ``z`` has its values."""
        key = z.dtype, z.device
        if key not in self._ready:
            self._ready[key] = self._columns.to(z.device, z.dtype)
        return self._ready[key]
