"""Capture: what every head writes, reduced inside the hook to one row per sample or to moments.

Activations are read by a forward pre-hook on the output projection. Its input holds the heads side by side, whatever attention
kernel filled it; behind the projection they are already mixed.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from headpursuit.activations.batching import batches, windows
from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.positions import ALL, Positions, check_positions
from headpursuit.activations.recording import read_batch, read_tower
from headpursuit.activations.reducers import Reading, gathered, in_order, joined, mean_rows, token_moments
from headpursuit.activations.store import CaptureFolder, as_captured
from headpursuit.activations.tokens import tokenize
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.files import locked
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, as_model
from headpursuit.model.samples import Sample, Samples, as_samples, fingerprint
from headpursuit.model.tokenize import count_tokens, make_prompt
from headpursuit.model.weights import LiveWeights
from headpursuit.versions import versions


def capture(
    model: ModelLike,
    samples: Samples,
    *,
    positions: Positions = "mean",
    through_norm: bool = False,
    out: str | Path | None = None,
    batch_size: int = 16,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    progress: bool = True,
) -> HeadActivations | HeadMoments:
    """Read what every head writes for every sample (Head Pursuit, section 3).

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        samples: texts, samples, records, a DataFrame, or the path of a file or an image folder, see
            :func:`headpursuit.model.samples.as_samples`.
        positions: which tokens become a sample's row, see :func:`headpursuit.activations.positions.position_mask`; ``all``
            makes every token a row of its own and keeps only moments, in memory that does not grow with the samples. In a
            vision tower a sample's tokens are all that the tower reads of its image: every tile's patches, and a class token
            where there is one (``mean``, ``image`` or ``all``).
        through_norm: where a norm stands between output projection and residual stream (Gemma 2 and 3, OLMo 2, …), read what
            each head writes behind it: ``z`` times the norm's true scale of each token, and the norm's gain in the projection.
        out: a folder to keep the result in, part by part; a capture that was cut off goes on where it stopped.
        batch_size: samples run together, padded on the right, at most; those of like lengths do, out of 16 batches at a time.
        limit: only the first so many samples.
        sample: of these, only a random draw of so many without replacement, in their order.
        seed: seed of the draw.
        skip_bad: go on past samples that cannot be used, and count them, instead of stopping at the first.
        progress: show a progress bar.

    Returns:
        The activations, or for ``all`` their moments; those in ``out`` are read from there.

    Raises:
        HeadPursuitError: a sample cannot be used, ``out`` holds something else, values are not finite or do not vary.

    >>> acts = hp.capture(model, samples, positions="answer", progress=False)
    >>> acts.z[0].shape  # samples, heads, head width
    torch.Size([24, 17, 24])
    >>> hp.capture(model, samples, positions="all", sample=4, progress=False)
    HeadMoments(demo, n=195, positions='all': 51 text heads in 3 layers)
    """
    check_counts(batch_size=batch_size, limit=limit, sample=sample)
    check_counts(*SEEDS, seed=seed)
    check_positions(positions)
    model = as_model(model)
    check_positions(positions, part=model.anatomy.part)
    if through_norm and not any(layer.norm for layer in model.anatomy.layers):
        raise HeadPursuitError(
            f"{model.source.architecture} has no norm between output projections and residual stream: leave through_norm out"
        )
    chosen = as_samples(samples, limit=limit, sample=sample, seed=seed)
    counts = count_tokens(model, chosen)
    about = {
        "positions": positions,
        "n_samples": len(chosen),
        "data": fingerprint(chosen),
        "tokens": counts.fingerprint,
        "chat_template": bool(model.has_chat_template and any(sample.chat for sample in chosen)),
        "dtype": str(model.hf.dtype).removeprefix("torch."),
        "versions": versions(),
        **({"through_norm": True} if through_norm else {}),
    }
    lengths = counts.whole if positions == "answer" else counts.before
    read = partial(_read_windows, model, chosen, lengths, positions=positions, through_norm=through_norm, batch_size=batch_size)
    options: dict[str, Any] = {"skip_bad": skip_bad, "progress": progress}
    if out is not None:
        with locked(Path(out)):
            folder = CaptureFolder.create(Path(out), model=model, about=about)
            if not folder.index.complete:
                for part, bad, done in read(start=folder.samples_done, **options):
                    folder.append(part, skipped=bad, samples_done=done)
            return folder.finish(model.tokenizer)
    readings: list[Reading] = []
    skipped: list[str] = []
    for part, bad, _ in read(start=0, **options):
        readings = gathered(readings, part, add=positions == ALL)
        skipped.extend(bad)
    if not readings:
        raise HeadPursuitError(f"every sample was skipped: {skipped[0]}")
    acts = as_captured(
        joined(readings, add=positions == ALL),
        positions=positions,
        weights=LiveWeights(model, through_norm=through_norm),
        tokenizer=model.tokenizer,
        model=model.identity,
        about={**about, "skipped": skipped},
    )
    acts.check()
    return acts


def _read_windows(
    model: HeadModel,
    samples: Sequence[Sample],
    lengths: Sequence[int],
    *,
    positions: Positions,
    through_norm: bool,
    batch_size: int,
    start: int,
    skip_bad: bool,
    progress: bool,
) -> Iterator[tuple[list[Reading], list[str], int]]:
    """What each window of samples gives, those in it that were skipped, and how many samples are done with it."""
    add = positions == ALL
    read = partial(_read_rows, model, samples, positions=positions, through_norm=through_norm)
    bar = tqdm(total=len(samples), initial=start, desc="capture", unit="sample", disable=not progress, leave=False)
    with bar:
        for window in windows(len(samples), batch_size=batch_size, start=start):
            readings: list[Reading] = []
            bad: dict[int, str] = {}
            order: list[int] = []
            with_image = [row for row in window if samples[row].image is not None]
            without = [row for row in window if samples[row].image is None]
            for alike in (with_image, without):  # an image has more tokens than are counted here, its patches
                for rows in batches(alike, lengths, batch_size=batch_size, device=model.device.type):
                    readings = gathered(readings, read(rows, bad=bad if skip_bad else None), add=add)
                    order.extend(row for row in rows if row not in bad)
                    bar.update(len(rows))
            whole = readings if add or not order else [in_order(readings, order)]
            yield whole, [bad[row] for row in sorted(bad)], window.stop


def _read_rows(
    model: HeadModel,
    samples: Sequence[Sample],
    rows: Sequence[int],
    *,
    positions: Positions,
    through_norm: bool,
    bad: dict[int, str] | None,
) -> list[Reading]:
    """Read the samples of a few numbers; with a place for ``bad`` ones, fall back to one by one and note those that fail."""

    def one_by_one() -> list[Reading]:
        return [
            one
            for row in rows
            for one in _read_rows(model, samples, [row], positions=positions, through_norm=through_norm, bad=bad)
        ]

    in_tower = model.anatomy.part == "vision"
    if in_tower and len(rows) > 1:  # towers run tiles of all images together, and do not say which is whose
        return one_by_one()
    try:
        prompts = [make_prompt(model, samples[row]) for row in rows]
        batch, mask = tokenize(model, prompts, positions)
    except HeadPursuitError as error:
        if bad is None:
            raise
        if len(rows) > 1:
            return one_by_one()
        bad[rows[0]] = str(error)
        return []
    reduce_by = token_moments if positions == ALL else mean_rows
    if in_tower:
        return [read_tower(model, batch, reduce_by)]
    return [read_batch(model, batch, reduce_by(mask), through_norm=through_norm)]
