"""Contract 1, proven on every attach: the heads are those of a softmax kernel, and they add up to what attention writes."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from headpursuit.errors import HeadPursuitError
from headpursuit.model.anatomy import Anatomy, LayerAnatomy, SkippedLayer
from headpursuit.model.head_model import accepted, evaluating
from headpursuit.model.kernel import KernelWatch, can_watch, watched
from headpursuit.model.projection import head_outputs_sum, input_width

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headpursuit.model.head_model import HeadModel

# Rounding of the checkpoint's own dtype, with room for sums over a few thousand terms.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}
_NORM = re.compile("norm", re.IGNORECASE)
_STATES = ("cross_attention_states", "encoder_hidden_states")


@dataclass
class _Seen:
    """What passed through the attention modules while a few tokens ran."""

    z: dict[str, Tensor] = field(default_factory=dict)
    written: dict[str, Tensor] = field(default_factory=dict)
    given: dict[str, list[Tensor]] = field(default_factory=dict)
    normed: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    watch: KernelWatch = field(default_factory=KernelWatch)


def proven(model: HeadModel, *, n_tokens: int = 4) -> Anatomy:
    """Keep the layers whose heads are real, and name the others.

    A layer is kept when a softmax kernel ran in it with as many heads as the anatomy claims, when silencing one of them
    in the kernel silences that head's slice and no other, and when the heads add up to what the layer writes.

    Args:
        model: with the anatomy that is claimed.
        n_tokens: length of the made-up text.

    Returns:
        The anatomy of what holds; layers without softmax attention move to ``skipped``.

    Raises:
        HeadPursuitError: a layer's heads are not what they seem, so that nothing said about them would be true.
    """
    seen = _run(model, n_tokens=n_tokens)
    kept: list[LayerAnatomy] = []
    skipped = list(model.anatomy.skipped)
    for layer in model.anatomy.layers:
        reason = _no_softmax(model, layer, seen, n_tokens=n_tokens)
        if reason is None:
            kept.append(layer)
        else:
            skipped.append(SkippedLayer(layer.index, layer.attention, reason))
    if not kept:
        reasons = ", ".join(sorted({layer.reason for layer in skipped}))
        raise HeadPursuitError(
            f"{model.source.architecture} has no softmax attention whose heads could be read: {reasons}"
        )
    anatomy = replace(
        model.anatomy,
        layers=tuple(kept),
        skipped=tuple(sorted(skipped, key=lambda one: one.index)),
        pads_left=_pads_left(model, kept[-1], seen, n_tokens=n_tokens),
    )
    claimed = model.with_anatomy(anatomy)
    _check_sums(claimed, seen)
    if can_watch(model.hf):
        _check_slices(claimed, n_tokens=n_tokens)
    return anatomy


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
    return _check_sums(model, _run(model, n_tokens=n_tokens))


def _run(
    model: HeadModel, *, n_tokens: int, n_padding: int = 0, silent: dict[str, tuple[int, int]] | None = None
) -> _Seen:
    seen = _Seen()

    def keep_input(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            seen.z[path] = args[0].detach().clone().reshape(-1, args[0].shape[-1])
            seen.calls[path] += 1

        return hook

    def keep_output(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            written = output[0] if isinstance(output, tuple | list) else output
            seen.written[path] = written.detach().clone().reshape(-1, written.shape[-1])
            given = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
            seen.given[path] = [one.detach().clone() for one in given if one.shape == written.shape]

        return hook

    def keep_norm(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, torch.Tensor):
                seen.normed.setdefault(path, []).append((args[0].detach().clone(), output.detach().clone()))

        return hook

    handles = []
    for layer in model.anatomy.layers:
        handles.append(model.module(layer.projection).register_forward_pre_hook(keep_input(layer.attention)))
        handles.append(
            model.module(layer.attention).register_forward_hook(keep_output(layer.attention), with_kwargs=True)
        )
        for child in model.module(layer.attention).children():
            if _NORM.search(type(child).__name__):
                handles.append(child.register_forward_hook(keep_norm(layer.attention)))
    tokens = torch.arange(1, n_tokens + 1, device=model.device)[None]
    decoder = model.module(model.anatomy.decoder)
    options: dict[str, Any] = {"use_cache": False, **_made_up_states(model, decoder)}
    if n_padding:
        tokens = torch.cat([torch.zeros_like(tokens[:, :n_padding]), tokens], dim=1)
        real = torch.arange(tokens.shape[1], device=tokens.device)[None] >= n_padding
        options["attention_mask"] = real.long()
        if model.takes("position_ids"):  # else generation cannot give any either
            options["position_ids"] = (real.long().cumsum(1) - 1).clamp_min(0)
    try:
        with torch.no_grad(), evaluating(model.hf), watched(model, silent) as watch:
            decoder(input_ids=tokens, **accepted(decoder.forward, options))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise HeadPursuitError(
            f"{model.source.architecture} cannot be run on text alone ({type(error).__name__}: {reason}), so its heads "
            "cannot be checked; this architecture is not supported"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    seen.watch = watch
    return seen


def _made_up_states(model: HeadModel, decoder: nn.Module) -> dict[str, Tensor]:
    """Something for cross-attention layers to attend to, since text alone does not reach them."""
    cross = next((layer for layer in model.anatomy.layers if layer.kind == "cross"), None)
    name = next((one for one in _STATES if one in inspect.signature(decoder.forward).parameters), None)
    if cross is None or name is None:
        return {}
    keys = next(
        one for path, one in model.module(cross.attention).named_modules() if path.startswith("k") and input_width(one)
    )
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(1, 3, input_width(keys) or 0, generator=generator)
    return {name: states.to(model.device, model.hf.dtype)}


def _no_softmax(model: HeadModel, layer: LayerAnatomy, seen: _Seen, *, n_tokens: int) -> str | None:
    if seen.calls[layer.attention] == 0:
        return "never called on text"
    n_seen = seen.z[layer.attention].shape[0]
    if n_seen != n_tokens:
        raise HeadPursuitError(
            f"{model.source.architecture} runs {n_seen} tokens where {n_tokens} were given, so which of them are the text's "
            "cannot be told; this architecture is not supported"
        )
    if seen.calls[layer.attention] > 1:
        raise HeadPursuitError(
            f"{model.source.architecture} runs {layer.attention} {seen.calls[layer.attention]} times for each token, so a "
            "head of it has no single activation; this architecture is not supported"
        )
    if can_watch(model.hf) and layer.attention not in seen.watch.heads:
        return f"no softmax attention ({type(model.module(layer.attention)).__name__})"
    return None


def _check_sums(model: HeadModel, seen: _Seen) -> dict[int, float]:
    errors = {}
    for layer in model.anatomy.layers:
        path = layer.attention
        if path not in seen.z:
            raise HeadPursuitError(
                f"{model.source.architecture}: {layer.projection} was never called, so its heads cannot be read"
            )
        z, written = seen.z[path], seen.written[path].double()
        if torch.equal(z.double(), written):  # the projection stands right behind the module, as in BERT
            errors[layer.index] = 0.0
            continue
        summed = head_outputs_sum(model.module(layer.projection), z, layer.n_heads).to(written.device)
        # some modules (BLOOM's) add the residual stream themselves: what they were given may be in what they return
        residuals = [torch.zeros_like(written), *(given.reshape(written.shape).double() for given in seen.given[path])]
        error = min(
            float((summed - written + residual).norm() / (written - residual).norm().clamp_min(1e-30))
            for residual in residuals
        )
        if not error <= TOLERANCE.get(z.dtype, 1e-5):
            raise HeadPursuitError(
                f"{model.source.architecture}: the heads of {path} do not add up to its output "
                f"(relative error {error:.1e}), so {layer.projection} is not its output projection alone; "
                "this architecture is not supported"
            )
        errors[layer.index] = error
    return errors


def _check_slices(model: HeadModel, *, n_tokens: int) -> None:
    silent = {layer.attention: (layer.n_heads - 1, layer.n_heads) for layer in model.anatomy.layers}
    seen = _run(model, n_tokens=n_tokens, silent=silent)
    for layer in model.anatomy.layers:
        z = _before_norm(layer, seen)
        loud = z.unflatten(-1, (layer.n_heads, layer.head_width)).abs().amax(dim=(0, 2)) > 0
        if loud[-1] or not loud[:-1].all():
            kernels = sorted(set(seen.watch.heads[layer.attention]))
            raise HeadPursuitError(
                f"{model.source.architecture}: silencing the last head in the kernel of {layer.attention} does not silence "
                f"the last of {layer.n_heads} slices of what {layer.projection} reads (its kernels have {kernels} heads): "
                "heads are mixed on the way, so none can be read alone; this architecture is not supported"
            )


def _before_norm(layer: LayerAnatomy, seen: _Seen) -> Tensor:
    """What the projection reads, or what a norm right before it (KOSMOS-2, BitNet) reads, since norms make silence audible."""
    z = seen.z[layer.attention]
    for given, returned in seen.normed.get(layer.attention, []):
        if returned.numel() == z.numel() and torch.equal(returned.reshape(z.shape), z):
            return given.reshape(z.shape)
    return z


def _pads_left(model: HeadModel, layer: LayerAnatomy, seen: _Seen, *, n_tokens: int) -> bool:
    padded = _run(model, n_tokens=n_tokens, n_padding=2).z[layer.attention][-n_tokens:].double()
    alone = seen.z[layer.attention].double()
    return bool((padded - alone).norm() <= 10 * TOLERANCE.get(seen.z[layer.attention].dtype, 1e-5) * alone.norm())
