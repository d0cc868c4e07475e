"""Two sets of texts, with something and without: what no list of words says, such as a language, a tone or arithmetic."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np

from headpursuit.errors import HeadPursuitError
from headpursuit.model.samples import Sample, Samples, as_samples, fingerprint

FEWEST = 4
# Words are told from chance by so many standard deviations, and no more of them are taken.
_TOLD, _MOST = 1.96, 50
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d|[^\w\s]")


@dataclass(frozen=True)
class Texts:
    """Texts that have something, and texts that do not and else are alike.

    Attributes:
        with_: the former; of a sample with a target the target counts alone, given the text.
        without: the latter.
    """

    with_: tuple[Sample, ...]
    without: tuple[Sample, ...]


def as_texts(with_: Samples, without: Samples) -> Texts:
    """Two sets of texts from whatever :func:`headpursuit.model.samples.as_samples` reads; texts alone take no chat template.

    Raises:
        HeadPursuitError: a set with fewer than four different texts, or a text that is in both.
    """
    sets = []
    for name, given in (("with", with_), ("without", without)):
        plain = (one if one.target else replace(one, chat=False) for one in as_samples(given))
        found = tuple({fingerprint([one]): one for one in plain}.values())
        if not all(one.target or one.text for one in found):
            raise HeadPursuitError(f"a text {name} the concept is an image alone: give texts, or samples with targets")
        if len(found) < FEWEST:
            raise HeadPursuitError(f"{len(found)} different texts {name} the concept: give at least {FEWEST}, better 100")
        sets.append(found)
    known = {fingerprint([one]) for one in sets[0]}
    both = [one for one in sets[1] if fingerprint([one]) in known]
    if both:
        first = both[0]
        raise HeadPursuitError(
            f"{len(both)} texts are in both sets ({first.text[:40]!r}): give texts that differ in the concept"
        )
    return Texts(*sets)


def telling_words(texts: Texts) -> tuple[str, ...]:
    """Words, digits and signs that the first set has more often, the most telling first, at most fifty.

    The score is the log-odds ratio of the two sets in standard deviations, with the words of both sets together as the prior,
    as strong as one occurrence of each word (Monroe, Colaresi and Quinn 2008, "Fightin' Words",
    section 3.5.1): those from 1.96 on, or else the first.
    """
    found = [_occurring(part) for part in (texts.with_, texts.without)]
    small = set(found[0] | found[1])
    counts = [_counted(one, small) for one in found]
    words = sorted(counts[0])
    with_, without = (np.array([count[word] for word in words], dtype=float) for count in counts)
    totals = [max(1, count.total()) for count in counts]
    strength = float(len(counts[0] | counts[1]))
    prior = strength * (with_ + without) / sum(totals)
    odds = np.log((with_ + prior) / (totals[0] + strength - with_ - prior))
    odds -= np.log((without + prior) / (totals[1] + strength - without - prior))
    z = np.nan_to_num(odds) / np.sqrt(1 / (with_ + prior) + 1 / (without + prior))
    order = np.argsort(-z, kind="stable")
    telling = [words[index] for index in order if z[index] >= _TOLD]
    return tuple((telling or [words[index] for index in order[:1]])[:_MOST])


def _occurring(samples: Iterable[Sample]) -> Counter[str]:
    """Words as often as they come, as they are written."""
    return Counter(word for sample in samples for word in _WORD.findall(sample.target or sample.text) if len(word) <= 60)


def _counted(found: Counter[str], written: Collection[str]) -> Counter[str]:
    """Words as often as they come; one that is written small in any text counts as small."""
    counted: Counter[str] = Counter()
    for word, count in found.items():
        counted[word.lower() if word.lower() in written else word] += count
    return counted
