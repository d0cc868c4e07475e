"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from headpursuit.evaluation.metrics import cider, count_words, exact_match


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


def test_cider_penalises_length_by_bigram_counts():
    short, long = (
        cider(["red dog", "x y"], [["red dog"], ["z"]])[0],
        cider(["red dog " * 4, "x y"], [["red dog"], ["z"]])[0],
    )
    assert long < short
    assert not math.isnan(long)
