"""Watching the attention kernel from outside: which softmax ran inside which module, and what if one head of it is silent.

Eager attention calls a softmax over ``(…, heads, queries, keys)``, sdpa one fused function whose result is
``(…, heads, queries, width)``. Both can be seen, and changed, from PyTorch's function mode without touching the model.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from headpursuit.hooks import Hooks
from headpursuit.model.head_model import HeadModel

_SOFTMAX = (functional.softmax, torch.softmax, torch.Tensor.softmax)
_WATCHABLE = (None, "eager", "sdpa")


@dataclass
class KernelWatch(TorchFunctionMode):
    """A record of what the kernels inside the watched modules did.

    Attributes:
        silent: for each watched module, by path, the head whose part of the kernel's result is set to zero.
        heads: for each watched module, by path, the numbers of heads of the kernels that ran in it.
        batched: whether several images or windows may run at once, so that only the third dimension from the end is heads;
            else one text runs, and whatever stands before queries and keys are heads.
    """

    silent: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    heads: dict[str, list[int]] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)
    batched: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let everything pass, and note or silence the attention kernels."""
        result = func(*args, **(kwargs or {}))
        if self.inside and (func in _SOFTMAX or func is functional.scaled_dot_product_attention) and result.ndim >= 3:
            return self._note(self.inside[-1], result)
        return result

    def _note(self, path: str, result: Tensor) -> Tensor:
        before = result.shape[-3:-2] if self.batched else result.shape[:-2]
        n_heads = before.numel()
        self.heads.setdefault(path, []).append(n_heads)
        head, expected = self.silent.get(path, (0, -1))
        if n_heads != expected:
            return result
        keep = torch.ones(n_heads, dtype=result.dtype, device=result.device)
        keep[head] = 0
        return result * keep.reshape(*before, 1, 1)


def can_watch(hf: nn.Module) -> bool:
    """Whether the attention implementation is one whose kernel can be seen."""
    config: Any = hf.config
    return getattr(config.get_text_config(decoder=True), "_attn_implementation", None) in _WATCHABLE


@contextmanager
def watched(model: HeadModel, silent: Mapping[str, tuple[int, int]] | None = None) -> Iterator[KernelWatch]:
    """Watch the kernels inside every attention module of the anatomy, one text at a time.

    Args:
        model: whose attention modules are watched.
        silent: for some of them, by path, which head to silence, out of how many.
    """
    watch = KernelWatch(silent=silent or {}, batched=model.anatomy.part == "vision")

    def enter(path: str) -> Any:
        return lambda *_: watch.inside.append(path)

    def leave(*_: Any) -> None:
        watch.inside.pop()

    with Hooks() as hooks, watch:
        for layer in model.anatomy.layers:
            module = model.module(layer.attention)
            hooks.before(module, enter(layer.attention))
            hooks.after(module, leave)
        yield watch
