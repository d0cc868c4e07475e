"""Contract 1, checked on every attach: the heads add up to what the attention module writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from headpursuit.errors import HeadPursuitError
from headpursuit.model.head_model import evaluating
from headpursuit.model.projection import head_outputs_sum

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headpursuit.model.head_model import HeadModel

# Rounding of the checkpoint's own dtype, with room for sums over a few thousand terms.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}


def check_decomposition(model: HeadModel, *, n_tokens: int = 4) -> dict[int, float]:
    """Compare Σ_h z_h W_h + bias with the attention module's own output on a few tokens (design, contract 1).

    Args:
        model: the model to check.
        n_tokens: length of the made-up text.

    Returns:
        Relative error of each layer, in the Frobenius norm.

    Raises:
        HeadPursuitError: a layer's heads do not add up, so that nothing said about them would be true.
    """
    taps: dict[str, Tensor] = {}

    def keep_input(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            taps[f"{name}/z"] = args[0].detach().clone()

        return hook

    def keep_output(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            taps[f"{name}/out"] = (output[0] if isinstance(output, tuple) else output).detach().clone()

        return hook

    handles = []
    for layer in model.anatomy.layers:
        handles.append(model.module(layer.projection).register_forward_pre_hook(keep_input(layer.attention)))
        handles.append(model.module(layer.attention).register_forward_hook(keep_output(layer.attention)))
    decoder = model.module(model.anatomy.decoder)
    tokens = torch.arange(1, n_tokens + 1, device=model.device)[None]
    try:
        with torch.no_grad(), evaluating(model.hf):
            decoder(input_ids=tokens, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    errors = {}
    for layer in model.anatomy.layers:
        if f"{layer.attention}/z" not in taps:
            raise HeadPursuitError(
                f"{model.source.architecture}: {layer.projection} was never called, so its heads cannot be read"
            )
        z, written = taps[f"{layer.attention}/z"], taps[f"{layer.attention}/out"]
        summed = head_outputs_sum(model.module(layer.projection), z, layer.n_heads)
        error = float((summed - written.double()).norm() / written.double().norm().clamp_min(1e-30))
        if not error <= _TOLERANCE.get(z.dtype, 1e-5):
            raise HeadPursuitError(
                f"{model.source.architecture}: the heads of {layer.attention} do not add up to its output "
                f"(relative error {error:.1e}), so {layer.projection} is not its output projection alone; "
                "this architecture is not supported"
            )
        errors[layer.index] = error
    return errors
