"""No code, no path and no key out of what strangers wrote."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import typer.main

from command import call
from faults.fuzz import _KNOWN
from headpursuit.cli.main import app
from headpursuit.files import file_hash, write_sealed

SECRET = "sk-never-to-be-shown"


def one_line(capsys):
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headpursuit: ")]
    return line


@pytest.mark.parametrize("name", ["../../x", "..", ".", "/tmp/x", "a/b", "a\\b", "a\nb", "x" * 300, ""])
def test_the_name_of_a_recipe_is_no_path(world, tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(world.recipe, tmp_path / "recipe.toml")
    told = call("evaluate", "recipe.toml", "--set", f"name={json.dumps(name)}", "--show")
    assert told == 1
    assert "recipe.toml: name" in one_line(capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.toml"}


def remote_code(folder, key, marker, *, config):
    """Let a checkpoint's configuration name code of its own, which leaves a file where it is run."""
    (folder / "mine.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Mine: pass\n")
    file = folder / config
    content = json.loads(file.read_text()) if file.exists() else {}
    content["auto_map"] = {key: ["mine.Mine", None] if key == "AutoTokenizer" else "mine.Mine"}
    if key == "AutoConfig":
        content["model_type"] = "mine"
    elif key in NAMED:
        content[NAMED[key]] = "Mine"
    file.write_text(json.dumps(content))


# The key by which a file names the class of what it configures.
NAMED = {"AutoTokenizer": "tokenizer_class", "AutoProcessor": "processor_class", "AutoImageProcessor": "image_processor_type"}
# Every command that opens a checkpoint, a capture or an export: its words, with {} for what is opened.
OPENS = {
    "app": ("{}", "--no-open", "--samples", "{one}"),  # of which nothing varies, so it ends
    "atlas": ("{}", "--out", "{out}"),
    "capture": ("{}", "--samples", "{text}", "--limit", "2", "--out", "{out}"),
    "concepts": ("red,blue", "--model", "{}"),
    "describe": ("{}",),
    "evaluate": ("{recipe}", "--model", "{}", "--limit", "4", "--out", "{out}"),
    "export": ("{}", "--head", "L0.H1", "--out", "{out}"),
    "generate": ("{}", "--prompt", "a", "--max-new-tokens", "1"),
    "map": ("{}", "--concept", "red,blue"),
    "prompt": ("{}", "--samples", "{text}"),
    "rank": ("{}", "--concept", "red,blue"),
    "select": ("{}", "--samples", "{jsonl}", "--concept", "red,blue"),
    "suppress": ("{}", "--samples", "{text}", "--concept", "red,blue", "--trials", "1", "--out", "{out}"),
    "enhance": ("{}", "--samples", "{text}", "--concept", "red,blue", "--trials", "1", "--out", "{out}"),
    "tune": ("{}", "--samples", "{text}", "--concept", "red,blue", "--trials", "1", "--out", "{out}"),
    "verify": ("{}",),
}
CAPTURES = ("atlas", "describe", "map", "rank")
PLACES = {
    "configuration": ("AutoConfig", "config.json"),
    "tokenizer": ("AutoTokenizer", "tokenizer_config.json"),
    "processor": ("AutoProcessor", "processor_config.json"),
    "image processor": ("AutoImageProcessor", "processor_config.json"),
}


def test_every_command_that_may_run_code_is_tried():
    commands = typer.main.get_command(app).commands
    assert {name for name, one in commands.items() if "trust_remote_code" in {each.name for each in one.params}} == set(OPENS)


@pytest.fixture
def opened(world, tmp_path, monkeypatch):
    """Words of a command that opens a checkpoint with code of its own, where stdin says yes to whatever is asked."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    marker = tmp_path / "ran"

    def make(command, place):
        source = world.acts if command in CAPTURES else world.export if command == "verify" else world.model
        if "processor" in place:
            source = world.images_model
        folder = tmp_path / "opened"
        shutil.copytree(source, folder)
        inner = folder / "tokenizer" if command in CAPTURES else folder
        remote_code(inner, PLACES[place][0], marker, config=PLACES[place][1])
        if command in CAPTURES:  # its own seals would refuse what was changed
            index = json.loads((folder / "index.json").read_text())
            index["tokenizer"] = [
                {"file": str(one.relative_to(folder)), "sha256": file_hash(one)} for one in sorted(inner.iterdir())
            ]
            write_sealed(folder / "index.json", index)
        (tmp_path / "one.txt").write_text("a dog\n")
        named = {
            "one": tmp_path / "one.txt",
            "jsonl": world.jsonl,
            "text": world.text,
            "recipe": world.recipe,
            "out": tmp_path / "out",
        }
        return [command, *(word.format(folder, **named) for word in OPENS[command])], marker

    return make


def tried(commands):
    """Each command with each place that it reads; processors stand beside models alone."""
    for command in commands:
        places = ["tokenizer"] if command in (*CAPTURES, "concepts") else ["configuration", "tokenizer"]
        yield from ((command, place) for place in (*places, *(PLACES if command == "generate" else ())))


@pytest.mark.parametrize(("command", "place"), list(dict.fromkeys(tried(OPENS))))
def test_code_is_run_with_the_flag_alone_whatever_stdin_says(opened, command, place, capfd):
    words, marker = opened(command, place)
    code = call(*words)
    told = capfd.readouterr()
    assert not marker.exists(), told.err
    assert code in (0, 1)
    assert "[y/N]" not in told.out + told.err
    assert "Traceback" not in told.err
    if code:
        assert len([line for line in told.err.splitlines() if line.startswith("headpursuit: ")]) == 1
    if place in ("configuration", "tokenizer") and command != "verify":  # which first compares all files with their hashes
        call(*words, "--trust-remote-code")
        assert marker.exists()


def test_a_pipe_that_says_yes_is_not_asked(opened):
    words, marker = opened("rank", "tokenizer")
    done = subprocess.run([sys.executable, "-m", "headpursuit", *words], input="y\n" * 50, capture_output=True, text=True)
    assert done.returncode == 1
    assert "trust_remote_code" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize("complete", [True, False])
def test_shards_that_lie_outside_are_neither_read_nor_deleted(world, tmp_path, capsys, complete):
    acts, victim = tmp_path / "acts", tmp_path / "victim.safetensors"
    shutil.copytree(world.moments, acts)
    index = json.loads((acts / "index.json").read_text())
    shutil.copy(next(acts.glob("activations-*.safetensors")), victim)
    before = victim.read_bytes()
    index["complete"] = complete
    for shard in index["shards"]:
        shard["file"] = "../victim.safetensors"
    write_sealed(acts / "index.json", index)
    words = (
        ["describe", acts]
        if complete
        else ["capture", world.model, "--samples", world.text, "--positions", "all", "--out", acts]
    )
    assert call(*words) == 1
    assert victim.read_bytes() == before
    assert "lies outside" in one_line(capsys)


def test_an_image_outside_of_its_folder_is_not_read(world, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    shutil.copy(world.images / "0.png", tmp_path / "outside.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "outside.png")
    for image in ("../outside.png", str(tmp_path / "outside.png"), "link.png"):
        (tmp_path / "in" / "samples.jsonl").write_text(json.dumps({"text": "a", "image": image}))
        assert (
            call("capture", world.images_model, "--samples", tmp_path / "in" / "samples.jsonl", "--out", tmp_path / "out") == 1
        )
        assert "outside" in one_line(capsys)


def test_a_device_is_not_written_over(world, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert call("rank", world.acts, "--concept", "red,blue", "--out", tmp_path / "pipe") == 1
    assert "is no plain file" in one_line(capsys)


def test_a_key_is_in_no_output(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\r")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for more in ([], ["--api-key", SECRET], ["--debug"], ["--endpoint", f"http://me:{SECRET}@127.0.0.1:9/v1"]):
        told = ["--kind", "toxic", "--model", "m", "--timeout", 1, "--out", tmp_path / "out.txt", "--limit", 1]
        endpoint = [] if "--endpoint" in more else ["--endpoint", "http://127.0.0.1:9/v1"]
        monkeypatch.setattr("headpursuit.concepts.endpoint.Endpoint.attempts", 1)
        assert call("keywords", world.text, *told, *endpoint, *more) == 1
        told = capsys.readouterr()
        assert SECRET not in told.out + told.err
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and SECRET in file.read_text()]


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))
def test_a_secret_of_the_environment_is_in_no_line_of_any_command(world, tmp_path, capsys, monkeypatch, command):
    """Wherever a value of the environment turns up by mistake: as a file, a model, a name, an option or a command."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "SOME_PASSWORD"):
        monkeypatch.setenv(name, f"{SECRET}\n")
    (tmp_path / f"{SECRET}.txt").write_text("")
    named = {key: getattr(world, key) for key in ("model", "text", "jsonl", "acts", "heads", "adapter", "recipe", "results")}
    known = [word.format(**named) for word in _KNOWN.get(command, [])]
    mistaken = [
        [command, SECRET, *known[1:]],
        [command, f"{SECRET}.txt", *known[1:], "--debug"],
        [command, *known, f"--{SECRET}"],
        [command, *known, "--seed", SECRET],
        [command, *known, f"--json={SECRET}"],
        [SECRET],
    ]
    for words in mistaken:
        assert call(*words) in (1, 2), words
        told = capsys.readouterr()
        assert SECRET not in told.out + told.err, words
