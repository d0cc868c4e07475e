"""Blocks: the runs of samples that a capture reads, keeps and does again as one, each known by its content."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from headpursuit.errors import HeadPursuitError
from headpursuit.files import digest
from headpursuit.model.loaded import LoadedModel
from headpursuit.model.samples import Sample, SampleFiles, content_of, fingerprint
from headpursuit.model.tokenize import count_tokens

# Samples of a block, and so of a batch at most. Fewer lose less where a run is cut off, and pad more.
BLOCK = 256


@dataclass(frozen=True)
class Block:
    """A run of samples.

    Attributes:
        key: a digest of the samples' content and tokens, and of what else decides what is read of them.
        samples: the samples.
        lengths: the tokens that each has.
        start: the number of the first one among all samples.
        kept: the places of those whose rows are kept where moments are added up.
    """

    key: str
    samples: Sequence[Sample] = field(repr=False)
    lengths: Sequence[int] = field(repr=False)
    start: int
    kept: Collection[int] = ()


@dataclass(frozen=True)
class Survey:
    """What one pass over all samples tells, before any of them is run.

    Attributes:
        n: their number.
        data: SHA-256 of their content in 16 digits, that of :func:`headpursuit.model.samples.fingerprint`.
        tokens: SHA-256 of all their tokens in 16 digits.
        chat: whether one of them wants the chat template.
        keys: of the blocks, in their order.
        sizes: samples of each block.
        contents: the fingerprint of each block's samples, by which it is seen that they changed.
        lengths: the tokens that each sample has.
    """

    n: int
    data: str
    tokens: str
    chat: bool
    keys: tuple[str, ...] = field(repr=False)
    sizes: tuple[int, ...] = field(repr=False)
    contents: tuple[str, ...] = field(repr=False)
    lengths: Sequence[int] = field(repr=False)


def survey(
    model: LoadedModel, source: Sequence[Sample] | SampleFiles, *, size: int, with_target: bool, about: Mapping[str, Any]
) -> Survey:
    """Go through samples once, block by block: count them, hash them, and count their tokens.

    Args:
        model: whose tokens are counted.
        source: the samples, none of which is held.
        size: samples of a block. A file begins a block of its own, so that blocks stay what they are where files are added.
        with_target: whether the tokens of targets are read.
        about: what else decides what is read, in plain values.
    """
    whole, tokens = hashlib.sha256(), hashlib.sha256()
    keys: list[str] = []
    contents: list[str] = []
    sizes: list[int] = []
    lengths, chat, images = array("L"), False, False
    seen: Counter[tuple[str, str]] = Counter()
    for samples in _runs(source, size):
        own = hashlib.sha256()
        for piece in (piece for sample in samples for piece in content_of(sample)):
            whole.update(piece)
            own.update(piece)
        counts = count_tokens(model, samples, whole_hash=tokens)
        told = (own.hexdigest()[:16], counts.fingerprint)
        # The same samples may be there twice, and then count twice.
        keys.append(digest({**about, "samples": told[0], "tokens": told[1], "again": seen[told]}))
        seen[told] += 1
        contents.append(told[0])
        sizes.append(len(samples))
        lengths.extend(counts.whole if with_target else counts.before)
        chat = chat or any(sample.chat for sample in samples)
        images = images or any(sample.image is not None for sample in samples)
    if images and model.images is not None:
        tokens.update(model.processor.image_processor.to_json_string().encode())
    return Survey(
        n=sum(sizes),
        data=whole.hexdigest()[:16],
        tokens=tokens.hexdigest()[:16],
        chat=chat,
        keys=tuple(keys),
        sizes=tuple(sizes),
        contents=tuple(contents),
        lengths=lengths,
    )


def blocks(
    source: Sequence[Sample] | SampleFiles,
    found: Survey,
    *,
    size: int,
    without: Collection[str] = (),
    kept: Mapping[str, Collection[int]] | None = None,
) -> Iterator[Block]:
    """The blocks that are still to be read, each made when it is asked for.

    Args:
        source: the samples.
        found: what :func:`survey` told of them.
        size: samples of a block.
        without: keys of the blocks that are done.
        kept: for blocks by their keys the places of the samples whose rows are kept.

    Raises:
        HeadPursuitError: there are other samples now than when they were surveyed.
    """
    start, runs = 0, _runs(source, size)
    for key, count, content in zip(found.keys, found.sizes, found.contents, strict=True):
        samples = next(runs, [])
        if len(samples) != count or (key not in without and fingerprint(samples) != content):
            raise HeadPursuitError("the samples changed while they were read: leave their files as they are, and run again")
        if key not in without:
            yield Block(key, samples, found.lengths[start : start + count], start, tuple((kept or {}).get(key, ())))
        start += count


def _runs(source: Sequence[Sample] | SampleFiles, size: int) -> Iterator[list[Sample]]:
    parts: Iterable[Iterable[Sample]] = source.parts() if isinstance(source, SampleFiles) else [source]
    for part in parts:
        rows = iter(part)
        while samples := list(islice(rows, size)):
            yield samples
