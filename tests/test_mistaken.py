"""Arguments that a newcomer gives in another form than the one meant: understood, or refused in one line."""

from __future__ import annotations

import pytest
import torch

import headpursuit as hp

SAMPLES = [hp.Sample(text=f"What is number {number}?", target="red") for number in range(8)]


@pytest.fixture(scope="module")
def demo():
    return hp.load("demo", device="cpu")


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory):
    out = tmp_path_factory.mktemp("acts") / "acts"
    hp.capture(demo, SAMPLES, positions="last", out=out, progress=False)
    return out


def refused(call, *parts):
    """The call's one line, which has these parts."""
    with pytest.raises(hp.HeadPursuitError) as told:
        call()
    line = str(told.value)
    assert "\n" not in line
    assert len(line) < 300
    for part in parts:
        assert part in line
    return line


# Every function that takes a model, as it is called with one.
TAKES_A_MODEL = {
    "capture": lambda model, tmp_path: hp.capture(model, SAMPLES, progress=False),
    "tokens": lambda model, tmp_path: hp.tokens(model, SAMPLES),
    "attribute": lambda model, tmp_path: hp.attribute(model, SAMPLES[:2], ["red"], progress=False),
    "greedy_heads": lambda model, tmp_path: hp.greedy_heads(model, SAMPLES[:2], ["red"], k=1, progress=False),
    "load_heads": lambda model, tmp_path: hp.load_heads(tmp_path / "heads.json", model=model),
    "load_edit": lambda model, tmp_path: hp.load_edit(tmp_path / "edit.json", model=model),
    "save": lambda model, tmp_path: hp.HeadEdit("L1.H2", scale=0).save(tmp_path / "again.json", model=model),
    "applied": lambda model, tmp_path: hp.HeadEdit("L1.H2", scale=0).applied(model).__enter__(),
    "tune": lambda model, tmp_path: hp.tune(model, None, "digits", limit=4, trials=1, draws=1, progress=False),
    "evaluate": lambda model, tmp_path: hp.evaluate(
        "demo-digits", model, set={"edit.k": [1], "edit.draws": 2}, limit=4, progress=False
    ),
    "export": lambda model, tmp_path: hp.export(
        model, hp.HeadEdit("L1.H2", scale=0), tmp_path / "out", format="ia3", progress=False
    ),
}


@pytest.fixture
def files(demo, folder, tmp_path):
    hp.HeadEdit("L1.H2", scale=0).save(tmp_path / "edit.json", model=demo)
    hp.rank(folder, ["red", "green"], progress=False).save(tmp_path / "heads.json")
    return tmp_path


@pytest.mark.parametrize("name", TAKES_A_MODEL)
def test_a_name_is_loaded_where_a_model_is_meant(files, name):
    TAKES_A_MODEL[name]("demo", files)


@pytest.mark.parametrize("name", [*TAKES_A_MODEL, "load"])
def test_what_is_no_model_is_one_line(demo, files, name):
    call = {**TAKES_A_MODEL, "load": lambda model, tmp_path: hp.load(model)}[name]
    refused(lambda: call(demo.hf, files), "LlavaForConditionalGeneration", "hp.wrap(model, tokenizer)")
    refused(lambda: call(3, files), "3 is no model")
    refused(lambda: call("/no/such/folder", files), "no such folder")


def test_what_is_no_model_of_transformers_is_one_line(demo):
    refused(lambda: hp.wrap("demo"), "'demo' is no transformers model", "hp.load")
    refused(lambda: hp.wrap(torch.nn.Linear(2, 2)), "is no transformers model")
    refused(lambda: hp.load(demo), "demo is loaded already")


TAKES_A_CAPTURE = {
    "describe": lambda acts: hp.describe(acts, heads="L1.H2", n_atoms=2, progress=False),
    "rank": lambda acts: hp.rank(acts, ["red", "green"], progress=False),
    "significance": lambda acts: hp.significance(acts, ["red", "green"], draws=2, progress=False),
    "stability": lambda acts: hp.stability(acts, ["red", "green"], k=2, draws=2, progress=False),
    "concept_map": lambda acts: hp.concept_map(acts, [["red", "green"]], draws=2, progress=False),
}


@pytest.mark.parametrize("name", TAKES_A_CAPTURE)
def test_a_folder_is_opened_where_a_capture_is_meant(demo, folder, name):
    call = TAKES_A_CAPTURE[name]
    for acts in (str(folder), folder):
        call(acts)
    refused(lambda: call(demo), "HeadModel(demo", "is no capture", "hp.capture")
    refused(lambda: call(3), "3 is no capture")
    refused(lambda: call("demo"), "demo is no capture")


def test_one_where_a_list_is_meant_is_a_list_of_one(folder):
    for concepts in ("colours", hp.concept("colours")):
        assert hp.concept_map(folder, concepts, progress=False).concepts == ("colours",)
    assert hp.concept_map(folder, "red,green", progress=False).concepts == ("red, green",)
    assert [one.head.name for one in hp.describe(folder, heads="L1.H2", progress=False)] == ["L1.H2"]
    from headpursuit.tuning.tune import Options

    assert Options(where="image", methods="logit-lens", fixed_ks=2) == Options(
        where=("image",), methods=("logit_lens",), fixed_ks=(2,)
    )


def test_what_is_no_list_of_heads_and_no_edit_is_one_line(demo, tmp_path):
    refused(lambda: hp.random_controls("L1.H1", demo.hf), "is not a list of heads")
    refused(lambda: hp.export(demo, ["L1.H1"], tmp_path / "out"), "['L1.H1'] is no edit")
