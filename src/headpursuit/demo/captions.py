"""A small grammar of captions in which every attribute is mentioned only sometimes."""

from __future__ import annotations

import random

from headpursuit.demo.scenes import COUNTS, UNSEEN, FaceScene, Scene, ShapeScene

# Each value has a usual word and rarer ones: a concept is a set of words, not one word.
COLOR_NAMES: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"),
    "green": ("green",),
    "blue": ("blue", "azure"),
    "yellow": ("yellow", "golden"),
    "orange": ("orange",),
    "purple": ("purple", "violet"),
    "pink": ("pink",),
    "brown": ("brown",),
    "black": ("black",),
}
MOOD_NAMES: dict[str, tuple[str, ...]] = {
    "happy": ("happy", "cheerful", "smiling"),
    "sad": ("sad", "gloomy", "unhappy"),
    "angry": ("angry", "furious", "mad"),
    "surprised": ("surprised", "shocked", "amazed"),
    "calm": ("calm", "relaxed", "peaceful"),
}
COUNT_NAMES: dict[int, tuple[str, ...]] = {
    1: ("one", "a single"),
    2: ("two", "a pair of"),
    3: ("three", "several"),
    4: ("four", "several"),
}
SIZE_NAMES: dict[str, tuple[str, ...]] = {"small": ("small", "tiny"), "large": ("large", "big")}
BACKGROUND_NAMES: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "simple"),
    "striped": ("striped",),
    "dotted": ("dotted",),
    "checkered": ("checkered",),
}

COLOR_WORDS: tuple[str, ...] = tuple(word for words in COLOR_NAMES.values() for word in words)
MOOD_WORDS: tuple[str, ...] = tuple(word for words in MOOD_NAMES.values() for word in words)
QUANTITY_WORDS: tuple[str, ...] = ("one", "single", "two", "pair", "three", "four", "several")
SIZE_WORDS: tuple[str, ...] = tuple(word for words in SIZE_NAMES.values() for word in words)

MENTION = {"quantity": 0.65, "size": 0.6, "color": 0.62, "mood": 0.6, "background": 0.6}
_USUAL = 0.8  # the share of the usual word among a value's names

_OPENERS = ("this image shows", "the picture shows", "here we see", "there is a drawing of")
QUESTIONS = (
    "Describe the image.",
    "What is in this picture?",
    "Write a short caption.",
    "Tell me what you see.",
    "Caption this image in one sentence.",
)
_PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "star": "stars"} | {
    "cross": "crosses",
    "diamond": "diamonds",
    "ring": "rings",
}


def write_caption(scene: Scene, rng: random.Random) -> str:
    """Write one caption of a scene; which attributes it mentions is drawn independently."""
    words = [rng.choice(_OPENERS)]
    if isinstance(scene, ShapeScene):
        words += _shape_phrase(scene, rng)
    else:
        words += _face_phrase(scene, rng)
    if rng.random() < MENTION["background"]:
        words += ["on a", _pick(BACKGROUND_NAMES[scene.background], rng), "background"]
    return " ".join(words) + "."


def attributes_of(scene: Scene) -> dict[str, str]:
    """Return the true value of every attribute that a scene shows."""
    seen = {"kind": "face" if isinstance(scene, FaceScene) else "shapes", "background": scene.background}
    if scene.color != UNSEEN:
        seen["color"] = scene.color
    if isinstance(scene, FaceScene):
        return seen | ({"mood": scene.mood} if scene.mood != UNSEEN else {})
    return seen | {"shape": scene.shape, "size": scene.size} | ({"count": str(scene.count)} if scene.count in COUNTS else {})


def _shape_phrase(scene: ShapeScene, rng: random.Random) -> list[str]:
    words: list[str] = []
    if scene.count in COUNTS and rng.random() < MENTION["quantity"]:
        words.append(_pick(COUNT_NAMES[scene.count], rng))
    elif scene.count == 1:
        words.append("a")
    if rng.random() < MENTION["size"]:
        words.append(_pick(SIZE_NAMES[scene.size], rng))
    if scene.color != UNSEEN and rng.random() < MENTION["color"]:
        words.append(_pick(COLOR_NAMES[scene.color], rng))
    words.append(scene.shape if scene.count == 1 else _PLURALS[scene.shape])
    return _with_article(words)


def _face_phrase(scene: FaceScene, rng: random.Random) -> list[str]:
    words = ["a"]
    if scene.mood != UNSEEN and rng.random() < MENTION["mood"]:
        words.append(_pick(MOOD_NAMES[scene.mood], rng))
    if scene.color != UNSEEN and rng.random() < MENTION["color"]:
        words.append(_pick(COLOR_NAMES[scene.color], rng))
    words.append("face")
    return _with_article(words)


def _with_article(words: list[str]) -> list[str]:
    """Turn the article into "an" before a vowel, as English wants it."""
    if len(words) > 1 and words[0] == "a" and words[1][0] in "aeiou":
        return ["an", *words[1:]]
    return words


def _pick(names: tuple[str, ...], rng: random.Random) -> str:
    if len(names) == 1 or rng.random() < _USUAL:
        return names[0]
    return rng.choice(names[1:])
