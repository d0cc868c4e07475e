"""Samples: what a user wants the model to see, in memory or in a file."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headpursuit.errors import HeadPursuitError
from headpursuit.files import inside, json_lines, read_text
from headpursuit.optional import optional_import

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"})


@dataclass(frozen=True)
class Sample:
    """One input of the model.

    Attributes:
        text: the user's text.
        image: a PIL image, or the path of one, opened when it is needed.
        target: the answer hoped for; needed by ``positions="answer"`` and by metrics.
        chat: put the text through the model's chat template, where it has one.
        where: where it came from (``questions.jsonl line 7``), for messages.
    """

    text: str = ""
    image: Image | Path | str | None = None
    target: str | None = None
    chat: bool = True
    where: str = field(default="", compare=False)

    def open_image(self) -> Image | None:
        """The image in RGB, or None.

        Raises:
            HeadPursuitError: the file is missing or cannot be read as an image.
        """
        if self.image is None:
            return None
        if not isinstance(self.image, str | Path):
            return self.image.convert("RGB")
        import PIL.Image

        try:
            with PIL.Image.open(self.image) as opened:
                return opened.convert("RGB")
        except (OSError, ValueError, PIL.Image.DecompressionBombError) as error:
            raise HeadPursuitError(
                f"{self.where or 'sample'}: the image {self.image} cannot be read ({error})"
            ) from error


def as_samples(samples: str | Path | Iterable[str | Sample], *, limit: int | None = None) -> list[Sample]:
    """Turn strings, samples or a path into samples.

    Args:
        samples: strings, :class:`Sample` objects, or the path of a ``.txt``, ``.jsonl``, ``.csv`` or ``.parquet`` file or
            of a folder of images. A lone string is a path, as everywhere in this package.
        limit: keep only the first so many.

    Raises:
        HeadPursuitError: there are none, the file is missing, not UTF-8, or a line cannot be read (named by line).
    """
    if isinstance(samples, str | Path):
        found = load_samples(Path(samples))
        origin = str(samples)
    else:
        found = [
            sample if isinstance(sample, Sample) else Sample(text=sample, where=f"sample {number}")
            for number, sample in enumerate(samples)
        ]
        origin = "the list of samples"
    if limit is not None:
        found = found[:limit]
    if not found:
        raise HeadPursuitError(f"{origin} holds no samples: give at least one text or image")
    return found


def load_samples(path: Path) -> list[Sample]:
    """Read samples from a file or a folder of images.

    Records (``.jsonl``, ``.csv``, ``.parquet``) have the fields ``text``, ``image`` (a path inside the file's folder),
    ``target`` and ``chat``; text or image must be there.

    Raises:
        HeadPursuitError: see :func:`as_samples`.
    """
    if path.is_dir():
        images = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        return [Sample(image=file, where=str(file)) for file in images]
    return [_from_record(record, folder=path.parent, where=where) for where, record in read_rows(path)]


def fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256 of texts, targets and image bytes, so that a result names the data it came from."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample.text, sample.target, sample.chat]).encode())
        if isinstance(sample.image, str | Path):
            image = Path(sample.image)
            digest.update(image.read_bytes() if image.is_file() else str(image).encode())
        elif sample.image is not None:
            digest.update(repr((sample.image.size, sample.image.mode)).encode())
            digest.update(sample.image.tobytes())
    return digest.hexdigest()[:16]


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row of a file, behind where it stands (``questions.jsonl line 7``).

    A row of a ``.jsonl``, ``.csv`` or ``.parquet`` file is a mapping from fields to values, a line of a ``.txt`` file one with
    the field ``text``; blank lines are passed over.

    Raises:
        HeadPursuitError: see :func:`as_samples`.
    """
    if not path.exists():
        raise HeadPursuitError(
            f"there is no file {path}: give the path of a .txt, .jsonl, .csv or .parquet file or a folder"
        )
    suffix = path.suffix.lower()
    if suffix == ".txt":
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.strip():
                yield f"{path.name} line {number}", {"text": line.strip()}
    elif suffix == ".jsonl":
        yield from json_lines(path)
    elif suffix == ".csv":
        rows = csv.DictReader(read_text(path).splitlines())
        for row in rows:
            yield f"{path.name} line {rows.line_num}", row
    elif suffix == ".parquet":
        yield from _parquet_rows(path)
    else:
        raise HeadPursuitError(
            f"{path}: samples are read from .txt, .jsonl, .csv, .parquet files or a folder of images"
        )


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pandas as pd

    optional_import("pyarrow", extra="data", purpose="reading Parquet")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise HeadPursuitError(f"{path}: not a readable Parquet file ({error})") from error
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    for number, record in enumerate(records, start=1):
        yield f"{path.name} row {number}", record


def _from_record(record: Any, *, folder: Path, where: str) -> Sample:
    if not isinstance(record, dict):
        raise HeadPursuitError(f"{where}: expected an object with the fields text, image, target, got {record!r:.60}")
    text, image, target = record.get("text") or "", record.get("image") or None, record.get("target")
    if not text and image is None:
        raise HeadPursuitError(f"{where}: neither text nor image; give the field text, image or both")
    if image is not None:
        image = inside(folder, str(image), what="image", where=where)
    chat = record.get("chat")
    chat = True if chat is None else str(chat).lower() not in {"false", "0", "no"}
    target = None if target in (None, "") else str(target)
    return Sample(text=str(text), image=image, target=target, chat=chat, where=where)
