"""Questions with one short answer: the country of a capital, and unlike questions as a control."""

import hashlib
import tomllib
from dataclasses import dataclass
from importlib import resources

from headpursuit.demo.splits import Split

_FACTS = tomllib.loads((resources.files("headpursuit.demo") / "facts.toml").read_text(encoding="utf-8"))
COUNTRY_NAMES: tuple[str, ...] = tuple(_FACTS["countries"])
_PHRASINGS: dict[str, list[str]] = _FACTS["phrasings"]
# kind: how many of a subject's phrasings are kept for (test, selection)
_HELD_OUT = {"country": (3, 2)}
OTHER_KINDS: tuple[str, ...] = tuple(kind for kind in _PHRASINGS if kind != "country")


@dataclass(frozen=True)
class Question:
    """A question, its answer, and what tells it apart from others."""

    kind: str
    subject: str
    phrasing: int
    text: str
    answer: str


def questions(kind: str, split: Split) -> tuple[Question, ...]:
    """Return every question of a kind that belongs to `split`.

    Every (subject, phrasing) pair belongs to one split only: the fact itself is learned, the question asked at test is new.
    """
    phrasings = _PHRASINGS[kind]
    test, selection = _HELD_OUT.get(kind, (1, 1))
    result = []
    for subject, answer in _facts(kind):
        order = sorted(range(len(phrasings)), key=lambda number: _hash(f"{kind}|{subject}|{number}"))
        chosen = {"test": order[:test], "selection": order[test : test + selection], "train": order[test + selection :]}[split]
        result += [Question(kind, subject, number, phrasings[number].format(subject), answer) for number in chosen]
    return tuple(result)


def _facts(kind: str) -> list[tuple[str, str]]:
    if kind == "country":
        return [(capital, country) for country, capital in _FACTS["countries"].items()]
    if kind in _FACTS["pairs"]:
        return list(_FACTS["pairs"][kind].items())
    unit, direction = kind.split()
    cycle, step = _FACTS["cycles"][unit], 1 if direction == "after" else -1
    return [(name, cycle[(index + step) % len(cycle)]) for index, name in enumerate(cycle)]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
