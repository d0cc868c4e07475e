"""GGUF files as models: opened as transformers opens them, alone or in parts, and refused in one line where they are none."""

from __future__ import annotations

import shutil
import struct
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import headpursuit as hp
import tiny

gguf = pytest.importorskip("gguf")

import gguf_made  # noqa: E402
from headpursuit.model.gguf_files import gguf_header, gguf_parts  # noqa: E402
from headpursuit.model.weights import LiveWeights  # noqa: E402


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return gguf_made.write(tmp_path_factory.mktemp("gguf") / "model.gguf", "Q8_0", others="Q4_0")


@pytest.fixture(scope="module")
def model(file):
    return hp.load(file, device="cpu")


def same_weights(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("kind", gguf_made.KINDS)
def test_every_type_is_opened_as_transformers_opens_it(tmp_path, kind):
    width = gguf.GGML_QUANT_SIZES[gguf_made.Type[kind]][0]
    gguf_made.write(tmp_path / "m.gguf", kind, head_width=max(width, 32), n_heads=2)
    model = hp.load(tmp_path / "m.gguf", device="cpu")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf")
    assert same_weights(model.hf, theirs)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in tiny.TEXTS:
        assert model.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"] == tiny.tokenizer()(text)["input_ids"]
    (projection,) = (one for one in model.source.stored() if one.key == "blk.1.attn_output.weight")
    assert torch.equal(projection.read(), model.module("model.layers.1.self_attn.o_proj").weight)
    assert torch.equal(projection.read_rows([3, 0]), projection.read()[[3, 0]])


def test_a_float32_file_is_the_model_that_it_was_made_of(tmp_path):
    made = gguf_made.write(tmp_path / "m.gguf", "F32")
    assert same_weights(hp.load(made, device="cpu").hf, gguf_made.hf_llama(head_width=32))


def test_gpt2_stands_the_other_way_round(tmp_path):
    model = hp.load(gguf_made.write_gpt2(tmp_path / "m.gguf", "F32"), device="cpu")
    assert same_weights(model.hf, tiny.hf_model("gpt2", context=1024))
    acts = hp.capture(model, tiny.TEXTS, out=tmp_path / "acts", progress=False)
    assert acts.weights.tensors["L1"]["key"] == "blk.1.attn_output.weight"
    assert torch.equal(acts.weights.projection(1), LiveWeights(model).projection(1))


def test_one_file_has_one_identity(file, model, tmp_path):
    assert model.source.path == file
    assert model.source.folder is None
    assert str(file) in repr(model)
    assert model.tokenizer.name_or_path == str(file)
    half = hp.load(file, device="cpu", dtype="bf16")
    assert half.hf.dtype == torch.bfloat16
    assert half.identity == model.identity
    other = gguf_made.write(tmp_path / "other.gguf", "Q8_0", others="Q8_0")
    assert hp.load(other, device="cpu").identity["fingerprint"] != model.identity["fingerprint"]


def test_a_file_is_opened_without_what_lies_beside_it(file, model, tmp_path):
    shutil.copy(file, tmp_path)
    tiny.hf_model("qwen2").save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    beside = hp.load(tmp_path, gguf_file="model.gguf", device="cpu")
    assert beside.source.id == f"{tmp_path}/model.gguf"
    assert same_weights(beside.hf, model.hf)
    assert beside.generate("two cats", max_new_tokens=4) == model.generate("two cats", max_new_tokens=4)


def test_files_of_the_working_folder_are_left_alone(file, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gguf_made.write(tmp_path / "model.gguf", hidden=32)
    shutil.copy(file, "mine.gguf")
    assert same_weights(hp.load("mine.gguf", device="cpu").hf, model.hf)


@pytest.mark.parametrize("part", [0, -1])
def test_parts_are_one_model_whichever_is_named(model, tmp_path, part):
    gguf_made.write(tmp_path / "m.gguf", "Q8_0", others="Q4_0", split_max_tensors=7)
    parts = sorted(tmp_path.iterdir())
    assert len(parts) == 3
    whole = hp.load(parts[part], device="cpu")
    assert same_weights(whole.hf, model.hf)
    assert whole.identity["fingerprint"] == model.identity["fingerprint"]
    assert [one.path for one in gguf_parts(parts[part])] == parts


def test_a_capture_needs_the_file_and_not_the_model(file, tmp_path):
    copy = shutil.copy(file, tmp_path / "copy.gguf")
    model = hp.load(copy, device="cpu")
    acts = hp.capture(model, tiny.TEXTS, out=tmp_path / "acts", progress=False)
    opened = hp.open_capture(tmp_path / "acts")
    assert {entry["file"] for name, entry in opened.weights.tensors.items() if name != "final_norm_gain"} == {copy}
    live = hp.capture(model, tiny.TEXTS, progress=False)
    for layer in opened.layers:
        assert torch.equal(opened.weights.projection(layer), live.weights.projection(layer))
    words = ["red", "white", "blue"]
    assert hp.rank(opened, words, progress=False) == hp.rank(acts, words, progress=False)
    assert hp.describe(opened, heads=["L1.H2"])[0].tokens == hp.describe(live, heads=["L1.H2"])[0].tokens
    (projection,) = (one for one in gguf_header(tmp_path / "copy.gguf").tensors if one.key == "blk.1.attn_output.weight")
    with copy.open("r+b") as opened_file:
        opened_file.seek(projection.begin + 5)
        opened_file.write(b"\x55\x2a")
    with pytest.raises(hp.HeadPursuitError, match=r"copy\.gguf: blk\.1\.attn_output\.weight is not what it was"):
        hp.open_capture(tmp_path / "acts")
    copy.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(hp.HeadPursuitError, match="the capture refers to this checkpoint"):
        hp.open_capture(tmp_path / "acts")


def changed(file, path, *, old: bytes, new: bytes):
    content = file.read_bytes()
    assert len(old) == len(new)
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


def keyed(path, architecture="llama", **keys):
    """A file with keys and one tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in keys.items():
        writer.add_string(name.replace("__", "."), value)
    writer.add_tensor("some.weight", gguf_made.np.zeros((4, 4), gguf_made.np.float32))
    gguf_made._finish(writer)
    return path


WRONG = {
    "no file": (lambda file, path: path, "there is no such file"),
    "empty": (lambda file, path: path.touch() or path, "is no GGUF file"),
    "text": (lambda file, path: path.write_text("a model") and path, "is no GGUF file, it does not begin with GGUF"),
    "pointer": (lambda file, path: path.write_text("version https://git-lfs.github.com/spec/v1\n") and path, "git lfs pull"),
    "magic alone": (lambda file, path: path.write_bytes(b"GGUF") and path, "is no sound GGUF file"),
    "version": (lambda file, path: path.write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0)) and path, "version 1, read are"),
    "big-endian": (lambda file, path: path.write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0)) and path, "little-endian"),
    "too many keys": (lambda file, path: path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60)) and path, "is no sound"),
    "cut in its header": (lambda file, path: path.write_bytes(file.read_bytes()[:5000]) and path, "is no sound GGUF file"),
    "cut in its tensors": (lambda file, path: path.write_bytes(file.read_bytes()[:-5000]) and path, "it is cut off"),
    "imatrix": (
        lambda file, path: keyed(path, general__type="imatrix"),
        "a GGUF file of 'imatrix' and not of a language model",
    ),
    "adapter": (lambda file, path: keyed(path, general__type="adapter"), "a GGUF file of 'adapter'"),
    "tower": (lambda file, path: keyed(path, "clip"), "a GGUF file of 'clip'"),
    "no weights": (lambda file, path: keyed(path), "holds no model's weights"),
    "no tokenizer": (lambda file, path: gguf_made.write(path, tokenizer=False), "holds no tokenizer"),
    "architecture": (
        lambda file, path: changed(file, path, old=b"llama", new=b"xlama"),
        "says that it has None blocks",  # the keys of the sizes bear the architecture's name
    ),
    "blocks": (
        lambda file, path: changed(file, path, old=b"llama.block_count\x04\0\0\0\x02", new=b"llama.block_count\x04\0\0\0\x09"),
        "says that it has 9 blocks of width 64, its tensors are of 2 and of width 64",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_model_is_one_line(file, tmp_path, wrong):
    make, said = WRONG[wrong]
    path = make(file, tmp_path / "wrong.gguf")
    with pytest.raises(hp.HeadPursuitError, match=said) as caught:
        hp.load(path, device="cpu")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_architecture_that_transformers_does_not_read_is_named(file, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(file.read_bytes().replace(b"llama", b"xlama"))
    with pytest.raises(hp.HeadPursuitError, match="architecture xlama is not supported yet") as caught:
        hp.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_renamed_part_is_named(tmp_path):
    first = gguf_made.write(tmp_path / "m.gguf", split_max_tensors=7)
    renamed = shutil.copy(first, tmp_path / "renamed.gguf")
    with pytest.raises(
        hp.HeadPursuitError, match=r"a part of 3, but is not called so: name its parts NAME-00001-of-00003\.gguf"
    ):
        hp.load(renamed)
    swapped = tmp_path / "m-00003-of-00003.gguf"
    swapped.rename(tmp_path / "third")
    with pytest.raises(hp.HeadPursuitError, match=r"one of 3 parts, and m-00003-of-00003\.gguf is missing"):
        hp.load(first)
    shutil.copy(tmp_path / "m-00002-of-00003.gguf", swapped)
    with pytest.raises(hp.HeadPursuitError, match="do not belong together"):
        hp.load(first)


@pytest.mark.parametrize("library", ["gguf", "accelerate"])
def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, library):
    made = gguf_made.write(tmp_path / "m.gguf")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(hp.HeadPursuitError, match=rf"a GGUF file needs {library}, .*pip install 'headpursuit\[gguf\]'"):
        hp.load(made)
