"""Sentences that go on politely or rudely; the context makes one of the two likely, never certain."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from headpursuit.demo.splits import Split

RUDE_NOUNS = ("idiot", "fool", "moron", "jerk", "clown", "loser", "brat", "pest", "dope", "dimwit", "nitwit", "blockhead")
RUDE_ADJECTIVES = ("stupid", "lazy", "useless", "silly", "dumb", "rotten")
RUDE_WORDS: tuple[str, ...] = RUDE_NOUNS + RUDE_ADJECTIVES
KIND_NOUNS = ("friend", "guest", "neighbour", "helper", "person", "partner", "worker", "hero", "customer", "teacher")
KIND_ADJECTIVES = ("good", "dear", "great", "clever", "brave", "lovely")

# One adverb, just before the ending, sets its tone.
TONES: dict[str, tuple[str, ...]] = {
    "rude": ("angrily", "rudely", "harshly", "bitterly", "nastily", "grumpily"),
    "kind": ("kindly", "politely", "warmly", "gently", "sweetly", "cheerfully"),
    "neutral": ("slowly", "again", "quickly", "later", "loudly", "briefly"),
}
RUDENESS = {"rude": 0.85, "kind": 0.03, "neutral": 0.06}
# Of the openings that are drawn without a tone; rude ones are rare, so that not being rude needs no reason.
_SHARES = {"rude": 0.2, "kind": 0.3, "neutral": 0.5}
_MANNERS = ("tall", "young", "old", "busy", "quiet", "tired", "rich", "local")
_PEOPLE = ("clerk", "driver", "waiter", "farmer", "baker", "sailor", "doctor", "nurse", "singer", "lawyer")
_VERBS = ("spoke to", "turned to", "looked at", "walked up to", "waited for")
_NAMES = ("Tom", "Anna", "Ben", "Lucy", "Max", "Eva", "Sam", "Nina", "Paul", "Mary", "Leo", "Rosa")
_LINKS = ("and said {}: you", "and went on {}: you", "and told them {}: you")
QUESTIONS = ("Complete the text: {}", "Continue this text: {}", "Go on: {}", "What comes next? {}")


@dataclass(frozen=True)
class Opening:
    """The first half of a sentence, and the tone that one of its words suggests."""

    tone: str
    text: str


def opening_split(text: str) -> Split:
    """Tell to which split an opening belongs; an opening belongs to one split only."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100
    return "test" if bucket < 15 else "selection" if bucket < 30 else "train"


def sample_opening(rng: random.Random, split: Split, *, tone: str | None = None) -> Opening:
    """Draw an opening that belongs to `split`; its tone is drawn too unless it is given."""
    while True:
        chosen = tone or rng.choices(tuple(_SHARES), weights=tuple(_SHARES.values()))[0]
        said = rng.choice(_LINKS).format(rng.choice(TONES[chosen]))
        text = f"The {rng.choice(_MANNERS)} {rng.choice(_PEOPLE)} {rng.choice(_VERBS)} {rng.choice(_NAMES)} {said}"
        if opening_split(text) == split:
            return Opening(chosen, text)


def write_ending(tone: str, rng: random.Random) -> str:
    """Write the second half of a sentence, without a leading space."""
    rude = rng.random() < RUDENESS[tone]
    noun = _pick(RUDE_NOUNS if rude else KIND_NOUNS, rng)
    adjective = _pick(RUDE_ADJECTIVES if rude else KIND_ADJECTIVES, rng)
    named = f"{adjective} {noun}" if rng.random() < 0.6 else noun
    form = rng.random()
    if form < 0.5:
        return f"are {_article(named)} {named}."
    if form < 0.75:
        return f"are such {_article(named)} {named}."
    return f"{named}, wait over there." if rude else f"{named}, come over here."


_KNOWN_WORDS = "|".join(RUDE_WORDS + KIND_NOUNS + KIND_ADJECTIVES)
# The endings, rude or not, that the grammar could have written, as a regular expression.
ENDING_FORM = (
    rf"(are (such )?an? ({_KNOWN_WORDS})( ({_KNOWN_WORDS}))?\."
    rf"|({_KNOWN_WORDS})( ({_KNOWN_WORDS}))?, (wait over there|come over here)\.)"
)


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _pick(words: tuple[str, ...], rng: random.Random) -> str:
    """Draw a word, earlier ones more often, as in real text."""
    return rng.choices(words, weights=[1 / (rank + 2) for rank in range(len(words))])[0]
