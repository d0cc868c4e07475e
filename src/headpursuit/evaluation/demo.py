"""The demo: seven recipes on the embedded model, six of them with goals, run side by side."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tqdm.std import tqdm

from headpursuit.errors import HeadPursuitError, check_counts
from headpursuit.evaluation.evaluate import check_folder, evaluate
from headpursuit.evaluation.results import Results
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, as_model, load

DEMO_RECIPES = (
    "demo-caption-colors",
    "demo-caption-sentiments",
    "demo-caption-quantity",
    "demo-digits",
    "demo-qa-countries",
    "demo-rude",
    "demo-describe",
)


def run_demo(model: ModelLike | None = None, *, out: str | Path | None = None, jobs: int = 1, **options: Any) -> list[Results]:
    """Run the demo's recipes.

    Args:
        model: the demo model, or one of the same tokenizer trained in its place.
        out: folder for a folder of each recipe; a demo that was cut off there goes on.
        jobs: recipes that run side by side, each in a process of its own with its share of the cores; a script that asks for
            several needs the usual ``if __name__ == "__main__":``.
        **options: options of :func:`headpursuit.evaluate`.

    Raises:
        HeadPursuitError: ``out`` holds something else; several jobs for a model in memory or beside workers; a process of
            them was killed.
    """
    check_counts(jobs=jobs)
    present = set() if out is None or not Path(out).is_dir() else {path.name for path in Path(out).iterdir()}
    if present and present.isdisjoint(DEMO_RECIPES):
        raise HeadPursuitError(f"{out} is not empty and holds no demo: choose a new folder, or one with an earlier demo")
    folders = {name: None if out is None else Path(out) / name for name in DEMO_RECIPES}
    for name, folder in folders.items():
        if folder is not None:
            check_folder(folder, name)
    if jobs > 1:
        if isinstance(model, HeadModel) or "engine" in options:
            raise HeadPursuitError(f"jobs={jobs}: each loads a model and runs it by itself; leave jobs out")
        return _side_by_side("demo" if model is None else str(model), folders, options, jobs=jobs)
    loaded = load("demo", device="cpu") if model is None else as_model(model)
    return [evaluate(name, loaded, out=folder, **options) for name, folder in folders.items()]


def _side_by_side(model: str, folders: Mapping[str, Path | None], options: Mapping[str, Any], *, jobs: int) -> list[Results]:
    quiet = {**options, "progress": False}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    others = multiprocessing.active_children()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin, initargs=(threads,)) as pool:
        running = {name: pool.submit(_run_one, model, name, folder, quiet) for name, folder in folders.items()}
        bar = tqdm(running.items(), desc="demo", unit="recipe", disable=not options.get("progress", True), leave=False)
        try:
            return [one.result() for _, one in bar]
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise HeadPursuitError(
                    "a process of the demo was killed, perhaps for memory: run it again with jobs=1"
                ) from None
            raise


def _begin(threads: int) -> None:
    # Who is stopped stops them; in a terminal all of them would tell of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Bars would otherwise share a lock of the system's, which a process that is ended leaves behind.
    tqdm.set_lock(threading.RLock())
    torch.set_num_threads(threads)


@cache
def _loaded(model: str) -> HeadModel:
    return load(model, device="cpu")


def _run_one(model: str, name: str, folder: Path | None, options: Mapping[str, Any]) -> Results:
    return evaluate(name, _loaded(model), out=folder, **options)
