"""One flipped bit in what was written is found when it is read, or changes nothing that is said."""

import contextlib
import io
import os
import shutil
from random import Random

import pytest

import headpursuit as hp
from command import call
from faults.world import CONCEPT
from headpursuit.tuning.tune import Tuned

FLIPS = 100 if os.environ.get("FAULTS") == "long" else 8


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


FOLDERS = {
    "acts": lambda path: ["rank", path, "--concept", CONCEPT],
    "moments": lambda path: ["rank", path, "--concept", CONCEPT],
    "export": lambda path: ["verify", path],
    "adapter": lambda path: ["verify", path],
}
# What is read back whole, and compares by value.
FILES = {
    "heads": lambda path, _: hp.HeadRanking.load(path),
    "edit": lambda path, world: hp.load_edit(path, model=hp.load(world.model)),
    "results": lambda path, _: hp.Results.load(path),
    "tuned": lambda path, _: Tuned.load(path),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_flipped_bit_among_tensors_is_found(world, tmp_path, kind):
    whole = getattr(world, kind)
    copy = tmp_path / whole.name
    copied(whole, copy)
    assert said(*FOLDERS[kind](copy))[0] == 0
    random, missed = Random(0), []
    for number in range(FLIPS):
        copied(whole, copy)
        file = random.choice(sorted(copy.rglob("*.safetensors")))
        flip(file, random)
        code, _, err = said(*FOLDERS[kind](copy))
        lines = [line for line in err.splitlines() if line.startswith("headpursuit: ")]
        if code != 1 or len(lines) != 1 or "unexpected" in lines[0]:
            missed.append((number, file.name, code, lines))
    assert missed == []


@pytest.mark.parametrize("kind", FILES)
def test_a_flipped_bit_in_a_file_of_values_is_found(world, tmp_path, kind):
    whole = getattr(world, kind)
    copy = tmp_path / whole.name
    copied(whole, copy)
    sound = FILES[kind](copy, world)
    random, missed = Random(0), []
    for number in range(FLIPS):
        copied(whole, copy)
        file = random.choice(sorted(copy.glob("*.json")) if copy.is_dir() else [copy])
        flip(file, random)
        with contextlib.suppress(hp.HeadPursuitError):
            # A bit between the values changes none of them.
            if FILES[kind](copy, world) != sound:
                missed.append((number, file.name))
    assert missed == []
