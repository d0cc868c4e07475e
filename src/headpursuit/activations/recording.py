"""Recording what enters the output projections while the model runs once, reduced inside the hook."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from headpursuit.activations.reducers import Reading, Reducer
from headpursuit.errors import HeadPursuitError
from headpursuit.hooks import Hooks
from headpursuit.model.anatomy import LayerAnatomy
from headpursuit.model.head_model import HeadModel, accepted, evaluating
from headpursuit.model.norms import gain_of, true_scale
from headpursuit.model.tokenize import Batch


class _AllRead(Exception):  # noqa: N818  # nothing went wrong
    """Ends a forward pass where nothing more of it is wanted.

    An ``Exception``, so that hooks of others that ask to be called on errors are.
    """


@contextmanager
def projection_inputs(model: HeadModel, enter: Callable[[LayerAnatomy, Tensor], Tensor | None]) -> Iterator[Hooks]:
    """Hand what enters every output projection to a function; what that gives, if anything, goes on in its place.

    Args:
        model: the model.
        enter: given the layer and ``z``, shape ``(b, t, h·e)``.

    Returns:
        The hooks, which leave with it.
    """

    def recorder(layer: LayerAnatomy) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            other = enter(layer, args[0])
            return None if other is None else (other, *args[1:])

        return hook

    with Hooks() as hooks:
        for layer in model.anatomy.layers:
            hooks.before(model.module(layer.projection), recorder(layer))
        yield hooks


def read_batch(model: HeadModel, batch: Batch, reducer: Reducer, *, through_norm: bool = False) -> Reading:
    """Run the model once and reduce what enters every output projection; it stops behind the last of them.

    Args:
        model: the model, seen as its text's heads.
        batch: tokenized prompts.
        reducer: what is kept of a layer's ``z``, shape ``(b, t, h·e)``.
        through_norm: multiply ``z`` by the true scale, token by token, of a norm behind the projection.

    Raises:
        HeadPursuitError: the model adds tokens of its own, or layers did not run.
    """
    reading: Reading = {}
    waiting: dict[int, Tensor] = {}
    ran: set[int] = set()
    stops = _can_stop(model)

    def keep(layer: LayerAnatomy, z: Tensor) -> None:
        reading.update(reducer(layer, z))
        ran.add(layer.index)
        if stops and len(ran) == len(model.anatomy.layers):  # no layer runs twice: models in which one does are refused
            raise _AllRead

    def enter(layer: LayerAnatomy, z: Tensor) -> None:
        if z.shape[:2] != batch.real.shape:
            raise HeadPursuitError(
                f"{layer.projection} reads {tuple(z.shape[:2])} tokens, the batch has {tuple(batch.real.shape)}: "
                f"{model.source.architecture} adds tokens of its own, so which are the text's cannot be told"
            )
        if through_norm and layer.norm is not None:
            waiting[layer.index] = z
        else:
            keep(layer, z)

    def norm_recorder(layer: LayerAnatomy, norm: nn.Module) -> Any:
        gain = gain_of(norm, model.anatomy.width)

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            if layer.index in waiting:
                keep(layer, waiting.pop(layer.index).float() * true_scale(args[0], output, gain)[..., None])

        return hook

    with projection_inputs(model, enter) as hooks, torch.no_grad(), evaluating(model.hf):
        for layer in model.anatomy.layers:
            if through_norm and layer.norm is not None:
                norm = model.module(layer.norm)
                hooks.after(norm, norm_recorder(layer, norm))
        _run(model, batch)
    check_ran(model, ran)
    return reading


def read_tower(model: HeadModel, batch: Batch, reduce_by: Callable[[Tensor], Reducer]) -> Reading:
    """Run the model on one image and reduce all that the vision tower reads of it, tile by tile where there are several.

    The model stops where its text decoder begins.

    Args:
        model: the model, seen as its vision tower's heads.
        batch: one sample with an image.
        reduce_by: makes a reducer for a mask ``(1, n)`` of what it is given.

    Raises:
        HeadPursuitError: layers did not run.
    """
    read: dict[int, list[Tensor]] = {}
    stops = _can_stop(model)

    def enter(layer: LayerAnatomy, z: Tensor) -> None:
        read.setdefault(layer.index, []).append(z.reshape(-1, z.shape[-1]))

    def stop(*_: Any) -> None:  # not where the tower stands inside of the decoder and is still to run
        if stops and len(read) == len(model.anatomy.layers):
            raise _AllRead

    with projection_inputs(model, enter) as hooks, torch.no_grad(), evaluating(model.hf):
        hooks.before(model.module(model.anatomy.decoder), stop)
        _run(model, batch)
    check_ran(model, read)
    reading: Reading = {}
    for layer in model.anatomy.layers:
        rows = torch.cat(read.pop(layer.index))[None]
        reading.update(reduce_by(torch.ones(rows.shape[:2], dtype=torch.bool))(layer, rows))
    return reading


def _run(model: HeadModel, batch: Batch) -> None:
    with suppress(_AllRead):
        model.hf(**batch.inputs, **accepted(model.hf.forward, {"use_cache": False, "logits_to_keep": 1}))


def _can_stop(model: HeadModel) -> bool:
    """Whether nothing is left half done where a forward pass ends early: accelerate puts weights away when a module returns."""
    return not any(hasattr(module, "_hf_hook") for module in model.hf.modules())


def check_ran(model: HeadModel, ran: Collection[int]) -> None:
    """Check that every layer was among those that ran, given by their indices.

    Raises:
        HeadPursuitError: naming the layers that did not.
    """
    unread = [f"L{layer.index}" for layer in model.anatomy.layers if layer.index not in ran]
    if unread:
        raise HeadPursuitError(f"{', '.join(unread)} attend to an image and did not run: give every sample an image")
