"""Capture: what every head writes, reduced inside the hook to one row per sample or to moments.

The tap is a forward pre-hook on the output projection. Its input holds the heads side by side, whatever attention
kernel filled it; behind the projection they are already mixed.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from headpursuit.activations.positions import ALL, Positions, check_positions, position_mask
from headpursuit.activations.reading import Reading, Reducer, gathered, joined, mean_rows, token_moments
from headpursuit.activations.store import CaptureFolder, as_captured, open_capture
from headpursuit.errors import HeadPursuitError
from headpursuit.model.batching import Batch, Prompt, collate, make_prompt
from headpursuit.model.head_model import accepted, evaluating
from headpursuit.model.samples import Sample, as_samples, fingerprint
from headpursuit.model.weights import LiveWeights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headpursuit.activations.head_activations import HeadActivations
    from headpursuit.activations.moments import HeadMoments
    from headpursuit.model.anatomy import LayerAnatomy
    from headpursuit.model.head_model import HeadModel

    Samples = str | Path | Iterable[str | Sample]


def capture(
    model: HeadModel,
    samples: Samples,
    *,
    positions: Positions = "mean",
    out: str | Path | None = None,
    batch_size: int = 16,
    limit: int | None = None,
    skip_bad: bool = False,
    progress: bool = True,
) -> HeadActivations | HeadMoments:
    """Read what every head writes for every sample (Head Pursuit, section 3).

    Args:
        model: the model.
        samples: strings, samples, or the path of a file or an image folder.
        positions: which tokens become a sample's row, see :func:`headpursuit.activations.positions.position_mask`; ``all``
            makes every token a row of its own and keeps only moments, in memory that does not grow with the samples.
        out: a folder to keep the result in, part by part; a capture that was cut off goes on where it stopped.
        batch_size: samples run together, padded on the right.
        limit: only the first so many samples.
        skip_bad: go on past samples that cannot be used, and count them, instead of stopping at the first.
        progress: show a progress bar.

    Returns:
        The activations, or for ``all`` their moments; those in ``out`` are read from there.

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
    readings: list[Reading] = []
    skipped: list[str] = []
    bar = tqdm(total=len(chosen), initial=start, desc="capture", unit="sample", disable=not progress, leave=False)
    with bar:
        for first in range(start, len(chosen), batch_size):
            part = chosen[first : first + batch_size]
            bad: list[str] = []
            read = _read_part(model, part, positions=positions, bad=bad if skip_bad else None)
            if folder is not None:
                folder.append(read, skipped=bad, samples_done=first + len(part))
            else:
                readings = gathered(readings, read, add=positions == ALL)
            skipped.extend(bad)
            bar.update(len(part))
    if folder is not None:
        folder.finish()
        return open_capture(folder.path)
    if not readings:
        raise HeadPursuitError(f"every sample was skipped: {skipped[0]}")
    acts = as_captured(
        joined(readings, add=positions == ALL),
        positions=positions,
        weights=LiveWeights(model),
        tokenizer=model.tokenizer,
        model=model.identity,
        about={**about, "skipped": skipped},
    )
    acts.check()
    return acts


def read_batch(model: HeadModel, batch: Batch, reducer: Reducer) -> Reading:
    """Run the model once and reduce what enters every output projection, inside the hook."""
    reading: Reading = {}
    ran: set[int] = set()

    def tap(layer: LayerAnatomy) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args[0].shape[:2] != batch.real.shape:
                raise HeadPursuitError(
                    f"{layer.projection} reads {tuple(args[0].shape[:2])} tokens, the batch has {tuple(batch.real.shape)}: "
                    f"{model.source.architecture} adds tokens of its own, so which are the text's cannot be told"
                )
            reading.update(reducer(layer, args[0]))
            ran.add(layer.index)

        return hook

    taps = (model.module(layer.projection).register_forward_pre_hook(tap(layer)) for layer in model.anatomy.layers)
    with _hooks(taps), torch.no_grad(), evaluating(model.hf):
        model.hf(**batch.inputs, **accepted(model.hf.forward, {"use_cache": False, "logits_to_keep": 1}))
    unread = [f"L{layer.index}" for layer in model.anatomy.layers if layer.index not in ran]
    if unread:
        raise HeadPursuitError(f"{', '.join(unread)} attend to an image and did not run: give every sample an image")
    return reading


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


def _read_part(
    model: HeadModel, samples: Sequence[Sample], *, positions: Positions, bad: list[str] | None
) -> list[Reading]:
    """Read a few samples; with a list for ``bad`` ones, fall back to one by one and note those that fail there."""
    try:
        prompts = [make_prompt(model, sample) for sample in samples]
        batch, mask = _tokenize(model, prompts, positions)
    except HeadPursuitError as error:
        if bad is None:
            raise
        if len(samples) > 1:
            return [one for sample in samples for one in _read_part(model, [sample], positions=positions, bad=bad)]
        bad.append(str(error))
        return []
    return [read_batch(model, batch, (token_moments if positions == ALL else mean_rows)(mask))]


def _tokenize(model: HeadModel, prompts: Sequence[Prompt], positions: Positions) -> tuple[Batch, Tensor]:
    if positions == "image" and model.anatomy.attends_across:
        raise HeadPursuitError(
            f"{model.source.architecture} attends to the image from outside the text, so that no token stands for a patch; "
            "choose other positions"
        )
    batch = collate(model, prompts, side="right", with_target=positions == "answer")
    return batch, position_mask(positions, batch, prompts)
