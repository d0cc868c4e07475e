"""A capture on disk: whatever is read back is what was written, by one process at a time, however often it was cut off."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys

import pytest
import torch

import headpursuit as hp
import tiny
from headpursuit.activations import capture as capture_module
from headpursuit.activations import store
from headpursuit.files import locked, write_sealed

TEXTS = [f"{text} {number}" for number in range(6) for text in tiny.TEXTS]


@pytest.fixture
def model(checkpoint):
    return hp.load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def acts(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("captures") / "acts"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(capture_module, "BLOCK", 8)
        hp.capture(hp.load(checkpoint, device="cpu"), TEXTS, batch_size=4, out=path, progress=False)
    assert len(list(path.glob("activations-*"))) == 3
    return path


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def flip(path, generator):
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def test_every_flipped_bit_is_seen(acts, tmp_path):
    generator = random.Random(0)
    copy = tmp_path / "acts"
    for name in sorted(files(acts)) * 4:
        shutil.copytree(acts, copy)
        flip(copy / name, generator)
        with pytest.raises(hp.HeadPursuitError):
            hp.open_capture(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize("sealed", [False, True], ids=["by hand", "forged"])
@pytest.mark.parametrize("change", [lambda shards: shards.pop(), lambda shards: shards.reverse()], ids=["dropped", "swapped"])
def test_an_index_that_names_other_shards_is_refused(acts, tmp_path, change, sealed):
    copy = shutil.copytree(acts, tmp_path / "acts")
    index = json.loads((copy / "index.json").read_text())
    change(index["shards"])
    if sealed:
        write_sealed(copy / "index.json", index)
    else:
        (copy / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n")
    with pytest.raises(hp.HeadPursuitError, match=r"index\.json .*(not as it was written|another order)"):
        hp.open_capture(copy)


def test_an_older_format_is_named(acts, tmp_path):
    copy = shutil.copytree(acts, tmp_path / "acts")
    (copy / "index.json").write_text('{"format": 1, "complete": true}')
    with pytest.raises(hp.HeadPursuitError, match="has format 1, this version reads 3: delete the folder and capture again"):
        hp.open_capture(copy)


def test_a_checkpoint_that_was_written_over_is_refused(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    hp.capture(hp.load(folder, device="cpu"), TEXTS, out=tmp_path / "acts", progress=False)
    kept = hp.open_capture(tmp_path / "acts")
    hf = tiny.hf_model("llama")
    with torch.no_grad():
        hf.model.layers[2].self_attn.o_proj.weight[0, 0] += 1
    hf.save_pretrained(folder)
    with pytest.raises(hp.HeadPursuitError, match=r"layers\.2\.self_attn\.o_proj\.weight is not what it was"):
        hp.open_capture(tmp_path / "acts")
    assert kept.weights.projection(1).shape == (4, 8, 32)
    with pytest.raises(hp.HeadPursuitError, match="is not what it was"):
        kept.weights.projection(2)


def test_a_checkpoint_that_was_saved_again_unchanged_is_taken(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    hp.capture(hp.load(folder, device="cpu"), TEXTS, out=tmp_path / "acts", progress=False)
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert hp.open_capture(tmp_path / "acts").n == len(TEXTS)


def in_a_child(work, *, die_at=0, below=None):
    """Whether a forked child did all of its work, and was not killed (SIGKILL) at that write or rename below a folder."""
    child = os.fork()
    if child == 0:
        left = [die_at]

        def die(event, args):
            if event in ("open", "os.rename", "os.mkdir", "os.remove") and str(below) in str(args[0]):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        work()
        os._exit(0)
    return not os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_killed_anywhere_it_ends_as_if_it_had_not_been(model, tmp_path, monkeypatch, positions):
    """Killed at every write and rename in turn, each run going on where the last one ended."""
    monkeypatch.setattr(capture_module, "BLOCK", 8)

    def capture(out):
        return hp.capture(model, TEXTS, positions=positions, batch_size=4, out=out, progress=False)

    assert in_a_child(lambda: capture(tmp_path / "whole"))
    for kept_every in (30.0, 0.0):
        monkeypatch.setattr(store, "KEPT_EVERY", kept_every)
        out, step = tmp_path / f"cut {kept_every}", 1
        while not in_a_child(lambda out=out: capture(out), die_at=step, below=out):
            step += 1
        assert step > 10
        assert files(out) == files(tmp_path / "whole")
    assert hp.open_capture(tmp_path / "whole") == capture(None)


def test_sums_of_moments_are_kept_by_time_and_the_last_one_alone(model, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "KEPT_EVERY", 0.0)
    monkeypatch.setattr(capture_module, "BLOCK", 8)
    real, calls = store.write_tensors, []
    monkeypatch.setattr(store, "write_tensors", lambda *args, **options: (calls.append(args[0].name), real(*args, **options)))
    hp.capture(model, TEXTS, positions="all", batch_size=4, out=tmp_path / "acts", progress=False)
    assert len(set(calls)) == 3
    assert [path.name for path in (tmp_path / "acts").glob("activations-*")] == calls[-1:]


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_the_index_is_put_together_from_the_shards(model, tmp_path, monkeypatch, positions):
    monkeypatch.setattr(capture_module, "BLOCK", 8)
    out, options = tmp_path / "acts", {"positions": positions, "progress": False}
    whole = hp.capture(model, TEXTS, out=out, **options)
    before = files(out)
    (out / "index.json").unlink()
    monkeypatch.setattr(capture_module, "_read_rows", None)  # nothing is read again
    assert hp.capture(model, TEXTS, out=out, **options) == whole
    assert files(out) == before


@pytest.mark.parametrize("change", ["rewritten", "added"])
def test_files_that_change_while_they_are_read_are_refused(model, tmp_path, monkeypatch, change):
    monkeypatch.setattr(capture_module, "BLOCK", 16)
    for number in (0, 2):
        (tmp_path / f"part-{number}.txt").write_text("\n".join(TEXTS[number * 8 : number * 8 + 8]))
    real = capture_module.survey

    def surveyed(*given, **more):
        found = real(*given, **more)
        changed = tmp_path / ("part-2.txt" if change == "rewritten" else "part-1.txt")
        changed.write_text("\n".join(reversed(TEXTS[8:16])))
        return found

    monkeypatch.setattr(capture_module, "survey", surveyed)
    with pytest.raises(hp.HeadPursuitError, match="the samples changed while they were read"):
        hp.capture(model, tmp_path / "part-*.txt", out=tmp_path / "acts", progress=False)


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_files_that_are_added_add_their_blocks(model, tmp_path, monkeypatch, positions):
    data, out, options = tmp_path / "data", tmp_path / "acts", {"positions": positions, "progress": False}
    data.mkdir()
    for number in (0, 2):
        (data / f"part-{number}.txt").write_text("\n".join(TEXTS[number * 8 : number * 8 + 8]))
    hp.capture(model, data / "part-*.txt", out=out, **options)
    with pytest.raises(hp.HeadPursuitError, match="not empty: it holds a capture of another model, or of other samples"):
        hp.capture(model, data / "part-0.txt", out=out, **options)
    (data / "part-1.txt").write_text("\n".join(TEXTS[8:16]))
    real, seen = capture_module._read_block, []

    def watched(model, block, **more):
        seen.extend(block.samples)
        return real(model, block, **more)

    monkeypatch.setattr(capture_module, "_read_block", watched)
    more = hp.capture(model, data / "part-*.txt", out=out, **options)
    assert [one.text for one in seen] == TEXTS[8:16]
    whole = hp.capture(model, TEXTS, **options)
    assert more.n == whole.n
    if positions == "mean":  # in the order of the files, not of their coming
        for layer in whole.layers:
            torch.testing.assert_close(more.z[layer], whole.z[layer], rtol=1e-4, atol=1e-4)
    assert hp.open_capture(out) == more


def test_samples_that_are_there_twice_count_twice(model, tmp_path, monkeypatch):
    monkeypatch.setattr(capture_module, "BLOCK", 4)
    acts = hp.capture(model, tiny.TEXTS[:4] * 3, batch_size=4, out=tmp_path / "acts", progress=False)
    assert acts.n == 12
    assert len(list((tmp_path / "acts").glob("activations-*"))) == 3


def test_a_shard_that_was_changed_before_the_end_is_seen(model, tmp_path, monkeypatch):
    monkeypatch.setattr(capture_module, "BLOCK", 8)
    out = tmp_path / "acts"
    hp.capture(model, TEXTS, out=out, progress=False)
    (out / "index.json").unlink()
    shard = sorted(out.glob("activations-*"))[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(hp.HeadPursuitError, match="is not as it was written"):
        hp.capture(model, TEXTS, out=out, progress=False)


def test_a_finished_capture_is_left_as_it_is(model, acts):
    before = files(acts)
    assert hp.capture(model, TEXTS, batch_size=4, out=acts, progress=False) == hp.open_capture(acts)
    assert files(acts) == before


def test_one_process_writes_at_a_time(model, tmp_path):
    with locked(tmp_path / "acts"), pytest.raises(hp.HeadPursuitError, match="acts is being written by another process: wait"):
        hp.capture(model, TEXTS, out=tmp_path / "acts", progress=False)
    hp.capture(model, TEXTS, out=tmp_path / "acts", progress=False)
    assert not (tmp_path / "acts" / ".lock").exists()


def test_going_on_deletes_nothing_outside(model, tmp_path, monkeypatch):
    victim = tmp_path / "victim" / "activations-000000004.safetensors"
    victim.parent.mkdir()
    victim.write_text("years of work")
    hp.capture(model, TEXTS, out=tmp_path / "acts", progress=False)
    index = json.loads((tmp_path / "acts" / "index.json").read_text())
    index["complete"] = False
    index["shards"][0]["file"] = "../victim/activations-000000004.safetensors"
    write_sealed(tmp_path / "acts" / "index.json", index)
    with pytest.raises(hp.HeadPursuitError, match=r"the shard .* lies outside"):
        hp.capture(model, TEXTS, out=tmp_path / "acts", progress=False)
    assert victim.read_text() == "years of work"


def test_a_full_disk_is_one_line_and_older_files_stay(acts, model, tmp_path, monkeypatch):
    import resource

    heads = tmp_path / "heads.json"
    ranking = hp.rank(hp.open_capture(acts), ["red", "blue", "green"], progress=False)
    ranking.save(heads)
    before = heads.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))
    try:
        with pytest.raises(hp.HeadPursuitError, match=r"heads\.json could not be written \(File too large\)"):
            ranking.save(heads, top=1)
        with pytest.raises(hp.HeadPursuitError, match=r"could not be written \(.*[Ff]ile too large"):
            hp.capture(model, TEXTS, out=tmp_path / "acts", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert heads.read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))


def test_a_heads_file_is_refused_when_a_bit_is_flipped_and_taken_when_written_by_hand(acts, model, tmp_path):
    path, generator = tmp_path / "heads.json", random.Random(1)
    ranking = hp.rank(hp.open_capture(acts), ["red", "blue", "green"], progress=False)
    edit = hp.HeadEdit(ranking.top(3), scale=-1)
    for _ in range(50):
        ranking.save(path)
        flip(path, generator)
        with pytest.raises(hp.HeadPursuitError):
            hp.HeadRanking.load(path)
        edit.save(path, model=model)
        flip(path, generator)
        with pytest.raises(hp.HeadPursuitError):
            hp.load_edit(path, model=model)
    edit.save(path, model=model)
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in stored.items() if key not in ("format", "sha256")}))
    assert hp.load_edit(path, model=model) == edit


def test_heads_are_the_same_in_every_dtype(checkpoint, tmp_path):
    half = hp.load(checkpoint, device="cpu", dtype="bf16")
    assert half.hf.dtype == torch.bfloat16
    ranking = hp.rank(hp.capture(half, TEXTS, progress=False), ["red", "blue", "green"], progress=False)
    ranking.save(tmp_path / "heads.json", top=12)
    full = hp.load(checkpoint, device="cpu", dtype="fp32")
    assert hp.load_heads(tmp_path / "heads.json", model=full) == ranking.top(12)
    assert (
        half.identity == full.identity == hp.wrap(tiny.hf_model("llama"), tiny.tokenizer()).identity | {"id": str(checkpoint)}
    )


def test_what_stands_at_padding_never_counts(model):
    from headpursuit.activations.reducers import mean_rows, token_moments

    layer = model.anatomy.layers[0]
    z = torch.randn(2, 3, 32)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    for reducer in (mean_rows, token_moments):
        expected = reducer(mask)(layer, z)
        broken = z.clone()
        broken[1, 2] = torch.nan
        assert all(torch.equal(value, expected[name]) for name, value in reducer(mask)(layer, broken).items())


def test_a_compiled_model_is_edited_and_read(checkpoint):
    model, plain = hp.load(checkpoint, device="cpu"), hp.load(checkpoint, device="cpu")
    model.hf.compile(backend="eager")
    ids = torch.tensor([[5, 6, 7]])
    edit = hp.HeadEdit(["L1.H2"], scale=3)
    with torch.no_grad():
        unedited = model.hf(input_ids=ids).logits
        with edit.applied(model), edit.applied(plain):
            torch.testing.assert_close(model.hf(input_ids=ids).logits, plain.hf(input_ids=ids).logits)
            assert not torch.allclose(model.hf(input_ids=ids).logits, unedited)
        assert torch.equal(model.hf(input_ids=ids).logits, unedited)
    found, expected = (hp.capture(one, TEXTS, progress=False) for one in (model, plain))
    torch.testing.assert_close(found.z[1], expected.z[1])


def test_a_capture_that_never_held_a_sample_does_not_stand_in_the_way(tmp_path):
    model = tiny.tiny("llama")
    with pytest.raises(hp.HeadPursuitError, match="no token at positions='image'"):
        hp.capture(model, TEXTS, positions="image", out=tmp_path / "acts", progress=False)
    made = hp.capture(model, TEXTS, positions="last", out=tmp_path / "acts", progress=False)
    plain = hp.capture(model, TEXTS, positions="last", progress=False)
    assert all(torch.equal(made.z[layer], plain.z[layer]) for layer in plain.layers)


def test_one_of_which_every_sample_was_skipped_does_not_either(tmp_path, monkeypatch):
    monkeypatch.setattr(capture_module, "BLOCK", 8)
    model = tiny.tiny("llama")
    for options in ({"positions": "image"}, {"positions": "all"}, {"keep_rows": 3}):
        samples = TEXTS if options == {"positions": "image"} else ["red " * 200, "two " * 200]
        with pytest.raises(hp.HeadPursuitError, match=r"^every sample was skipped: .*sample"):
            hp.capture(model, samples, out=tmp_path / "acts", skip_bad=True, progress=False, **options)
    made = hp.capture(model, TEXTS, positions="last", out=tmp_path / "acts", progress=False)
    assert made == hp.open_capture(tmp_path / "acts") == hp.capture(model, TEXTS, positions="last", progress=False)


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "txt", "parquet"])
def test_an_empty_file_among_several_is_named_and_passed_over(tmp_path, ending):
    (tmp_path / "part-0.txt").write_text("\n".join(TEXTS[:5]))
    (tmp_path / f"part-1.{ending}").write_text("")
    (tmp_path / "part-2.txt").write_text("\n".join(TEXTS[5:9]))
    model = tiny.tiny("llama")
    with pytest.warns(UserWarning, match=rf"part-1.{ending} holds no samples and is passed over"):
        made = hp.capture(model, tmp_path / "part-*", progress=False)
    assert made.n == 9
    with pytest.raises(hp.HeadPursuitError, match="holds no samples"):
        hp.capture(model, tmp_path / f"part-1.{ending}", progress=False)


def test_a_broken_file_among_several_is_refused_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "part-0.txt").write_text("\n".join(TEXTS[:5]))
    (tmp_path / "part-1.json").write_text('["a", ')
    monkeypatch.setattr(capture_module, "_read_rows", None)
    with pytest.raises(hp.HeadPursuitError, match=r"part-1\.json item 2: not JSON"):
        hp.capture(tiny.tiny("llama"), tmp_path / "part-*", progress=False)
