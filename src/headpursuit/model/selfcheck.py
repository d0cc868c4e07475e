"""Contract 1, proven on every attach: the heads are those of a softmax kernel, and they add up to what attention writes."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from headpursuit.errors import HeadPursuitError
from headpursuit.hooks import Hooks
from headpursuit.model.anatomy import Anatomy, LayerAnatomy, SkippedLayer
from headpursuit.model.attention import is_norm
from headpursuit.model.attention_kernel import KernelWatch, can_watch, watched
from headpursuit.model.head_model import HeadModel, evaluating
from headpursuit.model.norms import gain_of, true_scale
from headpursuit.model.probing import CANNOT_RUN, TOLERANCE, prefix_sees_ahead, run_decoder, run_on_image, tolerance
from headpursuit.model.projection import head_outputs_sum, is_packed
from headpursuit.model.readout import final_norm_of


@dataclass
class _Seen:
    """Tensors that passed through the attention modules while a few tokens ran."""

    z: dict[str, Tensor] = field(default_factory=dict)
    written: dict[str, Tensor] = field(default_factory=dict)
    given: dict[str, list[Tensor]] = field(default_factory=dict)
    normed: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    norms: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
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
            kept.append(replace(layer, norm=_norm_behind(model, layer, seen)))
        else:
            skipped.append(SkippedLayer(layer.index, layer.attention, reason))
    if not kept:
        reasons = ", ".join(sorted({layer.reason for layer in skipped}))
        raise HeadPursuitError(f"{model.source.architecture} has no softmax attention whose heads could be read: {reasons}")
    anatomy = replace(
        model.anatomy,
        layers=tuple(kept),
        skipped=tuple(sorted(skipped, key=lambda one: one.index)),
        prefix_sees_ahead=model.anatomy.part != "vision" and prefix_sees_ahead(model, kept[0], n_tokens=n_tokens),
        final_norm=None if model.anatomy.part == "vision" else final_norm_of(model),
        pads_left=model.anatomy.part == "vision" or _pads_left(model, kept[-1], seen, n_tokens=n_tokens),
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


def _run(model: HeadModel, *, n_tokens: int, n_padding: int = 0, silent: dict[str, tuple[int, int]] | None = None) -> _Seen:
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

    def keep_outer_norm(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, torch.Tensor) and args:
                seen.norms[path] = args[0].detach().clone(), output.detach().clone()

        return hook

    try:
        with Hooks() as hooks, torch.no_grad(), evaluating(model.hf), watched(model, silent) as watch:
            for path, module in model.hf.named_modules():
                if is_norm(module):
                    hooks.after(module, keep_outer_norm(path))
            for layer in model.anatomy.layers:
                attention = model.module(layer.attention)
                hooks.before(model.module(layer.projection), keep_input(layer.attention))
                hooks.after(attention, keep_output(layer.attention), with_kwargs=True)
                for child in filter(is_norm, attention.children()):
                    hooks.after(child, keep_norm(layer.attention))
            if model.anatomy.part == "vision":
                run_on_image(model)
            else:
                run_decoder(model, n_tokens=n_tokens, n_padding=n_padding)
    except CANNOT_RUN as error:
        reason = str(error).strip().partition("\n")[0]
        what = "an image" if model.anatomy.part == "vision" else "text"
        raise HeadPursuitError(
            f"{model.source.architecture} cannot be run on {what} alone ({type(error).__name__}: {reason}), so its heads "
            "cannot be checked; this architecture is not supported"
        ) from error
    seen.watch = watch
    return seen


def _no_softmax(model: HeadModel, layer: LayerAnatomy, seen: _Seen, *, n_tokens: int) -> str | None:
    on_text = model.anatomy.part != "vision"
    if seen.calls[layer.attention] == 0:
        return f"never called on {'text' if on_text else 'an image'}"
    n_seen = seen.z[layer.attention].shape[0]
    if on_text and n_seen != n_tokens:
        raise HeadPursuitError(
            f"{model.source.architecture} runs {n_seen} tokens where {n_tokens} were given, so which of them are the text's "
            "cannot be told; this architecture is not supported"
        )
    if on_text and seen.calls[layer.attention] > 1:
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
        if len(z) != len(written):
            raise HeadPursuitError(
                f"{model.source.architecture}: {layer.projection} reads {len(z)} tokens where {path} writes {len(written)}, so "
                "which of them are padding cannot be told; this architecture is not supported"
            )
        projection = model.module(layer.projection)
        summed = head_outputs_sum(projection, z, layer.n_heads).to(written.device)
        # some modules (BLOOM's) add the residual stream themselves: what they were given may be in what they return
        residuals = [torch.zeros_like(written), *(given.reshape(written.shape).double() for given in seen.given[path])]
        error = min(
            float((summed - written + residual).norm() / (written - residual).norm().clamp_min(1e-30)) for residual in residuals
        )
        # Libraries of packed weights round what enters to bfloat16 or to eight bits, whatever dtype it has.
        allowed = max(tolerance(z), TOLERANCE[torch.bfloat16]) if is_packed(projection) else tolerance(z)
        if not error <= allowed:
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


def _norm_behind(model: HeadModel, layer: LayerAnatomy, seen: _Seen) -> str | None:
    """The norm that reads what attention writes and nothing else, and only scales it: a sandwich norm."""
    written = seen.written[layer.attention]
    if written.shape == seen.z[layer.attention].shape and torch.equal(written, seen.z[layer.attention]):
        return None  # the projection stands behind the module, as in BERT
    for path, (given, returned) in seen.norms.items():
        if given.numel() == written.numel() and torch.equal(given.reshape(written.shape), written):
            gain = gain_of(model.module(path), written.shape[-1])
            scaled = given.float() * gain * true_scale(given, returned, gain)[..., None]
            if (scaled - returned).norm() <= tolerance(returned) * returned.norm():
                return path
    return None


def _before_norm(layer: LayerAnatomy, seen: _Seen) -> Tensor:
    """Input of the projection, or of a norm right before it (KOSMOS-2, BitNet), behind which zeros need not be zeros."""
    z = seen.z[layer.attention]
    for given, returned in seen.normed.get(layer.attention, []):
        if returned.numel() == z.numel() and torch.equal(returned.reshape(z.shape), z):
            return given.reshape(z.shape)
    return z


def _pads_left(model: HeadModel, layer: LayerAnatomy, seen: _Seen, *, n_tokens: int) -> bool:
    padded = _run(model, n_tokens=n_tokens, n_padding=2).z[layer.attention][-n_tokens:].double()
    alone = seen.z[layer.attention].double()
    return bool((padded - alone).norm() <= 10 * tolerance(seen.z[layer.attention]) * alone.norm())
