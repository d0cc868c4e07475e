"""TriviaQA's scores against values worked out by hand from the official script's rules."""

from __future__ import annotations

import pytest

from headpursuit.data.answers import normalise_answer
from headpursuit.evaluation.metrics import parse_answer, trivia_exact_match, trivia_f1


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Beatles", "beatles"),
        ("U.S.", "u s"),
        ("U.S.A.", "u s"),  # the last letter has become an article
        ("New_York", "new york"),
        ("‘Hamlet’ and `Macbeth´", "hamlet and macbeth"),
        ("“Hamlet”", "“hamlet”"),  # the official list of signs has no double curly quotes
        ("don't", "don t"),
        ("don’t", "don t"),
        ("  A  cat,\ta\nhat ", "cat hat"),
        ("theatre, an antenna", "theatre antenna"),
        ("ÉCOLE", "école"),
        ("the", ""),
        ("", ""),
    ],
)
def test_normalisation(text, normal):
    assert normalise_answer(text) == normal


@pytest.mark.parametrize(
    ("answer", "accepted", "f1", "exact"),
    [
        ("Paris", ["paris"], 1, 1),
        ("London", ["Paris"], 0, 0),
        ("", ["Paris"], 0, 0),
        ("us", ["U.S."], 0, 0),  # one word and two words
        ("U.S.", ["us", "u s"], 1, 1),
        ("New_York", ["New York"], 1, 1),
        ("‘Paris’", ["Paris"], 1, 1),
        # Two words of three said, two of two wanted: precision 2/3, recall 1, F1 = 2·(2/3)/(5/3) = 4/5.
        ("the red big dog", ["big dog"], 4 / 5, 0),
        ("red dog", ["red cat"], 1 / 2, 0),
        # A word counts as often as both have it: one of two said, one of two wanted.
        ("york york", ["new york"], 1 / 2, 0),
        # The best alias counts: 1/3 of the first (one common word of two and four), 2/3 of the second (one of two and one).
        ("new york", ["big apple york city", "York"], 2 / 3, 0),
        ("Paris", [], 0, 0),
        ("the", ["a"], 0, 1),  # nothing is left of either: equal, but no word in common
    ],
)
def test_scores(answer, accepted, f1, exact):
    assert trivia_f1(answer, accepted) == pytest.approx(f1)
    assert trivia_exact_match(answer, accepted) == exact


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (" Paris.", "Paris."),
        ("\n\nParis\nQuestion: And Rome?", "Paris"),
        ("Answer: Paris", "Paris"),
        ("The answer is: Paris", "Paris"),
        ("the answer is Paris, France", "Paris, France"),
        ("Answer:\n  Paris", "Paris"),
        ("Answering machine", "Answering machine"),
        ("What is the answer: 42", "What is the answer: 42"),
        ("  \n ", ""),
        ("<think>\nRome? No.\n</think>\n\nThe answer is: Paris", "Paris"),
        ("Rome? No.</think> Paris", "Paris"),
        ("<think>Rome? It may be", ""),
        ("<thinking>Rome?</thinking>\nParis", "Paris"),
        ("[THINK]Rome? No.[/THINK]Paris", "Paris"),
        ("<reasoning>Rome? It may be", ""),
        ("I think <b>Paris</b>", "I think <b>Paris</b>"),
    ],
)
def test_the_answer_is_the_first_line(written, answer):
    assert parse_answer(written) == answer
