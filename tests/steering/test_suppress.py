"""From a concept to an edited model: what is written is what was measured, and nothing is written in vain."""

from __future__ import annotations

import json

import pytest

import headpursuit as hp
from command import call
from headpursuit.concepts.counting import count_words
from headpursuit.demo import demo_path, demo_samples
from headpursuit.errors import HeadPursuitError
from headpursuit.exporting.provenance import CARD
from headpursuit.steering import written
from headpursuit.steering.suppress import card_section
from headpursuit.steering.written import written_samples

QUICK = ("--limit", 24, "--trials", 3, "--k", 3)


@pytest.fixture(scope="module")
def model():
    return hp.load("demo", device="cpu")


@pytest.fixture(scope="module")
def suppressed(tmp_path_factory):
    out = tmp_path_factory.mktemp("suppressed") / "colours"
    assert call("suppress", "demo", "--concept", "colours", "--out", out, *QUICK) == 0
    return out


def test_the_export_writes_what_was_measured_and_its_card_says_it(suppressed, model, capsys):
    results = json.loads((suppressed / "tuning" / "results.json").read_text())
    (row,) = [one for one in results["rows"] if one["selection"] == "tuned" and one["metric"] == "colours words"]
    edit = hp.load_edit(suppressed / "tuning" / "edit.json", model=model)
    exported = hp.load(suppressed / "checkpoint", device="cpu")
    samples = [hp.Sample(text=one.text, image=one.image) for one in demo_samples("caption", "test", limit=4)]
    with edit.applied(model):
        assert exported.generate(samples) == model.generate(samples)
    card = (suppressed / "checkpoint" / CARD).read_text()
    assert "## What the edit does" in card
    shown = next(line for line in card.splitlines() if line.startswith("| captioning | colours words"))
    assert f"{row['normalized']:.2f}" in shown
    assert "random heads, median [quartiles]" in card
    assert "loss ≤ 0.05" in card
    assert hp.verify(suppressed / "checkpoint", progress=False).ok


def test_a_second_run_finds_everything_and_says_it_as_json(suppressed, capsys):
    stored = {path: path.stat().st_mtime_ns for path in suppressed.glob("tuning/cells/*.json")}
    capsys.readouterr()
    assert call("suppress", "demo", "--concept", "colours", "--out", suppressed, *QUICK, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert {path: path.stat().st_mtime_ns for path in suppressed.glob("tuning/cells/*.json")} == stored
    assert content["export"]["format"] == "checkpoint"
    assert content["change"][2] < 0
    assert content["written"] == 0
    assert len(content["texts"]) == 4
    assert any(count_words(one["unedited"], hp.concept("colours").words) for one in content["texts"])
    assert any(one["unedited"] != one["edited"] for one in content["texts"])


def test_another_form_of_the_same_edit_lies_beside_it(suppressed):
    options = {"limit": 24, "trials": 3, "k": 3, "progress": False}
    found = hp.suppress("demo", "colours", out=suppressed, to="lora", **options)
    assert found.tuned.computed == 0
    assert found.export.folder == suppressed / "lora"
    assert found.verification.ok
    assert card_section(found) in (suppressed / "lora" / CARD).read_text()


def test_other_options_need_another_folder(suppressed, capsys):
    assert call("suppress", "demo", "--concept", "colours", "--out", suppressed, "--limit", 24, "--trials", 2) == 1
    assert "with other trials, k: choose another folder" in capsys.readouterr().err
    assert call("enhance", "demo", "--concept", "colours", "--out", suppressed, *QUICK) == 1
    assert "with other rises" in capsys.readouterr().err
    assert call("suppress", "demo", "--concept", "digits", "--out", suppressed, *QUICK) == 1
    assert "holds results of tune colours" in capsys.readouterr().err


def test_an_edit_that_moves_nothing_is_one_line_and_no_export(tmp_path, capsys):
    out = tmp_path / "still"
    asked = ("--limit", 8, "--trials", 1, "--k", 1, "--cost", 1e-9)
    assert call("suppress", "demo", "--concept", "countries", "--out", out, *asked) == 1
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("headpursuit: no edit is written: on 8 test samples ")
    assert {path.name for path in out.iterdir()} == {"tuning"}
    assert not (out / "tuning" / "edit.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "magic"}, "to='magic': choose one of checkpoint, lora, ia3, gguf"),
        ({"push": "a/b"}, "give out, the folder that is uploaded"),
        ({"cost": -1.0}, "allow a loss above 0"),
        ({"trials": 0}, "trials=0: give at least 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(options, message):
    with pytest.raises(HeadPursuitError, match=message):
        hp.suppress("no/such-model", "colours", **options)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.md").write_text("mine")
    with pytest.raises(HeadPursuitError, match="holds something else"):
        hp.suppress("demo", "colours", out=tmp_path)
    with pytest.raises(HeadPursuitError, match="no GGUF file"):
        hp.suppress("demo", "colours", out=tmp_path / "new", to="gguf")


def test_texts_that_the_model_writes_end_in_front_of_the_concept(model, tmp_path, monkeypatch):
    beginnings = tmp_path / "beginnings.txt"
    beginnings.write_text("the girl is\nthe dog is\nthe man is\n")
    monkeypatch.setattr(written, "PROMPTS", beginnings)
    words = hp.concept([*hp.concept("rude").words, *hp.concept("sentiments").words, "man", "neighbour"])
    samples = written_samples(model, words, folder=tmp_path / "kept", progress=False)
    assert written.FEWEST <= len(samples) <= written.WANTED
    assert len({one.text for one in samples}) == len(samples)
    assert not any(one.chat or one.target for one in samples)
    assert written_samples(model, words, folder=tmp_path / "kept", progress=False) == samples
    (kept,) = (tmp_path / "kept").iterdir()
    stored = json.loads(kept.read_text())["samples"]
    assert [text for text, _ in stored] == [one.text for one in samples]
    assert all(words.count(went_on.split()[0]) for _, went_on in stored)
    kept.write_text(kept.read_text().replace("the", "teh", 1))
    with pytest.raises(HeadPursuitError, match="delete it"):
        written_samples(model, words, folder=tmp_path / "kept", progress=False)


def test_a_model_without_data_of_its_own_writes_its_samples():
    words = hp.concept(["friend", "helper", "guest", "partner", "hero"])
    found = hp.suppress(demo_path(), words, limit=48, trials=6, k=3, cost=0.3, progress=False)
    assert found.written == written.WANTED
    assert found.export is found.verification is None
    assert {limit.metric.name for limit in found.tuned.goal.limits} == {"divergence"}
    assert "texts that the model wrote itself" in card_section(found)
    assert any(words.count(one.unedited) for one in found.texts)


def test_a_concept_that_the_model_never_speaks_of_is_refused(model, monkeypatch):
    monkeypatch.setattr(written, "_ROUNDS", 1)
    with pytest.raises(HeadPursuitError, match="demo speaks of zyzzyva in 0 of the 64 texts that it wrote by itself"):
        written_samples(model, hp.concept("zyzzyva,"), progress=False)
