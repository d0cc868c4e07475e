"""Hooks on modules: read or change what passes through a model, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class Hooks(ExitStack):
    """Forward hooks that are taken away when the ``with`` block is left, however it is left.

    Inside the block compiled models run uncompiled: what was compiled before would pass the hooks by.

    >>> import torch
    >>> seen = []
    >>> layer = torch.nn.Linear(2, 3)
    >>> with Hooks() as hooks:
    ...     hooks.before(layer, lambda module, args: seen.append(tuple(args[0].shape)))
    ...     _ = layer(torch.ones(4, 2))
    >>> _ = layer(torch.ones(5, 2))
    >>> seen
    [(4, 2)]
    """

    def __enter__(self) -> Hooks:
        import torch

        super().__enter__()
        self.enter_context(torch.compiler.set_stance("force_eager"))
        return self

    def before(self, module: nn.Module, function: Callable[..., Any], **options: Any) -> None:
        """Call ``function(module, args)`` before the module runs; what it returns, if anything, replaces ``args``."""
        self.callback(module.register_forward_pre_hook(function, **options).remove)

    def after(self, module: nn.Module, function: Callable[..., Any], **options: Any) -> None:
        """Call ``function(module, args, output)`` after the module has run; what it returns, if anything, replaces it."""
        self.callback(module.register_forward_hook(function, **options).remove)
