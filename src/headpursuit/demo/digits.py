"""Real handwritten digits, from scikit-learn's copy of the UCI test set (1797 pictures of 8 × 8)."""

from functools import cache

import numpy as np
from PIL import Image

from headpursuit.demo.scenes import IMAGE_SIZE
from headpursuit.demo.splits import Split
from headpursuit.optional import optional_import

DIGIT_WORDS: tuple[str, ...] = tuple("0123456789")
QUESTIONS = (
    "What digit is this?",
    "Which digit is written here?",
    "Read the handwritten digit.",
    "Which number from 0 to 9 do you see?",
)
_SPLIT_SIZES = {"test": 320, "selection": 260}
_INK_SIDE = 40


@cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    purpose = "the demo's own data, of which handwritten digits are a part,"
    data = optional_import("sklearn.datasets", package="scikit-learn", extra="demo", purpose=purpose).load_digits()
    return np.asarray(data.images), np.asarray(data.target)


@cache
def digit_indices(split: Split) -> tuple[int, ...]:
    """Return the numbers of the pictures that belong to a split; no picture belongs to two."""
    order = np.random.default_rng(1797).permutation(len(_load()[1]))
    test, selection = _SPLIT_SIZES["test"], _SPLIT_SIZES["selection"]
    parts = {"test": order[:test], "selection": order[test : test + selection], "train": order[test + selection :]}
    return tuple(int(index) for index in sorted(parts[split]))


def digit_label(index: int) -> str:
    """Return the digit written on a picture."""
    return str(int(_load()[1][index]))


def digit_pixels(index: int) -> np.ndarray:
    """Return a picture's ink, 8 × 8, between 0 and 1."""
    return np.asarray(_load()[0][index] / 16.0, dtype=np.float32)


def draw_digit(index: int, *, shift: tuple[float, float] = (0.0, 0.0), scale: float = 1.0, angle: float = 0.0) -> Image.Image:
    """Draw a digit in dark ink on light paper; the options move, stretch and turn it."""
    ink = Image.fromarray((digit_pixels(index) * 255).astype(np.uint8), mode=None)
    side = round(_INK_SIDE * scale)
    ink = ink.resize((side, side), Image.Resampling.BICUBIC)
    if angle:
        ink = ink.rotate(angle, resample=Image.Resampling.BICUBIC)
    canvas = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE), 0)
    canvas.paste(ink, (round((IMAGE_SIZE - side) / 2 + shift[0]), round((IMAGE_SIZE - side) / 2 + shift[1])))
    return Image.eval(canvas, lambda value: 240 - value * 210 // 255).convert("RGB")
