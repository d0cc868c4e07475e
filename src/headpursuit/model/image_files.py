"""Images as a user has them: found in a folder, and opened as people see them."""

import io
import logging
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image
from PIL import ImageOps

from headpursuit.errors import HeadPursuitError, shown
from headpursuit.files import inside
from headpursuit.stores import address, reachable, tried

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"}
)
# A quarter of a gigabyte in RGB; Pillow warns of more.
MOST_PIXELS = 89_478_485

_log = logging.getLogger(__name__)


def images_in(folder: Path) -> list[Path]:
    """The images below a folder, in the order of their paths; says how many other files were passed over.

    Hidden files and those in hidden folders (``._a.png``, ``.ipynb_checkpoints/``), or in folders that systems add
    (``__MACOSX``, ``@eaDir``), are no images of a user's.

    Raises:
        HeadPursuitError: the folder holds no images.
    """
    images, others = [], Counter[str]()
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        parts = file.relative_to(folder).parts
        if any(part.startswith((".", "__MACOSX", "@eaDir")) for part in parts):
            others["hidden"] += 1
        elif file.suffix.lower() in IMAGE_SUFFIXES:
            images.append(file)
        else:
            others[file.suffix.lower() or "no ending"] += 1
    passed = (
        f"passed over {sum(others.values())} files ({', '.join(f'{count} {kind}' for kind, count in others.most_common(5))})"
    )
    if not images:
        raise HeadPursuitError(
            f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in this folder{'; ' + passed if others else ''}"
        )
    if others:
        _log.warning("%s: %s", folder, passed)
    return images


def as_image(value: Any, *, folder: Path | None, where: str) -> PIL.Image.Image | Path | str | None:
    """The image that a field holds: a PIL image, a path, or the bytes of a file as ``datasets`` stores them.

    Args:
        value: what the field holds; None and an empty text are no image.
        folder: where a path must lie that a file names; None for what is in memory.
        where: where the field stands, for the message.

    Raises:
        HeadPursuitError: it holds something else, or a path outside the folder.
    """
    if isinstance(value, Mapping) and {"bytes", "path"} & value.keys():
        data, value = value.get("bytes"), value.get("path")
        if isinstance(data, bytes):
            try:
                return PIL.Image.open(io.BytesIO(data))  # decoded when it is needed
            except (OSError, ValueError) as error:
                raise HeadPursuitError(f"{where}: the image cannot be read (it is none that Pillow knows)") from error
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, str | Path):
        found = value if folder is None else inside(folder, str(value), what="image", where=where)
        return found if address(found) is None else _fetched(reachable(found), where=where)
    if isinstance(value, PIL.Image.Image):
        return value
    raise HeadPursuitError(f"{where}: the image {shown(value)} is neither a PIL image nor a path")


def _fetched(path: Path, *, where: str) -> PIL.Image.Image:
    data = tried(str(path), path.read_bytes)
    try:
        return PIL.Image.open(io.BytesIO(data))
    except (OSError, ValueError) as error:
        raise HeadPursuitError(f"{where}: the image {path} cannot be read (it is none that Pillow knows)") from error


def open_image(image: Any, *, where: str) -> PIL.Image.Image:
    """An image in RGB with 8 bits a channel, upright as viewers show it.

    Args:
        image: a PIL image, a path, or a file that is open.
        where: where it is named, for the message.

    Raises:
        HeadPursuitError: the file is missing or cannot be read as an image, is too large, or holds numbers that are no colours.
    """
    name = f" {image}" if isinstance(image, str | Path) else ""
    try:
        if isinstance(image, PIL.Image.Image):
            return _as_seen(image)
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(image) as opened:
                return _as_seen(opened)
    except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError) as error:
        raise HeadPursuitError(f"{where}: the image{name} has more than {MOST_PIXELS:,} pixels; make it smaller") from error
    except PIL.UnidentifiedImageError as error:
        raise HeadPursuitError(f"{where}: the image{name} cannot be read (it is none that Pillow knows)") from error
    # Decoders raise whatever they meet in broken bytes.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HeadPursuitError(f"{where}: the image{name} cannot be read ({reason})") from error


def _as_seen(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.width * image.height > MOST_PIXELS:
        raise PIL.Image.DecompressionBombError
    return _eight_bits(ImageOps.exif_transpose(image), image.format).convert("RGB")


def _eight_bits(image: PIL.Image.Image, written_as: str | None) -> PIL.Image.Image:
    """The image with what Pillow would cut off at 255 scaled down to it."""
    if not image.mode.startswith(("I", "F")):
        return image
    import numpy as np

    pixels = np.asarray(image)
    # Pillow gives 16-bit PGM as 32 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and written_as == "PPM"):
        return PIL.Image.fromarray(((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8))
    low, high = pixels.min(), pixels.max()
    # Fractions up to 1 are a scale of their own, and NaN is on none.
    if not 0 <= low <= high <= 255 or (image.mode == "F" and 0 < high <= 1):
        raise ValueError(f"its pixels are numbers from {low} to {high}; save it with 8 or 16 bits a channel")
    return image
