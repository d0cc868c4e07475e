"""Metrics against values worked out by hand."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter

import pytest
from PIL import Image

from headpursuit.concepts.counting import count_words
from headpursuit.data.records import Record
from headpursuit.errors import MissingExtraError
from headpursuit.evaluation.metrics import cider, exact_match
from headpursuit.evaluation.tasks import captioning


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a red dog and a RED cat", 2),
        ("reds, blues.", 2),
        ("the redder dog reddens", 0),
        ("dark blue", 1),
        ("", 0),
        ("boxes", 1),
        ("sky-blue", 1),
    ],
)
def test_words_are_counted_whole(text, count):
    assert count_words(text, ("red", "blue", "dark blue", "box")) == count


@pytest.mark.parametrize(
    ("answer", "target", "match"),
    [
        (" Paris.", "Paris", 1),
        ("paris \n", "Paris", 1),
        ("Paris, France", "Paris", 0),
        ("", "Paris", 0),
        ("New  York", "new york", 1),
    ],
)
def test_exact_match_forgives_case_and_ends(answer, target, match):
    assert exact_match(answer, target) == match


def test_cider_of_the_reference_itself():
    # Two images, one reference each, no n-gram in common: every n-gram has df 1, so each candidate equals its reference.
    texts = ["a red dog runs home", "two blue cats sleep here"]
    assert cider(texts, [[text] for text in texts]) == pytest.approx([10, 10])


def test_cider_by_hand():
    # Unigrams only in common: "red" once of two words against one reference "red dog"; bigram counts are equal (1 and 1).
    # idf is log 2 for each n-gram: each occurs in the references of one of the two images. The 1-gram cosine is 1/2, the
    # 2-gram cosine 0, 3- and 4-grams are absent: the mean over n is 1/8, times 10.
    scores = cider(["red cat", "tall tree"], [["red dog"], ["tall tree"]])
    assert scores[0] == pytest.approx(10 / 8)
    # The second is its own reference in 1- and 2-grams and has no longer ones: 2 of 4.
    assert scores[1] == pytest.approx(5)


def test_cider_of_one_image_is_zero_by_construction():
    assert cider(["a red dog"], [["a red dog"]]) == pytest.approx([0])


def cider_d(answer, references, corpus):
    """CIDEr-D of one caption by its definition: paper.md's summary of Vedantam et al. 2015, without any library."""

    def grams(text, n):
        words = text.split()
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    def weighted(text, n):
        seen = {gram: sum(any(gram in grams(one, n) for one in texts) for texts in corpus) for gram in grams(text, n)}
        idf = {gram: math.log(len(corpus)) - math.log(max(1, count)) for gram, count in seen.items()}
        return {gram: count * idf[gram] for gram, count in grams(text, n).items()}

    total = 0.0
    for reference in references:
        penalty = math.exp(-((grams(answer, 2).total() - grams(reference, 2).total()) ** 2) / (2 * 6**2))
        for n in (1, 2, 3, 4):
            said, wanted = weighted(answer, n), weighted(reference, n)
            norms = math.hypot(*said.values()) * math.hypot(*wanted.values())
            product = sum(min(value, wanted.get(gram, 0.0)) * wanted.get(gram, 0.0) for gram, value in said.items())
            total += penalty * product / norms if norms else 0.0
    return 10 * total / 4 / len(references)


def test_cider_by_its_definition():
    rng = random.Random(0)
    words = ["a", "red", "dog", "and", "two", "blue", "cats", "run", "over", "the", "hill"]

    def sentence():
        return " ".join(rng.choice(words) for _ in range(rng.randint(2, 9)))

    references = [[sentence() for _ in range(rng.randint(1, 4))] for _ in range(12)]
    answers = [*[sentence() for _ in range(10)], references[10][0], ""]
    expected = [cider_d(answer, own, references) for answer, own in zip(answers, references, strict=True)]
    assert cider(answers, references) == pytest.approx(expected)
    assert expected[10] > 1 > expected[11] == 0


def test_cider_penalises_length_by_bigram_counts():
    short, long = (cider(["red dog", "x y"], [["red dog"], ["z"]])[0], cider(["red dog " * 4, "x y"], [["red dog"], ["z"]])[0])
    assert long < short
    assert not math.isnan(long)


def test_captions_need_their_scorer_before_anything_is_written(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'headpursuit\[metrics\]'"):
        captioning([Record(image=Image.new("RGB", (4, 4)), references=("a dog",))])
