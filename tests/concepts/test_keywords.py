"""Word lists from a language model: a real server on loopback, and replies of every kind."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from transformers.utils.import_utils import is_serve_available

from command import call
from concepts.test_endpoint import KEY, Server, completion, quick
from headpursuit.concepts import as_concept
from headpursuit.concepts import keywords as module
from headpursuit.concepts.endpoint import Reply
from headpursuit.concepts.keywords import keywords
from headpursuit.errors import HeadPursuitError
from headpursuit.files import locked
from headpursuit.model.samples import Sample

ANSWERS = [Sample(text=text, where=f"line {number}") for number, text in enumerate(["You Clown, you fool", "clown!", "hi"])]


class Asked:
    """An endpoint that gives what a script says, in place of the network, which test_endpoint.py looks at."""

    model = "m"

    def __init__(self, *script):
        self.script, self.messages = list(script), []

    def ask(self, messages, *, max_tokens):
        self.messages.append(messages)
        return Reply(self.script[len(self.messages) - 1], None, cached=False)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ('{"words": ["a", "b c"]}', ["a", "b c"]),
        ('```json\n{"words": []}\n```', []),
        ('Sure! {not json} Here: {"words": ["a  b"]} Bye {"words": ["late"]}', ["a b"]),
        ('["a", "b"]', ["a", "b"]),
        ("I would rather not.", "no JSON object in it"),
        ("", "no JSON object in it"),
        ('{"words": ["cut", "o', "no JSON object in it"),
        ('{"words": "a"}', 'no list of texts under "words"'),
        ('{"words": [1]}', 'no list of texts under "words"'),
        ("[" * 5000, "no JSON object in it"),
        (json.dumps(["a"] * 10**5), "far longer than was asked for"),
    ],
)
def test_replies_are_read(reply, words):
    got = module._parsed(reply)
    assert got == words


def test_words_are_counted_checked_and_split():
    replies = ['{"words": ["clown", "fool", "idiot", "4u"]}', 'x {"words": ["Clown"]}', '{"words": []}']
    found = keywords(ANSWERS, Asked(*replies), kind="toxic", held_out=0.5, progress=False)
    assert {word.lower(): count for word, count in found.counts.items()} == {"clown": 2, "fool": 1}
    assert found.refused == {"not in the text": 1, "no word": 1}
    assert len(found.words) == len(found.held_out) == 1
    assert {*found.words, *found.held_out} == set(found.counts)
    assert found.bad == ()
    assert keywords(ANSWERS, Asked(*replies), kind="toxic", at_least=2, progress=False).held_out == ()


def test_bad_replies_are_counted_and_named():
    found = keywords(ANSWERS, Asked("no", '{"words": ["clown"]}', "{}"), kind="toxic", progress=False)
    assert [str(one) for one in found.bad] == [
        "line 0: no JSON object in it ('no')",
        "line 2: no list of texts under \"words\" ('{}')",
    ]
    with pytest.raises(HeadPursuitError, match=r"no reply of m could be used; the first: line 0: no JSON"):
        keywords(ANSWERS, Asked("no", "no", "no"), kind="toxic", progress=False)
    with pytest.raises(HeadPursuitError, match=r"no word is left of 3 samples \(1 not in the text\)"):
        keywords(ANSWERS, Asked('{"words": ["x"]}', "[]", "[]"), kind="toxic", progress=False)


def test_plurals_stay_on_one_side_and_the_seed_decides():
    stems = ["fool", "clown", "witch", "pig", "rat", "dunce", "brute", "ghoul"]
    words = [*stems, *(stem + ("es" if stem == "witch" else "s") for stem in stems)]
    sample = [Sample(text=" ".join(words))]

    def split(seed):
        reply = Asked(json.dumps({"words": words}))
        return keywords(sample, reply, kind="toxic", held_out=0.25, seed=seed, progress=False)

    sides = [split(seed) for seed in range(5)]
    for one in sides:
        assert len(one.held_out) == 4
        for stem, plural in zip(stems, words[len(stems) :], strict=True):
            assert (stem in one.held_out) == (plural in one.held_out)
    assert len({one.held_out for one in sides}) > 1
    assert split(3).held_out == sides[3].held_out


def test_images_are_sent_whole_and_class_names_are_dropped():
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    asked = Asked('{"words": ["stripes", "Zebra", "zebras", "grass"]}')
    found = keywords([Sample(image=image)], asked, kind="image", avoid=["zebra"], held_out=0, progress=False)
    assert found.words == ("grass", "stripes")
    assert found.refused == {"to be avoided": 2}
    (message,) = asked.messages[0]
    picture, text = message["content"]
    data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(image))
    assert "zebra" not in text["text"].lower()
    plural = keywords([Sample(image=image)], Asked(*asked.script), kind="image", avoid=["Zebras"], held_out=0, progress=False)
    assert plural.words == found.words


@pytest.mark.parametrize(
    ("sample", "options", "message"),
    [
        (Sample(text=" ", where="line 3"), {"kind": "toxic"}, "line 3: no text"),
        (Sample(text="a"), {"kind": "image"}, "no image"),
        (Sample(text="a"), {"kind": "sound"}, "choose one of toxic, image"),
        (Sample(text="a"), {"kind": "toxic", "held_out": 1}, "below 1"),
    ],
)
def test_wrong_input_is_refused(sample, options, message):
    with pytest.raises(HeadPursuitError, match=message):
        keywords([sample], Asked("[]"), progress=False, **options)


def test_a_run_that_is_cut_off_goes_on(tmp_path):
    good = completion('{"words": ["clown"]}')
    server = Server(good, (401, {}, "key expired"))
    with pytest.raises(HeadPursuitError, match="key expired"):
        keywords(ANSWERS, quick(server.url, cache=tmp_path), kind="toxic", progress=False)
    server.script[:] = [completion("nonsense"), good]
    first = quick(server.url, cache=tmp_path)
    assert len(keywords(ANSWERS, first, kind="toxic", progress=False).bad) == 1
    assert (first.asked, first.recalled) == (2, 1)
    # Only the bad reply is asked for again.
    second = quick(server.url, cache=tmp_path)
    assert keywords(ANSWERS, second, kind="toxic", progress=False).bad == ()
    assert (second.asked, second.recalled) == (1, 2)
    server.http.shutdown()
    server.http.server_close()


def test_one_process_writes_a_list_at_a_time(tmp_path, capsys):
    (tmp_path / "answers.txt").write_text("you clown\n")
    words = ["keywords", tmp_path / "answers.txt", "--kind", "toxic", "--model", "m", "--out", tmp_path / "w.txt"]
    with locked(tmp_path / "w.txt", beside=True):
        assert call(*words, "--endpoint", "http://127.0.0.1:9/v1") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headpursuit: ")]
    assert "w.txt is being written by another process" in line
    assert {one.name for one in tmp_path.iterdir()} == {"answers.txt"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`transformers serve` with a model that answers every question with two words."""
    if not is_serve_available():
        pytest.skip("`transformers serve` needs fastapi, uvicorn and openai: pip install 'headpursuit[dev]'")
    from concepts.served import save_chain, serve

    folder = tmp_path_factory.mktemp("served")
    save_chain(folder / "model", ['{"words": ["', "clown", '", "', "fool", '"]}'])
    with serve(folder / "model", folder / "log") as address:
        yield address, folder / "model"


def test_a_real_server(served, tmp_path, capsys, monkeypatch):
    address, model = served
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "answers.txt").write_text("you clown\nwhat a fool, what a clown\nfine weather\n")
    words = ["keywords", tmp_path / "answers.txt", "--kind", "toxic", "--model", model, "--out", tmp_path / "w.txt"]
    words += ["--per-minute", 6000, "--json"]
    assert call(*words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"clown": 2, "fool": 1}
    assert told["refused"] == {"not in the text": 3}
    assert (told["asked"], told["from_cache"], told["bad"]) == (3, 0, [])
    kept, apart = as_concept(tmp_path / "w.txt"), as_concept(tmp_path / "w.held-out.txt")
    assert {*kept.words, *apart.words} == {"clown", "fool"}
    assert (list(kept.words), list(apart.words)) == (told["words"], told["held_out"])
    assert call(*words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["asked"], told["from_cache"]) == (0, 3)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and KEY in file.read_text()]


def test_a_real_server_refuses_another_model(served, tmp_path, capsys):
    address, _ = served
    (tmp_path / "answers.txt").write_text("you clown\n")
    words = ["keywords", tmp_path / "answers.txt", "--kind", "toxic", "--model", "other", "--out", tmp_path / "w.txt"]
    assert call(*words, "--endpoint", address) == 1
    told = capsys.readouterr().err.splitlines()
    (line,) = [line for line in told if line.startswith("headpursuit: ")]
    assert "HTTP 400" in line
    assert "pinned" in line
    assert not (tmp_path / "w.txt").exists()
