"""An export that is compared with the edited original, and what is noticed about one that was tampered with."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import headpursuit as hp
from exporting import saved
from headpursuit.files import write_sealed
from headpursuit.model.checkpoint_files import stored_tensors

EDIT = hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1)
KEYS = tuple(f"model.layers.{index}.self_attn.o_proj.weight" for index in (0, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved.save("llama", tmp_path_factory.mktemp("llama"), torch.bfloat16)


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "out"
    hp.export(folder, EDIT, out, progress=False)
    return out


def test_a_checkpoint_is_the_same_bits(out):
    found = hp.verify(out, progress=False)
    assert found.ok
    assert found.exact
    assert found.bit_equal
    assert found.differing == KEYS
    assert (found.error, found.same_choice, found.n) == (0, 1, 4)
    assert "logits of 4 samples: the same bits; 2 tensors differ" in str(found)


def test_other_scales_are_within_rounding(folder, tmp_path):
    hp.export(folder, hp.HeadEdit(["L0.H1"], scale=0.3), tmp_path / "out", progress=False)
    found = hp.verify(tmp_path / "out", ["two cats", "a yellow sun"], progress=False)
    assert found.ok
    assert not found.exact
    assert 0 < found.error < found.tolerance
    assert found.n == 2


@pytest.mark.parametrize("format", ["lora", "ia3"])
def test_an_adapter_is_within_rounding(folder, format, tmp_path):
    pytest.importorskip("peft")
    hp.export(folder, EDIT, tmp_path / "out", format=format, progress=False)
    found = hp.verify(tmp_path / "out", progress=False)
    assert found.ok
    assert found.error < found.tolerance
    assert "the model is unchanged" in str(found)


def flip(file, index):
    content = bytearray(file.read_bytes())
    content[index] ^= 0x40
    file.write_bytes(content)


@pytest.mark.parametrize("key", [*KEYS, "model.layers.1.mlp.up_proj.weight"])
def test_a_changed_weight_is_noticed(out, tmp_path, key):
    shutil.copytree(out, tmp_path / "out")
    (stored,) = (one for one in stored_tensors((tmp_path / "out").glob("*.safetensors")) if one.key == key)
    flip(stored.file, stored.begin)  # the mantissa of a bfloat16
    found = hp.verify(tmp_path / "out", progress=False)
    assert not found.ok
    assert found.surprises == (f"{key} is not the original's, scaled" if key in KEYS else f"{key} differs and should not",)


def test_a_changed_side_file_is_noticed(out, tmp_path):
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out" / "nested" / "note.txt").write_text("another")
    found = hp.verify(tmp_path / "out", progress=False)
    assert found.surprises == ("nested/note.txt differs",)
    assert not found.ok


def test_an_adapter_of_another_edit_is_noticed(folder, tmp_path):
    pytest.importorskip("peft")
    hp.export(folder, EDIT, tmp_path / "one", format="ia3", progress=False)
    hp.export(folder, hp.HeadEdit(["L0.H1", "L2.H2"], scale=-1), tmp_path / "two", format="ia3", progress=False)
    shutil.copy(tmp_path / "two" / "adapter_model.safetensors", tmp_path / "one")
    found = hp.verify(tmp_path / "one", progress=False)
    assert not found.ok
    assert found.error > found.tolerance


def test_the_original_may_have_moved(out, folder, tmp_path):
    shutil.copytree(out, tmp_path / "out")
    record = tmp_path / "out" / "headpursuit_edit.json"
    stored = json.loads(record.read_text())
    stored["export"]["folder"] = "/no/such/folder"
    write_sealed(record, stored)
    with pytest.raises(hp.HeadPursuitError, match=r"no longer in /no/such/folder: say where it is"):
        hp.verify(tmp_path / "out", progress=False)
    assert hp.verify(tmp_path / "out", model=folder, progress=False).ok
    other = saved.save("qwen3", tmp_path / "other", torch.bfloat16)
    with pytest.raises(hp.HeadPursuitError, match="means nothing in another model"):
        hp.verify(tmp_path / "out", model=other, progress=False)


def test_what_is_no_export_is_refused(folder, tmp_path):
    with pytest.raises(hp.HeadPursuitError, match="holds no export"):
        hp.verify(folder, progress=False)
    EDIT.save(tmp_path / "headpursuit_edit.json", model=hp.load(folder))
    with pytest.raises(hp.HeadPursuitError, match="is no record of an export"):
        hp.verify(tmp_path, progress=False)
