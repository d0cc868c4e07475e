"""Images in folders, one folder a class, and the official layouts of GTSRB, DTD and SVHN."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from headpursuit.data.classes import DIGITS, DTD, GTSRB, class_name
from headpursuit.data.entries import Entry, Split, wanted
from headpursuit.data.records import Record
from headpursuit.errors import HeadPursuitError
from headpursuit.files import inside, read_lines
from headpursuit.model.image_files import images_in
from headpursuit.model.rows import csv_rows
from headpursuit.optional import optional_import

Part = Literal["selection", "test", "other"]
_PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "final_training"), "selection"),
    **dict.fromkeys(("test", "testing", "final_test"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "other"),
}


def read_image_folder(path: Path, split: Split, *, classes: Sequence[str] = ()) -> Iterator[Entry]:
    """Entries of a folder in which every image lies in the folder of its class, at any depth.

    A folder called ``train``, ``test`` or ``val`` on the way says which part an image belongs to; without one the data has no
    splits of its own.

    Args:
        path: the folder.
        split: which parts are wanted.
        classes: the data set's classes; any folder's name is one when left out.

    Raises:
        HeadPursuitError: not a folder, no images in it, or a folder that is no class.
    """
    for file in _images(path):
        relative = file.relative_to(path)
        part = next((_PARTS[name.lower()] for name in relative.parts[:-1] if name.lower() in _PARTS), None)
        if wanted(part, split):
            make = partial(image_record, file, file.parent.name, classes=classes, where=str(relative))
            yield Entry(key=relative.as_posix(), part=part, make=make)


def read_gtsrb(path: Path, split: Split) -> Iterator[Entry]:
    """Entries of the German traffic signs: training images in numbered folders, test images in a table.

    The table is the official ``GT-final_test.csv`` (beside its images, or above ``Final_Test/Images``) or ``Test.csv`` with a
    column ``Path``.

    Raises:
        HeadPursuitError: neither folders nor table, or a row of the table that cannot be read (names the line).
    """
    tables = [file for name in ("GT-final_test.csv", "Test.csv") for file in sorted(path.rglob(name))]
    if tables and wanted("test", split):
        yield from _signs_in_table(tables[0])
    for file in _images(path):
        relative = file.relative_to(path)
        if file.parent.name.isdecimal():
            part = next((_PARTS[name.lower()] for name in relative.parts[:-1] if name.lower() in _PARTS), None)
            if wanted(part, split):
                make = partial(image_record, file, file.parent.name, classes=GTSRB, where=str(relative))
                yield Entry(key=relative.as_posix(), part=part, make=make)


def read_dtd(path: Path, split: Split) -> Iterator[Entry]:
    """Entries of the textures: official layout (``images/``, and ``labels/train1.txt`` and so on), or folders of classes.

    Of the ten official divisions the first is taken, as is usual.

    Raises:
        HeadPursuitError: a list names an image outside ``images/``, see also :func:`read_image_folder`.
    """
    lists = next((folder for folder in (path / "labels", path / "dtd" / "labels") if folder.is_dir()), None)
    if lists is None:
        yield from read_image_folder(path, split, classes=DTD)
        return
    images = lists.parent / "images"
    parts: dict[str, Part] = {"train1": "selection", "val1": "other", "test1": "test"}
    for name, part in parts.items():
        if not wanted(part, split):
            continue
        for number, line in read_lines(lists / f"{name}.txt"):
            if line.strip():
                where = f"{name}.txt line {number}"
                file = inside(images, line.strip(), what="image", where=where)
                yield Entry(
                    key=line.strip(), part=part, make=partial(image_record, file, file.parent.name, classes=DTD, where=where)
                )


def read_svhn(path: Path, split: Split) -> Iterator[Entry]:
    """Entries of the house numbers: the official ``train_32x32.mat`` and ``test_32x32.mat``, or folders of classes.

    Raises:
        MissingExtraError: scipy, which reads MATLAB's files, is not installed.
        HeadPursuitError: a file is not that of cropped digits.
    """
    found = False
    parts: dict[str, Part] = {"train": "selection", "test": "test"}
    for prefix, part in parts.items():
        file = path / f"{prefix}_32x32.mat"
        if file.is_file() and wanted(part, split):
            yield from _digits_in_matrix(file, prefix, part)
        found |= file.is_file()
    if not found:
        yield from read_image_folder(path, split, classes=DIGITS)


def image_record(image: Any, label: int | str, *, classes: Sequence[str], where: str) -> Record:
    """A record from an image (or its path) and its class, by number or name.

    Raises:
        HeadPursuitError: the file is missing, or it is no class of the data set.
    """
    if isinstance(image, Path) and not image.is_file():
        raise HeadPursuitError(f"{where}: there is no image {image}")
    return Record(image=image, label=class_name(label, classes, where=where), where=where)


def _images(path: Path) -> list[Path]:
    if not path.is_dir():
        raise HeadPursuitError(f"{path} is not a folder; give a folder of images")
    return images_in(path)


def _signs_in_table(table: Path) -> Iterator[Entry]:
    official = table.parent / "Final_Test" / "Images"
    folder = official if official.is_dir() else table.parent
    for where, row in csv_rows(table):
        name, number = row.get("Path") or row.get("Filename"), row.get("ClassId")
        if not name or not number:
            raise HeadPursuitError(f"{where}: no Filename (or Path) or no ClassId; give the table that has the classes")
        file = inside(folder, name, what="image", where=where)
        yield Entry(key=name, part="test", make=partial(image_record, file, number, classes=GTSRB, where=where))


def _digits_in_matrix(file: Path, prefix: str, part: Part) -> Iterator[Entry]:
    matlab = optional_import("scipy.io", extra="data", purpose="SVHN's MATLAB files")
    try:
        content = matlab.loadmat(file, variable_names=("X", "y"))
        pixels, numbers = content["X"], content["y"].ravel()
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise HeadPursuitError(f"{file}: not the cropped digits of SVHN ({error}); fetch the file again") from error
    if pixels.ndim != 4 or pixels.shape[2] != 3 or pixels.shape[3] != len(numbers) or str(pixels.dtype) != "uint8":
        raise HeadPursuitError(f"{file}: X is {pixels.dtype} {pixels.shape} for {len(numbers)} digits in y; fetch it again")
    for index, number in enumerate(numbers):
        where = f"{file.name} image {index}"
        # The data set writes the digit zero as 10.
        yield Entry(key=f"{prefix}/{index}", part=part, make=partial(_digit, pixels, index, int(number) % 10, where=where))


def _digit(pixels: Any, index: int, number: int, *, where: str) -> Record:
    return image_record(Image.fromarray(pixels[..., index]), number, classes=DIGITS, where=where)
