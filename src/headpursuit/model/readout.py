"""The norm between the residual stream and the unembedding, found by what passes through it.

Layers have many norms, and decoders of BART's kind one behind the embedding that looks like a final one. So the whole
model runs on a few tokens, and the final norm is the module whose output is what the unembedding reads.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from headpursuit.errors import HeadPursuitError
from headpursuit.hooks import Hooks
from headpursuit.model.attention import is_norm
from headpursuit.model.head_model import HeadModel, accepted, evaluating
from headpursuit.model.probing import CANNOT_RUN, made_up_states, run_on_image, tolerance


@dataclass
class _Readout:
    """The last token's way from the last norm to its logits."""

    normed: dict[str, Tensor] = field(default_factory=dict)
    read: Tensor | None = None
    written: Tensor | None = None
    logits: Tensor | None = None


def final_norm_of(model: HeadModel, *, n_tokens: int = 4) -> str | None:
    """Find the norm whose output the unembedding reads, up to one factor, and prove that the logits are the unembedding's.

    Args:
        model: with an anatomy that names the unembedding.
        n_tokens: length of the made-up text.

    Returns:
        Module path of the norm; None where no norm stands right before the unembedding, or none can be proven to: the model
        wants more than made-up text and images.

    Raises:
        HeadPursuitError: the logits are not in the order of the unembedding's rows times what it reads, soft-caps and positive
            factors aside, so that its rows do not name what heads write.
    """
    seen = _run(model, n_tokens=n_tokens)
    if seen.read is None:
        return None
    _check_logits(model, seen)
    found = [path for path, normed in seen.normed.items() if _is_multiple(seen.read, normed)]
    return found[-1] if found else None


def _run(model: HeadModel, *, n_tokens: int) -> _Readout:
    seen = _Readout()
    width = model.anatomy.width

    def keep_norm(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.shape[-1] == width:
                seen.normed.pop(path, None)
                seen.normed[path] = _last(output)

        return hook

    def keep_readout(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen.read, seen.written = _last(args[0]), _last(output)

    with Hooks() as hooks, torch.no_grad(), evaluating(model.hf):
        for path, module in model.hf.named_modules():
            if is_norm(module):
                hooks.after(module, keep_norm(path))
        hooks.after(model.module(model.anatomy.unembedding), keep_readout)
        _run_whole(model, seen, n_tokens=n_tokens)
    return seen


def _run_whole(model: HeadModel, seen: _Readout, *, n_tokens: int) -> None:
    """Run the smallest module that holds both decoder and unembedding; where text alone does not do, with an image."""
    both = zip(model.anatomy.decoder.split("."), model.anatomy.unembedding.split("."), strict=False)
    path = ".".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], both))
    module = model.module(path)
    tokens = torch.arange(1, n_tokens + 1, device=model.device)[None]
    states = made_up_states(model, model.module(model.anatomy.decoder), n_tokens=n_tokens)
    options: dict[str, Any] = {"use_cache": False, "input_ids": tokens, **states}
    if model.has_encoder and not path:
        encoded = states["encoder_hidden_states"]
        encoder_outputs = BaseModelOutputWithPooling(last_hidden_state=encoded, pooler_output=encoded)
        encoder_outputs["attention_mask"] = torch.ones_like(encoded[..., 0])  # UDOP's encoder returns one
        options = {"use_cache": False, "decoder_input_ids": tokens, "encoder_outputs": encoder_outputs}
    try:
        seen.logits = _last(module(**accepted(module.forward, options)).logits)
        return
    except CANNOT_RUN:
        seen.read = None
    if model.images is not None:
        with suppress(*CANNOT_RUN, HeadPursuitError):
            seen.logits = _last(run_on_image(model).logits)


def _check_logits(model: HeadModel, seen: _Readout) -> None:
    if seen.logits is None or seen.written is None or seen.logits.shape != seen.written.shape:
        return
    open_to_all = torch.isfinite(seen.logits) & (seen.logits > torch.finfo(seen.logits.dtype).min / 2)
    if not open_to_all.any():
        raise HeadPursuitError(
            f"{model.source.id}: none of its logits on a few tokens is a finite number: its weights are damaged, or do not fit "
            f"{str(seen.logits.dtype).removeprefix('torch.')}"
        )
    raw, logits = seen.written[open_to_all].double(), seen.logits[open_to_all].double()
    ordered = logits[raw.argsort()]
    slack = tolerance(seen.logits) * float(logits.abs().max())
    if float((ordered.cummax(0).values - ordered).max()) > slack:
        raise HeadPursuitError(
            f"{model.source.architecture}: its logits are not in the order of what {model.anatomy.unembedding} writes, so the "
            "rows of its unembedding do not name what heads write; this architecture is not supported"
        )


def _is_multiple(read: Tensor, normed: Tensor) -> bool:
    ours, theirs = read.double(), normed.double()
    factor = (ours @ theirs) / (theirs @ theirs).clamp_min(1e-30)
    return bool(factor > 0 and (ours - factor * theirs).norm() <= tolerance(read) * ours.norm())


def _last(states: Tensor) -> Tensor:
    return states.detach().reshape(-1, states.shape[-1])[-1]
