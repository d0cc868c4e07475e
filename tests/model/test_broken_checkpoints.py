"""Checkpoints that are broken, or that bring code: one line that says what is wrong, never a question, never code."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.evaluation.toxicity import load_classifier
from headpursuit.model.load import load_tokenizer, outline


@pytest.fixture
def folder(checkpoint, tmp_path):
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def changed(folder, file, **keys):
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **keys}))


def refused(folder, **options):
    with pytest.raises(hp.HeadPursuitError) as caught:
        hp.load(folder, device="cpu", **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n"


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs(folder, file):
    (folder / file).write_text(POINTER)
    assert f"({folder / file} is a pointer of git-lfs and not the file itself): run `git lfs pull`" in refused(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_weights_that_are_cut_off(folder, kept):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert f"{file} is no readable safetensors file" in refused(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '"llama"', "1", "{}", '{"model_type": 3}', '{"model_type": "nobodys"}', "\xff"]
)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_files_of_any_shape(folder, file, content):
    (folder / file).write_text(content, encoding="latin-1")
    try:
        hp.load(folder, device="cpu")
    except hp.HeadPursuitError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(folder) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "keys",
    [
        {"num_attention_heads": 0},
        {"num_attention_heads": -1},
        {"num_attention_heads": "many"},
        {"hidden_size": None},
        {"vocab_size": 3},
        {"num_hidden_layers": 7},
        {"rope_parameters": "linear"},
        {"torch_dtype": "int3", "dtype": "int3"},
        {"hidden_act": "no-such-act"},
        {"num_hidden_layers": 10**30},
        {"num_hidden_layers": 10**5},
        {"quantization_config": {"quant_method": "awq"}},
        {"architectures": 3, "hidden_size": [1]},
    ],
    ids=str,
)
def test_configurations_of_any_shape(folder, keys):
    changed(folder, "config.json", **keys)
    assert str(folder) in refused(folder)


def test_a_folder_that_is_not_there(tmp_path, folder):
    for name in ("./no_such_folder", tmp_path / "nothing", "../no/such/folder"):
        assert f"{name} could not be opened as a model (there is no such folder)" in refused(name)
    (tmp_path / "empty").mkdir()
    assert "holds no config.json" in refused(tmp_path / "empty")
    assert "is no GGUF file" in refused(folder / "config.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device 'gpu': this machine has no CUDA device"),
        ({"device": "cuda:1"}, "device 'cuda:1': this machine has no CUDA device"),
        ({"device": "tpu9"}, "device 'tpu9': give cpu, cuda"),
        ({"dtype": "int8"}, "dtype 'int8': give auto, float32"),
        ({"dtype": "nonsense"}, "dtype 'nonsense': give auto, float32"),
    ],
)
def test_devices_and_types_that_are_none(folder, options, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(hp.HeadPursuitError, match=message):
        hp.load(folder, **options)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("float32", torch.float32)])
def test_types_are_called_as_people_call_them(folder, name, dtype):
    assert hp.load(folder, device="cpu", dtype=name).hf.dtype == dtype


@pytest.fixture
def answered_yes(monkeypatch):
    """A terminal that answers yes to whatever is asked."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    return monkeypatch


def with_code(folder):
    """Code in a checkpoint that leaves a trace when it is run."""
    trace = folder.parent / "trace"
    for name, base in (("code_config", "PretrainedConfig"), ("code_tokenizer", "PreTrainedTokenizerFast")):
        text = (
            f"from transformers import {base}\nopen({str(trace)!r}, 'w').close()\nclass Own({base}):\n    model_type = 'own'\n"
        )
        (folder / f"{name}.py").write_text(text)
    return trace


def test_code_of_a_model_is_never_run_unasked(folder, answered_yes, capsys):
    trace = with_code(folder)
    changed(
        folder,
        "config.json",
        model_type="own",
        auto_map={"AutoConfig": "code_config.Own", "AutoModelForSequenceClassification": "code_config.Own"},
    )
    for opened in (lambda: hp.load(folder, device="cpu"), lambda: outline(folder), lambda: load_classifier(folder)):
        with pytest.raises(hp.HeadPursuitError, match="comes with code of its own, which is not run unless asked"):
            opened()
    assert not trace.exists()
    assert capsys.readouterr().out == ""
    with pytest.raises(hp.HeadPursuitError):  # the code is no model
        outline(folder, trust_remote_code=True)
    assert trace.exists()


def test_code_of_a_tokenizer_is_never_run_unasked(folder, tmp_path, answered_yes, capsys):
    hp.capture(hp.load(folder, device="cpu"), tiny.TEXTS, out=tmp_path / "acts", progress=False)
    trace = with_code(folder)
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "code_tokenizer.Own"]}}
    changed(folder, "tokenizer_config.json", **own)
    for opened in (lambda: hp.load(folder, device="cpu"), lambda: load_tokenizer(folder)):
        with pytest.raises(hp.HeadPursuitError, match="comes with code of its own, which is not run unless asked"):
            opened()
    assert not trace.exists()
    assert capsys.readouterr().out == ""
    load_tokenizer(folder, trust_remote_code=True)
    assert trace.exists()
    trace.unlink()
    inside = hp.load(folder, device="cpu", trust_remote_code=True)
    hp.capture(inside, tiny.TEXTS, out=tmp_path / "with code", progress=False)
    trace.unlink(missing_ok=True)
    with pytest.raises(hp.HeadPursuitError, match="comes with code of its own"):
        hp.open_capture(tmp_path / "with code")
    assert not trace.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_of_the_hub_is_not_fetched_unasked(folder, key):
    changed(folder, "config.json", **{key: "some-one/flash-attn"})
    assert "asks for 'some-one/flash-attn', a kernel of the Hub" in refused(folder)
    with pytest.raises(hp.HeadPursuitError, match="a kernel of the Hub"):
        outline(folder)


def test_a_tokenizer_whose_settings_break_it_is_refused_where_it_is_opened(tmp_path):
    tiny.tokenizer().save_pretrained(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": [1]}))
    with pytest.raises(hp.HeadPursuitError, match="could not be opened as a tokenizer"):
        load_tokenizer(tmp_path)
