"""Options of commands are called as the arguments of the functions that the commands call."""

from __future__ import annotations

import inspect
import json

import pytest
import typer.main

import headpursuit as hp
from command import call
from headpursuit.app.page import started
from headpursuit.app.playground import open_playground
from headpursuit.cli.main import app
from headpursuit.concepts import resolve
from headpursuit.concepts.endpoint import Endpoint, endpoint_from
from headpursuit.concepts.keywords import keywords
from headpursuit.engines import as_engine
from headpursuit.evaluation.demo import run_demo
from headpursuit.model.samples import as_samples
from headpursuit.ranking.select import _BY_RUNNING
from headpursuit.tuning.tune import Options

GENERATE = (hp.load, hp.HeadModel.generate, hp.HeadEdit, hp.Sample)
FUNCTIONS = {
    "atlas": (hp.open_capture, hp.as_samples, hp.atlas),
    "app": (hp.load, open_playground, started),
    "capture": (hp.load, hp.as_samples, hp.capture),
    "compare": (hp.head_overlap,),
    "concepts": (hp.concept, resolve),
    "demo": (run_demo, hp.evaluate),
    "describe": (hp.open_capture, hp.as_samples, hp.describe, as_engine),
    "doctor": (hp.doctor,),
    "enhance": (hp.load, hp.as_samples, hp.suppress),
    "evaluate": (hp.load, hp.evaluate, as_engine),
    "export": (hp.export, hp.HeadEdit),
    "generate": GENERATE,
    "keywords": (keywords, Endpoint, endpoint_from, as_samples),
    "map": (hp.open_capture, hp.concept_map, hp.rank, as_engine),
    "models": (),
    "prompt": (hp.load, hp.tokens),
    "rank": (hp.open_capture, hp.as_samples, hp.rank, hp.significance, hp.stability, hp.HeadRanking.save, as_engine),
    "report": (hp.report.load,),
    "select": (hp.load, hp.as_samples, hp.select, hp.HeadRanking.save, hp.rank, hp.capture, as_engine, *_BY_RUNNING.values()),
    "suppress": (hp.load, hp.as_samples, hp.suppress),
    "tune": (hp.load, hp.as_samples, hp.tune, Options, as_engine),
    "verify": (hp.verify, hp.as_samples),
}

# Options that are no argument of a function, each with its reason.
EVERYWHERE = {
    "json": "how the result is printed",
    "plot": "where a result is drawn: .plot() in Python",
    "out": "where a command puts what a function returns",
    "seed": "every command takes it, whether something is drawn or not",
    "help": "shown by the command itself",
}
EXCEPTIONS = {
    ("compare", "files"): "the function gets head sets by name",
    ("compare", "top"): "the function gets head sets: HeadRanking.top in Python",
    ("concepts", "model"): "resolve gets the model's tokenizer",
    ("concepts", "trust_remote_code"): "of the model's tokenizer",
    ("concepts", "name"): "left out, all concepts are listed",
    ("describe", "head"): "one head each time it is given",
    ("evaluate", "dry_run"): "what would run, in place of running it",
    ("evaluate", "show"): "the recipe, in place of running it",
    ("export", "head"): "one head each time it is given",
    ("generate", "edit"): "a file: load_edit in Python",
    ("generate", "head"): "one head each time it is given",
    ("generate", "no_chat"): "Sample(chat=False)",
    ("generate", "prompt"): "one prompt each time it is given",
    ("generate", "temperature"): "handed on to transformers",
    ("keywords", "api_key"): "key of the endpoint, which says what it is a key to",
    ("map", "significance"): "draws, where a command draws for one purpose or for two",
    ("models", "name"): "a search in a packaged table",
    ("models", "state"): "a search in a packaged table",
    ("rank", "significance"): "draws of hp.significance",
    **{
        (command, option): "texts of hp.Concept.from_texts"
        for command in ("rank", "select")
        for option in ("positive", "negative")
    },
    ("select", "edit"): "where HeadRanking.edit is kept",
    ("select", "measured"): "out of hp.select, which here is the heads file",
    ("tune", "dry_run"): "what would run, in place of running it",
    ("rank", "stability"): "draws of hp.stability",
}


def commands():
    return typer.main.get_command(app).commands


def options(command):
    return {option.name for option in commands()[command].params}


def test_every_command_is_looked_at():
    assert set(commands()) == set(FUNCTIONS)


@pytest.mark.parametrize("command", FUNCTIONS)
def test_options_are_called_as_in_python(command):
    known = {name for function in FUNCTIONS[command] for name in inspect.signature(function).parameters}
    other = options(command) - known - set(EVERYWHERE)
    excused = {name for one, name in EXCEPTIONS if one == command}
    assert other - excused == set(), "neither an argument nor an exception"


def test_no_exception_is_idle():
    for command, name in EXCEPTIONS:
        assert name in options(command), f"{command} has no option {name}"
        known = {name for function in FUNCTIONS[command] for name in inspect.signature(function).parameters}
        assert name not in known, f"{name} is an argument of a function that {command} calls"


@pytest.mark.parametrize("command", FUNCTIONS)
def test_an_option_is_spelled_as_it_is_named(command):
    for option in commands()[command].params:
        if option.param_type_name == "option" and option.name != "help":
            assert f"--{option.name.replace('_', '-')}" in option.opts


# Options whose values are all known, or have one form, and what is none of them.
WRONG = dict.fromkeys(
    (
        "criterion",
        "device",
        "dtype",
        "engine",
        "format",
        "kind",
        "method",
        "multi_token",
        "order",
        "part",
        "positions",
        "reach",
        "state",
        "tail",
        "to",
        "where",
    ),
    "magic",
) | {"limits": "magic=1", "methods": "magic", "plot": "magic.gif"}
GIVEN = {
    "atlas": ["{acts}", "--out", "{new}"],
    "app": ["demo", "--no-open"],
    "capture": ["demo", "--samples", "{texts}", "--out", "{new}"],
    "compare": ["no.json"],
    "concepts": ["colours", "--model", "demo"],
    "describe": ["{acts}"],
    "evaluate": ["demo-digits", "--out", "{new}"],
    "export": ["demo", "--out", "{new}", "--head", "L1.H1"],
    "generate": ["demo", "--prompt", "a", "--head", "L1.H1"],
    "keywords": ["{texts}", "--kind", "toxic", "--model", "m", "--out", "{new}", "--endpoint", "http://127.0.0.1:9/v1"],
    "map": ["{acts}", "--concept", "colours"],
    "models": [],
    "prompt": ["demo", "--samples", "{texts}"],
    "rank": ["{acts}", "--concept", "colours", "--significance", "2"],
    "select": ["demo", "--samples", "{texts}", "--concept", "colours"],
    "suppress": ["demo", "--samples", "{texts}", "--concept", "colours", "--out", "{new}"],
    "tune": ["demo", "--samples", "{texts}", "--concept", "colours", "--out", "{new}"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choices")
    texts = folder / "texts.txt"
    texts.write_text("".join(f"text {number}\n" for number in range(9)))
    hp.capture("demo", texts, out=folder / "acts", progress=False)
    return {"texts": texts, "acts": folder / "acts", "new": folder / "new"}


@pytest.mark.parametrize(("command", "option"), [(c, name) for c in GIVEN for name in sorted(options(c) & set(WRONG))])
def test_a_wrong_choice_is_wrong_usage(command, option, folders, capsys):
    given = [word.format(**folders) for word in GIVEN[command]]
    assert call(command, *given, f"--{option.replace('_', '-')}", WRONG[option]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headpursuit: ")]
    assert len(lines) == 1, lines
    assert "magic" in lines[0]
    assert "choose" in lines[0] or "give" in lines[0]
    assert not folders["new"].exists()


# Options whose help names several things, of which there are as many as one likes.
FREE = {"concept", "dictionary", "frequencies", "head", "model", "revision", "samples"}


def test_every_option_with_words_to_choose_from_is_tried():
    every = [param for command in commands().values() for param in command.params if param.param_type_name == "option"]
    assert {param.name for param in every if " or " in (param.help or "")} - FREE <= set(WRONG)


@pytest.mark.parametrize(
    ("words", "option"),
    [(["tune", "demo", "--concept", "colours"], one) for one in ("--text-column", "--neutral", "--positions")]
    + [(["verify", "{new}"], "--image-column")],
)
def test_options_that_speak_of_samples_need_some(words, option, folders, capsys):
    value = folders["texts"] if option == "--neutral" else "mean"
    assert call(*(word.format(**folders) for word in words), option, value) == 1
    assert capsys.readouterr().err == f"headpursuit: {option} speaks of samples: give --samples, or leave it out\n"


def test_an_edit_at_image_tokens_needs_an_image(tmp_path, capsys):
    assert call("generate", "demo", "--prompt", "a", "--head", "L1.H1", "--where", "image") == 1
    assert "there is none: give --image FILE, or another --where" in capsys.readouterr().err
    hp.HeadEdit("L1.H1", scale=0, where="image").save(tmp_path / "edit.json", model="demo")
    capsys.readouterr()
    assert call("generate", "demo", "--prompt", "a", "--edit", tmp_path / "edit.json") == 1
    assert "there is none: give --image FILE" in capsys.readouterr().err


@pytest.mark.parametrize("order", [["--significance", "4", "--stability", "3"], ["--stability", "3", "--significance", "4"]])
def test_significance_and_stability_go_together_in_either_order(order, folders, capsys):
    assert call("rank", folders["acts"], "--concept", "red,", *order, "--top", "1", "--json") == 0
    (head,) = json.loads(capsys.readouterr().out)["heads"]
    assert {"explained", "logit_z", "p", "q", "stays_samples"} <= set(head)
