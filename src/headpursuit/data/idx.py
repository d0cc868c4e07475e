"""MNIST (LeCun et al. 1998) in its own IDX files, as they are or gzipped."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from headpursuit.data.classes import DIGITS, class_name
from headpursuit.data.entries import Entry, Split, wanted
from headpursuit.data.records import Record
from headpursuit.errors import HeadPursuitError

_UNSIGNED_BYTE = 8
_LARGEST = 2**31  # bytes; a broken header may claim any number


def read_mnist(path: Path, split: Split) -> Iterator[Entry]:
    """Entries of the folder with ``train-images-idx3-ubyte``, ``t10k-images-idx3-ubyte`` and their labels.

    Raises:
        HeadPursuitError: a file is missing, its header is not that of an IDX file, or images and labels differ in number.
    """
    parts: dict[str, Literal["selection", "test"]] = {"train": "selection", "t10k": "test"}
    for prefix, part in parts.items():
        if not wanted(part, split):
            continue
        images = read_idx(_find(path, prefix, "images", 3), dimensions=3)
        labels = read_idx(_find(path, prefix, "labels", 1), dimensions=1)
        if len(images) != len(labels):
            raise HeadPursuitError(f"{path}: {len(images)} {prefix} images but {len(labels)} labels; fetch both files again")
        for index in range(len(labels)):
            make = partial(_record, images[index], int(labels[index]), where=f"{prefix} image {index}")
            yield Entry(key=f"{prefix}/{index}", part=part, make=make)


def read_idx(path: Path, *, dimensions: int) -> UInt8[np.ndarray, ...]:
    """The array in an IDX file of unsigned bytes, gzipped or not.

    The header is two zero bytes, the type (8), the number of dimensions, and each one's size as a big-endian 32-bit number.

    Raises:
        HeadPursuitError: the header is another, or the file is longer or shorter than it says.
    """
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
                raise HeadPursuitError(
                    f"{path}: not an IDX file of {dimensions}-dimensional bytes (its header begins {header[:4].hex(' ')})"
                )
            shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4", offset=4))
            size = math.prod(shape)
            content = file.read(min(size, _LARGEST) + 1)
    except (OSError, EOFError) as error:
        raise HeadPursuitError(f"{path}: cannot be read ({error}); fetch the file again") from error
    if len(content) != size:
        raise HeadPursuitError(f"{path}: its header says {size} bytes, but it holds others; fetch it again")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _record(pixels: UInt8[np.ndarray, "h w"], label: int, *, where: str) -> Record:
    return Record(image=Image.fromarray(pixels), label=class_name(label, DIGITS, where=where), where=where)


def _find(folder: Path, prefix: str, kind: str, dimensions: int) -> Path:
    names = [f"{prefix}-{kind}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise HeadPursuitError(f"{folder}: there is no {names[0]} or {names[1]}; give the folder of the four IDX files")
