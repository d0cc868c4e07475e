"""Wrong input of every kind into every command and parser; what does not end in one true line is counted.

``python tests/faults/fuzz.py --inputs 12000 --seed 1 --workers 2 --write docs/reliability.md`` is the long run (`make fuzz`).
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    sys.path.insert(0, str(Path(__file__).parents[1]))

import typer.main

import headpursuit as hp
from command import call
from faults.figures import heading, put
from faults.replies import Replies, server
from faults.world import CONCEPT, World, make_world
from faults.wrong import TEXTS, changed, flipped, json_text, value
from headpursuit.cli.main import app
from headpursuit.concepts import as_concept
from headpursuit.concepts.endpoint import Endpoint
from headpursuit.concepts.keywords import _parsed
from headpursuit.data import DATASETS, load_records
from headpursuit.editing.where import as_where
from headpursuit.evaluation.recipe import load_recipe, parse_set
from headpursuit.model.gguf_files import gguf_header
from headpursuit.model.heads import parse_heads
from headpursuit.model.samples import as_samples
from headpursuit.ranking.methods import as_method

EXITS = (0, 1, 2, 130, 143)
# What an input may take before it counts as one that hangs; most take some hundredths of a second.
SECONDS = 60
WORK = "work/here"


@dataclass
class Tally:
    """What became of the inputs.

    Attributes:
        inputs: how many of each kind there were.
        exits: how many commands ended with each code.
        failures: kind, seed, and what was wrong.
    """

    inputs: Counter[str] = field(default_factory=Counter)
    exits: Counter[Any] = field(default_factory=Counter)
    failures: list[tuple[str, int, str]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.inputs += other.inputs
        self.exits += other.exits
        self.failures += other.failures


class TooSlow(BaseException):
    """An input took longer than it may."""


Case = Callable[[Random, World, Path], Any]
CASES: dict[str, tuple[int, Case]] = {}


def case(weight: int) -> Callable[[Case], Case]:
    """Register a kind of input, drawn so many times as often as one of weight 1."""

    def register(make: Case) -> Case:
        CASES[make.__name__.replace("_", " ")] = (weight, make)
        return make

    return register


# Commands that read one wrong file; each gives the words of one command.


@case(8)
def heads_files(random: Random, world: World, work: Path) -> list[object]:
    file = _written(work / "heads.json", json_text(random, json.loads(world.heads.read_text())))
    return random.choice(
        (
            ["compare", file, world.heads, *random.choice(([], ["--top", 1]))],
            ["generate", world.model, "--heads", file, "--prompt", "two cats", "--max-new-tokens", 1],
            ["export", world.model, "--heads", file, "--format", random.choice(("checkpoint", "lora", "ia3")), "--out", "out"],
        )
    )


@case(5)
def edit_files(random: Random, world: World, work: Path) -> list[object]:
    file = _written(work / "edit.json", json_text(random, json.loads(world.edit.read_text())))
    return random.choice(
        (
            ["generate", world.model, "--edit", file, "--prompt", "two cats", "--max-new-tokens", 1],
            ["export", world.model, "--edit", file, "--out", "out"],
        )
    )


@case(12)
def captures(random: Random, world: World, work: Path) -> list[object]:
    folder = work / "acts"
    shutil.copytree(random.choice((world.acts, world.moments)), folder)
    _spoil(random, folder, ["index.json"] * 3 + [str(one.relative_to(folder)) for one in sorted(folder.rglob("*.*"))])
    return random.choice(
        (
            ["describe", folder],
            ["rank", folder, "--concept", CONCEPT],
            ["map", folder, "--concept", CONCEPT, "--concept", "cats,dog"],
            ["capture", world.model, "--samples", world.text, "--out", folder],
        )
    )


@case(8)
def results_files(random: Random, world: World, work: Path) -> list[object]:
    folder = work / "run"
    shutil.copytree(random.choice((world.results, world.tuned)), folder)
    _spoil(random, folder, [one.name for one in folder.glob("*.json")])
    return ["report", folder]


@case(6)
def exports(random: Random, world: World, work: Path) -> list[object]:
    folder = work / "export"
    shutil.copytree(random.choice((world.export, world.adapter)), folder)
    _spoil(random, folder, [str(one.relative_to(folder)) for one in sorted(folder.rglob("*.*"))])
    return ["verify", folder]


@case(10)
def checkpoints(random: Random, world: World, work: Path) -> list[object]:
    source = world.images_model if random.random() < 0.3 else world.model
    folder = work / "model"
    shutil.copytree(source, folder)
    _spoil(random, folder, ["config.json"] * 3 + [one.name for one in sorted(folder.iterdir())])
    return random.choice(_opening(folder, world, export="out"))


def _opening(model: Path, world: World, *, export: str) -> tuple[list[object], ...]:
    return (
        ["generate", model, "--prompt", "two cats", "--max-new-tokens", 1],
        ["capture", model, "--samples", world.text, "--limit", 1, "--out", "out"],
        ["concepts", CONCEPT, "--model", model],
        ["export", model, "--head", "L0.H0", "--out", export],
    )


@case(8)
def gguf_files(random: Random, world: World, work: Path) -> list[object]:
    verified = random.random() < 0.25
    source = world.gguf_export if verified else world.gguf
    content, header = source.read_bytes(), gguf_header(source).begin
    content = flipped(random, content[:header]) + content[header:] if random.random() < 0.8 else flipped(random, content)
    file = _written(work / source.name, content)
    if verified:
        shutil.copy(f"{source}.json", work)
        return ["verify", file]
    return random.choice(_opening(file, world, export="out.gguf"))


@case(14)
def samples(random: Random, world: World, work: Path) -> list[object]:
    source = random.choice((world.text, world.jsonl, world.jsonl, world.csv, world.parquet))
    suffix = (
        source.suffix if random.random() < 0.9 else random.choice((".txt", ".jsonl", ".csv", ".parquet", ".gz", ".json", ""))
    )
    content = source.read_bytes()
    if source is world.jsonl and random.random() < 0.7:
        content = b"\n".join(json_text(random, json.loads(line)) for line in content.splitlines()[:2])
    else:
        content = flipped(random, content)
    file = _written(work / f"samples{suffix}", content)
    return random.choice(
        (
            ["capture", world.model, "--samples", file, "--out", "out"],
            ["capture", world.model, "--samples", file, "--out", "out", "--limit", 2, "--positions", "answer", "--skip-bad"],
            ["select", world.model, "--samples", file, "--concept", CONCEPT, "--method", "attribution"],
            ["rank", world.acts, "--concept", CONCEPT, "--significance", 2, "--frequencies", file],
        )
    )


@case(6)
def images(random: Random, world: World, work: Path) -> list[object]:
    source = random.choice(sorted(world.images.iterdir()))
    file = _written(work / "images" / source.name, flipped(random, source.read_bytes()))
    return random.choice(
        (
            ["capture", world.images_model, "--samples", file.parent, "--out", "out"],
            ["generate", world.images_model, "--prompt", "two cats", "--image", file, "--max-new-tokens", 1],
        )
    )


@case(6)
def concept_files(random: Random, world: World, work: Path) -> list[object]:
    if random.random() < 0.5:
        content = flipped(random, world.words.read_bytes())
    else:
        content = json_text(random, random.choice((["red", "blue"], {"colours": ["red"]}, {"name": "c", "words": ["red"]})))
    file = _written(work / f"words{random.choice(('.txt', '.json', '.csv', ''))}", content)
    return random.choice(
        (
            ["concepts", file],
            ["concepts", file, "--model", world.model, "--multi-token", random.choice(("skip", "first", "mean"))],
            ["rank", world.acts, "--concept", file],
            ["map", world.acts, "--concept", file, "--concept", CONCEPT],
        )
    )


@case(8)
def recipes(random: Random, world: World, work: Path) -> list[object]:
    for name in ("questions.jsonl", "words.txt"):
        shutil.copy(world.root / name, work)
    words: list[object] = ["evaluate"]
    if random.random() < 0.4:
        words.append(_written(work / "recipe.toml", flipped(random, world.recipe.read_bytes())))
    else:
        keys = (
            "edit.k",
            "edit.scales",
            "edit.draws",
            "goal.keep",
            "goal.at_most",
            "tasks.0.data",
            "tasks.0.limit",
            "tasks.0.metric",
        )
        keys += (
            "concepts.0.words",
            "concepts.0.task",
            "concepts.0.atoms",
            "name",
            "model",
            "neutral",
            "describe",
            "tasks",
            "x.y",
            "",
        )
        words.append(_written(work / "recipe.toml", world.recipe.read_bytes()))
        for _ in range(random.choice((1, 2))):
            words += ["--set", f"{random.choice(keys)}={json.dumps(value(random), ensure_ascii=False)}"]
    return [*words, "--show"] if random.random() < 0.95 else [*words, "--dry-run", "--limit", 4]


@case(5)
def replies(random: Random, world: World, work: Path) -> list[object]:
    sound = {"choices": [{"message": {"role": "assistant", "content": '{"words": ["red", "cats"]}'}}]}
    if random.random() < 0.5:
        said = json_text(random, {"words": ["red", "cats"]}).decode("utf-8", "replace")
        sound["choices"][0]["message"]["content"] = said
        Replies.reply = json.dumps(sound).encode()
    else:
        Replies.reply = json_text(random, sound)
    asked = ("--kind", "toxic", "--model", "m", "--endpoint", server(), "--per-minute", 10**6, "--timeout", 1)
    return ["keywords", world.text, *asked, "--limit", 1, "--out", "out.txt"]


# One command with one or two options that hold something else.

_KNOWN: dict[str, list[str]] = {
    "capture": ["{model}", "--samples={text}", "--out=out", "--limit=2"],
    "describe": ["{acts}"],
    "rank": ["{acts}", f"--concept={CONCEPT}"],
    "select": ["{model}", "--samples={jsonl}", f"--concept={CONCEPT}", "--limit=2", "--method=attribution"],
    "map": ["{acts}", f"--concept={CONCEPT}"],
    "compare": ["{heads}", "{heads}"],
    "generate": ["{model}", "--prompt=two cats", "--max-new-tokens=1"],
    "export": ["{model}", "--head=L0.H0", "--out=out"],
    "verify": ["{adapter}"],
    "concepts": ["colours"],
    "keywords": ["{text}", "--kind=toxic", "--model=m", "--out=out.txt", "--endpoint=http://127.0.0.1:9/v1", "--timeout=1"],
    "models": ["llama"],
    "report": ["{results}"],
    "evaluate": ["{recipe}", "--show"],
    "tune": ["{model}", f"--concept={CONCEPT}", "--samples={jsonl}", "--dry-run", "--out=out"],
    "prompt": ["{model}", "--samples={text}", "--limit=2"],
}
# Words here would write over what is there: they stay inside the folder of the case.
_WRITES = {"out", "figure", "cache"}
# Minutes of work with any sound value, or no end.
_LONG = {"app", "demo"}


@case(22)
def options(random: Random, world: World, work: Path) -> list[object]:
    commands = typer.main.get_command(app).commands
    name = random.choice([one for one in commands if one not in _LONG])
    words = [
        word.format(
            **{key: getattr(world, key) for key in ("model", "text", "jsonl", "acts", "heads", "adapter", "recipe")},
            results=work / "results",
        )
        for word in _KNOWN.get(name, [])
    ]
    if name == "report":
        shutil.copytree(world.results, work / "results")
    for _ in range(random.choice((1, 1, 2))):
        option = random.choice(commands[name].params)
        if option.param_type_name == "argument":
            if words and not words[0].startswith("--"):
                words[0] = _word(random, option.name)
            continue
        spelled = max(option.opts, key=len)
        words = [word for word in words if word.partition("=")[0] != spelled]
        if getattr(option, "is_flag", False):
            words.append(spelled)
        elif getattr(option, "nargs", 1) == 2:
            words += [spelled, _word(random, option.name), _word(random, option.name)]
        else:
            words.append(f"{spelled}={_word(random, option.name)}")
    return [name, *words]


def _word(random: Random, option: str) -> str:
    word = random.choice(TEXTS)
    if option in _WRITES:
        return word.replace("/", "_").replace("..", "_").replace("~", "_") if "../" not in word else "../x"
    # A number that is sound would be taken at its word: as many samples, draws or tokens.
    return word


# Parsers, called as the commands call them; nothing but a HeadPursuitError may leave them.


@case(10)
def texts(random: Random, world: World, work: Path) -> Callable[[], object]:
    text = random.choice(TEXTS) + random.choice(("", "", random.choice(TEXTS)))
    parser = random.choice(
        (
            parse_heads,
            parse_set,
            as_concept,
            as_method,
            as_where,
            _parsed,
            lambda one: Endpoint(one, "m"),
            load_recipe,
            as_samples,
        )
    )
    return lambda: parser(text)


@case(10)
def values(random: Random, world: World, work: Path) -> Callable[[], object]:
    stored = json.loads(world.heads.read_text())
    given = value(random)
    return random.choice(
        (
            lambda: hp.HeadRanking.from_dict(changed(random, stored)),
            lambda: load_recipe({"name": "own", **given} if isinstance(given, dict) else {"title": given}),
            lambda: as_samples(given if isinstance(given, list) else [given, {"text": given}]),
            lambda: as_concept(given),
            lambda: parse_heads(given),
            lambda: hp.HeadEdit(["L0.H0"], scale=given),
            lambda: hp.HeadEdit(["L0.H0"], scale=1, where=given),
        )
    )


@case(5)
def official_data(random: Random, world: World, work: Path) -> Callable[[], object]:
    sound = {
        "Data": [{"Question": "q?", "QuestionId": "1", "Answer": {"Value": "a", "Aliases": ["a"], "NormalizedAliases": ["a"]}}]
    }
    sound |= {"images": [{"filename": "0.png", "split": "test", "sentences": [{"raw": "a dog"}]}], "prompt": {"text": "x"}}
    content = json_text(random, random.choice((sound, [sound], {"prompt": {"text": "so"}, "continuation": {"text": "what"}})))
    file = _written(work / f"data{random.choice(('.json', '.jsonl', '.csv', '.txt', '.token', '-idx3-ubyte'))}", content)
    name, split = random.choice(sorted(DATASETS)), random.choice(("selection", "test", "all"))
    return lambda: load_records(name, path=random.choice((file, work)), split=split)


def run(numbers: Iterator[int] | range, world: World, *, kinds: tuple[str, ...] = ()) -> Tally:
    """Run inputs by their seeds; each seed is one input, whatever ran before it."""
    tally = Tally()
    names = kinds or tuple(CASES)
    weights = [CASES[name][0] for name in names]
    before, folder = Path.cwd(), world.root / f"cases-{os.getpid()}"
    handler = signal.signal(signal.SIGALRM, _too_slow)
    try:
        for number in numbers:
            random = Random(number)
            kind = random.choices(names, weights)[0]
            work = folder / WORK
            work.mkdir(parents=True)
            os.chdir(work)
            tally.inputs[kind] += 1
            try:
                given = CASES[kind][1](random, world, work)
                fault = _parse(given) if callable(given) else _command(given, folder, tally)
            finally:
                os.chdir(before)
                shutil.rmtree(folder)
            if fault:
                tally.failures.append((kind, number, fault))
    finally:
        signal.signal(signal.SIGALRM, handler)
    return tally


def _command(words: list[object], folder: Path, tally: Tally) -> str:
    out, err = io.StringIO(), io.StringIO()
    temporary, tempfile.tempdir = tempfile.tempdir, str(folder)
    given, sys.stdin = sys.stdin, io.StringIO("y\n" * 100)
    # What a terminal hands over is UTF-8 with half surrogates for what is not.
    line = [str(word) for word in words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _limited():
            code = call(*line)
    except TooSlow:
        tally.exits["hang"] += 1
        return f"hangs: {line}"
    except BaseException as error:
        tally.exits["escape"] += 1
        return f"escapes: {_where(traceback.format_exc())} {error!r:.100}: {line}"
    finally:
        tempfile.tempdir, sys.stdin = temporary, given
    tally.exits[code] += 1
    said = re.split(r"[\r\n]", err.getvalue())
    lines = [one for one in said if one.startswith("headpursuit: ")]
    shown = [str(word)[:60] for word in line]
    if code not in EXITS:
        return f"exit {code}: {shown}"
    if any("unexpected error" in one for one in lines):
        report = next(folder.glob("headpursuit-*.txt"), None)
        return f"net: {_where(report.read_text()) if report else lines[-1][:300]} {shown}"
    if "Traceback" in err.getvalue():
        return f"traceback: {_where(err.getvalue())} {shown}"
    if code == 1 and len(lines) != 1:
        return f"{len(lines)} lines: {said[-3:]} {shown}"
    return ""


def _parse(parser: Callable[[], object]) -> str:
    try:
        with contextlib.redirect_stderr(io.StringIO()), _limited():
            parser()
    except hp.HeadPursuitError:
        return ""
    except OSError:
        # The command line makes one line of these, with the file's name.
        return ""
    except TooSlow:
        return f"hangs: {parser}"
    except Exception as error:
        return f"escapes: {_where(traceback.format_exc())} {error!r:.200}"
    return ""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_slow(*_: object) -> typing.NoReturn:
    raise TooSlow


def _where(report: str) -> str:
    """The innermost line of ours in a traceback, and its last line."""
    ours = re.findall(r'File "[^"]*src/headpursuit/([^"]+)", line (\d+)', report)
    ours = [one for one in ours if not one[0].startswith("cli/failures")]
    last = [line for line in report.strip().splitlines() if line and not line.startswith(" ")]
    return f"{':'.join(ours[-1]) if ours else '?'} {last[-1][:160] if last else ''}"


def _spoil(random: Random, folder: Path, names: list[str]) -> None:
    file = folder / random.choice(names)
    if random.random() < 0.04:
        file.unlink()
    elif file.suffix == ".json" and random.random() < 0.8:
        file.write_bytes(json_text(random, json.loads(file.read_text())))
    else:
        file.write_bytes(flipped(random, file.read_bytes()))


def _written(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def _work(given: tuple[range, Path, tuple[str, ...]]) -> Tally:
    numbers, root, kinds = given
    return run(numbers, World(root), kinds=kinds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--number", type=int, help="run this one input, as a failure names it")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=[])
    parser.add_argument("--write", type=Path, help="put the figures into this document")
    asked = parser.parse_args()
    first, whole, started = asked.seed * 10**6, Tally(), time.monotonic()
    numbers = range(first, first + asked.inputs) if asked.number is None else range(asked.number, asked.number + 1)
    with tempfile.TemporaryDirectory() as root:
        make_world(Path(root))
        parts = [(numbers[at : at + 50], Path(root), tuple(asked.kinds)) for at in range(0, len(numbers), 50)]
        # A fresh interpreter each: a fork would share the locks of torch's threads.
        with multiprocessing.get_context("spawn").Pool(asked.workers, maxtasksperchild=20) as pool:
            for done, tally in enumerate(pool.imap_unordered(_work, parts), start=1):
                whole.add(tally)
                sys.stderr.write(f"\r{done * 50} inputs, {len(whole.failures)} failures")
    figures = _figures(whole, asked.seed, time.monotonic() - started)
    print(f"\n{figures}")
    alike: dict[str, list[int]] = {}
    for kind, number, fault in whole.failures:
        alike.setdefault(f"{kind}: {re.sub(r' at 0x[0-9a-f]+', '', fault)[:150]}", []).append(number)
    for text, found in sorted(alike.items(), key=lambda item: -len(item[1])):
        print(f"{len(found):5} × {text} (--number {found[0]})")
    if asked.write:
        put(asked.write, "inputs", figures)
    sys.exit(bool(whole.failures))


def _figures(tally: Tally, seed: int, seconds: float) -> str:
    total = sum(tally.inputs.values())
    starts = Counter(fault.partition(":")[0] for _, _, fault in tally.failures)
    counted = {
        "tracebacks": starts["traceback"] + starts["escapes"],
        "falls into the last net": starts["net"],
        "hangs": starts["hangs"],
    }
    counted["other"] = len(tally.failures) - sum(counted.values())
    exits = ", ".join(f"{code}: {count}" for code, count in sorted(tally.exits.items(), key=str))
    kinds = "".join(f"| {kind} | {count} |\n" for kind, count in sorted(tally.inputs.items()))
    return (
        f"{heading(f'seed {seed}', seconds)}: **{total:,} inputs**; "
        f"{', '.join(f'{count} {name}' for name, count in counted.items())}. Exits of commands: {exits}.\n\n"
        f"| kind of input | inputs |\n| --- | --- |\n{kinds}"
    )


if __name__ == "__main__":
    main()
