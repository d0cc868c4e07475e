"""Concepts in code, built in and from files."""

from __future__ import annotations

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from headpursuit.concepts import Concept, as_concept, concept, concept_names
from headpursuit.concepts.builtin import word_list
from headpursuit.errors import HeadPursuitError


def test_words_are_cleaned_and_deduplicated_in_order():
    made = Concept(" colours ", [" red", "green\n", "", "red", "dark   blue"])
    assert made.name == "colours"
    assert made.words == ("red", "green", "dark blue")
    assert len(made) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("empty", [], "'empty' is empty"),
        ("blank", [" ", "\t"], "'blank' is empty"),
        (" ", ["red"], "needs a name"),
        ("text", "red", "must be a list of words"),
        ("mixed", ["red", 3], "3 is a int"),
    ],
)
def test_what_is_no_word_list_is_refused(name, words, message):
    with pytest.raises(HeadPursuitError, match=message):
        Concept(name, words)


def test_built_in_lists_hold_what_they_promise():
    words = {name: set(concept(name).words) for name in concept_names()}
    assert {"red", "grey", "gray", "brown", "orange", "pink", "black"} <= words["colours"]
    assert 30 <= len(words["colours"]) <= 60
    assert not {"darkred", "snow", "peru", "peachpuff"} & words["colours"]
    assert {"France", "Turkey", "Ivory Coast", "United States", "Kosovo", "Myanmar"} <= words["countries"]
    assert not {"Antarctica", "European Union", "Greenland", "Unknown Region", "Réunion"} & words["countries"]
    assert 190 <= len(words["countries"]) <= 220
    assert not [word for word in words["countries"] if "&" in word or "(" in word or " - " in word or "St." in word]
    assert {"French", "Swiss", "Chinese"} <= words["nationalities"]
    assert concept("months").words[4] == "May"
    assert concept("weekdays").words[0] == "Monday"
    assert {"one", "twenty", "thirty", "hundred", "million"} <= words["numbers"]
    assert all(word.isalpha() for word in words["numbers"])
    assert {"two", "several", "both", "dozen"} <= words["quantity"]
    assert {"happy", "smiling", "sad", "gloomy", "angry", "furious", "surprised", "calm"} <= words["sentiments"]
    assert words["sentiments_positive"] | words["sentiments_negative"] < words["sentiments"]
    assert not words["sentiments_positive"] & words["sentiments_negative"]
    assert {"idiot", "stupid", "clown"} <= words["rude"]
    assert not words["rude"] & words["sentiments"]
    assert len(words["rude"]) >= 40
    assert concept("digits").words == tuple("0123456789")


@pytest.mark.parametrize("name", concept_names())
def test_built_in_concepts_say_what_they_are(name):
    made = concept(name)
    assert made.description
    assert made.source
    assert concept(name.upper()) == made
    assert as_concept(name) == made


def test_aliases_and_unknown_names():
    assert concept("colors").name == "colours"
    with pytest.raises(HeadPursuitError, match="did you mean 'colours'"):
        concept("colour")
    with pytest.raises(HeadPursuitError, match="there are colours, countries"):
        as_concept("zebras")


def test_the_packaged_words_are_those_that_the_libraries_give():
    module = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "word_lists.py"))
    assert module["lists"]() == {name: word_list(name) for name in module["lists"]()}


def test_built_in_words_need_no_library():
    hidden = "for name in ('babel', 'webcolors', 'vaderSentiment'): sys.modules[name] = None\n"
    code = f"import sys\n{hidden}import headpursuit as hp\nprint(len(hp.concept('countries')), *hp.concept('colours').words)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[0]) > 190
    assert {"red", "green", "blue"} <= set(done.stdout.split())


def test_a_concept_counts_its_words():
    assert concept("red,box").count("Two Red boxes on a reddish box") == 3


FILES = [
    ("shades.txt", "# warm ones\nred\n  orange  # like the fruit\n\nC#\nred\n", ("red", "orange", "C#")),
    ("shades", "red\r\norange\r\nC#\r\n", ("red", "orange", "C#")),
    ("shades.csv", "red\norange\nC#\n", ("red", "orange", "C#")),
    ("shades.csv", 'id,word\n1,red\n2,"orange"\n3,C#\n', ("red", "orange", "C#")),
    ("shades.json", '["red", "orange", "C#"]', ("red", "orange", "C#")),
    ("shades.json", '{"name": "shades", "words": ["red", "orange", "C#"]}', ("red", "orange", "C#")),
]


@pytest.mark.parametrize(("name", "content", "words"), FILES)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files(tmp_path, name, content, words, mark):
    path = tmp_path / name
    path.write_text(mark + content, encoding="utf-8")
    made = as_concept(path)
    assert (made.name, made.words, made.source) == ("shades", words, str(path))
    assert as_concept(str(path)) == made


def test_words_are_a_concept_too():
    made = as_concept(["red", "green"])
    assert (made.name, made.words) == ("red, green", ("red", "green"))
    assert as_concept(word for word in "abcd").name == "a, b, c, …"
    assert as_concept("red, green,,blue ") == as_concept(("red", "green", "blue"))
    assert as_concept(made) is made


STORY = "Once upon a time there was a red house by the sea, and in it lived a cat. " * 40


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (STORY, "is a text of"),
        (STORY.replace(",", ""), "no built-in concept 'Once upon a time"),
        ([STORY], "is a text of"),
        ("one line\nand another", "no built-in concept 'one line and another'"),
        ("x" * 5000, "no built-in concept"),
        ("", "no built-in concept"),
        (7, "7 is no concept"),
        ({"red": 1}, "is no concept"),
        ([], "is empty"),
        (["red", None], "None is a NoneType"),
    ],
)
def test_what_is_no_concept_is_refused_in_one_short_line(given, message):
    with pytest.raises(HeadPursuitError, match=message) as refused:
        as_concept(given)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_file_of_stories_is_refused_in_one_short_line(tmp_path):
    (tmp_path / "stories.txt").write_text(f"{STORY}\n{STORY}\n")
    with pytest.raises(HeadPursuitError, match=r"stories\.txt: .* is a text of") as refused:
        as_concept(tmp_path / "stories.txt")
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


BAD_FILES = [
    ("a.txt", b"red\ngr\xfcn\n", r"a\.txt line 2: not UTF-8"),
    ("a.txt", b"# nothing\n\n", r"a\.txt: no words"),
    ("a.csv", b"", r"a\.csv: no words"),
    ("a.csv", b"id,word\n1,red\n2\n", r"a\.csv, line 3: no column 2"),
    ("a.csv", b'red\n"open', r"a\.csv, line 2: not readable as CSV"),
    ("a.json", b'["red",\n "green"\n', r"a\.json, line \d: not valid JSON"),
    ("a.json", b'"red"', r"a\.json: expected a list of words"),
    ("a.json", b'{"list": ["red"]}', "expected a list"),
    ("a.json", b'["red", 7]', r"a\.json: item 2 of the list is 7"),
    ("a.json", b"[]", r"a\.json: no words"),
    ("a.json", b"[" * 20_000, r"a\.json: JSON nested more than 100 levels"),
    ("a.json", b"[" + b"9" * 5000 + b"]", r"a\.json: not valid JSON \(a number of more than 4300 digits"),
    ("a.json", b'["\\ud800"]', r"a\.json: .* half a surrogate pair"),
    ("a.csv", b"x" * 200_000, r"a\.csv: .* is a text of 200000 characters"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_files_are_named_with_their_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(HeadPursuitError, match=message) as caught:
        as_concept(path)
    assert "\n" not in str(caught.value)


def test_words_of_a_file_end_with_their_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("red\rdark\vgreen\r\nblue\x85\n".encode())
    assert as_concept(tmp_path / "a.txt").words == ("red", "dark green", "blue")
    with pytest.raises(HeadPursuitError, match=r"concept .*: int is a int, not a word"):
        as_concept([10**5000])


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(HeadPursuitError, match=r"no concept file .*shades\.txt"):
        as_concept(tmp_path / "shades.txt")
    with pytest.raises(HeadPursuitError, match="is a folder"):
        as_concept(tmp_path)


def test_a_name_wins_over_a_file_unless_written_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "colours").write_text("mauve\n", encoding="utf-8")
    assert "red" in as_concept("colours").words
    assert as_concept("./colours").words == ("mauve",)
