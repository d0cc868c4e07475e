"""No code, no path and no key out of what strangers wrote."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from command import call

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
    content = json.loads(file.read_text())
    content["auto_map"] = {key: ["mine.Mine", None] if key == "AutoTokenizer" else "mine.Mine"}
    if config == "config.json":
        content["model_type"] = "mine"
    else:
        content["tokenizer_class"] = "Mine"
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(("key", "config"), [("AutoConfig", "config.json"), ("AutoTokenizer", "tokenizer_config.json")])
def test_code_of_a_checkpoint_is_not_run_whatever_stdin_says(world, tmp_path, key, config):
    model, marker = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(world.model, model)
    remote_code(model, key, marker, config=config)
    command = [sys.executable, "-m", "headpursuit", "generate", model, "--prompt", "a", "--max-new-tokens", "1"]
    done = subprocess.run(command, input="y\n" * 50, capture_output=True, text=True)
    assert not marker.exists(), done.stderr
    assert done.returncode in (0, 1)
    assert "[y/N]" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_code_of_a_captures_tokenizer_is_not_run_whatever_stdin_says(world, tmp_path):
    acts, marker = tmp_path / "acts", tmp_path / "ran"
    shutil.copytree(world.acts, acts)
    remote_code(acts / "tokenizer", "AutoTokenizer", marker, config="tokenizer_config.json")
    command = [sys.executable, "-m", "headpursuit", "rank", acts, "--concept", "red,blue"]
    done = subprocess.run(command, input="y\n" * 50, capture_output=True, text=True)
    assert not marker.exists(), done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("complete", [True, False])
def test_shards_that_lie_outside_are_neither_read_nor_deleted(world, tmp_path, capsys, complete):
    acts, victim = tmp_path / "acts", tmp_path / "victim.safetensors"
    shutil.copytree(world.moments, acts)
    index = json.loads((acts / "index.json").read_text())
    shutil.copy(next(acts.glob("activations-*.safetensors")), victim)
    before = victim.read_bytes()
    index["complete"], index["samples_done"] = complete, 4
    text = json.dumps(index)
    for shard in sorted(file.name for file in acts.glob("activations-*.safetensors")):
        text = text.replace(shard, "../victim.safetensors")
    (acts / "index.json").write_text(text)
    words = (
        ["describe", acts]
        if complete
        else ["capture", world.model, "--samples", world.text, "--positions", "all", "--out", acts]
    )
    call(*words)
    assert victim.read_bytes() == before
    assert "Traceback" not in capsys.readouterr().err


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
