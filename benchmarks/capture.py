"""What a capture costs beside the forward pass it rides on, and what it holds: ``python -m benchmarks.capture``."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial

import torch

import headpursuit as hp
from benchmarks.measure import Bench, Row, run_cases
from headpursuit.model.tokenize import collate, make_prompt

BATCH = 32


def texts(count: int) -> list[hp.Sample]:
    """As many different questions as asked for."""
    return [hp.Sample(text=f"Which country has number {number} of {count} as its capital?") for number in range(count)]


def time_case(bench: Bench) -> list[Row]:
    """Capture against the model's own forward passes on the same batches."""
    model = hp.load("demo", device=str(bench.device))
    samples = texts(128 if bench.quick else 2048)

    def forward() -> None:
        with torch.no_grad():
            for first in range(0, len(samples), BATCH):
                prompts = [make_prompt(model, sample) for sample in samples[first : first + BATCH]]
                model.hf(**collate(model, prompts, side="right").inputs, use_cache=False, logits_to_keep=1)

    plain = bench.time(forward)
    shape = {"n": len(samples), "l": 3, "h": 17, "e": 24}
    return [
        Row(
            f"capture, positions={positions}",
            bench.time(partial(_capture, model, samples, positions)),
            "tokenize + forward",
            plain,
            shape=shape,
        )
        for positions in ("mean", "all")
    ]


def memory_case(bench: Bench) -> list[Row]:
    """Ten times the samples: rows grow with them, moments do not."""
    model = hp.load("demo", device=str(bench.device))
    some = 100 if bench.quick else 1000
    rows = []
    for positions in ("all", "mean"):
        for count in (some, 10 * some):
            samples = texts(count)
            _capture(model, samples[:BATCH], positions)
            gc.collect()
            run = partial(_capture, model, samples, positions)
            memory = bench.extra_memory(run)
            seconds = bench.time(run, repeats=1, warm=False)
            target = "10 × the samples, the same peak" if positions == "all" else ""
            rows.append(Row(f"capture, positions={positions}, n={count}", seconds, extra_gib=memory, target=target))
    return rows


def _capture(model: hp.HeadModel, samples: list[hp.Sample], positions: str) -> object:
    return hp.capture(model, samples, positions=positions, batch_size=BATCH, progress=False)  # type: ignore[arg-type]


CASES: dict[str, Callable[[Bench], list[Row]]] = {"time": time_case, "memory": memory_case}


if __name__ == "__main__":
    run_cases("capture", CASES, about=__doc__.splitlines()[0])
