"""Samples: what a user wants the model to see, in memory or in a file."""

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from PIL.Image import Image

from headpursuit.errors import HeadPursuitError
from headpursuit.files import inside, json_lines, read_text
from headpursuit.optional import optional_import

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"})


@dataclass(frozen=True, repr=False)
class Sample:
    """One input of a model: a text, an image or both, and the answer hoped for.

    >>> Sample(text="What is this?", image="cat.png", target="A cat.")
    Sample(text='What is this?', image='cat.png', target='A cat.')

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

    def __repr__(self) -> str:
        given = ((one.name, getattr(self, one.name), one.default) for one in fields(self) if one.compare)
        return f"Sample({', '.join(f'{name}={value!r:.200}' for name, value, default in given if value != default)})"

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
            raise HeadPursuitError(f"{self.where or 'sample'}: the image {self.image} cannot be read ({error})") from error


# What a user may give for samples, a DataFrame besides; see `as_samples`.
Samples: TypeAlias = str | Path | Iterable[str | Sample | Mapping[str, Any]]


def as_samples(samples: Samples, *, limit: int | None = None, sample: int | None = None, seed: int = 0) -> list[Sample]:
    """Turn what a user calls samples into a list of :class:`Sample`.

    Args:
        samples: texts, samples or records (mappings with the fields ``text``, ``image``, ``target`` and ``chat``; text or image
            must be there) in any iterable, such as a list or a ``datasets.Dataset``; a DataFrame with these columns; or the
            path of a ``.txt``, ``.jsonl``, ``.csv`` or ``.parquet`` file or of a folder of images. A lone string is a path.
        limit: keep only the first so many.
        sample: of these, keep only a random draw of so many without replacement, in their order.
        seed: seed of the draw.

    Raises:
        HeadPursuitError: there are none, one is none of these (named by its number), the file is missing, not UTF-8, or a
            line cannot be read (named by line).

    >>> [one.text for one in as_samples(["a", {"text": "b", "target": "c"}, Sample(text="d")], limit=2)]
    ['a', 'b']
    >>> [one.text for one in as_samples(["a", "b", "c", "d", "e"], sample=3, seed=1)]
    ['a', 'b', 'e']
    """
    for name, count in (("limit", limit), ("sample", sample)):
        if count is not None and count < 1:
            raise HeadPursuitError(f"{name}={count}: keep at least one sample")
    if isinstance(samples, str | Path):
        found, origin = load_samples(Path(samples)), str(samples)
    else:
        origin = "the list of samples"
        found = [_as_sample(item, where=f"sample {number}") for number, item in enumerate(_items(samples))]
    found = found[:limit]
    if not found:
        raise HeadPursuitError(f"{origin} holds no samples: give at least one text or image")
    if sample is not None and sample < len(found):
        found = [found[row] for row in sorted(random.Random(seed).sample(range(len(found)), sample))]
    return found


def _items(samples: Any) -> Iterable[Any]:
    if isinstance(samples, Sample):
        raise HeadPursuitError("one Sample alone is no list of samples: give [sample]")
    if isinstance(samples, Mapping):
        raise HeadPursuitError(
            f"a mapping ({', '.join(map(str, samples))}) is no list of samples: give a list of records, or one of its values"
        )
    if not isinstance(samples, Iterable):
        raise HeadPursuitError(f"{samples!r:.60} is no list of samples: give texts, samples, records or a path")
    return _records(samples) if hasattr(samples, "to_dict") and hasattr(samples, "columns") else samples


def _as_sample(item: Any, *, where: str) -> Sample:
    if isinstance(item, Sample):
        return item
    if isinstance(item, str):
        return Sample(text=item, where=where)
    if isinstance(item, Mapping):
        return _from_record(item, folder=None, where=where)
    raise HeadPursuitError(f"{where}: {item!r:.60} is neither a text, a Sample nor a record with the field text or image")


def load_samples(path: Path) -> list[Sample]:
    """Read samples from a file or a folder of images.

    Records (``.jsonl``, ``.csv``, ``.parquet``) have the fields ``text``, ``image`` (a path inside the file's folder),
    ``target`` and ``chat``; text or image must be there.

    Raises:
        HeadPursuitError: see :func:`as_samples`.
    """
    if _exists(path) and path.is_dir():
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
    if not _exists(path):
        raise HeadPursuitError(
            f"there is no file {str(path)!r:.80}: give the path of a .txt, .jsonl, .csv or .parquet file or a folder; "
            "a text is given in a list, [text]"
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
        raise HeadPursuitError(f"{path}: samples are read from .txt, .jsonl, .csv, .parquet files or a folder of images")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long for a file's name
        return False


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pandas as pd

    optional_import("pyarrow", extra="data", purpose="reading Parquet")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise HeadPursuitError(f"{path}: not a readable Parquet file ({error})") from error
    for number, record in enumerate(_records(frame), start=1):
        yield f"{path.name} row {number}", record


def _records(frame: Any) -> list[dict[str, Any]]:
    """Rows of a DataFrame, with None for what is missing."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _from_record(record: Any, *, folder: Path | None, where: str) -> Sample:
    """A sample of a record; an image that a file names must lie in the file's folder, None for records in memory."""
    if not isinstance(record, Mapping):
        raise HeadPursuitError(f"{where}: expected an object with the fields text, image, target, got {record!r:.60}")
    text, image, target = record.get("text") or "", record.get("image") or None, record.get("target")
    if not text and image is None:
        raise HeadPursuitError(
            f"{where}: neither text nor image; give the field text, image or both "
            f"(it has {', '.join(map(str, record)) or 'no field'})"
        )
    if image is not None and folder is not None:
        image = inside(folder, str(image), what="image", where=where)
    elif image is not None and not isinstance(image, str | Path) and not hasattr(image, "convert"):
        raise HeadPursuitError(f"{where}: the image {image!r:.60} is neither a PIL image nor a path")
    chat = record.get("chat")
    chat = True if chat is None else str(chat).lower() not in {"false", "0", "no"}
    target = None if target in (None, "") else str(target)
    return Sample(text=str(text), image=image, target=target, chat=chat, where=where)
