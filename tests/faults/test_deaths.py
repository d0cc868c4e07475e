"""Processes that are killed, run out of disk or write side by side leave what an undisturbed run leaves, or nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("dying.py")
# The long run of `make fuzz`.
LONG = os.environ.get("FAULTS") == "long"
QUICK = ("capture", "moments", "rank", "map", "checkpoint", "lora", "keywords", "report")
NAMES = (*QUICK, *(["evaluate", "tune"] if LONG else []))


@pytest.fixture(scope="module")
def play(world):
    """Plays every command one way, in one process, and keeps what was seen."""
    told = {}

    def once(how, count):
        if how not in told:
            command = [sys.executable, SCRIPT, "--how", how, "--count", str(count), "--world", world.root, "--names", *NAMES]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            told[how] = json.loads(done.stdout.splitlines()[-1])
        return told[how]

    return once


@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_was_killed_anywhere_goes_on(play, name):
    told = play("killed", 1 if LONG else 4)[name]
    assert told["wrong"] == []
    assert told["deaths"] >= (2 if LONG else 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_older_files_stay(play, name):
    told = play("full", 1 if LONG else 4)[name]
    assert 1 in {code for _, code, *_ in told["found"]}
    for size, code, lines, kept, again, more, same in told["found"]:
        assert code in (0, 1), (size, lines)
        assert len(lines) == code, (size, lines)
        assert "unexpected" not in str(lines)
        assert kept
        if code:
            assert "/out" in lines[0], lines
        assert (again, same) == (0, True), (size, more)


@pytest.mark.parametrize("name", NAMES)
def test_two_that_write_the_same_never_mix(play, name):
    assert play("pairs", 100 if LONG else 2)[name]["wrong"] == []
