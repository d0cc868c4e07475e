"""Captures by workers of Ray beside one process of one thread: ``python -m benchmarks.scale``.

A worker's start (Python, torch, the model) is told by itself; what is compared is the work between the first block that comes
back and the last, for as many blocks.
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import headpursuit as hp
from benchmarks.capture import made_up_words, save_llama
from benchmarks.measure import Bench, Row, run_cases
from headpursuit.activations import capture as capturing
from headpursuit.activations.blocks import Block, blocks, survey
from headpursuit.engines import Engine, mapped
from headpursuit.model.load import sendable

Read = Callable[[Block], tuple[dict[str, torch.Tensor], list[str]]]


def demo_case(bench: Bench) -> list[Row]:
    """The demo, 20,000 texts of some ten tokens."""
    words = ("red", "green", "cat", "dog", "sleeps", "runs", "the", "a", "small", "big", "and", "three")
    return _case(bench, "demo", hp.load("demo", device="cpu"), _texts(words, 2_000 if bench.quick else 20_000, length=8))


def llama_case(bench: Bench) -> list[Row]:
    """A Llama of a hundred million parameters, texts of some sixty tokens, in blocks of several seconds."""
    with tempfile.TemporaryDirectory() as folder:
        save_llama(Path(folder), layers=12, heads=12, width=768)
        model = hp.load(folder, device="cpu")
        return _case(bench, "Llama, 110 M", model, _texts(made_up_words()[:2000], 1024 if bench.quick else 2048, length=24))


def memory_case(bench: Bench) -> list[Row]:
    """What a worker holds after some samples, and after ten times as many: moments of all tokens of the demo."""
    model, rows = hp.load("demo", device="cpu"), []
    for count in (1_000, 10_000):
        texts = _texts(("red", "green", "cat", "dog", "sleeps", "runs"), count, length=8)
        held = [gib for _, (_, gib) in _results(model, texts, workers=1, positions="all")]
        rows.append(Row(f"demo, all tokens of {count:,} texts, a worker", 0.0, extra_gib=held[-1], note="peak memory"))
    return rows


def _case(bench: Bench, name: str, model: hp.HeadModel, texts: list[hp.Sample]) -> list[Row]:
    torch.set_num_threads(1)
    alone, alone_start, first = _timed(model, texts, workers=0)
    rows = [Row(f"{name}, {len(texts):,} texts, this process", alone, note=f"first block after {alone_start:.1f} s")]
    for workers in (1, 2):
        seconds, start, found = _timed(model, texts, workers=workers)
        assert all(first[key].equal(found[key]) for key in first), "another result"
        note = f"first block after {start:.1f} s; the same bits"
        rows.append(Row(f"{name}, {workers} of Ray's workers", seconds, "this process", alone, note=note))
    return rows


def _timed(model: hp.HeadModel, texts: list[hp.Sample], *, workers: int) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Seconds for all blocks but those of the start, seconds until the first came back, and what was read."""
    began, times, readings = time.perf_counter(), [], []
    for _, ((reading, _), _) in _results(model, texts, workers=workers, positions="mean"):
        times.append(time.perf_counter())
        readings.append(reading)
    # Workers begin together, so that as many blocks as there are workers come back with the first.
    behind = len(times) - max(1, workers)
    whole = {name: torch.cat([one[name] for one in readings]) for name in readings[0]}
    return (times[-1] - times[max(1, workers) - 1]) / behind * len(times), times[0] - began, whole


def _results(model: hp.HeadModel, texts: list[hp.Sample], *, workers: int, positions: Any) -> Any:
    add = positions == "all"
    read = partial(capturing._read_block, add=add, positions=positions, through_norm=False, batch_size=16, skip_bad=False)
    found = survey(model, texts, size=capturing.BLOCK, with_target=False, about={})
    parts = blocks(texts, found, size=capturing.BLOCK)
    setup = partial(_setup, sendable(model) if workers else partial(_given, model), read)
    engine = Engine("ray", workers=workers) if workers else Engine()
    return mapped(parts, setup, engine=engine, name=str)


def _given(model: hp.HeadModel) -> hp.HeadModel:
    return model


def _setup(make: Callable[[], hp.HeadModel], read: Callable[..., Any]) -> Callable[[Block], Any]:
    model = make()

    def work(block: Block) -> Any:
        return read(model, block), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    return work


def _texts(words: Any, count: int, *, length: int) -> list[hp.Sample]:
    drawn = random.Random(0)
    return [hp.Sample(text=" ".join(drawn.choices(words, k=length)), chat=False) for _ in range(count)]


if __name__ == "__main__":
    run_cases(
        "scale",
        {"demo": demo_case, "llama": llama_case, "memory": memory_case},
        about=str(__doc__).partition(":")[0],
        packages=("ray",),
    )
