"""Flickr30k (Young et al. 2014): captions in any of the files that go round, images in a folder beside them."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headpursuit.data.entries import Entry, Split
from headpursuit.data.records import Record
from headpursuit.errors import HeadPursuitError
from headpursuit.files import inside, read_json, read_text

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
    content = read_json(file)
    images = content.get("images") if isinstance(content, Mapping) else None
    if not isinstance(images, list):
        raise HeadPursuitError(f'{file}: no list under "images"; give Karpathy\'s file of captions')
    for number, item in enumerate(images, start=1):
        where = f"{file.name} image {number}"
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
    lines = read_text(file).split("\n")
    heading = lines[0].strip().lower().startswith("image")
    pattern = _TOKEN if "\t" in lines[0] else _BARRED if "|" in lines[0] else None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and heading):
            continue
        where = f"{file.name} line {number}"
        if pattern is not None:
            found = pattern.fullmatch(line.rstrip("\r"))
            name, caption = (found["image"].strip(), found["caption"]) if found else ("", "")
        else:
            cells = _cells(line, where)
            name, caption = (cells[0].strip(), cells[-1]) if len(cells) > 1 else ("", "")
        if not name:
            raise HeadPursuitError(f"{where}: no image and caption on it: {line!r:.60}")
        yield where, name, caption


def _cells(line: str, where: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise HeadPursuitError(f"{where}: not readable as CSV ({error})") from error
