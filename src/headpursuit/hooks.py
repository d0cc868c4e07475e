"""Hooks on modules: read or change what passes through a model, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from torch import nn

# Hooks that look and change nothing, so that a model is itself beside them.
_only_looking: WeakSet[Callable[..., Any]] = WeakSet()


class Hooks(ExitStack):
    """Forward hooks that are taken away when the ``with`` block is left, however it is left.

    Inside the block compiled models run uncompiled: what was compiled before would pass the hooks by.

    Args:
        looking: the hooks change nothing; see :func:`is_changed`.

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

    def __init__(self, *, looking: bool = False) -> None:
        super().__init__()
        self._looking = looking

    def __enter__(self) -> Hooks:
        import torch

        super().__enter__()
        self.enter_context(torch.compiler.set_stance("force_eager"))
        return self

    def before(self, module: nn.Module, function: Callable[..., Any], **options: Any) -> None:
        """Call ``function(module, args)`` before the module runs; what it returns, if anything, replaces ``args``."""
        self._add(module.register_forward_pre_hook, function, options)

    def after(self, module: nn.Module, function: Callable[..., Any], **options: Any) -> None:
        """Call ``function(module, args, output)`` after the module has run; what it returns, if anything, replaces it."""
        self._add(module.register_forward_hook, function, options)

    def _add(self, register: Callable[..., Any], function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.callback(register(function, **options).remove)
        if self._looking:
            _only_looking.add(function)


def is_changed(model: nn.Module) -> bool:
    """Whether a hook of some module may change what passes through a model, such as an edit's.

    transformers leaves some of its own behind, which keep hidden states for whoever asks.
    """
    modules = list(model.modules())
    hooks = [hook for one in modules for hook in (*one._forward_hooks.values(), *one._forward_pre_hooks.values())]
    own = (hook for hook in hooks if not getattr(hook, "__module__", "").startswith("transformers."))
    return any(hook not in _only_looking for hook in own)
