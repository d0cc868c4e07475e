"""What is refused, and that an export is there whole or not at all."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gguf_made
import headpursuit as hp
import tiny
from exporting import saved

EDIT = hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved.save("llama", tmp_path_factory.mktemp("llama"), torch.float32)


@pytest.fixture(scope="module")
def model(folder):
    return hp.load(folder)


@pytest.mark.parametrize("where", ["prompt", "generated", "text", torch.tensor([True, False])], ids=str)
@pytest.mark.parametrize("format", ["checkpoint", "lora", "ia3"])
def test_chosen_tokens_do_not_go_into_weights(model, where, format, tmp_path):
    edit = EDIT + hp.HeadEdit(["L1.H1"], scale=2, where=where)
    with pytest.raises(hp.HeadPursuitError, match=r"serve every token: apply it while the model runs"):
        hp.export(model, edit, tmp_path / "out", format=format, progress=False)


@pytest.mark.parametrize(
    ("edit", "options", "message"),
    [
        (hp.HeadEdit(["L0.H0"], scale=1), {}, "changes nothing"),
        (hp.HeadEdit(["L7.H0"], scale=-1), {}, "no attention layer L7"),
        (EDIT, {"format": "onnx"}, "choose one of checkpoint, lora, ia3"),
        ("/no/edit.json", {}, "there is no file /no/edit.json"),
    ],
)
def test_what_is_no_export_is_refused(model, edit, options, message, tmp_path):
    with pytest.raises(hp.HeadPursuitError, match=message):
        hp.export(model, edit, tmp_path / "out", **options, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_scales_that_the_dtype_cannot_hold_are_refused(tmp_path):
    folder = saved.save("llama", tmp_path / "model", torch.float16)
    with pytest.raises(hp.HeadPursuitError, match=r"layers\.0\.self_attn\.o_proj\.weight: the scaled weights do not fit F16"):
        hp.export(folder, hp.HeadEdit(["L0.H0"], scale=1e6), tmp_path / "out", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_only_a_new_folder_is_written(model, folder, tmp_path):
    before = saved.contents(folder)
    for out in (folder, folder / "inside", folder.parent, folder / "nested" / ".."):
        with pytest.raises(hp.HeadPursuitError, match="the model's own folder"):
            hp.export(model, EDIT, out, progress=False)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(hp.HeadPursuitError, match="the model's own folder"):
        hp.export(model, EDIT, tmp_path / "link", progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for out in (tmp_path / "full", tmp_path / "full" / "file"):
        with pytest.raises(hp.HeadPursuitError, match="is not empty"):
            hp.export(model, EDIT, out, progress=False)
    (tmp_path / "empty").mkdir()
    hp.export(model, EDIT, tmp_path / "empty", progress=False)
    assert saved.contents(folder) == before


def test_a_model_without_files_takes_an_adapter_only(tmp_path):
    with pytest.raises(hp.HeadPursuitError, match=r"no safetensors files on this machine.*export an adapter"):
        hp.export(tiny.tiny("llama"), EDIT, tmp_path / "out", progress=False)
    hp.export(tiny.tiny("llama"), EDIT, tmp_path / "out", format="ia3", progress=False)


@pytest.mark.parametrize("format", ["checkpoint", "lora", "ia3"])
def test_an_adapted_model_is_merged_first(folder, format, tmp_path):
    peft = pytest.importorskip("peft")
    loaded = hp.load(folder)
    adapted = peft.get_peft_model(loaded.hf, peft.LoraConfig(r=2, target_modules=["q_proj"])).eval()
    with pytest.raises(hp.HeadPursuitError, match="carries an adapter"):
        hp.export(hp.wrap(adapted, loaded.processor), EDIT, tmp_path / "out", format=format, progress=False)


def test_weights_that_are_not_the_files_own_are_refused(folder, tmp_path):
    model = hp.load(folder)
    with torch.no_grad():
        model.module("model.layers.2.self_attn.o_proj").weight[0, 0] += 1
    with pytest.raises(hp.HeadPursuitError, match=r"layers\.2\.self_attn\.o_proj\.weight is not stored"):
        hp.export(model, EDIT, tmp_path / "out", progress=False)


@pytest.mark.parametrize("format", ["checkpoint", "lora", "ia3"])
def test_a_projection_that_layers_share_is_refused(folder, format, tmp_path):
    model = hp.load(folder)
    layers = model.hf.model.layers
    layers[1].self_attn.o_proj.weight = layers[0].self_attn.o_proj.weight
    with pytest.raises(hp.HeadPursuitError, match="L0 shares its output projection"):
        hp.export(model, EDIT, tmp_path / "out", format=format, progress=False)


def test_an_index_that_leads_elsewhere_is_refused(model, folder, tmp_path):
    EDIT.save(tmp_path / "edit.json", model=model)
    broken = tmp_path / "model"
    broken.mkdir()
    for name, content in saved.contents(folder).items():
        (broken / Path(name).name).write_bytes(content)
    index = broken / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00001", "../model-00001"))
    with pytest.raises(hp.HeadPursuitError):
        hp.export(broken, tmp_path / "edit.json", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def broken_off(folder, tmp_path_factory):
    """What a process saw that broke off exports in every way; see ``breaking_off.py``."""
    root = tmp_path_factory.mktemp("broken")
    script = Path(__file__).with_name("breaking_off.py")
    gguf = gguf_made.write(tmp_path_factory.mktemp("gguf") / "model.gguf", n_layers=3)
    done = subprocess.run([sys.executable, script, folder, gguf, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), root


@pytest.mark.parametrize("format", ["checkpoint", "lora"])
def test_killing_an_export_anywhere_leaves_nothing(broken_off, model, format, tmp_path):
    told, root = broken_off
    assert told["killed"][format] > {"checkpoint": 25, "lora": 5}[format]  # so often it was killed, a step later each time
    hp.export(model, EDIT, tmp_path / "whole", format=format, progress=False)
    assert saved.contents(root / format) == saved.contents(tmp_path / "whole")
    assert {path.name for path in root.iterdir()} == {"checkpoint", "lora", "edited.gguf", "edited.gguf.json"}


def test_killing_an_export_of_a_gguf_file_leaves_no_file(broken_off):
    told, root = broken_off
    assert told["killed"]["gguf"] > 5
    assert hp.verify(root / "edited.gguf", ["two cats"], device="cpu", progress=False).ok


@pytest.mark.parametrize("format", ["checkpoint", "lora", "gguf"])
def test_a_full_disk_is_one_clear_line(broken_off, format):
    told, root = broken_off
    assert told["full"][format]["code"] == 1
    (line,) = told["full"][format]["said"]
    assert line.startswith("headpursuit: ")
    out = {"gguf": "full-edited.gguf"}.get(format, f"full-{format}")
    assert f"{root / out} could not be written" in line
    assert "File too large" in line


def test_too_little_room_is_told_before_anything_is_copied(model, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(hp.HeadPursuitError, match=r"has 0\.0 GB left, the export needs"):
        hp.export(model, EDIT, tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_cleans_up(model, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        hp.export(model, EDIT, tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_edit_file_may_be_given_for_a_copy_of_the_model(model, tmp_path):
    copied = copy.copy(model)
    EDIT.save(tmp_path / "edit.json", model=copied)
    assert hp.export(model, tmp_path / "edit.json", tmp_path / "out", progress=False).edit == EDIT
