"""Flickr30k (Young et al. 2014): captions in any of the files that go round, images in a folder beside them."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headpursuit.data.entries import Entry, Split
from headpursuit.data.records import Record
from headpursuit.errors import HeadPursuitError
from headpursuit.files import inside, read_lines
from headpursuit.model.rows import json_items, read_table

_CAPTIONS = ("dataset_flickr30k.json", "results_20130124.token", "captions.txt", "results.csv")
_IMAGES = ("flickr30k-images", "flickr30k_images", "flickr30k_images/flickr30k_images", "images", "Images")
_PARTS: dict[str, Literal["selection", "test", "other"]] = {"train": "selection", "test": "test"}
# "1.jpg#0<tab>A dog." in the official file, "1.jpg| 0| A dog." in a much-copied table, one line of which lacks the second "|".
_TOKEN = re.compile(r"(?P<image>[^\t#]+)#\d+\t(?P<caption>.*)")
_BARRED = re.compile(r"(?P<image>[^|]+)\|\s*\d+\s*\|?\s*(?P<caption>.*)")


def read_flickr30k(path: Path, split: Split) -> Iterator[Entry]:
    """Entries of a file of captions, or of the folder that holds one.

    Read are Karpathy's ``dataset_flickr30k.json`` (first, since it alone has splits), the official
    ``results_20130124.token``, and the tables ``captions.txt`` and ``results.csv``. Images are looked for beside the file, in
    a folder called ``flickr30k-images`` or the like.

    Raises:
        HeadPursuitError: no file of captions, a line that cannot be read, or an image that is not there.
    """
    file = path
    if path.is_dir():
        names = [path / name for name in _CAPTIONS if (path / name).is_file()]
        if not names:
            raise HeadPursuitError(f"{path}: no captions; expected one of {', '.join(_CAPTIONS)}")
        file = names[0]
    folder = next((file.parent / name for name in _IMAGES if (file.parent / name).is_dir()), file.parent)
    yield from _read_json(file, folder) if file.suffix == ".json" else _read_table(file, folder)


def caption_record(image: Any, captions: Sequence[str], *, where: str) -> Record:
    """A record from an image (or its path) and its captions.

    Raises:
        HeadPursuitError: no image, or no caption.
    """
    references = tuple(caption.strip() for caption in captions if caption.strip())
    if not references:
        raise HeadPursuitError(f"{where}: no caption")
    if image is None or (isinstance(image, Path) and not image.is_file()):
        raise HeadPursuitError(f"{where}: there is no image {image or ''}; put the images beside the captions, in images/")
    return Record(image=image, references=references, where=where)


def _read_json(file: Path, folder: Path) -> Iterator[Entry]:
    for where, item in json_items(file, under="images"):
        try:
            name, part = str(item["filename"]), _PARTS.get(item["split"], "other")
            captions = [str(sentence["raw"]) for sentence in item["sentences"]]
        except (KeyError, TypeError) as error:
            raise HeadPursuitError(f"{where}: expected filename, split and sentences with raw (missing: {error})") from error
        image = inside(folder, name, what="image", where=where)
        yield Entry(key=name, part=part, make=partial(caption_record, image, captions, where=where))


def _read_table(file: Path, folder: Path) -> Iterator[Entry]:
    captions: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for where, name, caption in _lines(file):
        captions.setdefault(name, []).append(caption)
        first.setdefault(name, where)
    for name, written in captions.items():
        image = inside(folder, name, what="image", where=first[name])
        yield Entry(key=name, part=None, make=partial(caption_record, image, written, where=first[name]))


def _lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """Where each caption stands, its image's name, and the caption."""
    _, first = next(read_lines(file), (1, ""))
    pattern = _TOKEN if "\t" in first else _BARRED if "|" in first else None
    rows = read_table(file, delimiter=",") if pattern is None else _parted(file, pattern)
    width = 0
    for number, cells in rows:
        where = f"{file.name} line {number}"
        heading, width = not width and first.strip().lower().startswith("image"), width or len(cells)
        if heading:
            continue
        if len(cells) < 2 or not cells[0].strip():
            raise HeadPursuitError(f"{where}: no image and caption on it: {','.join(cells)!r:.60}")
        if pattern is None and len(cells) > width:
            raise HeadPursuitError(f"{where}: {len(cells)} cells, where the first line has {width}: put the caption in quotes")
        yield where, cells[0].strip(), cells[-1]


def _parted(file: Path, pattern: re.Pattern[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in read_lines(file):
        text = line.rstrip("\r\n")
        if text.strip():
            found = pattern.fullmatch(text)
            yield number, [found["image"], found["caption"]] if found else [text]
