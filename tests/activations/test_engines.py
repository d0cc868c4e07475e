"""Captures by workers of Ray are those of one process, whatever dies on the way, and no sample is read twice into them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import headpursuit as hp
import tiny
from command import call
from headpursuit.activations import capture as capture_module
from headpursuit.engines import Engine, LostPartError, held, mapped

ray = pytest.importorskip("ray")

TEXTS = [f"{text} {number}" for number in range(40) for text in tiny.TEXTS]
TWO = {"engine": "ray", "workers": 2, "progress": False}


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model():
    return tiny.tiny("llama")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(capture_module, "BLOCK", 16)


@pytest.mark.parametrize("positions", ["mean", "all"])
def test_workers_give_the_same_bits(cluster, model, tmp_path, positions):
    alone = hp.capture(model, TEXTS, positions=positions, out=tmp_path / "alone", progress=False)
    assert hp.capture(model, TEXTS, positions=positions, out=tmp_path / "two", **TWO) == alone
    for file in (tmp_path / "alone").glob("activations-*"):
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()


def test_a_worker_that_is_killed_changes_nothing(cluster, model):
    alone = hp.capture(model, TEXTS, progress=False)
    killed = []

    session = Path(ray._private.worker._global_node.get_session_dir_path()).name

    def ours(pid):
        try:
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            return session in Path(f"/proc/{parent}/cmdline").read_text()
        except OSError:
            return False

    def kill():
        while not killed:
            time.sleep(0.05)
            listed = subprocess.run(["pgrep", "-f", "ray::Worker"], capture_output=True, text=True).stdout.split()
            killed.extend([int(pid) for pid in listed if ours(pid)][:1])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = hp.capture(model, TEXTS, **TWO)
    killer.join()
    assert found == alone


def working():
    """A setup that travels whole: no worker knows this module."""

    def setup():
        def doubled(part):
            if part in (5, 11):
                os.kill(os.getpid(), signal.SIGKILL)
            if part == -1:
                raise hp.HeadPursuitError("there is no such part")
            if part == -2:
                raise KeyError("a fault of ours")
            return 2 * part

        return doubled

    return setup


def test_a_part_that_workers_die_of_is_named_and_the_rest_goes_on(cluster):
    found = list(mapped(range(14), working(), engine=Engine("ray", workers=2), name=lambda part: f"part {part}"))
    assert [part for part, _ in found] == list(range(14))
    for part, given in found:
        if part in (5, 11):
            assert isinstance(given, LostPartError)
            assert str(given).startswith(f"part {part}: 3 workers died of it (")
            assert "\n" not in str(given)
        else:
            assert given == 2 * part


def test_a_part_that_kills_slowly_is_given_again_however_much_was_done_meanwhile(cluster):
    def setup():
        def work(part):
            if part == 0:
                time.sleep(1)
                os.kill(os.getpid(), signal.SIGKILL)
            return part

        return work

    found = dict(mapped(range(40), setup, engine=Engine("ray", workers=2), name=str))
    assert isinstance(found.pop(0), LostPartError)
    assert found == {part: part for part in range(1, 40)}


def test_an_edit_does_not_travel(cluster, model):
    with hp.HeadEdit(["L1.H0"], scale=-1).applied(model), pytest.raises(hp.HeadPursuitError, match="use engine='local'"):
        hp.capture(model, TEXTS, **TWO)


def test_parts_are_taken_as_they_are_needed(cluster):
    taken = []

    def parts():
        for part in range(100, 400):
            taken.append(part)
            yield part

    results = mapped(parts(), working(), engine=Engine("ray", workers=2), name=str)
    for _ in range(3):
        next(results)
    assert len(taken) < 40
    results.close()


def test_workers_that_are_held_stay_and_forget_what_is_not_wanted_any_more(cluster):
    def setup():
        return lambda part: (part, os.getpid())

    def pids(found):
        return {pid for _, (_, pid) in found}

    with held(Engine("ray", workers=2)) as engine:
        first, second = (list(mapped(range(8), setup, engine=engine, name=str)) for _ in range(2))
        assert pids(first) == pids(second)
        left = mapped(range(100, 200), setup, engine=engine, name=str)
        next(left)
        left.close()
        again = list(mapped(range(8), setup, engine=engine, name=str))
    assert [part for part, _ in again] == [given for _, (given, _) in again] == list(range(8))


def test_nobody_is_hired_for_nothing(cluster):
    assert list(mapped([], working(), engine=Engine("ray", cpus_per_worker=99), name=str)) == []


def test_what_work_says_comes_back_as_it_is(cluster):
    with pytest.raises(hp.HeadPursuitError, match=r"^there is no such part$"):
        list(mapped([1, -1], working(), engine=Engine("ray", workers=1), name=str))
    with pytest.raises(hp.HeadPursuitError, match=r"^a worker failed: KeyError: 'a fault of ours'$"):
        list(mapped([1, -2], working(), engine=Engine("ray", workers=1), name=str))


def test_bad_samples_are_said_as_in_one_process(cluster, model):
    texts = [*TEXTS[:20], "red " * 100, *TEXTS[20:40]]
    alone = hp.capture(model, texts, skip_bad=True, progress=False)
    assert len(alone.about["skipped"]) == 1
    assert hp.capture(model, texts, skip_bad=True, **TWO) == alone
    with pytest.raises(hp.HeadPursuitError) as caught:
        hp.capture(model, texts, progress=False)
    with pytest.raises(hp.HeadPursuitError) as again:
        hp.capture(model, texts, **TWO)
    assert str(again.value) == str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "dask"}, "engine"),
        ({"workers": 2}, "workers speaks of workers, of which there are none"),
        ({"engine": "ray", "gpus_per_worker": 1}, "0 GPUs free, a worker needs 1 and 1"),
        ({"engine": "ray", "cpus_per_worker": 0}, "give more than 0 CPUs"),
        ({"engine": "ray", "workers": 0}, "workers"),
    ],
)
def test_wrong_options_are_one_line(cluster, model, options, message):
    with pytest.raises(hp.HeadPursuitError, match=message) as caught:
        hp.capture(model, TEXTS, progress=False, **options)
    assert "\n" not in str(caught.value)


def test_the_driver_may_be_killed_and_started_again(checkpoint, tmp_path):
    """Without the other tests' cluster: the driver has one of its own, and takes it along."""
    script = textwrap.dedent(
        f"""
        import headpursuit as hp
        from headpursuit.activations import capture
        capture.BLOCK = 16
        texts = {TEXTS!r}
        hp.capture({str(checkpoint)!r}, texts, out={str(tmp_path / "acts")!r}, engine="ray", workers=2, progress=False)
        """
    )
    first = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "acts").glob("activations-*"))) < 2:
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.wait()
    kept = len(list((tmp_path / "acts").glob("activations-*")))
    assert kept < len(TEXTS) / 16
    found = hp.capture(hp.load(checkpoint, device="cpu"), TEXTS, out=tmp_path / "acts", progress=False)
    assert found == hp.capture(hp.load(checkpoint, device="cpu"), TEXTS, progress=False)
    assert found.n == len(TEXTS)


def test_no_cluster_at_the_address_is_one_line(model, monkeypatch):
    ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(hp.HeadPursuitError, match=r"no Ray cluster answers at RAY_ADDRESS='127.0.0.1:1'.*unset RAY_ADDRESS"):
        hp.capture(model, TEXTS, **TWO)


@pytest.mark.parametrize("address", ["127.0.0.1:1", None], ids=["nobody listens", "too few GPUs"])
def test_a_cluster_is_asked_for_before_anything_is_read(model, monkeypatch, tmp_path, address, capsys):
    ray.shutdown()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(capture_module, "as_model", None)
    with pytest.raises(hp.HeadPursuitError, match="no Ray cluster answers" if address else "0 GPUs free"):
        hp.capture("nowhere", "no.txt", engine="ray", workers=1, gpus_per_worker=1, progress=False)
    if address:
        (tmp_path / "t.txt").write_text("a text")
        words = ["--samples", str(tmp_path / "t.txt"), "--out", str(tmp_path / "acts"), "--engine", "ray"]
        assert call("capture", "nowhere/model", *words) == 1
        assert "no Ray cluster answers" in capsys.readouterr().err
