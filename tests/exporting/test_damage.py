"""Exports that are damaged, made twice or at the same time, or made of folders that hold what does not belong to them."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import headpursuit as hp
from exporting import saved
from headpursuit.exporting.provenance import _told

EDIT = hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved.save("llama", tmp_path_factory.mktemp("llama"), torch.bfloat16)


def is_ok(out):
    try:
        return hp.verify(out, ["two cats"], device="cpu", progress=False).ok
    except hp.HeadPursuitError:
        return False


@pytest.mark.parametrize("format", ["checkpoint", "lora", "ia3"])
def test_every_flipped_bit_is_seen(folder, tmp_path, format):
    pytest.importorskip("peft")
    hp.export(folder, EDIT, tmp_path / "out", format=format, progress=False)
    assert is_ok(tmp_path / "out")
    generator = random.Random(0)
    for name in saved.contents(tmp_path / "out"):
        copy = Path(shutil.copytree(tmp_path / "out", tmp_path / "copy"))
        content = bytearray((copy / name).read_bytes())
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (copy / name).write_bytes(content)
        assert not is_ok(copy), name
        shutil.rmtree(copy)


def test_the_factors_of_a_lora_are_compared(folder, tmp_path):
    """A change too small for the logits, with hashes that fit it."""
    pytest.importorskip("peft")
    from safetensors.torch import load_file, save_file

    from headpursuit.files import file_hash, read_json, write_sealed

    hp.export(folder, EDIT, tmp_path / "out", format="lora", progress=False)
    weights, record = tmp_path / "out" / "adapter_model.safetensors", tmp_path / "out" / "headpursuit_edit.json"
    tensors = load_file(weights)
    name = sorted(tensors)[1]
    tensors[name][0, 0] += 1e-3
    save_file(tensors, weights, metadata={"format": "pt"})
    stored = read_json(record)
    stored["export"]["files"][weights.name] = file_hash(weights)
    write_sealed(record, stored)
    found = hp.verify(tmp_path / "out", device="cpu", progress=False)
    assert found.surprises == (f"{name} is not what the edit makes of the original",)
    assert found.error < found.tolerance


@pytest.mark.parametrize("format", ["checkpoint", "lora", "ia3"])
def test_the_same_export_again_is_complete_already(folder, tmp_path, format):
    done = hp.export(folder, EDIT, tmp_path / "out", format=format, progress=False)
    before = saved.contents(tmp_path / "out")
    again = hp.export(folder, EDIT, tmp_path / "out", format=format, progress=False)
    assert (done.already, again.already, again.changed) == (False, True, done.changed)
    assert saved.contents(tmp_path / "out") == before
    with pytest.raises(hp.HeadPursuitError, match="is not empty"):
        hp.export(folder, hp.HeadEdit(["L0.H1"], scale=-1), tmp_path / "out", format=format, progress=False)


def test_of_several_exports_at_once_one_wins(folder, tmp_path):
    line = "import sys, headpursuit as hp; hp.export(sys.argv[1], hp.HeadEdit([sys.argv[3]], scale=-1), sys.argv[2])"
    out = tmp_path / "out"
    runs = [
        subprocess.Popen([sys.executable, "-c", line, folder, out, head], stderr=subprocess.PIPE) for head in ("L0.H1", "L1.H2")
    ]
    told = [run.communicate()[1].decode() for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1]
    assert any("is being written by another process" in text or "is not empty" in text for text in told)
    assert is_ok(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_links_that_lead_elsewhere_are_refused(folder, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("years of work")
    for name, target in (("notes.txt", secret), ("notes", tmp_path)):
        copy = Path(shutil.copytree(folder, tmp_path / "model"))
        (copy / name).symlink_to(target)
        with pytest.raises(hp.HeadPursuitError, match=rf"{name} is a link to .*outside of the checkpoint's folder"):
            hp.export(copy, EDIT, tmp_path / "out", progress=False)
        shutil.rmtree(copy)
    shard = next(folder.glob("*.safetensors"))
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / shard.name).unlink()
    (copy / shard.name).symlink_to(shard)
    with pytest.raises(hp.HeadPursuitError, match="is a link to"):
        hp.export(copy, EDIT, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_pipe_beside_the_weights_is_refused_and_not_read(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    os.mkfifo(copy / "notes")
    with pytest.raises(hp.HeadPursuitError, match="notes is no plain file"):
        hp.export(copy, EDIT, tmp_path / "out", progress=False)


def test_pickles_are_left_out_whatever_they_are_called(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    names = ("state.pkl", "training_args.bin", "optimizer.pt", "rows.npy", "README.data", "packed.data")
    for name in names[:-1]:
        (copy / name).write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": 1}, copy / names[-1])
    done = hp.export(copy, EDIT, tmp_path / "out", progress=False)
    assert set(done.left_out) == set(names)
    assert not [name for name in names if (tmp_path / "out" / name).exists()]
    assert is_ok(tmp_path / "out")


@pytest.mark.parametrize(
    ("front", "told"),
    [
        ("", "tags:\n- headpursuit\n"),
        ("language:\n- no # Norwegian\n", "language:\n- no # Norwegian\ntags:\n- headpursuit\n"),
        ("tags:\n- a\n- b # two\nlicense: mit\n", "tags:\n- a\n- b # two\n- headpursuit\nlicense: mit\n"),
        ("tags:\n    - a\nx: 1\n", "tags:\n    - a\n    - headpursuit\nx: 1\n"),
        ("tags: [a, 'b']  # flow\n", "tags: [a, 'b', headpursuit]  # flow\n"),
        ("tags: []\n", "tags: [headpursuit]\n"),
        ("tags: a\n", "tags: [a, headpursuit]\n"),
        ("tags:\nx: 1\n", "tags: [headpursuit]\nx: 1\n"),
        ("tags:\n- headpursuit\n", "tags:\n- headpursuit\n"),
        ("a: 1\r\ntags:\r\n- b\r\n", "a: 1\r\ntags:\r\n- b\r\n- headpursuit\r\n"),
        ("model-index:\n- name: x\n  results: [1, 2]\n", "model-index:\n- name: x\n  results: [1, 2]\ntags:\n- headpursuit\n"),
        ("- a list\n", None),
        ("a: [broken\n", None),
    ],
)
def test_a_card_gets_a_tag_and_is_else_as_it_was(front, told):
    assert _told(front, {}) == told


def test_a_cards_text_stays_byte_for_byte(folder, tmp_path):
    card = "---\nlanguage:\n- no\n# a comment\nlicense:   mit\n---\n\n# A model  \n\n"
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "README.md").write_text(card)
    hp.export(copy, EDIT, tmp_path / "out", progress=False)
    written = (tmp_path / "out" / "README.md").read_text()
    assert written.startswith(card.replace("mit\n---", "mit\ntags:\n- headpursuit\n---"))
