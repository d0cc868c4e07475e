"""Runs commands in forked children that die, run out of disk or run side by side, and prints what was left as JSON.

A child is killed (SIGKILL) in front of its n-th step with files: before each rename, each file that is opened to be written,
each folder made and each file removed. One child after the other dies a step later, until one gets through; behind each death
the same command runs again, and what it leaves is compared with what a run leaves that nothing disturbed.

``python dying.py ROOT WORLD (killed STRIDE | full STRIDE | pairs COUNT) NAME…``
"""

import hashlib
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from command import call
from faults.world import CONCEPT, World, quietly
from headpursuit.activations import store

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.copyfile"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def commands(world: World, out: Path) -> dict[str, list[object]]:
    """A command by its name, all of which write something under ``out``."""
    capture = ["capture", world.model, "--samples", world.text, "--batch-size", 2, "--out", out / "acts"]
    rank = ["rank", world.acts, "--concept", CONCEPT, "--out", out / "heads.json"]
    export = ["export", world.model, "--head", "L0.H1", "--out", out / "export"]
    draws = ("--set", "edit.draws=2", "--set", "edit.k=[1]")
    return {
        "capture": capture,
        "moments": [*capture, "--positions", "all"],
        "rank": rank,
        "map": ["map", world.acts, "--concept", CONCEPT, "--out", out / "map.csv"],
        "checkpoint": export,
        "lora": [*export, "--format", "lora"],
        "evaluate": ["evaluate", world.recipe, "--model", world.model, *draws, "--limit", 4, "--out", out / "run"],
        "report": ["report", world.results, "--out", out / "report.html"],
    }


def die_at(step: int, root: Path) -> None:
    left = [step]

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event not in EVENTS or not any(str(root) in str(one) for one in given):
            return
        if event == "open" and not (isinstance(given[2], int) and given[2] & WRITING):
            return
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def start(words: list[object], *, before: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """A child that runs a command, by its number, and the end of a pipe that gives what it says."""
    # A file would be subject to the limits of a full disk.
    said, saying = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(saying, 1)
        os.dup2(saying, 2)
        before()
        code = call(*words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    os.close(saying)
    return child, said


def end(child: int, said: int) -> tuple[int, list[str]]:
    """How a child ended: its exit code (negative for a signal), and its lines for the reader."""
    with open(said, encoding="utf-8") as file:
        lines = file.read().replace("\r", "\n").splitlines()
    status = os.waitpid(child, 0)[1]
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return code, [line for line in lines if line.startswith("headpursuit: ") or "Traceback" in line]


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file; hidden ones (drafts, locks) and the time that a cell took are nobody's result."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts) and "cells" not in name:
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def reference(words: list[object], out: Path) -> dict[str, str]:
    """What an undisturbed run leaves; it runs in this process, so that children find all imports done."""
    shutil.rmtree(out, ignore_errors=True)
    assert quietly(*words) == 0, words
    found = contents(out)
    shutil.rmtree(out)
    return found


def killed(words: list[object], out: Path, stride: int) -> dict[str, Any]:
    """A death at every step of so many, and what the next run made of what was left."""
    whole, wrong, deaths = reference(words, out), [], 0
    for step in range(1, 2000, stride):
        code, _ = end(*start(words, before=lambda step=step: die_at(step, out)))
        if code != -signal.SIGKILL:
            break
        deaths += 1
        code, lines = end(*start(words))
        left = contents(out)
        if code or left != whole:
            wrong.append([step, code, lines, sorted(name for name in {*left, *whole} if left.get(name) != whole.get(name))])
        shutil.rmtree(out, ignore_errors=True)
    return {"deaths": deaths, "wrong": wrong}


def full(words: list[object], out: Path, stride: int) -> dict[str, Any]:
    """Writes fail beyond so many bytes a file, as on a full disk; then there is room, and the same command runs again."""
    whole = reference(words, out)
    found = []
    for size in [4**power for power in range(0, 10, stride)]:

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        older = out / "heads.json"
        out.mkdir()
        older.write_text("older")
        code, lines = end(*start(words, before=limit))
        kept = older.is_file() and (older.read_text() == "older" or code == 0)
        again, more = end(*start(words))
        left = contents(out)
        left = {name: left.get(name) for name in whole}
        found.append([size, code, lines, kept, again, more, left == whole])
        shutil.rmtree(out)
    return {"found": found}


def pairs(words: list[object], out: Path, most: int) -> dict[str, Any]:
    whole, wrong = reference(words, out), []
    for number in range(most):
        children = [start(words), start(words)]
        ends = [end(*child) for child in children]
        codes = sorted(code for code, _ in ends)
        fine = codes in ([0, 0], [0, 1]) and all(len(lines) == code for code, lines in ends)
        if not fine or contents(out) != whole:
            wrong.append([number, ends])
        shutil.rmtree(out, ignore_errors=True)
    return {"pairs": most, "wrong": wrong}


if __name__ == "__main__":
    root, world, how, count = Path(sys.argv[1]), World(Path(sys.argv[2])), sys.argv[3], int(sys.argv[4])
    # Small parts, so that there are some to be lost.
    store.SHARD_ROWS = 2
    play = {"killed": killed, "full": full, "pairs": pairs}[how]
    print(json.dumps({name: play(commands(world, root / "out")[name], root / "out", count) for name in sys.argv[5:]}))
