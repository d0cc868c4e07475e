"""Capture: what every head writes, reduced inside the hook to one row per sample or to moments.

Activations are read by a forward pre-hook on the output projection. Its input holds the heads side by side, whatever attention
kernel filled it; behind the projection they are already mixed.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from headpursuit.activations.batching import batches
from headpursuit.activations.blocks import BLOCK, Block, blocks, survey
from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.activations.positions import ALL, Positions, check_positions
from headpursuit.activations.recording import read_batch, read_tower
from headpursuit.activations.reducers import (
    PLACES,
    Reading,
    Reducer,
    gathered,
    in_order,
    joined,
    mean_rows,
    moments_and_rows,
    parted,
)
from headpursuit.activations.reservoir import drawn
from headpursuit.activations.store import CaptureFolder, adds_up, as_captured, open_sent, rows_by_layer
from headpursuit.activations.tokens import tokenize
from headpursuit.engines import Engine, EngineName, LostPartError, as_engine, connected, mapped
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts
from headpursuit.files import locked
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, as_model, setup_for
from headpursuit.model.samples import Sample, Samples, as_source
from headpursuit.model.tokenize import make_prompt
from headpursuit.model.weights import LiveWeights
from headpursuit.stores import address, staged
from headpursuit.versions import versions


def capture(
    model: ModelLike,
    samples: Samples,
    *,
    positions: Positions = "mean",
    through_norm: bool = False,
    keep_rows: int | None = None,
    out: str | Path | None = None,
    batch_size: int = 16,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    engine: EngineName | Engine = "local",
    workers: int | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    progress: bool = True,
) -> HeadActivations | HeadMoments:
    """Read what every head writes for every sample (Head Pursuit, section 3).

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        samples: texts, samples, records, a DataFrame, or the path of a file, of several (``part-*.jsonl``) or of an image
            folder, here or in a store, see :func:`headpursuit.model.samples.as_samples`. Files are read block by block.
        positions: which tokens become a sample's row, see :func:`headpursuit.activations.positions.position_mask`; ``all``
            makes every token a row of its own and keeps only moments, in memory that does not grow with the samples. In a
            vision tower a sample's tokens are all that the tower reads of its image: every tile's patches, and a class token
            where there is one (``mean``, ``image`` or ``all``).
        through_norm: where a norm stands between output projection and residual stream (Gemma 2 and 3, OLMo 2, …), read what
            each head writes behind it: ``z`` times the norm's true scale of each token, and the norm's gain in the projection.
        keep_rows: keep moments, in memory that does not grow with the samples, and beside them the rows of a random draw of so
            many samples, for what looks at single ones: the paper's own criterion (``l1``), the logit lens, driving samples.
            For ``all`` such a row is the mean over the sample's tokens. The draw depends on the samples and the seed alone.
        out: a folder to keep the result in, block by block, on this machine or in a store (``s3://…``); a capture that was cut
            off goes on where it stopped, and one of files goes on with those that were added to them.
        batch_size: samples run together, padded on the right, at most; those of like lengths do, out of the 256 of a block.
        limit: only the first so many samples.
        sample: of these, only a random draw of so many without replacement, in their order.
        seed: seed of both draws.
        skip_bad: go on past samples that cannot be used, and count them, instead of stopping at the first; past blocks of
            which one worker after the other died, too.
        engine: ``local``, this process; or ``ray``, workers that load the model once each and read block by block, on the
            cluster at ``RAY_ADDRESS`` or on this machine. The result is the same. Or an :class:`headpursuit.engines.Engine`.
        workers: how many workers; as many as fit when left out.
        cpus_per_worker: CPUs that each takes, 1 when left out.
        gpus_per_worker: GPUs that each takes, none when left out.
        progress: show a progress bar.

    Returns:
        The activations, or for ``all`` and with ``keep_rows`` their moments; those in ``out`` are read from there.

    Raises:
        HeadPursuitError: a sample cannot be used, ``out`` holds something else, values are not finite or do not vary.

    >>> acts = hp.capture(model, samples, positions="answer", progress=False)
    >>> acts.z[0].shape  # samples, heads, head width
    torch.Size([24, 20, 16])
    >>> hp.capture(model, samples, positions="all", sample=4, progress=False)
    HeadMoments(demo, n=195, positions='all': 120 text heads in 6 layers)
    >>> hp.capture(model, samples, keep_rows=8, progress=False)
    HeadMoments(demo, n=24, positions='mean': 120 text heads in 6 layers, rows of 8 samples)
    """
    check_counts(batch_size=batch_size, limit=limit, sample=sample, keep_rows=keep_rows)
    check_counts(*SEEDS, seed=seed)
    check_positions(positions)
    where = as_engine(engine, workers=workers, cpus_per_worker=cpus_per_worker, gpus_per_worker=gpus_per_worker)
    with connected(where):  # before anything is opened or read
        model = as_model(model)
        check_positions(positions, part=model.anatomy.part)
        if through_norm and not any(layer.norm for layer in model.anatomy.layers):
            raise HeadPursuitError(
                f"{model.source.architecture} has no norm between output projections and residual stream: "
                "leave through_norm out"
            )
        source = as_source(samples, limit=limit, sample=sample, seed=seed)
        alike = {
            "positions": positions,
            "dtype": str(model.hf.dtype).removeprefix("torch."),
            "versions": versions(),
            **({"through_norm": True} if through_norm else {}),
            **({"keep_rows": {"n": keep_rows, "seed": seed}} if keep_rows else {}),
        }
        add = adds_up(alike)
        identity = {**model.identity, "id": None}
        found = survey(model, source, size=BLOCK, with_target=positions == "answer", about={**alike, "model": identity})
        about = {
            **alike,
            "n_samples": found.n,
            "data": found.data,
            "tokens": found.tokens,
            "chat_template": bool(model.has_chat_template and found.chat),
        }
        kept_rows = drawn(found, count=keep_rows, seed=seed) if keep_rows else {}
        bar = tqdm(total=found.n, desc="capture", unit="sample", disable=not progress, leave=False)
        options: dict[str, Any] = {"positions": positions, "through_norm": through_norm, "batch_size": batch_size}
        read = partial(_read_block, add=add, skip_bad=skip_bad, **options)

        def readings(done: Collection[str]) -> Iterator[tuple[Block, Reading, list[str]]]:
            """What is read of each block that is not done yet."""
            if before := sum(count for key, count in zip(found.keys, found.sizes, strict=True) if key in done):
                bar.update(before)
            here = where.name == "local"  # where the bar moves batch by batch
            setup = setup_for(partial(read, bar=bar) if here else read, model, engine=where)
            todo = blocks(source, found, size=BLOCK, without=done, kept=kept_rows)
            for block, given in mapped(todo, setup, engine=where, name=_name_of):
                if isinstance(given, LostPartError):
                    if not skip_bad:
                        raise given
                    given = {}, [str(given)] * len(block.samples)
                if not here:
                    bar.update(len(block.samples))
                yield block, *given

        with bar:
            if out is not None:
                with staged(out) as folder, locked(folder):
                    kept = CaptureFolder.create(folder, model=model, about=about, keys=found.keys, drawn=kept_rows)
                    if not kept.index.complete:
                        for block, reading, skipped in readings(kept.done):
                            kept.append(block.key, reading, n=len(block.samples), skipped=skipped)
                    acts = kept.finish(model.tokenizer)
                    sent_to = address(out)
                    return acts if sent_to is None else open_sent(folder, sent_to, model.tokenizer)
            whole: list[Reading] = []
            rows: list[Reading] = []
            numbers: list[tuple[int, int]] = []  # of the samples whose rows are kept, and of their draw
            bad: list[str] = []
            for block, reading, skipped in readings(()):
                if PLACES in reading:
                    reading, own = parted(reading)
                    places = own.pop(PLACES).tolist()
                    numbers += [(block.start + place, kept_rows[block.key][place]) for place in places]
                    rows.append(own)
                whole = gathered(whole, [reading] if reading else [], add=add)
                bad.extend(skipped)
        if not whole:
            raise HeadPursuitError(f"every sample was skipped: {bad[0]}")
        acts = as_captured(
            joined(whole, add=add),
            rows=rows_by_layer(rows),
            numbers=numbers,
            positions=positions,
            weights=LiveWeights(model, through_norm=through_norm),
            tokenizer=model.tokenizer,
            model=model.identity,
            about={**about, "skipped": bad},
        )
        acts.check()
        return acts


def _name_of(block: Block) -> str:
    return f"samples {block.start} to {block.start + len(block.samples) - 1}"


def _read_block(
    model: HeadModel,
    block: Block,
    *,
    add: bool,
    positions: Positions,
    through_norm: bool,
    batch_size: int,
    skip_bad: bool,
    bar: Any = None,
) -> tuple[Reading, list[str]]:
    """What the samples of a block give, and messages of those that were skipped; an empty reading where all were."""
    samples, wanted = block.samples, set(block.kept)
    reducer = partial(_reducer, positions=positions, add=add, kept=wanted)
    readings: list[Reading] = []
    kept: list[Reading] = []
    bad: dict[int, str] = {}
    order: list[int] = []
    with_image = [row for row, sample in enumerate(samples) if sample.image is not None]
    without = [row for row, sample in enumerate(samples) if sample.image is None]
    for alike in (with_image, without):  # an image has more tokens than are counted here, its patches
        for rows in batches(alike, block.lengths, batch_size=batch_size, device=model.device.type):
            noted = bad if skip_bad else None
            new = _read_rows(model, samples, rows, reducer, positions=positions, through_norm=through_norm, bad=noted)
            if add:
                new, beside = [list(part) for part in zip(*map(parted, new), strict=True)] or [[], []]
                kept += [one for one in beside if one]
            readings = gathered(readings, new, add=add)
            order.extend(row for row in rows if row not in bad)
            if bar is not None:
                bar.update(len(rows))
    skipped = [bad[row] for row in sorted(bad)]
    if not readings:
        return {}, skipped
    if not add:
        return in_order(readings, order), skipped
    if not kept:
        return readings[0], skipped
    places = [row for row in order if row in wanted]
    return {**readings[0], **in_order(kept, places), PLACES: torch.tensor(sorted(places))}, skipped


def _reducer(rows: Sequence[int], *, positions: Positions, add: bool, kept: Collection[int]) -> Callable[[Any], Reducer]:
    """What makes a reducer of the mask of a batch, which is made of those samples of a block."""
    if not add:
        return mean_rows
    places = [place for place, row in enumerate(rows) if row in kept]
    return partial(moments_and_rows, kept=places, of_tokens=positions == ALL)


def _read_rows(
    model: HeadModel,
    samples: Sequence[Sample],
    rows: Sequence[int],
    reducer: Callable[[Sequence[int]], Callable[[Any], Reducer]],
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
            for one in _read_rows(model, samples, [row], reducer, positions=positions, through_norm=through_norm, bad=bad)
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
    reduce_by = reducer(rows)
    if in_tower:
        return [read_tower(model, batch, reduce_by)]
    return [read_batch(model, batch, reduce_by(mask), through_norm=through_norm)]
