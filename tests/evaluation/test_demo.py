"""The demo's recipes side by side: the results of one after the other, and what becomes of processes that end early."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

import headpursuit as hp
from headpursuit.evaluation import demo
from headpursuit.evaluation.demo import run_demo

TWO = ("demo-describe", "demo-rude")


@pytest.fixture
def short(monkeypatch):
    """A demo of two recipes."""
    monkeypatch.setattr(demo, "DEMO_RECIPES", TWO)


def test_side_by_side_is_what_comes_one_after_the_other(short, tmp_path):
    told = {"limit": 12, "progress": False}
    alone = run_demo(**told)
    beside = run_demo(out=tmp_path / "out", jobs=2, **told)
    assert [one.recipe for one in beside] == list(TWO)
    assert [one.rows for one in beside] == [one.rows for one in alone]
    assert [len(one.descriptions) for one in beside] == [len(one.descriptions) for one in alone]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(TWO)


def test_a_process_that_is_killed_is_one_line(short, tmp_path):
    def kill():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.05)
        os.kill(children[0].pid, signal.SIGKILL)

    threading.Thread(target=kill).start()
    with pytest.raises(hp.HeadPursuitError, match="was killed, perhaps for memory: run it again with jobs=1"):
        run_demo(out=tmp_path / "out", jobs=2, limit=4, progress=False)


@pytest.mark.parametrize(("given", "options"), [(True, {}), (False, {"engine": "ray"})])
def test_jobs_need_a_model_that_each_can_load(given, options):
    model = hp.load("demo", device="cpu") if given else None
    with pytest.raises(hp.HeadPursuitError, match="leave jobs out"):
        run_demo(model, jobs=2, **options)


def lives(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_demo_that_is_stopped_leaves_no_process(tmp_path):
    command = [sys.executable, "-m", "headpursuit", "demo", "--jobs", "2", "--out", str(tmp_path / "out")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out" / "demo-caption-sentiments").is_dir():
        assert running.poll() is None
        time.sleep(0.2)
    started = psutil.Process(running.pid).children()
    assert len(started) >= 2
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in told
    (line,) = [line for line in re.split(r"[\r\n]", told) if "headpursuit: " in line]
    assert "to go on from what is kept: headpursuit demo --jobs 2" in line
    assert "leaked" not in told
    end = time.monotonic() + 20
    while any(map(lives, started)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(map(lives, started))
