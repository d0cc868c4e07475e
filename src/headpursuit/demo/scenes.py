"""Scenes drawn from a specification: a few equal shapes or one large face, on a background."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import asdict, dataclass
from typing import Literal

from PIL import Image, ImageDraw

from headpursuit.demo.splits import Split

IMAGE_SIZE = 48
_ZOOM = 3  # drawn larger and reduced, which smooths the edges

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "green": (35, 160, 50),
    "blue": (35, 75, 215),
    "yellow": (245, 215, 30),
    "orange": (250, 135, 15),
    "purple": (125, 40, 170),
    "pink": (255, 130, 190),
    "brown": (125, 75, 35),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring")
SIZES = ("small", "large")
MOODS = ("happy", "sad", "angry", "surprised", "calm")
BACKGROUNDS = ("plain", "striped", "dotted", "checkered")
COUNTS = (1, 2, 3, 4)
# Some pictures do not show an attribute, and then no caption speaks of it: pencil grey has no colour word, a head seen
# from behind no mood, and more than four shapes are not counted.
UNSEEN = "unseen"
CROWDS = (6, 7, 8, 9)
_UNSEEN_SHARE = 0.3
_PENCIL = 140

_PAPER = (236, 236, 236)
_PATTERN = (200, 200, 200)


@dataclass(frozen=True)
class ShapeScene:
    """Equal shapes; the colour may be unseen, and a crowd is not counted."""

    shape: str
    color: str
    size: str
    count: int
    background: str


@dataclass(frozen=True)
class FaceScene:
    """One face with a mood, or one seen from behind; the colour may be unseen."""

    mood: str
    color: str
    background: str


Scene = ShapeScene | FaceScene


def scene_split(scene: Scene) -> Split:
    """Tell to which split a combination of attributes belongs; a combination belongs to one split only."""
    key = "|".join(str(value) for value in asdict(scene).values())
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    return "test" if bucket < 15 else "selection" if bucket < 30 else "train"


def sample_scene(rng: random.Random, split: Split, *, kind: Literal["shapes", "face"]) -> Scene:
    """Draw one combination of attributes that belongs to `split`."""
    while True:
        scene: Scene
        if kind == "face":
            scene = FaceScene(_or_unseen(MOODS, rng), _or_unseen(tuple(PALETTE), rng), rng.choice(BACKGROUNDS))
        else:
            crowd = rng.random() < _UNSEEN_SHARE
            scene = ShapeScene(
                rng.choice(SHAPES),
                _or_unseen(tuple(PALETTE), rng),
                "small" if crowd else rng.choice(SIZES),
                rng.choice(CROWDS if crowd else COUNTS),
                rng.choice(BACKGROUNDS),
            )
        if scene_split(scene) == split:
            return scene


def _or_unseen(values: tuple[str, ...], rng: random.Random) -> str:
    return UNSEEN if rng.random() < _UNSEEN_SHARE else rng.choice(values)


def draw_scene(scene: Scene, rng: random.Random) -> Image.Image:
    """Draw a scene; `rng` moves and shades it a little, so that no two pictures are equal."""
    side = IMAGE_SIZE * _ZOOM
    image = Image.new("RGB", (side, side), _PAPER)
    draw = ImageDraw.Draw(image)
    _draw_background(draw, scene.background, rng)
    color = _shaded(scene.color, rng)
    if isinstance(scene, FaceScene):
        _draw_face(draw, scene.mood, color, rng)
    else:
        _draw_shapes(draw, scene, color, rng)
    return image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)


def _shaded(name: str, rng: random.Random) -> tuple[int, int, int]:
    if name == UNSEEN:
        grey = _PENCIL + rng.randint(-25, 25)
        return grey, grey, grey
    red, green, blue = (min(255, max(0, channel + rng.randint(-12, 12))) for channel in PALETTE[name])
    return red, green, blue


def _draw_background(draw: ImageDraw.ImageDraw, background: str, rng: random.Random) -> None:
    side = IMAGE_SIZE * _ZOOM
    step = 8 * _ZOOM
    offset = rng.randrange(step)
    if background == "striped":
        for x in range(-step + offset, side, step):
            draw.rectangle((x, 0, x + step // 2 - 1, side), fill=_PATTERN)
    elif background == "dotted":
        radius = 1.6 * _ZOOM
        for x in range(-step + offset, side + step, step):
            for y in range(-step + offset, side + step, step):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_PATTERN)
    elif background == "checkered":
        for column, x in enumerate(range(-step + offset, side, step)):
            for row, y in enumerate(range(-step + offset, side, step)):
                if (column + row) % 2:
                    draw.rectangle((x, y, x + step - 1, y + step - 1), fill=_PATTERN)


def _draw_shapes(draw: ImageDraw.ImageDraw, scene: ShapeScene, color: tuple[int, int, int], rng: random.Random) -> None:
    radius = (5.0 if scene.size == "small" else 9.5) * _ZOOM
    side = 2 if scene.count <= 4 else 3
    half = IMAGE_SIZE * _ZOOM / (2 * side)
    slack = max(0.0, half - radius - _ZOOM)
    cells = rng.sample([(2 * column + 1, 2 * row + 1) for column in range(side) for row in range(side)], scene.count)
    for column, row in cells:
        x = column * half + rng.uniform(-slack, slack)
        y = row * half + rng.uniform(-slack, slack)
        _draw_shape(draw, scene.shape, x, y, radius, color)


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        draw.ellipse(box, fill=color)
    elif shape == "ring":
        draw.ellipse(box, outline=color, width=round(radius * 0.42))
    elif shape == "square":
        inner = radius * 0.88
        draw.rectangle((x - inner, y - inner, x + inner, y + inner), fill=color)
    elif shape == "cross":
        arm = radius * 0.34
        draw.rectangle((x - radius, y - arm, x + radius, y + arm), fill=color)
        draw.rectangle((x - arm, y - radius, x + arm, y + radius), fill=color)
    elif shape == "star":
        draw.polygon(_polygon(x, y, (radius * 1.1, radius * 0.45), corners=10), fill=color)
    else:
        draw.polygon(_polygon(x, y, (radius * 1.1,), corners=3 if shape == "triangle" else 4), fill=color)


def _polygon(x: float, y: float, radii: tuple[float, ...], *, corners: int) -> list[tuple[float, float]]:
    points = []
    for corner in range(corners):
        angle = 2 * math.pi * corner / corners - math.pi / 2
        radius = radii[corner % len(radii)]
        points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return points


def _draw_face(draw: ImageDraw.ImageDraw, mood: str, color: tuple[int, int, int], rng: random.Random) -> None:
    radius = rng.uniform(18.0, 22.0) * _ZOOM
    slack = IMAGE_SIZE * _ZOOM / 2 - radius - _ZOOM / 2
    x = IMAGE_SIZE * _ZOOM / 2 + rng.uniform(-slack, slack)
    y = IMAGE_SIZE * _ZOOM / 2 + rng.uniform(-slack, slack)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    if mood == UNSEEN:
        ear = radius * 0.25
        for side in (-1, 1):
            ear_x = x + side * radius * 0.97
            draw.ellipse((ear_x - ear, y - ear, ear_x + ear, y + ear), fill=color)
        return
    ink = (250, 250, 250) if sum(color) < 330 else (20, 20, 20)
    line = round(radius * 0.13)
    eye = radius * (0.20 if mood == "surprised" else 0.14)
    for side in (-1, 1):
        eye_x, eye_y = x + side * radius * 0.38, y - radius * 0.22
        if mood == "calm":
            draw.line((eye_x - eye * 1.3, eye_y, eye_x + eye * 1.3, eye_y), fill=ink, width=line)
        else:
            draw.ellipse((eye_x - eye, eye_y - eye, eye_x + eye, eye_y + eye), fill=ink)
        if mood in ("angry", "sad"):
            inner, outer = (0.32, 0.62) if mood == "angry" else (0.68, 0.42)
            draw.line(
                (x + side * radius * 0.16, y - radius * inner, x + side * radius * 0.62, y - radius * outer),
                fill=ink,
                width=line,
            )
    mouth = radius * 0.5
    if mood == "happy":
        draw.arc((x - mouth, y - mouth * 0.5, x + mouth, y + mouth * 1.3), 15, 165, fill=ink, width=line)
    elif mood == "sad":
        draw.arc((x - mouth, y + mouth * 0.6, x + mouth, y + mouth * 2.2), 200, 340, fill=ink, width=line)
    elif mood == "surprised":
        draw.ellipse((x - mouth * 0.45, y + mouth * 0.4, x + mouth * 0.45, y + mouth * 1.4), fill=ink)
    elif mood == "angry":
        draw.line((x - mouth, y + mouth * 1.1, x + mouth, y + mouth * 1.1), fill=ink, width=line * 2)
    else:
        draw.line((x - mouth * 0.6, y + mouth * 0.9, x + mouth * 0.6, y + mouth * 0.9), fill=ink, width=line)
