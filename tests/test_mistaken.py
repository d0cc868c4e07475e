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
    "select": lambda model, tmp_path: hp.select(model, SAMPLES[:2], ["red"], method="greedy", k=1, progress=False),
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


NOWHERE = "/no/such/folder"
NAN, INFINITE = float("nan"), float("inf")
SEEDS = {"seed": [-1, 2**32, 0.5]}
# Every function with a number among its arguments, and those that it refuses before it opens what is not there.
REFUSED = {
    "as_samples": (lambda **of: hp.as_samples(["a"], **of), {"limit": [0, 1.5, "2"], "sample": [0], **SEEDS}),
    "capture": (lambda **of: hp.capture(NOWHERE, SAMPLES, **of), {"batch_size": [0], "limit": [0], "sample": [-1], **SEEDS}),
    "tokens": (lambda **of: hp.tokens(NOWHERE, SAMPLES, **of), {"limit": [0]}),
    "select": (
        lambda **of: hp.select(NOWHERE, SAMPLES, "colours", method="greedy", **of),
        {"k": [0, 1.0], "scale": [NAN, INFINITE, "x"], "batch_size": [0], "limit": [0]},
    ),
    "knockout": (
        lambda **of: hp.select(NOWHERE, SAMPLES, "colours", method="knockout", **of),
        {"masks": [0, 2.5], "scale": [NAN, INFINITE, "x"]},
    ),
    "describe": (lambda **of: hp.describe(NOWHERE, **of), {"n_atoms": [0]}),
    "rank": (lambda **of: hp.rank(NOWHERE, "colours", **of), {"n_atoms": [0, 2.5]}),
    "significance": (lambda **of: hp.significance(NOWHERE, "colours", **of), {"draws": [0, 1], "n_atoms": [0], **SEEDS}),
    "stability": (
        lambda **of: hp.stability(NOWHERE, "colours", **of),
        {"k": [0], "draws": [0], "leave_out": [0, 1, NAN], "n_atoms": [0], **SEEDS},
    ),
    "concept_map": (lambda **of: hp.concept_map(NOWHERE, ["colours"], **of), {"draws": [-1], "n_atoms": [0], **SEEDS}),
    "random_controls": (lambda **of: hp.random_controls("L1.H1", ["L1.H2", "L1.H1"], **of), {"draws": [0], **SEEDS}),
    "evaluate": (lambda **of: hp.evaluate("demo-digits", NOWHERE, **of), {"limit": [0, 1], **SEEDS}),
    "tune": (
        lambda **of: hp.tune(NOWHERE, SAMPLES, "colours", **of),
        {
            "trials": [0],
            "k": [0],
            "draws": [0],
            "fixed_ks": [0, [0]],
            "limit": [0, 3],
            **SEEDS,
            "fixed_scale": [NAN],
            "scales": [(NAN, 1), (0, INFINITE)],
            "reach": [NAN, "far"],
            "positions": ["all"],
            "limits": [{"neutral": NAN}, {"answers": 0}, {"more": 1}],
        },
    ),
    "export": (lambda **of: hp.export(NOWHERE, hp.HeadEdit("L1.H1", scale=0), "out", **of), {"max_rank": [0]}),
    "load_records": (lambda **of: hp.data.load_records("mnist", path=NOWHERE, split="test", **of), {"limit": [0], **SEEDS}),
    "HeadEdit": (lambda **of: hp.HeadEdit("L1.H1", **of), {"scale": [NAN, INFINITE, -INFINITE, "x"]}),
    "somp": (lambda **of: hp.pursuit.somp(torch.eye(3), torch.eye(3), **of), {"n_atoms": [0]}),
}


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [(name, option, value) for name, (_, of) in REFUSED.items() for option, values in of.items() for value in values],
)
def test_a_number_that_has_no_meaning_is_refused_before_anything_is_opened(name, option, value):
    line = refused(lambda: REFUSED[name][0](**{option: value}), "scale" if option in ("scales", "fixed_scale") else option)
    assert NOWHERE not in line


@pytest.mark.parametrize("option", ["batch_size", "max_new_tokens", "seed"])
def test_generating_refuses_numbers_without_a_meaning(demo, option):
    refused(lambda: demo.generate("a", **{option: -1}), f"{option}=-1: ")


def test_a_ranking_refuses_numbers_without_a_meaning(folder, tmp_path):
    ranking = hp.rank(folder, ["red", "green"], progress=False)
    for k in (0, 121, 1.0, "all"):
        refused(lambda k=k: ranking.top(k), f"k={k!r}: choose between 1 and the model's 120 heads")
    refused(lambda: ranking.save(tmp_path / "heads.json", top=0), "top=0: give at least 1")
    refused(lambda: ranking.plot(k=-1), "k=-1: give at least 0")


def test_a_word_that_is_no_known_name_says_how_one_word_is_given(folder):
    refused(lambda: hp.concept("red"), "no built-in concept 'red'", "(red,)", "a file of words")
    assert hp.concept("red,").words == ("red",)
    assert hp.rank(folder, "red,", progress=False).concept == "red"


def test_the_embedded_model_is_called_demo_wherever_it_is_named(demo):
    from headpursuit.concepts import resolve

    assert resolve(hp.concept("red,green"), demo.tokenizer).tokenizer == "demo"
    refused(lambda: hp.select(demo, SAMPLES, ["xyzzyqqq"], method="attribution", progress=False), "in the vocabulary of demo ")
    assert hp.wrap(demo.hf, demo.processor).source == demo.source
