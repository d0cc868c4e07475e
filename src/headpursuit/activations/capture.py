"""Capture: what every head writes, reduced to one row per sample inside the hook.

The tap is a forward pre-hook on the output projection. Its input holds the heads side by side, whatever attention kernel
filled it; behind the projection they are already mixed.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.positions import Positions, check_positions, position_mask
from headpursuit.activations.store import CaptureFolder, open_capture
from headpursuit.errors import HeadPursuitError
from headpursuit.model.batching import Batch, Prompt, collate, make_prompt
from headpursuit.model.head_model import evaluating
from headpursuit.model.samples import Sample, as_samples, fingerprint
from headpursuit.model.weights import LiveWeights

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor, nn

    from headpursuit.model.head_model import HeadModel


def capture(
    model: HeadModel,
    samples: str | Path | Iterable[str | Sample],
    *,
    positions: Positions = "mean",
    out: str | Path | None = None,
    batch_size: int = 16,
    limit: int | None = None,
    skip_bad: bool = False,
    progress: bool = True,
) -> HeadActivations:
    """Read what every head writes for every sample (Head Pursuit, section 3).

    Args:
        model: the model.
        samples: strings, samples, or the path of a file or an image folder.
        positions: which tokens become a sample's row, see :func:`headpursuit.activations.positions.position_mask`.
        out: a folder to keep the result in, shard by shard; a capture that was cut off goes on where it stopped.
        batch_size: samples run together, padded on the right.
        limit: only the first so many samples.
        skip_bad: go on past samples that cannot be used, and count them, instead of stopping at the first.
        progress: show a progress bar.

    Returns:
        The activations; those in ``out`` are read from there, memory-mapped.

    Raises:
        HeadPursuitError: a sample cannot be used, ``out`` holds something else, values are not finite or do not vary.
    """
    check_positions(positions)
    chosen = as_samples(samples, limit=limit)
    about = {
        "positions": positions,
        "n_samples": len(chosen),
        "data": fingerprint(chosen),
        "chat_template": bool(model.has_chat_template and any(sample.chat for sample in chosen)),
        "dtype": str(model.hf.dtype).removeprefix("torch."),
        "versions": versions(),
    }
    folder = None if out is None else CaptureFolder.create(Path(out), model=model, about=about)
    start = 0 if folder is None else folder.samples_done
    rows: dict[int, list[Tensor]] = {layer.index: [] for layer in model.anatomy.layers}
    skipped: list[str] = []
    bar = tqdm(total=len(chosen), initial=start, desc="capture", unit="sample", disable=not progress, leave=False)
    with bar:
        for first in range(start, len(chosen), batch_size):
            part = chosen[first : first + batch_size]
            bad: list[str] = []
            means = _capture_part(model, part, positions=positions, bad=bad if skip_bad else None)
            if folder is not None:
                folder.append(means, skipped=bad, samples_done=first + len(part))
            for layer, mean in means.items():
                rows[layer].append(mean)
            skipped.extend(bad)
            bar.update(len(part))
    if folder is not None:
        folder.finish()
        return open_capture(folder.path)
    if not any(mean.shape[0] for mean in rows[model.anatomy.layers[0].index]):
        raise HeadPursuitError(f"every sample was skipped: {skipped[0]}")
    acts = HeadActivations(
        z={layer: torch.cat(means) for layer, means in rows.items()},
        positions=positions,
        weights=LiveWeights(model),
        tokenizer=model.tokenizer,
        model=model.identity,
        about={**about, "skipped": skipped},
    )
    acts.check()
    return acts


def capture_batch(model: HeadModel, batch: Batch, mask: Bool[Tensor, "b t"]) -> dict[int, Float[Tensor, "b h e"]]:
    """Mean head activation over the masked tokens, for every head.

    Args:
        model: the model.
        batch: tokenized prompts.
        mask: the tokens to average, at least one in each row, shape ``(b, t)``.

    Returns:
        For each layer a float32 tensor ``(b, h, e)`` on the CPU.
    """
    weights = mask.float() / mask.sum(dim=1, keepdim=True)
    means: dict[int, Tensor] = {}

    def reduce(layer: int, n_heads: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            z = args[0].float()
            mean = torch.einsum("bt,btc->bc", weights.to(z.device), z)
            means[layer] = mean.unflatten(1, (n_heads, -1)).cpu()

        return hook

    with (
        _hooks(
            model.module(layer.projection).register_forward_pre_hook(reduce(layer.index, layer.n_heads))
            for layer in model.anatomy.layers
        ),
        torch.no_grad(),
        evaluating(model.hf),
    ):
        model.hf(**batch.inputs, use_cache=False, logits_to_keep=1)
    return means


def versions() -> dict[str, str]:
    """Versions of what a number depends on."""
    import transformers

    from headpursuit import __version__

    return {
        "headpursuit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


@contextmanager
def _hooks(handles: Iterable[Any]) -> Iterator[None]:
    held = list(handles)
    try:
        yield
    finally:
        for handle in held:
            handle.remove()


def _capture_part(
    model: HeadModel, samples: Sequence[Sample], *, positions: Positions, bad: list[str] | None
) -> dict[int, Tensor]:
    """Capture a few samples; with a list for ``bad`` ones, fall back to one by one and note those that fail there."""
    try:
        prompts = [make_prompt(model, sample) for sample in samples]
        batch, mask = _tokenize(model, prompts, positions)
    except HeadPursuitError as error:
        if bad is None:
            raise
        if len(samples) > 1:
            parts = [_capture_part(model, [sample], positions=positions, bad=bad) for sample in samples]
            return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}
        bad.append(str(error))
        return {layer.index: torch.empty(0, layer.n_heads, layer.head_width) for layer in model.anatomy.layers}
    return capture_batch(model, batch, mask)


def _tokenize(model: HeadModel, prompts: Sequence[Prompt], positions: Positions) -> tuple[Batch, Tensor]:
    batch = collate(model, prompts, side="right", with_target=positions == "answer")
    return batch, position_mask(positions, batch, prompts)
