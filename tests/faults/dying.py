"""Runs commands in forked children that die, run out of disk or run side by side, and says what was left.

A child is killed (SIGKILL) in front of its n-th step with files: before each rename, each file that is opened to be written,
each folder made and each file removed; and at moments that are drawn. One child after the other dies a step later, until one
gets through; behind each death the same command runs again, and what it leaves is compared with what a run leaves that nothing
disturbed.

``python tests/faults/dying.py --write docs/reliability.md`` is the long run (``make fuzz``); ``--how killed --count 4 --names
capture --world FOLDER`` is a part of it, which ends with one line of JSON.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tqdm import tqdm

from command import call
from faults.figures import heading, put
from faults.replies import server
from faults.world import CONCEPT, World, make_world, quietly
from headpursuit.activations import capture as capture_module

EVENTS = {
    "os.rename": "renames",
    "open": "openings to write",
    "os.mkdir": "folders made",
    "os.remove": "removals",
    "os.rmdir": "removals",
    "os.link": "links and copies",
    "shutil.copyfile": "links and copies",
}
# What is written last and names the rest.
INDEXES = ("index.json", "results.json", "tuned.json", "headpursuit.json")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
DIED = "died at: "
# Commands of many cells: of hundreds of steps those are tried at which something becomes true, and fewer pairs run.
HEAVY = ("evaluate", "tune")


def commands(world: World, out: Path) -> dict[str, list[object]]:
    """A command by its name, all of which write something under ``out``."""
    capture = ["capture", world.model, "--samples", world.text, "--batch-size", 2, "--out", out / "acts"]
    export = ["export", world.model, "--head", "L0.H1", "--out", out / "export"]
    draws = ("--set", "edit.draws=2", "--set", "edit.k=[1]")
    # A search whose edit moves its target, or else nothing is written.
    search = ("--concept", "happy,yellow,cats,drinks", "--trials", 2, "--k", 1, "--draws", 2, "--limit", 4, "--seed", 1)
    search += ("--methods", "somp", "--methods", "logit-lens", "--scales", -8, -4, "--no-per-head", "--limits", "neutral=100")
    asked = ("--kind", "toxic", "--model", "m", "--endpoint", server(), "--per-minute", 10**6, "--held-out", 0.5)
    return {
        "capture": capture,
        "moments": [*capture, "--positions", "all"],
        "rank": ["rank", world.acts, "--concept", CONCEPT, "--out", out / "heads.json", "--method", "logit-lens"],
        "map": ["map", world.acts, "--concept", CONCEPT, "--out", out / "map.csv", "--plot", out / "map.svg"],
        "checkpoint": export,
        "lora": [*export, "--format", "lora"],
        "keywords": ["keywords", world.text, *asked, "--out", out / "words.txt"],
        "evaluate": ["evaluate", world.recipe, "--model", world.model, *draws, "--limit", 4, "--out", out / "run"],
        "tune": ["tune", world.model, "--samples", world.text, *search, "--out", out / "tuned"],
        "report": ["report", world.results, "--out", out / "report.html"],
    }


def die_at(step: int, root: Path, *, renames_alone: bool) -> None:
    left = [step]

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event not in EVENTS or not any(str(root) in str(one) for one in given):
            return
        if event == "open" and not (isinstance(given[2], int) and given[2] & WRITING):
            return
        if renames_alone and event != "os.rename":
            return
        left[0] -= 1
        if left[0] == 0:
            index = event == "os.rename" and Path(str(given[1])).name in INDEXES
            os.write(2, f"\n{DIED}{'indexes written' if index else EVENTS[event]}\n".encode())
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
        # Made for whatever the parent's were, a file that can be wound back perhaps.
        sys.stdout, sys.stderr = (os.fdopen(one, "w", encoding="utf-8", closefd=False) for one in (1, 2))
        # The lock of tqdm's bars is shared by forks: one that is killed while it holds it would stop all later ones.
        tqdm.set_lock(threading.RLock())
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
    return code, [line for line in lines if line.startswith(("headpursuit: ", DIED)) or "Traceback" in line]


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file; hidden ones (drafts, locks) and cells, which say how long they took, are nobody's result."""
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


def killed(name: str, words: list[object], out: Path, stride: int) -> dict[str, Any]:
    """A death at every step of so many and at as many drawn moments as the stride leaves, and what the next run made of it."""
    started = time.monotonic()
    whole, wrong, moments = reference(words, out), [], Counter[str]()
    seconds, random = time.monotonic() - started, Random(0)

    def tell(step: object) -> None:
        code, lines = end(*start(words))
        left = contents(out)
        if code or left != whole:
            wrong.append([step, code, lines, sorted(name for name in {*left, *whole} if left.get(name) != whole.get(name))])
        shutil.rmtree(out, ignore_errors=True)

    for step in range(1, 2000, stride):
        alone = name in HEAVY
        code, lines = end(*start(words, before=lambda step=step, alone=alone: die_at(step, out, renames_alone=alone)))
        if code != -signal.SIGKILL:
            break
        moments.update(line.removeprefix(DIED) for line in lines if line.startswith(DIED))
        tell(step)
    for _ in range(DRAWN // stride):
        after = random.uniform(0, seconds)
        # A signal that nothing catches ends a process as SIGKILL does, and can be set for a time.
        code, _ = end(*start(words, before=lambda after=after: signal.setitimer(signal.ITIMER_REAL, after)))
        moments["drawn moments"] += code == -signal.SIGALRM
        tell("drawn")
    return {"deaths": sum(moments.values()), "moments": moments, "wrong": wrong}


# Moments of a command's time at which it is killed, wherever it is.
DRAWN = 8


def full(name: str, words: list[object], out: Path, stride: int) -> dict[str, Any]:
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


def pairs(name: str, words: list[object], out: Path, most: int) -> dict[str, Any]:
    """Two of the same command side by side, so many times."""
    whole, wrong, refused = reference(words, out), [], 0
    most = max(2, most // 5) if name in HEAVY else most
    for number in range(most):
        children = [start(words), start(words)]
        ends = [end(*child) for child in children]
        codes = sorted(code for code, _ in ends)
        fine = codes in ([0, 0], [0, 1]) and all(len(lines) == code for code, lines in ends)
        refused += codes == [0, 1]
        if not fine or contents(out) != whole:
            wrong.append([number, ends])
        shutil.rmtree(out, ignore_errors=True)
    return {"pairs": most, "refused": refused, "wrong": wrong}


PLAYS: dict[str, Callable[[str, list[object], Path, int], dict[str, Any]]] = {"killed": killed, "full": full, "pairs": pairs}
# What the long run plays, and how: every step, every size, a hundred pairs.
LONG = {"killed": 1, "full": 1, "pairs": 100}


def play(how: str, names: list[str], root: Path, world: World, count: int) -> dict[str, Any]:
    """What was seen of some commands, all if none is named."""
    # Small parts, so that there are some to be lost.
    capture_module.BLOCK = 2
    found, made = {}, commands(world, root / "out")
    for name in names or made:
        found[name] = PLAYS[how](name, made[name], root / "out", count)
        sys.stderr.write(f"\n{how} {name}: {json.dumps(found[name])[:2000]}\n")
    return found


def figures(found: dict[str, dict[str, Any]], seconds: float) -> tuple[str, int]:
    """The figures of a long run in words, and how many of them are wrong."""
    deaths, disks, two = (found.get(how, {}) for how in LONG)
    moments = sum((Counter(one["moments"]) for one in deaths.values()), Counter[str]())
    wrong = {name: len(one["wrong"]) for name, one in deaths.items()}
    # Of a full disk: one line or none, the older file kept, and a whole result once there is room.
    unsound = {
        name: sum(
            not (code in (0, 1) and len(lines) == code and kept and (again, same) == (0, True))
            for _, code, lines, kept, again, _, same in one["found"]
        )
        for name, one in disks.items()
    }
    mixed = sum(len(one["wrong"]) for one in two.values())
    rows = "".join(
        f"| {name} | {one['deaths']} | {wrong[name]} | {len(disks[name]['found']) if name in disks else '–'} | "
        f"{unsound.get(name, '–')} | {two[name]['pairs'] if name in two else '–'} | "
        f"{len(two[name]['wrong']) if name in two else '–'} |\n"
        for name, one in deaths.items()
    )
    total = sum(wrong.values()) + sum(unsound.values()) + mixed
    kinds = ", ".join(f"{count} {kind}" for kind, count in moments.most_common())
    return (
        f"{heading('seed 0', seconds)}: **{sum(moments.values())} deaths** by SIGKILL ({kinds}), after which "
        f"{sum(wrong.values())} runs ended other than an undisturbed one; {sum(len(one['found']) for one in disks.values())} "
        f"full disks, {sum(unsound.values())} of them with more or less than one line, a lost file or another result; "
        f"{sum(one['pairs'] for one in two.values())} pairs of writers, {mixed} with a wrong result.\n\n"
        "| command | deaths | wrong | full disks | wrong | pairs | wrong |\n| --- | --- | --- | --- | --- | --- | --- |\n"
        f"{rows}"
    ), total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--how", choices=PLAYS, help="one way alone, which ends with a line of JSON")
    parser.add_argument("--count", type=int, default=1, help="stride between deaths or sizes, or the number of pairs")
    parser.add_argument("--names", nargs="*", default=[], help="commands, all when left out")
    parser.add_argument("--world", type=Path, help="a folder that make_world filled; a new one when left out")
    parser.add_argument("--write", type=Path, help="put the figures into this document")
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        world = World(asked.world) if asked.world else make_world(root)
        if asked.how:
            print(json.dumps(play(asked.how, asked.names, root, world, asked.count)))
            return
        found = {how: play(how, asked.names, root, world, count) for how, count in LONG.items()}
    text, wrong = figures(found, time.monotonic() - started)
    print(text)
    if asked.write:
        put(asked.write, "deaths", text)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
