"""Samples, captures and results in an S3 store, a real server on loopback that dies and comes back."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest
from PIL import Image

import headpursuit as hp
import tiny
from command import call
from headpursuit import stores
from headpursuit.activations import capture as capture_module
from headpursuit.evaluation import cells as cells_module

moto = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")
pytest.importorskip("upath")

TEXTS = [f"{text} {number}" for number in range(12) for text in tiny.TEXTS]


class Server:
    """The server; what it holds outlives it."""

    def __init__(self):
        self.port, self.server = 0, None

    def start(self):
        self.server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        self.port = self.server.get_host_and_port()[1]

    def stop(self):
        self.server.stop()


@pytest.fixture(scope="module")
def server():
    found = Server()
    found.start()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patched.setenv(name, "testing")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patched.delenv("AWS_PROFILE", raising=False)
        yield found
    found.stop()


@pytest.fixture(scope="module")
def bucket(server):
    fs = s3fs.S3FileSystem()
    fs.mkdir("bucket")
    for number in range(3):
        rows = [json.dumps({"text": text}) for text in TEXTS[number * 16 : number * 16 + 16]]
        fs.pipe_file(f"bucket/data/part-{number}.jsonl", "\n".join(rows).encode())
    return fs


@pytest.fixture(scope="module")
def model():
    return tiny.tiny("llama")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, cache):
    monkeypatch.setenv("HEADPURSUIT_CACHE", str(cache))
    monkeypatch.setattr(capture_module, "BLOCK", 16)
    monkeypatch.setattr("headpursuit.activations.store.KEPT_EVERY", 0.0)


def test_addresses_are_known_however_they_come():
    assert stores.address("s3://bucket/a") == stores.address("s3:/bucket/a") == "s3://bucket/a"
    assert stores.address("acts/s3") is stores.address("C:/acts") is stores.address("/s3:/x") is None


def test_files_of_a_store_are_read_like_those_of_this_machine(bucket):
    assert [one.text for one in hp.as_samples("s3://bucket/data/part-*.jsonl")] == TEXTS[:48]
    assert [one.text for one in hp.as_samples("s3://bucket/data/part-1.jsonl", limit=3)] == TEXTS[16:19]
    assert [one.text for one in hp.as_samples("s3://bucket/data/part-[02].jsonl", limit=17)] == [*TEXTS[:16], TEXTS[32]]


def test_packed_files_and_tables_too(bucket, tmp_path):
    import gzip

    import pandas as pd

    bucket.pipe_file("bucket/more/a.jsonl.gz", gzip.compress(b'{"text": "packed"}\n'))
    pd.DataFrame({"question": ["a", "b"]}).to_parquet(tmp_path / "t.parquet")
    bucket.put_file(str(tmp_path / "t.parquet"), "bucket/more/t.parquet")
    assert [one.text for one in hp.as_samples("s3://bucket/more/a.jsonl.gz")] == ["packed"]
    assert [one.text for one in hp.as_samples("s3://bucket/more/t.parquet")] == ["a", "b"]


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_a_capture_in_a_store_is_that_of_this_machine(bucket, model, positions):
    alone = hp.capture(model, TEXTS[:48], positions=positions, progress=False)
    out = f"s3://bucket/acts-{positions}"
    found = hp.capture(model, "s3://bucket/data/part-*.jsonl", positions=positions, out=out, progress=False)
    assert found == hp.open_capture(out) == alone
    assert len(bucket.glob(f"bucket/acts-{positions}/activations-*")) == (3 if positions == "mean" else 1)
    assert not [name for name in bucket.find(f"bucket/acts-{positions}") if name.endswith((".part", ".lock"))]
    ranking = hp.rank(found, ["red", "blue", "green"], progress=False)
    assert ranking == hp.rank(alone, ["red", "blue", "green"], progress=False)


def test_a_server_that_dies_and_comes_back_is_survived(server, bucket, model, monkeypatch):
    real, read = capture_module._read_block, []

    def dying(model, block, **options):
        read.append(block.start)
        if len(read) == 2:
            server.stop()
            threading.Thread(target=lambda: (time.sleep(1.5), server.start())).start()
        return real(model, block, **options)

    monkeypatch.setattr(capture_module, "_read_block", dying)
    found = hp.capture(model, TEXTS[:48], out="s3://bucket/survived", progress=False)
    assert read == [0, 16, 32]
    assert found == hp.capture(model, TEXTS[:48], progress=False)


def test_one_that_stays_away_ends_in_one_line_from_which_the_run_goes_on(server, bucket, model, monkeypatch):
    real, read = capture_module._read_block, []

    def dying(model, block, **options):
        read.append(block.start)
        if len(read) == 2:
            server.stop()
        return real(model, block, **options)

    monkeypatch.setattr(stores, "_WAITS", (0.01,))
    monkeypatch.setattr(capture_module, "_read_block", dying)
    try:
        with pytest.raises(hp.HeadPursuitError, match="the store does not answer") as caught:
            hp.capture(model, TEXTS[:48], out="s3://bucket/cut", progress=False)
    finally:
        server.start()
    assert "\n" not in str(caught.value)
    with pytest.raises(hp.HeadPursuitError, match="cut off after 16 samples"):
        hp.open_capture("s3://bucket/cut")
    found = hp.capture(model, TEXTS[:48], out="s3://bucket/cut", progress=False)
    assert read == [0, 16, 16, 32]
    assert found == hp.capture(model, TEXTS[:48], progress=False)


def test_two_runs_with_one_output_do_not_write_over_one_another(bucket, model, monkeypatch):
    real, other = capture_module._read_block, []

    def beside(given, block, **options):
        if not other:
            other.append(1)
            hp.capture(model, TEXTS[16:32], out="s3://bucket/shared", progress=False)
        return real(given, block, **options)

    monkeypatch.setattr(capture_module, "_read_block", beside)
    with pytest.raises(hp.HeadPursuitError, match=r"shared/index.json was written by another run meanwhile") as caught:
        hp.capture(model, TEXTS[:16], out="s3://bucket/shared", progress=False)
    assert "\n" not in str(caught.value)
    assert hp.open_capture("s3://bucket/shared") == hp.capture(model, TEXTS[16:32], progress=False)


def test_sums_do_not_pile_up_and_a_file_is_no_folder(bucket, model, monkeypatch):
    real, there = capture_module._read_block, []

    def looking(given, block, **options):
        bucket.invalidate_cache()
        there.append(len(bucket.glob("bucket/sums/activations-*")))
        return real(given, block, **options)

    monkeypatch.setattr(capture_module, "_read_block", looking)
    hp.capture(model, TEXTS[:48] * 2, positions="all", out="s3://bucket/sums", progress=False)
    assert max(there) <= 2
    with pytest.raises(hp.HeadPursuitError, match=r"^s3://bucket/sums is not empty: it holds a capture"):
        hp.capture(model, TEXTS[:16], positions="all", out="s3://bucket/sums", progress=False)
    with pytest.raises(hp.HeadPursuitError, match=r"^s3://bucket/data/part-0.jsonl is a file"):
        hp.capture(model, TEXTS[:16], out="s3://bucket/data/part-0.jsonl", progress=False)


def test_images_of_a_store_are_read(bucket, tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "i.png")
    bucket.put_file(str(tmp_path / "i.png"), "bucket/images/i.png")
    bucket.pipe_file("bucket/images.jsonl", b'{"text": "What is this?", "image": "images/i.png"}\n')
    for place in ("s3://bucket/images", "s3://bucket/images.jsonl"):
        (one,) = hp.as_samples(place)
        assert one.open_image().getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("samples", "out", "message"),
    [
        ("s3://nowhere/a.jsonl", None, "there is no file 's3://nowhere/a.jsonl'"),
        ("s3://bucket/none-*.jsonl", None, r"no file matches s3://bucket/none-\*.jsonl"),
        ("s3://bucket/data/part-0.jsonl", "s3://nowhere/acts", "s3://nowhere/acts: there is no such file, folder or bucket"),
        ("nostore://a/b.jsonl", None, "nostore"),
    ],
)
def test_what_cannot_be_is_one_line(bucket, model, samples, out, message):
    with pytest.raises(hp.HeadPursuitError, match=message) as caught:
        hp.capture(model, samples, out=out, progress=False)
    assert "\n" not in str(caught.value)


def test_no_permission_is_one_line(server, bucket, model, monkeypatch):
    async def refused(*args, **options):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", refused)
    s3fs.S3FileSystem.clear_instance_cache()  # whose methods were made of the real one
    with pytest.raises(hp.HeadPursuitError, match="no permission \\(Access Denied\\); check the credentials"):
        hp.capture(model, TEXTS[:16], out="s3://bucket/refused", progress=False)
    s3fs.S3FileSystem.clear_instance_cache()


def test_the_command_line_takes_addresses(bucket, capsys):
    assert (
        call("capture", "demo", "--samples", "s3://bucket/data/part-0.jsonl", "--out", "s3://bucket/by-command", "--json") == 0
    )
    assert json.loads(capsys.readouterr().out)["out"] == "s3://bucket/by-command"
    assert call("rank", "s3://bucket/by-command", "--concept", "colours", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n"] == 16


def test_results_go_to_a_store_cell_by_cell_and_from_there_on(bucket, monkeypatch):
    out = "s3://bucket/results"
    options = {"limit": 4, "progress": False, "set": {"edit.k": [1], "edit.draws": 2, "edit.methods": ["somp"]}}
    first = hp.evaluate("demo-digits", out=out, **options)
    assert first.to_dict()["rows"] == hp.evaluate("demo-digits", **options).to_dict()["rows"]
    cells = bucket.glob("bucket/results/cells/*.json")
    assert len(cells) > 2
    assert hp.Results.load(stores.fetched(out)) == first
    bucket.rm_file("bucket/results/results.json")
    bucket.rm_file(cells[0])
    real, run = cells_module._run, []
    monkeypatch.setattr(cells_module, "_run", lambda *given, **options: (run.append(1), real(*given, **options))[1])
    again = hp.evaluate("demo-digits", out=out, **options)
    assert len(run) == 1
    assert again == first


@pytest.fixture
def fetches(monkeypatch):
    """Names of the files that are fetched whole, as they come."""
    real, seen = stores._Stage.get, []
    monkeypatch.setattr(stores._Stage, "get", lambda stage, name: (seen.append(name), real(stage, name))[1])
    return seen


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_a_capture_is_fetched_once_and_rows_when_they_are_looked_at(bucket, model, monkeypatch, tmp_path, fetches, positions):
    out = f"s3://bucket/kept-{positions}"
    made = hp.capture(model, TEXTS[:48], positions=positions, keep_rows=6, out=out, progress=False)
    assert fetches == []  # what was written here lies in the cache
    assert hp.open_capture(out) == made == hp.capture(model, TEXTS[:48], positions=positions, keep_rows=6, progress=False)
    assert fetches == []
    monkeypatch.setenv("HEADPURSUIT_CACHE", str(tmp_path / "another"))
    ranking = hp.rank(out, ["red", "blue", "green"], progress=False)
    assert ranking == hp.rank(made, ["red", "blue", "green"], progress=False)
    assert {name.partition("-")[0] for name in fetches if "tokenizer" not in name} == {"activations", "weights.safetensors"}
    before = len(fetches)
    opened = hp.open_capture(out)
    assert len(fetches) == before
    assert opened.rows == made.rows
    assert len(fetches) - before == len(bucket.glob(f"bucket/kept-{positions}/rows-*")) > 0
    assert not list((tmp_path / "another").rglob("*.part"))


def test_a_copy_that_was_damaged_or_cut_off_is_fetched_again(bucket, model, monkeypatch, tmp_path, fetches):
    out = "s3://bucket/healed"
    made = hp.capture(model, TEXTS[:48], out=out, progress=False)
    (folder,) = [
        file.parent for file in stores.cache_folder().rglob("index.json") if stores._mirrored[file.parent].where == out
    ]
    whole = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for file, content in whole.items():
        file.write_bytes(content[:-1] + b"?")
        assert hp.open_capture(out) == made
        file.unlink()
        assert hp.open_capture(out) == made
        assert file.read_bytes() == content
    assert len(fetches) == 2 * (len(whole) - 1)  # the index is looked up each time


def test_a_store_that_was_damaged_is_said_by_its_address(bucket, model, monkeypatch, tmp_path):
    hp.capture(model, TEXTS[:16], out="s3://bucket/damaged", progress=False)
    (shard,) = bucket.glob("bucket/damaged/activations-*")
    bucket.pipe_file(shard, bucket.cat_file(shard)[:-1] + b"?")
    monkeypatch.setenv("HEADPURSUIT_CACHE", str(tmp_path / "another"))
    with pytest.raises(hp.HeadPursuitError, match=r"^s3://bucket/damaged/activations-\w+.safetensors is not as it was written"):
        hp.open_capture("s3://bucket/damaged")


def test_a_capture_that_grew_is_not_taken_for_the_one_before(bucket, model, tmp_path):
    for number in (0, 1):
        bucket.pipe_file(f"bucket/grow/part-{number}.txt", "\n".join(TEXTS[number * 16 : number * 16 + 16]).encode())
        made = hp.capture(model, "s3://bucket/grow/part-*.txt", out="s3://bucket/grown", progress=False)
        assert hp.open_capture("s3://bucket/grown") == made
        assert made.n == 16 * (number + 1)


def test_a_cache_that_cannot_be_written_is_done_without(bucket, model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADPURSUIT_CACHE", str(tmp_path / "file"))
    made = hp.capture(model, TEXTS[:16], out="s3://bucket/uncached", progress=False)
    assert hp.open_capture("s3://bucket/uncached") == made


@pytest.mark.parametrize("name", ["a[1]", "x::y", "d[0]/b::[z]"])
def test_names_that_look_like_patterns_or_chains_are_names(bucket, model, tmp_path, name):
    rows = [json.dumps({"text": text}) for text in TEXTS[:16]]
    bucket.pipe_file(f"bucket/odd/{name}.jsonl", "\n".join(rows).encode())
    assert [one.text for one in hp.as_samples(f"s3://bucket/odd/{name}.jsonl")] == TEXTS[:16]
    assert [one.text for one in hp.as_samples(f"s3://bucket/odd/{name[:-1]}*.jsonl")] == TEXTS[:16]
    made = hp.capture(model, TEXTS[:16], out=f"s3://bucket/out/{name}", progress=False)
    assert hp.open_capture(f"s3://bucket/out/{name}") == made
    hp.rank(made, ["red", "blue"], progress=False).save(f"s3://bucket/out/{name}.json")
    assert bucket.exists(f"bucket/out/{name}.json")


def test_a_question_in_an_address_of_the_web_is_no_ending(tmp_path):
    import http.server
    from functools import partial

    (tmp_path / "texts.json").write_text('["a", "b"]')
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        found = hp.as_samples(f"http://127.0.0.1:{web.server_port}/texts.json?download=true&v=1.txt#top")
        web.shutdown()
    assert [one.text for one in found] == ["a", "b"]


def test_a_tokenizer_of_custom_code_is_not_loaded_from_what_was_just_written(bucket, checkpoint, tmp_path):
    """Its code was trusted when the model was loaded; opened again it has to be asked for."""
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text(
        "from transformers import PreTrainedTokenizerFast\n\n\nclass Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    model = hp.load(folder, device="cpu", trust_remote_code=True)
    made = hp.capture(model, TEXTS[:16], out="s3://bucket/own-code", progress=False)
    assert made.n == 16
    with pytest.raises(hp.HeadPursuitError, match="comes with code of its own"):
        hp.open_capture("s3://bucket/own-code")
    assert hp.open_capture("s3://bucket/own-code", trust_remote_code=True) == made


@pytest.mark.parametrize(
    "words",
    [
        ["tune", "nowhere/model", "--concept", "colours", "--out", "s3://bucket/tuned"],
        ["atlas", "nowhere/acts", "--out", "s3://bucket/atlas"],
        ["suppress", "nowhere/model", "--concept", "colours", "--out", "s3://bucket/suppressed"],
        ["export", "nowhere/model", "--head", "L0.H1", "--out", "s3://bucket/edited"],
        ["select", "nowhere/model", "--samples", "no.txt", "--concept", "colours", "--measured", "s3://bucket/cells"],
    ],
)
def test_what_is_not_written_to_stores_is_refused_before_anything_is_opened(words, capsys):
    assert call(*words) == 1
    assert "captures and evaluations alone are written to a store" in capsys.readouterr().err


def test_endings_are_looked_at_in_addresses_too(bucket, capsys):
    assert call("rank", "nowhere", "--concept", "colours", "--plot", "s3://bucket/a.gif") == 2
    assert "s3://bucket/a.gif: choose a name that ends in .png or .svg" in capsys.readouterr().err
