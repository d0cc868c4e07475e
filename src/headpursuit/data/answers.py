"""TriviaQA's normalisation of answers, by which questions are sorted and answers are compared."""

import re
import string

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_TO_BLANK = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))


def normalise_answer(text: str) -> str:
    """TriviaQA's normalisation: lower case, punctuation and underscores to blanks, no articles, single blanks.

    Punctuation becomes a blank (SQuAD deletes it), so that "U.S." is "u s" and "us" another answer. Source: the rules of
    the official TriviaQA evaluation script, version 1.0 (Joshi et al. 2017).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_TO_BLANK)).split())
