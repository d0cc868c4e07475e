"""Samples, captures and results in an S3 store, a real server on loopback that dies and comes back."""

from __future__ import annotations

import json
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


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
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
    options = {"limit": 4, "progress": False, "set": {"edit.k": [1], "edit.draws": 2}}
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
