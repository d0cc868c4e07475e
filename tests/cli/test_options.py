"""Options of commands are called as the arguments of the functions that the commands call."""

from __future__ import annotations

import inspect

import pytest
import typer.main

import headpursuit as hp
from headpursuit.cli.main import app
from headpursuit.concepts import resolve
from headpursuit.concepts.endpoint import Endpoint, endpoint_from
from headpursuit.concepts.keywords import keywords
from headpursuit.evaluation.demo import run_demo
from headpursuit.model.samples import as_samples
from headpursuit.tuning.tune import Options

GENERATE = (hp.load, hp.HeadModel.generate, hp.HeadEdit, hp.Sample)
FUNCTIONS = {
    "attribute": (hp.load, hp.as_samples, hp.attribute, hp.HeadRanking.save),
    "capture": (hp.load, hp.as_samples, hp.capture),
    "compare": (hp.head_overlap,),
    "concepts": (hp.concept, resolve),
    "demo": (run_demo, hp.evaluate),
    "describe": (hp.open_capture, hp.as_samples, hp.describe),
    "evaluate": (hp.load, hp.evaluate),
    "export": (hp.export, hp.HeadEdit),
    "generate": GENERATE,
    "keywords": (keywords, Endpoint, endpoint_from, as_samples),
    "map": (hp.open_capture, hp.concept_map, hp.rank),
    "models": (),
    "prompt": (hp.load, hp.tokens),
    "rank": (hp.open_capture, hp.rank, hp.significance, hp.stability, hp.HeadRanking.save),
    "report": (hp.report.load,),
    "tune": (hp.load, hp.as_samples, hp.tune, Options),
    "verify": (hp.verify, hp.as_samples),
}

# Options that are no argument of a function, each with its reason.
EVERYWHERE = {
    "json": "how the result is printed",
    "out": "where a command puts what a function returns",
    "seed": "every command takes it, whether something is drawn or not",
    "help": "shown by the command itself",
}
EXCEPTIONS = {
    ("compare", "figure"): "where the table is drawn: .plot() in Python",
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
    ("map", "figure"): "where the map is drawn: .plot() in Python",
    ("map", "significance"): "draws, where a command draws for one purpose or for two",
    ("models", "name"): "a search in a packaged table",
    ("models", "state"): "a search in a packaged table",
    ("rank", "significance"): "draws of hp.significance",
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
