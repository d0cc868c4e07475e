"""Contract 4 for GGUF files: the edit is in the edited heads' blocks, exactly where they can hold it, and nowhere else."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import headpursuit as hp
import tiny
from command import call

gguf = pytest.importorskip("gguf")

import gguf_made  # noqa: E402
from exporting import saved  # noqa: E402
from headpursuit.exporting import projections  # noqa: E402
from headpursuit.exporting.gguf import scaled_blocks  # noqa: E402
from headpursuit.files import read_json  # noqa: E402
from headpursuit.model.gguf_files import dequantised, gguf_header, gguf_parts  # noqa: E402

KEYS = ("blk.0.attn_output.weight", "blk.1.attn_output.weight")
HEADS = ("L0.H1", "L1.H2")
# A value of these is a scale times an integer less another such product, so that a zero's sign may be another.
TWO_SCALES = {kind for kind, places in gguf_made.SCALES.items() if len(places) == 2} | {"Q4_1", "Q5_1"}


def block(kind):
    return gguf.GGML_QUANT_SIZES[gguf_made.Type[kind]][0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file of each type, with heads of whole blocks, and the model in it."""
    kept = {}

    def get(kind):
        if kind not in kept:
            width = 256 if block(kind) == 256 else 32
            path = gguf_made.write(tmp_path_factory.mktemp(kind) / "m.gguf", kind, head_width=width)
            kept[kind] = path, hp.load(path, device="cpu")
        return kept[kind]

    return get


@pytest.fixture(scope="module")
def small(made):
    return made("Q4_0")


def values(path):
    """What the package reads, by name."""
    return {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in gguf.GGUFReader(path).tensors}


def raw(path):
    return {one.name: (one.tensor_type, one.data.tobytes(), tuple(one.shape)) for one in gguf.GGUFReader(path).tensors}


def columns(edit, path):
    """Factor of every column of each edited tensor, from the edit alone."""
    width = {one.name: int(one.shape[0]) for one in gguf.GGUFReader(path).tensors}[KEYS[0]]
    found = {}
    for factor in edit.factors:
        row = found.setdefault(KEYS[factor.head.layer], np.ones((4, width // 4), np.float32))
        row[factor.head.head] = factor.scale
    return {key: row.flatten() for key, row in found.items()}


def check(path, out, edit, *, bits=True):
    """Compare two files by the package's own reader: keys, order and tensors, the edited ones' values."""
    old, new = raw(path), raw(out)
    factors = columns(edit, path)
    assert list(old) == list(new)
    before, after = values(path), values(out)
    for name in old:
        if name in factors:
            wanted = np.where(factors[name] == 1, before[name], before[name] * factors[name])
            assert np.array_equal(after[name], wanted)
            if bits:
                assert np.array_equal(after[name].view(np.uint32), wanted.view(np.uint32))
        else:
            assert old[name] == new[name]
    entries = gguf_header(path).entries
    assert path.read_bytes()[:entries] == out.read_bytes()[:entries]


def differing(path, out):
    """The bytes that differ, and whether they all lie in edited tensors; for files of one length."""
    old, new = (np.frombuffer(one.read_bytes(), np.uint8) for one in (path, out))
    assert len(old) == len(new)
    at = np.flatnonzero(old != new)
    places = [(one.begin, one.end) for one in gguf_header(path).tensors if one.key in KEYS]
    assert all(any(begin <= index < end for begin, end in places) for index in at)
    return len(at)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 2.0, 0.5])
@pytest.mark.parametrize("kind", gguf_made.KINDS)
def test_flip_silence_double_and_halve_are_exact_in_the_blocks(made, tmp_path, kind, scale):
    path, model = made(kind)
    edit = hp.HeadEdit(HEADS, scale=scale)
    done = hp.export(model, edit, tmp_path / "out.gguf", progress=False)
    assert (done.format, done.changed, done.folder) == ("gguf", KEYS, tmp_path / "out.gguf")
    assert [one.key for one in done.stored] == list(KEYS)
    assert all(one.exact and one.relative_error == 0 for one in done.stored)
    check(path, tmp_path / "out.gguf", edit, bits=kind not in TWO_SCALES)
    if kind == "F16" and scale == 0.5:  # halves of the smallest numbers that float16 has are none of its numbers
        assert "F32" in {one.now for one in done.stored}
    else:
        assert {one.now for one in done.stored} == {kind}
        assert differing(path, tmp_path / "out.gguf") > 0
    with edit.applied(model):
        hooked = saved.logits(model)
    assert torch.equal(saved.logits(hp.load(tmp_path / "out.gguf", device="cpu")), hooked)


@pytest.mark.parametrize(
    ("kind", "at"),
    [*((kind, 0) for kind in ("IQ3_XXS", "IQ3_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S")), ("TQ1_0", 52), ("TQ2_0", 64)],
)
def test_rarer_types_are_scaled_in_their_blocks_too(kind, at):
    blocks = gguf_made.drawn((4, 512), kind, scales=(at,))
    for scale in (-1, 0, 2, 0.5):
        factors = np.repeat(np.float32([1, scale]), 256)
        made = scaled_blocks(blocks, kind, factors)
        assert made is not None
        assert np.array_equal(dequantised(made, kind), dequantised(blocks, kind) * factors)
        assert (made != blocks).sum() <= 8


def test_a_type_without_a_sign_in_its_scales_has_no_scaled_blocks():
    blocks = gguf_made.drawn((4, 64), "MXFP4", scales=())
    assert scaled_blocks(blocks, "MXFP4", np.repeat(np.float32([1, -1]), 32)) is None


def test_a_flip_changes_one_bit_of_each_scale(small, tmp_path):
    path, model = small
    hp.export(model, hp.HeadEdit(HEADS, scale=-1), tmp_path / "out.gguf", progress=False)
    assert differing(path, tmp_path / "out.gguf") == 2 * 64  # a byte a row and layer: heads of one block


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "Q6_K", "BF16", "F16", "F32"])
def test_other_scales_are_as_near_as_float32_is(made, tmp_path, kind):
    path, model = made(kind)
    edit = hp.HeadEdit(["L0.H1", "L0.H2", "L1.H2"], scale=[-1, 0.3, 0])
    first, second = hp.export(model, edit, tmp_path / "out.gguf", progress=False).stored
    assert (first.was, first.now, second.now, second.exact) == (kind, "F32", kind, True)
    assert 0 < first.max_error < 1e-6
    assert 0 < first.relative_error < 2**-24
    assert f"{KEYS[0]} {'F32' if kind == 'F32' else f'{kind} → F32'}, off by at most" in str(first)
    check(path, tmp_path / "out.gguf", edit, bits=kind not in TWO_SCALES)
    found = hp.verify(tmp_path / "out.gguf", ["two cats"], device="cpu", progress=False)
    assert found.ok
    assert not found.exact


def test_heads_of_part_of_a_block_are_stored_wider_unless_all_of_it_is_one(tmp_path):
    path = gguf_made.write(tmp_path / "m.gguf", "Q4_K", head_width=32, n_heads=8)
    model = hp.load(path, device="cpu")
    one, all_of_it = hp.HeadEdit(["L0.H1"], scale=-1), hp.HeadEdit([f"L0.H{head}" for head in range(8)], scale=-1)
    (alone,) = hp.export(model, one, tmp_path / "one.gguf", progress=False).stored
    assert (alone.was, alone.now, alone.exact) == ("Q4_K", "F32", True)
    (together,) = hp.export(model, all_of_it, tmp_path / "all.gguf", progress=False).stored
    assert (together.now, together.exact) == ("Q4_K", True)
    for edit, out in ((one, "one.gguf"), (all_of_it, "all.gguf")):
        before, after = values(path)[KEYS[0]], values(tmp_path / out)[KEYS[0]]
        factors = np.repeat([-1 if factor else 1 for factor in (np.isin(range(8), [one.head for one in edit.heads]))], 32)
        assert np.array_equal(after, before * factors)
        assert {name for name, content in raw(path).items() if raw(tmp_path / out)[name] != content} == {KEYS[0]}


def test_gpt2s_columns_are_its_rows(tmp_path):
    path = gguf_made.write_gpt2(tmp_path / "m.gguf", "F16")
    model = hp.load(path, device="cpu")
    edit = hp.HeadEdit(["L0.H1", "L2.H3"], scale=-1)
    done = hp.export(model, edit, tmp_path / "out.gguf", progress=False)
    assert {one.now for one in done.stored} == {"F16"}
    with edit.applied(model):
        hooked = saved.logits(model)
    assert torch.equal(saved.logits(hp.load(tmp_path / "out.gguf", device="cpu")), hooked)


@pytest.mark.parametrize("scale", [2.0**-16, 2.0**24, 2.0**-100])
def test_what_float16_has_no_room_for_is_stored_wider(small, tmp_path, scale):
    path, model = small
    edit = hp.HeadEdit(HEADS, scale=scale)
    done = hp.export(model, edit, tmp_path / "out.gguf", progress=False)
    assert {(one.now, one.exact) for one in done.stored} == {("F32", True)}
    check(path, tmp_path / "out.gguf", edit)


def test_what_float32_has_no_room_for_is_refused(small, tmp_path):
    with pytest.raises(hp.HeadPursuitError, match=r"blk\.0\.attn_output\.weight: the scaled weights do not fit F32"):
        hp.export(
            small[1], hp.HeadEdit([f"L0.H{head}" for head in range(4)], scale=3.3e38), tmp_path / "out.gguf", progress=False
        )
    assert list(tmp_path.iterdir()) == []


def test_parts_stay_parts(small, tmp_path):
    first = gguf_made.write(tmp_path / "m.gguf", "Q4_0", split_max_tensors=7)
    whole = small[1]
    edit = hp.HeadEdit(HEADS, scale=[0.3, -1])
    done = hp.export(hp.load(first, device="cpu"), edit, tmp_path / "out.gguf", progress=False)
    names = sorted(one.name for one in tmp_path.glob("out*"))
    assert names == [f"out-0000{part}-of-00003.gguf{ending}" for part, ending in ((1, ""), (1, ".json"), (2, ""), (3, ""))]
    assert done.folder == tmp_path / "out-00001-of-00003.gguf"
    assert {one.now for one in done.stored} == {"F32", "Q4_0"}
    for old, new in zip(gguf_parts(first), gguf_parts(done.folder), strict=True):
        one, other = raw(old.path), raw(new.path)
        assert {name for name in one if one[name] != other[name]} <= set(KEYS)
        assert old.path.read_bytes()[: old.entries] == new.path.read_bytes()[: new.entries]
    with edit.applied(whole):
        hooked = saved.logits(whole)
    assert torch.allclose(saved.logits(hp.load(done.folder, device="cpu")), hooked, atol=1e-5)
    assert hp.verify(tmp_path / names[-1], ["two cats"], device="cpu", progress=False).ok  # by whichever part
    with pytest.raises(hp.HeadPursuitError, match="is named as a part of 2, the model has 3"):
        hp.export(first, edit, tmp_path / "x-00001-of-00002.gguf", progress=False)


def test_from_a_capture_to_a_file_and_back(small, tmp_path):
    path, model = small
    words, samples = "red,white,blue", tmp_path / "samples.txt"
    samples.write_text("\n".join(tiny.TEXTS))
    acts, heads, out = tmp_path / "acts", tmp_path / "heads.json", tmp_path / "out.gguf"
    assert call("capture", path, "--samples", samples, "--out", acts) == 0
    assert call("rank", acts, "--concept", words, "--top", 2, "--out", heads) == 0
    assert call("describe", acts, "--head", "L0.H0") == 0
    assert call("export", path, "--heads", heads, "--out", out) == 0
    assert call("verify", out, "--samples", samples) == 0
    assert call("prompt", out, "--samples", samples) == 0
    assert call("concepts", words, "--model", out) == 0
    edit = hp.HeadEdit(hp.load_heads(heads, model=model), scale=-1)
    with edit.applied(model):
        hooked = model.generate(list(tiny.TEXTS), max_new_tokens=6)
    assert hp.load(out, device="cpu").generate(list(tiny.TEXTS), max_new_tokens=6) == hooked
    assert hp.load_edit(f"{out}.json", model=model) == edit


def test_a_file_is_exported_without_being_loaded(small, tmp_path, monkeypatch):
    path, model = small
    edit = hp.HeadEdit(HEADS, scale=-1)
    edit.save(tmp_path / "edit.json", model=model)
    hp.export(model, edit, tmp_path / "loaded.gguf", progress=False)

    def refuse(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(projections, "load", refuse)
    hp.export(path, tmp_path / "edit.json", tmp_path / "outlined.gguf", progress=False)
    assert (tmp_path / "loaded.gguf").read_bytes() == (tmp_path / "outlined.gguf").read_bytes()


def test_adapters_of_a_gguf_model(small, tmp_path):
    pytest.importorskip("peft")
    path, _ = small
    for format in ("lora", "ia3"):
        hp.export(path, hp.HeadEdit(HEADS, scale=-1), tmp_path / format, format=format, progress=False)
        assert hp.verify(tmp_path / format, ["two cats"], device="cpu", progress=False).ok


def test_an_edited_file_may_be_edited_again(small, tmp_path):
    path, _ = small
    one, two = hp.HeadEdit(["L0.H1"], scale=-1), hp.HeadEdit(["L1.H2"], scale=0)
    hp.export(path, one, tmp_path / "one.gguf", progress=False)
    hp.export(tmp_path / "one.gguf", two, tmp_path / "two.gguf", progress=False)
    check(path, tmp_path / "two.gguf", one + two)
    record = read_json(tmp_path / "two.gguf.json")
    assert record["earlier"] == read_json(tmp_path / "one.gguf.json")


def test_what_is_there_is_left_as_it_is(small, tmp_path):
    path, model = small
    edit, out = hp.HeadEdit(HEADS, scale=-1), tmp_path / "out.gguf"
    assert not hp.export(path, edit, out, progress=False).already
    content = out.read_bytes()
    assert hp.export(model, edit, out, progress=False).already
    with pytest.raises(hp.HeadPursuitError, match="is there already"):
        hp.export(model, hp.HeadEdit(HEADS, scale=0), out, progress=False)
    assert out.read_bytes() == content
    copy = shutil.copy(path, tmp_path / "copy.gguf")
    with pytest.raises(hp.HeadPursuitError, match="is there already"):
        hp.export(copy, edit, copy, progress=False)
    assert copy.read_bytes() == path.read_bytes()
    out.unlink()  # as where the process ended between the record and the file
    (tmp_path / ".out.gguf.1.part").write_bytes(b"half of it")
    assert not hp.export(path, edit, out, progress=False).already
    assert out.read_bytes() == content
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy.gguf", "out.gguf", "out.gguf.json"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("blk.1.ffn_up.weight", "blk.1.ffn_up.weight differs and should not"),
        (KEYS[0], f"{KEYS[0]} is not the original's, scaled"),
        (None, "out.gguf has other keys than m.gguf"),
    ],
)
def test_a_changed_file_is_noticed(small, tmp_path, key, said):
    _, model = small
    out = tmp_path / "out.gguf"
    hp.export(model, hp.HeadEdit(HEADS, scale=-1), out, progress=False)
    assert hp.verify(out, ["two cats"], device="cpu", progress=False).ok
    content = bytearray(out.read_bytes())
    if key is None:
        content = content.replace(b"tiny", b"toys", 1)
    else:
        (tensor,) = (one for one in gguf_header(out).tensors if one.key == key)
        content[tensor.begin + 3] ^= 1
    out.write_bytes(content)
    found = hp.verify(out, ["two cats"], device="cpu", progress=False)
    assert not found.ok
    assert found.surprises == (said, "out.gguf is not as it was written")
    assert call("verify", out) == 1


REFUSED = {
    "format": ({"format": "gguf"}, "out", r"out is to be a GGUF file: choose a name that ends in \.gguf"),
    "checkpoint": ({"format": "checkpoint"}, "out", r"is a GGUF file, and no folder of a checkpoint: export that form"),
    "unknown": ({"format": "ggml"}, "out.gguf", "choose one of checkpoint, lora, ia3, gguf"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_cannot_be_is_refused(small, tmp_path, refused):
    options, name, said = REFUSED[refused]
    with pytest.raises(hp.HeadPursuitError, match=said):
        hp.export(small[1], hp.HeadEdit(HEADS, scale=-1), tmp_path / name, progress=False, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_no_gguf_file(checkpoint, llama, tmp_path):
    for model in (checkpoint, llama, "demo"):
        with pytest.raises(hp.HeadPursuitError, match="is no GGUF file, whose bytes could be edited"):
            hp.export(model, hp.HeadEdit(HEADS, scale=-1), tmp_path / "out.gguf", progress=False)


def test_changed_weights_are_not_in_the_file(small, tmp_path):
    path, _ = small
    model = hp.load(path, device="cpu")
    with torch.no_grad():
        model.module("model.layers.1.self_attn.o_proj").weight[0, 0] += 1
    with pytest.raises(hp.HeadPursuitError, match=r"layers\.1\.self_attn\.o_proj\.weight is not found in .*m\.gguf"):
        hp.export(model, hp.HeadEdit(HEADS, scale=-1), tmp_path / "out.gguf", progress=False)


def test_a_file_without_a_record_is_no_export(small, tmp_path):
    copy = shutil.copy(small[0], tmp_path / "m.gguf")
    with pytest.raises(hp.HeadPursuitError, match=r"holds no export \(m\.gguf\.json is not there\)"):
        hp.verify(copy, progress=False)
