"""Concepts made of two sets of texts: the words that tell them apart, and sets that cannot be used."""

import json

import pytest

import headpursuit as hp

SUMS = [f"{number} + 1 is {number + 1}" for number in range(60)]
CATS = [f"{number} cats sleep and {number + 1} do not" for number in range(60)]


def test_words_are_those_that_one_set_has_more_often():
    concept = hp.Concept.from_texts(SUMS, CATS, name="sums")
    assert (concept.name, len(concept.texts.with_), len(concept.texts.without)) == ("sums", 60, 60)
    assert set(concept.words) == {"1", "+", "is"}
    other = hp.Concept.from_texts(CATS, SUMS)
    assert {"cats", "sleep", "and", "do", "not"} <= set(other.words)
    assert not set(other.words) & set(concept.words)


def test_a_word_that_is_ever_written_small_counts_as_small():
    with_ = ["Please help", "please come", "Please go", "oh please", "please", "Please Anna", "we say please to Anna"]
    concept = hp.Concept.from_texts(with_, ["Help", "Come", "Go", "Anna goes", "we say no to Anna"])
    assert "please" in concept.words
    assert "Please" not in concept.words


def test_of_a_sample_with_target_the_target_counts():
    rows = [hp.Sample(text=f"{number} is even", target="yes" if number % 2 == 0 else "no") for number in range(40)]
    concept = hp.Concept.from_texts([one for one in rows if one.target == "no"], [one for one in rows if one.target == "yes"])
    assert concept.words == ("no",)


def test_files_and_texts_give_the_same(tmp_path):
    lines = "\n".join(json.dumps({"text": text}) for text in SUMS)
    (tmp_path / "sums.jsonl").write_text(lines)
    (tmp_path / "cats.txt").write_text("\n".join(CATS))
    assert hp.Concept.from_texts(tmp_path / "sums.jsonl", tmp_path / "cats.txt", name="sums") == hp.Concept.from_texts(
        SUMS, CATS, name="sums"
    )


@pytest.mark.parametrize(
    ("with_", "without", "message"),
    [
        (SUMS[:3], CATS, "3 different texts with the concept: give at least 4"),
        (SUMS, CATS[:1] * 9, "1 different texts without the concept"),
        (SUMS, SUMS, "60 texts are in both sets"),
        (SUMS, [*CATS, SUMS[7]], "1 texts are in both sets ('7 + 1 is 8')"),
        ([], CATS, "no samples"),
    ],
)
def test_sets_that_cannot_be_used(with_, without, message):
    with pytest.raises(hp.HeadPursuitError) as caught:
        hp.Concept.from_texts(with_, without)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
