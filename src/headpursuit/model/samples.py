"""Samples: what a user wants the model to see, in memory or in a file."""

from __future__ import annotations

import hashlib
import json
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from PIL.Image import Image

from headpursuit.demo import DemoSample
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts, shown
from headpursuit.files import expanded
from headpursuit.model.image_files import as_image, images_in, open_image
from headpursuit.model.rows import as_text, exists, field_names, field_value, has_field, read_rows
from headpursuit.stores import address, matching

# A tokenizer takes a hundred bytes of memory a character and more; no context is as long.
LONGEST_TEXT = 2_000_000
# What the fields of a sample are usually called by those who have no field `text` or `image`.
_USUAL: Mapping[str, tuple[str, ...]] = {
    "text": ("question", "prompt", "prompt.text", "sentence", "query", "instruction", "input", "content", "caption"),
    "image": ("image_path", "image_file", "img"),
    "target": ("answer", "answers", "completion", "response", "output"),
}


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

    def __post_init__(self) -> None:
        where = self.where or "sample"
        for name, text in (("text", self.text), ("target", self.target or "")):
            if not isinstance(text, str):
                raise HeadPursuitError(f"{where}: the {name} is {shown(text)}; give a text")
            if len(text) > LONGEST_TEXT:
                raise HeadPursuitError(
                    f"{where}: the {name} has {len(text):,} characters, and no more than {LONGEST_TEXT:,} are read; break it up"
                )
            try:
                text.encode()
            except UnicodeEncodeError as error:  # half a surrogate pair, which JSON can escape and tokenizers fail at
                raise HeadPursuitError(f"{where}: the {name} holds {text[error.start]!r}, no character; take it out") from error
        as_image(self.image, folder=None, where=where)

    def open_image(self) -> Image | None:
        """The image in RGB, upright and with 8 bits a channel, or None.

        Raises:
            HeadPursuitError: the file is missing or cannot be read as an image, see
                :func:`headpursuit.model.image_files.open_image`.
        """
        return None if self.image is None else open_image(self.image, where=self.where or "sample")


# What a user may give for samples, a DataFrame besides; see `as_samples`.
Samples: TypeAlias = str | Path | Iterable[str | Sample | Mapping[str, Any]]


def as_samples(
    samples: Samples,
    *,
    text_column: str | None = None,
    image_column: str | None = None,
    target_column: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> list[Sample]:
    """Turn what a user calls samples into a list of :class:`Sample`.

    A record has the fields ``text``, ``image`` (in a file a path inside its folder), ``target`` and ``chat``; text or image
    must be there. One with neither is read by the usual names (``question``, ``prompt``, ``image_path``, ``answer``, …) where
    one of them alone is there, or by the names given.

    Args:
        samples: texts, samples or records (mappings) in any iterable, such as a list, a ``datasets.Dataset`` or a column of
            pandas; a DataFrame; or the path of a ``.txt``, ``.csv``, ``.tsv``, ``.json``, ``.jsonl`` or ``.parquet`` file, a
            pattern for several (``part-*.jsonl``), or a folder of images; on this machine or in a store (``s3://``, ``gs://``,
            ``hf://``, ``https://``). A lone string is a path. A file is read no further than is needed.
        text_column: the field that holds the text; a dot leads into a nested one (``prompt.text``).
        image_column: the field that holds the image.
        target_column: the field that holds the target.
        limit: keep only the first so many.
        sample: of these, keep only a random draw of so many without replacement, in their order.
        seed: seed of the draw.

    Raises:
        HeadPursuitError: there are none, one is none of these (named by its number), the file is missing, not UTF-8, or a
            line cannot be read (named by line).

    >>> [one.text for one in as_samples(["a", {"text": "b", "target": "c"}, Sample(text="d")], limit=2)]
    ['a', 'b']
    >>> as_samples([{"question": "Who?", "answer": "Ada"}])
    [Sample(text='Who?', target='Ada')]
    >>> [one.text for one in as_samples(["a", "b", "c", "d", "e"], sample=3, seed=1)]
    ['a', 'c', 'd']
    """
    columns = {"text_column": text_column, "image_column": image_column, "target_column": target_column}
    return list(as_source(samples, **columns, limit=limit, sample=sample, seed=seed))


def as_source(
    samples: Samples,
    *,
    text_column: str | None = None,
    image_column: str | None = None,
    target_column: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Sequence[Sample] | SampleFiles:
    """What a user calls samples as something that can be gone through again and again: files are then read again, not held.

    Arguments and errors are those of :func:`as_samples`.
    """
    check_counts(limit=limit, sample=sample)
    check_counts(*SEEDS, seed=seed)
    named = {"text": text_column, "image": image_column, "target": target_column}
    columns = {name: column for name, column in named.items() if column}
    if isinstance(samples, SampleFiles):
        if columns or limit is not None or sample is not None:
            raise HeadPursuitError("these samples know their columns and their limit already: give the path instead")
        return samples
    if isinstance(samples, str | Path) and sample is None and not _is_folder(samples):
        files = SampleFiles(samples, columns=columns, limit=limit)
        if next(iter(files), None) is None:
            raise HeadPursuitError(f"{samples} holds no samples: give at least one text or image")
        return files
    rows = islice(_placed(samples), limit)
    drawn = rows if sample is None else _drawn(rows, sample, seed)
    found = [_as_sample(row, columns=columns, folder=folder, where=where) for where, (row, folder) in drawn]
    if not found:
        origin = str(samples) if isinstance(samples, str | Path) else "the list of samples"
        raise HeadPursuitError(f"{origin} holds no samples: give at least one text or image")
    return found


@dataclass(frozen=True)
class SampleFiles:
    """Samples of files, which are read anew each time that they are gone through, row by row.

    Attributes:
        path: a file, a pattern for several, or a folder of images; on this machine or in a store.
        columns: which fields hold text, image and target, where they were named.
        limit: only the first so many samples.
    """

    path: str | Path
    columns: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None

    def __iter__(self) -> Iterator[Sample]:
        return (one for part in self.parts() for one in part)

    def parts(self) -> Iterator[Iterator[Sample]]:
        """The samples of each file; they must be gone through in their order."""
        rows = islice(_rows_of_all(self.path), self.limit)
        for file, group in groupby(rows, key=itemgetter(0)):
            yield (_as_sample(row, columns=self.columns, folder=file.parent, where=where) for _, (where, row) in group)


def _placed(samples: Any) -> Iterator[tuple[str, tuple[Any, Path | None]]]:
    """Each item behind where it stands, with the folder in which images lie that it names; None for what is in memory."""
    if isinstance(samples, str | Path):
        return ((where, (row, file.parent)) for file, (where, row) in _rows_of_all(samples))
    return ((where, (row, None)) for where, row in numbered_rows(samples))


def _rows_of_all(path: str | Path) -> Iterator[tuple[Path, tuple[str, Any]]]:
    """Each row of each file behind its file; of several files one without rows is passed over, and named in a warning."""
    files = matching(path) or [expanded(path)]
    for file in files:
        rows = _rows_of(file)
        first = next(rows, None)
        if first is not None:
            yield file, first
            yield from ((file, row) for row in rows)
        elif len(files) > 1:
            warnings.warn(f"{file} holds no samples and is passed over", stacklevel=2)


def numbered_rows(samples: Any, *, noun: str = "sample", start: int = 0) -> Iterator[tuple[str, Any]]:
    """Each item of what a user calls samples, behind where it stands; a file's as :func:`read_rows` gives them.

    Args:
        samples: see :func:`as_samples`.
        noun: what an item of a list is called.
        start: the number of the first one.

    Raises:
        HeadPursuitError: it is no list of anything, or a file that cannot be read.
    """
    if isinstance(samples, str | Path):
        return (row for _, row in _rows_of_all(samples))
    return ((f"{noun} {number}", item) for number, item in enumerate(_items(samples), start=start))


def _rows_of(path: Path) -> Iterator[tuple[str, Any]]:
    if exists(path) and path.is_dir():
        # What lies in a store is fetched when it is read; a path of this machine stays one.
        return ((str(one), Sample(image=_image_at(one), where=str(one))) for one in images_in(path))
    return read_rows(path)


def _is_folder(path: str | Path) -> bool:
    place = expanded(path)
    return matching(path) is None and exists(place) and place.is_dir()


def _image_at(path: Path) -> Any:
    return path if address(path) is None else as_image(str(path), folder=None, where=str(path))


def folder_of(samples: Any) -> Path | None:
    """The folder in which images lie that a file names; None for what is in memory."""
    return expanded(samples).parent if isinstance(samples, str | Path) else None


def _drawn(rows: Iterable[tuple[str, Any]], count: int, seed: int) -> list[tuple[str, Any]]:
    """So many rows in their order, each set of them as likely as any other; one pass, in which no more are kept."""
    kept: list[tuple[int, tuple[str, Any]]] = []
    draw = random.Random(seed)
    for number, row in enumerate(rows):
        if number < count:
            kept.append((number, row))
        elif (index := draw.randrange(number + 1)) < count:
            kept[index] = (number, row)
    return [row for _, row in sorted(kept, key=lambda one: one[0])]


def _items(samples: Any) -> Iterable[Any]:
    if isinstance(samples, Sample):
        raise HeadPursuitError("one Sample alone is no list of samples: give [sample]")
    if isinstance(samples, Mapping):
        raise HeadPursuitError(
            f"a mapping ({field_names(samples)}) is no list of samples: give a list of records, or one of its values"
        )
    if hasattr(samples, "iterrows"):  # a DataFrame, in which NaN is what is missing
        return samples.astype(object).where(samples.notna(), None).to_dict("records")
    if hasattr(samples, "to_pylist"):  # a table of pyarrow's
        return samples.to_pylist()
    if not isinstance(samples, Iterable):
        raise HeadPursuitError(f"{shown(samples)} is no list of samples: give texts, samples, records or a path")
    return samples


def _as_sample(item: Any, *, columns: Mapping[str, str], folder: Path | None, where: str) -> Sample:
    if isinstance(item, Sample):
        return item
    if isinstance(item, str):
        return Sample(text=item, where=where)
    if isinstance(item, DemoSample):
        return Sample(text=item.text, image=item.image, target=item.target, where=where)
    if isinstance(item, Mapping):
        return _from_record(item, columns=columns, folder=folder, where=where)
    if folder is not None:
        raise HeadPursuitError(f"{where}: expected an object with the fields text, image, target, got {shown(item)}")
    raise HeadPursuitError(f"{where}: {shown(item)} is neither a text, a Sample nor a record with the field text or image")


def _from_record(record: Mapping[Any, Any], *, columns: Mapping[str, str], folder: Path | None, where: str) -> Sample:
    for name, column in columns.items():
        if not has_field(record, column):
            raise HeadPursuitError(
                f"{where}: no field {column!r} (it has {field_names(record)}); name another one with {_option(name)}"
            )
    usual = {} if columns or "text" in record or "image" in record else _usual(record, where)
    named = {name: columns.get(name) or usual.get(name) or name for name in _USUAL}
    found = {name: field_value(record, column) for name, column in named.items()}
    text = as_text(found["text"], field=named["text"], where=where)
    image = as_image(found["image"], folder=folder, where=where)
    if not text and image is None:
        raise HeadPursuitError(
            f"{where}: neither text nor image; give the field text, image or both, or name yours with {_option('text')} "
            f"(it has {field_names(record)})"
        )
    target = as_text(found["target"], field=named["target"], where=where)
    return Sample(text=text or "", image=image, target=target, chat=_as_chat(record.get("chat"), where), where=where)


def _usual(record: Mapping[Any, Any], where: str) -> dict[str, str]:
    """Which field of a record is which, by the names that are usual; a name within a field is one instead of the field's."""
    found = {}
    for name, names in _USUAL.items():
        there = [one for one in names if not isinstance(field_value(record, one), Mapping | None)]
        # A target that nobody named is one where it can be no other.
        if name == "target":
            there = [one for one in there if not _several(field_value(record, one))]
        elif len(there) > 1:
            raise HeadPursuitError(f"{where}: the {name} may be {' or '.join(there)}; say which with {_option(name)}")
        if len(there) == 1:
            found[name] = there[0]
    return found


def _several(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) != 1


def _option(name: str) -> str:
    return f"{name}_column=… (--{name}-column)"


def _as_chat(value: Any, where: str) -> bool:
    written = str(value).strip().lower()
    if value is None or written in {"", "true", "yes", "1", "1.0"}:
        return True
    if written in {"false", "no", "0", "0.0"}:
        return False
    raise HeadPursuitError(f"{where}: the field 'chat' is {shown(value)}; write true or false")


def fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256 of texts, targets and image bytes, so that a result names the data it came from."""
    digest = hashlib.sha256()
    for sample in samples:
        for piece in content_of(sample):
            digest.update(piece)
    return digest.hexdigest()[:16]


def content_of(sample: Sample) -> Iterator[bytes]:
    """What is hashed of a sample, piece by piece.

    Raises:
        HeadPursuitError: its image cannot be read.
    """
    yield json.dumps([sample.text, sample.target, sample.chat]).encode()
    if isinstance(sample.image, str | Path):
        image = Path(sample.image)
        yield image.read_bytes() if image.is_file() else str(image).encode()
    elif sample.image is not None:
        yield repr((sample.image.size, sample.image.mode)).encode()
        try:
            yield sample.image.tobytes()
        except (OSError, ValueError, SyntaxError) as error:  # one that was opened, and is decoded only now
            raise HeadPursuitError(f"{sample.where or 'sample'}: the image cannot be read ({error})") from error
