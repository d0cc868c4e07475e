"""The pages of an atlas: its entrance with the map and the search, a page a head, and the pictures of samples."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from headpursuit.drawing.style import readable, token
from headpursuit.files import write_text
from headpursuit.model.heads import Head
from headpursuit.model.samples import Sample
from headpursuit.ranking.chance import threshold
from headpursuit.ranking.describe import Descriptions, HeadDescription
from headpursuit.ranking.overlap import jaccard
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.report.templating import environment, small_picture
from headpursuit.report.text import percent

# So many heads stand beside the map, so many neighbours on a head's page, so many tokens in a line about a head.
BEST, NEIGHBOURS, IN_A_LINE = 12, 8, 3
# The longest side of a sample's picture.
_PICTURE = 240


@dataclass(frozen=True)
class View:
    """A layer of the map: a number for every head.

    Attributes:
        name: what it is called, and what a link to it says (``?view=colours``).
        values: one a head, in the order of the heads; NaN where there is none.
        outlined: the heads that stand out, by their number.
        low: the value that is palest; the highest is darkest.
        legend: what is shaded, and what an outline means.
        percent: the values are shares.
    """

    name: str
    values: Float[np.ndarray, " n"]
    outlined: tuple[int, ...]
    low: float
    legend: str
    percent: bool = False

    @property
    def high(self) -> float:
        """The highest value."""
        return float(np.nanmax(self.values, initial=self.low))

    def shade(self, index: int) -> float:
        """How dark a head is, from 0 to 1."""
        value = self.values[index]
        span = self.high - self.low
        return float(np.clip((value - self.low) / span, 0, 1)) if span > 0 and np.isfinite(value) else 0.0

    def shown(self, value: float) -> str:
        """A value as it is written."""
        return percent(value) if self.percent else _short(value)

    def best(self) -> list[int]:
        """The heads that stand beside the map, best first."""
        order = np.argsort(-np.nan_to_num(self.values, nan=-np.inf), kind="stable")
        return [int(index) for index in order[:BEST] if self.values[index] > self.low]


@dataclass(frozen=True)
class Facts:
    """All that an atlas tells.

    Attributes:
        descriptions: every head of the capture, layer by layer.
        rankings: one a concept.
        model: whose heads these are.
        n: rows of the capture.
        positions: which tokens a row is the mean of.
        about: what the capture tells of itself.
        seed: seed of what was drawn.
        samples: the captured samples; none where they are not known.
    """

    descriptions: Descriptions
    rankings: tuple[HeadRanking, ...]
    model: Mapping[str, Any]
    n: int
    positions: str
    about: Mapping[str, Any]
    seed: int
    samples: tuple[Sample, ...]

    @cached_property
    def index(self) -> dict[Head, int]:
        """The number of each head."""
        return {one.head: number for number, one in enumerate(self.descriptions)}

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The layers of the map, the first being shown first."""
        each, many = self.descriptions.each, max(len(one.tokens) for one in self.descriptions)
        shares = np.array([one.share for one in each])
        legend = f"Share of a head's variance that its {many} tokens explain."
        found = [View("explained variance", shares, (), 0.0, legend, percent=True)]
        if each[0].evidence is not None:
            ratios = np.array([one.evidence.fit / max(one.evidence.by_chance, 1e-9) for one in each if one.evidence])
            named = tuple(number for number, one in enumerate(each) if one.named)
            legend = "How much better the best token fits than chance gives; outlined: better than chance (q ≤ 0.05)."
            found.insert(0, View("names", ratios, named, 1.0, legend))
        return (*found, *(self._view(ranking) for ranking in self.rankings))

    def _view(self, ranking: HeadRanking) -> View:
        values = np.array([ranking.score(head) for head in self.index])
        beyond = tuple(number for head, number in self.index.items() if self.beyond(ranking, head))
        legend = "Correlation with the concept × deviations above random words. "
        legend += "Outlined: beyond chance." if beyond else "No head is beyond chance: random words do as well."
        return View(readable(ranking.concept), values, beyond, 0.0, legend)

    def beyond(self, ranking: HeadRanking, head: Head) -> bool:
        """Whether a head stands out from chance for a concept, over all heads."""
        return deviations(ranking, head) > threshold(len(self.index)) and ranking.score(head) > 0

    @cached_property
    def layers(self) -> dict[int, list[int | None]]:
        """The rows of the map: the number of each head of a layer, None where it has fewer."""
        wide = max(head.head for head in self.index) + 1
        found: dict[int, list[int | None]] = {}
        for head, number in self.index.items():
            found.setdefault(head.layer, [None] * wide)[head.head] = number
        return found

    @cached_property
    def shown_tokens(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each head as they are shown, each once."""
        return tuple(tuple(dict.fromkeys(map(token, one.tokens))) for one in self.descriptions)

    @cached_property
    def heads_of(self) -> dict[str, list[int]]:
        """The heads that a token explains, by the token as it is shown."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, texts in enumerate(self.shown_tokens):
            for text in texts:
                found[text].append(number)
        return dict(found)

    @cached_property
    def ranks(self) -> tuple[dict[Head, int], ...]:
        """Every head's place for every concept, from 1."""
        return tuple({head: place for place, head in enumerate(one.order(), start=1)} for one in self.rankings)

    def neighbours(self, number: int) -> list[tuple[HeadDescription, list[str], float]]:
        """The heads that share most tokens with one: which they share, and the Jaccard similarity of both lists."""
        own, texts = set(self.shown_tokens[number]), self.shown_tokens
        others = {other for text in own for other in self.heads_of[text]} - {number}
        near = sorted((-jaccard(own, texts[other]), other) for other in others)[:NEIGHBOURS]
        return [(self.descriptions[other], [text for text in texts[other] if text in own], -away) for away, other in near]


def deviations(ranking: HeadRanking, head: Head) -> float:
    """How far a head's mean logit for a concept lies above random words', in deviations."""
    return float(ranking.values["logit_z"][head.layer, head.head])


def write_pages(folder: Path, facts: Facts, *, progress: bool = True) -> None:
    """Write the pages of an atlas into an empty folder.

    Args:
        folder: where.
        facts: what they tell.
        progress: show a progress bar.
    """
    templates = environment()
    templates.filters.update(short=_short, percent=percent, line=_line, q=_false_share)
    styles = [templates.get_template(name).render() for name in ("page.css", "atlas.css")]
    write_text(folder / "style.css", "\n".join(styles))
    write_text(folder / "data.js", f"const ATLAS = {json.dumps(_data(facts), separators=(',', ':'))};\n")
    script = resources.files("headpursuit.report") / "templates" / "atlas.js"
    write_text(folder / "atlas.js", script.read_text(encoding="utf-8"))
    common = {"facts": facts, "view": facts.views[0], "footer": _footer(facts)}
    write_text(folder / "index.html", templates.get_template("atlas.html").render(**common, best=_best(facts)))
    pictures = _write_pictures(folder, facts)
    page = templates.get_template("atlas_head.html")
    bar = tqdm(facts.descriptions, desc="pages", unit="head", disable=not progress, leave=False)
    for number, one in enumerate(bar):
        text = page.render(**common, one=one, number=number, pictures=pictures, **_head(facts, number))
        # Not each on the disk before the next: the folder appears whole or not at all.
        path = folder / "heads" / f"{one.head}.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def _data(facts: Facts) -> dict[str, Any]:
    """What the script of the entrance knows."""
    views = [
        {
            "name": view.name,
            "values": [None if np.isnan(value) else float(f"{value:.4g}") for value in view.values],
            "outlined": view.outlined,
            "low": view.low,
            "legend": view.legend,
            "percent": view.percent,
        }
        for view in facts.views
    ]
    return {
        "heads": [[one.head.name, _line(one)] for one in facts.descriptions],
        "tokens": list(facts.heads_of.items()),
        "views": views,
        "best": BEST,
    }


def _best(facts: Facts) -> list[tuple[HeadDescription, str]]:
    view = facts.views[0]
    return [(facts.descriptions[number], view.shown(view.values[number])) for number in view.best()]


def _head(facts: Facts, number: int) -> dict[str, Any]:
    """What the page of one head says beside its description."""
    one, heads = facts.descriptions[number], list(facts.index)
    explained = one.explained_variance or ()
    steps = np.diff(explained, prepend=0.0)
    tokens = [
        {"text": text, "share": share, "step": float(step), "others": len(facts.heads_of[token(text)]) - 1}
        for text, share, step in zip(one.tokens, explained, steps, strict=True)
    ]
    concepts = [
        {
            "name": readable(ranking.concept),
            "place": places[one.head],
            "score": ranking.score(one.head),
            "deviations": deviations(ranking, one.head),
            "explained": float(ranking.values["explained"][one.head.layer, one.head.head]),
            "beyond": facts.beyond(ranking, one.head),
        }
        for ranking, places in zip(facts.rankings, facts.ranks, strict=True)
    ]
    concepts.sort(key=lambda found: (not found["beyond"], found["place"]))
    largest = max((abs(example.score) for example in one.examples), default=1.0) or 1.0
    return {
        "tokens": tokens,
        "concepts": concepts,
        "neighbours": facts.neighbours(number),
        "row": facts.layers[one.head.layer],
        "largest": largest,
        "before": heads[number - 1] if number else None,
        "after": heads[number + 1] if number + 1 < len(heads) else None,
        "above": _near(facts, one.head, -1),
        "below": _near(facts, one.head, 1),
    }


def _near(facts: Facts, head: Head, step: int) -> Head | None:
    """The head of the same number in the next layer up or down that has it."""
    column = [row[head.head] for row in facts.layers.values() if row[head.head] is not None]
    at = column.index(facts.index[head]) + step
    return facts.descriptions[column[at]].head if 0 <= at < len(column) else None  # type: ignore[index]


def _write_pictures(folder: Path, facts: Facts) -> dict[int, str]:
    """The pictures of the samples that drive a head, each written once: their files by the samples' numbers."""
    wanted = {example.sample for one in facts.descriptions for example in one.examples} if facts.samples else set()
    found = {}
    for number in sorted(wanted):
        image = facts.samples[number].open_image()
        if image is not None:
            kind, content = small_picture(image, side=_PICTURE)
            found[number] = f"samples/{number}.{kind}"
            (folder / "samples").mkdir(exist_ok=True)
            (folder / found[number]).write_bytes(content)
    return found


def _footer(facts: Facts) -> list[tuple[str, str]]:
    told = {
        "model": facts.model.get("id"),
        "architecture": facts.model.get("architecture"),
        "fingerprint": facts.model.get("fingerprint"),
        "samples": f"{facts.n} (data {facts.about.get('data')})",
        "positions": facts.positions,
        "tokens that may name a head": f"{facts.descriptions.n_tokens} ({facts.descriptions.dictionary})",
        "seed": facts.seed,
        "versions": ", ".join(f"{name} {version}" for name, version in facts.about.get("versions", {}).items()),
    }
    return [(name, str(value)) for name, value in told.items() if value not in (None, "")]


def _line(one: HeadDescription) -> str:
    """A head in a few words."""
    if one.named is False:
        return one.name()
    tokens = one.tokens if one.evidence is None else one.evidence.tokens
    return ", ".join(list(dict.fromkeys(map(token, tokens)))[:IN_A_LINE]) or "writes nothing that varies"


def _short(value: float) -> str:
    """A number of three digits, with a real minus sign."""
    return f"{value:.3g}".replace("-", "−")


def _false_share(q: float) -> str:
    return f"= {q:.2g}" if q >= 0.001 else "< 0.001"
