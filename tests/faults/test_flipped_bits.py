"""One flipped bit in whatever was written is found when it is read; `FAULTS=long` flips a hundred of each kind."""

import contextlib
import io
import os
import shutil
from random import Random

import pytest

import headpursuit as hp
import tiny
from command import call
from faults.world import CONCEPT
from headpursuit.concepts import as_concept
from headpursuit.concepts.endpoint import Endpoint
from headpursuit.evaluation.cells import Cells, Task
from headpursuit.evaluation.describe import describe_heads
from headpursuit.evaluation.evaluate import gather
from headpursuit.evaluation.metrics import Metric
from headpursuit.evaluation.rankings import stored_rankings
from headpursuit.evaluation.recipe import load_recipe
from headpursuit.tuning.tune import Tuned

FLIPS = 100 if os.environ.get("FAULTS") == "long" else 8
SAMPLES = [hp.Sample(text, chat=False) for text in tiny.TEXTS]
WRITING = Task(
    "writing",
    SAMPLES,
    (Metric("writing", "letters"),),
    lambda said: {"letters": [len(one) for one in said]},
    {"max_new_tokens": 3},
)


def said(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = call(*words)
    return code, out.getvalue(), err.getvalue()


def flip(file, random):
    content = bytearray(file.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def copied(whole, copy):
    if copy.is_dir():
        shutil.rmtree(copy)
    (shutil.copytree if whole.is_dir() else shutil.copy)(whole, copy)


COMMANDS = {
    "acts": lambda path: ["rank", path, "--concept", CONCEPT],
    "moments": lambda path: ["rank", path, "--concept", CONCEPT],
    "export": lambda path: ["verify", path],
    "adapter": lambda path: ["verify", path],
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_flipped_bit_in_a_folder_is_one_line(world, tmp_path, kind):
    whole = getattr(world, kind)
    copy = tmp_path / whole.name
    copied(whole, copy)
    assert said(*COMMANDS[kind](copy))[0] == 0
    random, missed = Random(0), []
    for number in range(FLIPS):
        copied(whole, copy)
        tensors = random.random() < 0.5
        file = random.choice(sorted(one for one in copy.rglob("*.safetensors" if tensors else "*") if one.is_file()))
        flip(file, random)
        code, _, err = said(*COMMANDS[kind](copy))
        lines = [line for line in err.splitlines() if line.startswith("headpursuit: ")]
        if code != 1 or len(lines) != 1 or "unexpected" in lines[0]:
            missed.append((number, file.name, code, lines))
    assert missed == []


def descriptions_of(world):
    recipe = {
        "title": "t",
        "model": "demo",
        "tasks": [{"name": "own", "data": "own", "metric": ["contains"]}],
        "describe": {"task": "own", "atoms": 2, "positions": "mean"},
    }
    rows = [{"text": one.text, "answers": ["red"]} for one in SAMPLES * 3]
    model = hp.load(world.model)
    return lambda path: describe_heads(gather(load_recipe(recipe), model, data={"own": rows}), model, out=path, progress=False)


def rankings_of(world):
    model = hp.load(world.model)
    return lambda path: stored_rankings(model, as_concept(CONCEPT), WRITING, folder=path, progress=False)


def asked(path):
    # Nobody answers there, so that what comes back was kept.
    endpoint = Endpoint("http://127.0.0.1:9/v1", "m", cache=path, attempts=1, timeout=1, per_minute=10**6)
    return endpoint.ask([{"role": "user", "content": "hi"}], max_tokens=7)


def keep_a_reply(path):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Endpoint, "_send", lambda *_: "hello")
        asked(path).keep()


# What makes a folder or a file, which of its files are read, and what reads them.
KINDS = {
    "rankings": lambda world: (world.heads, "", hp.HeadRanking.load),
    "edits": lambda world: (world.edit, "", lambda path: hp.load_edit(path, model=hp.load(world.model))),
    "results": lambda world: (world.results, "results.json", hp.Results.load),
    "images": lambda world: (world.results, "**/*.png", hp.Results.load),
    "tuned": lambda world: (world.tuned, "tuned.json", Tuned.load),
    "cells": lambda world: (
        lambda path: Cells(tiny.tiny("llama"), {"writing": WRITING}, seed=0, folder=path).cell("writing", None).answers,
        "*.json",
        None,
    ),
    "kept rankings": lambda world: (rankings_of(world), "rankings/*.json", None),
    "descriptions": lambda world: (descriptions_of(world), "descriptions/*.json", None),
    "replies": lambda world: (keep_a_reply, "*.json", lambda path: asked(path).text),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_in_a_file_of_values_is_found(world, tmp_path, kind):
    made, pattern, read = KINDS[kind](world)
    whole = made
    if callable(made):
        whole = tmp_path / "whole"
        made(whole)
        read = read or made
    copy = tmp_path / "copy" / whole.name
    copy.parent.mkdir()
    copied(whole, copy)
    read(copy)
    random = Random(0)
    for _ in range(FLIPS):
        copied(whole, copy)
        flip(random.choice(sorted(copy.glob(pattern))) if pattern else copy, random)
        with pytest.raises(hp.HeadPursuitError):
            read(copy)
