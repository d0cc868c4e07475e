"""What all benchmarks share: how time and memory are taken, and how a table of ratios is printed and kept."""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

Context = AbstractContextManager[object]
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One line of the table; times in seconds, memory in GiB."""

    case: str
    seconds: float
    baseline: str = ""
    baseline_seconds: float | None = None
    extra_gib: float | None = None
    target: str = ""
    note: str = ""
    shape: dict[str, int] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return None if self.baseline_seconds is None else self.baseline_seconds / self.seconds


@dataclass(frozen=True)
class Bench:
    """How to measure."""

    device: torch.device
    repeats: int
    quick: bool
    model: Path | None = None
    clock: Callable[[], float] = time.perf_counter

    def time(self, run: Callable[[], object], *, repeats: int | None = None, warm: bool = True) -> float:
        """Median time; one run before the clock starts unless it would take too long."""
        if warm:
            run()
        times = []
        for _ in range(repeats or self.repeats):
            self.wait()
            start = self.clock()
            run()
            self.wait()
            times.append(self.clock() - start)
        return statistics.median(times)

    def alternate(
        self,
        runs: Mapping[str, Callable[[], object]],
        around: Mapping[str, Callable[[], Context]],
        *,
        rounds: int,
        clock: Callable[[], float] | None = None,
    ) -> dict[str, list[float]]:
        """Times of several runs that take turns, in another order each round, each inside a context that is not timed.

        Unless another clock is given, it is the processor's time that counts on the CPU, which other programs do not lengthen
        by taking turns on it.
        """
        clock = clock or (time.process_time if self.device.type == "cpu" else time.perf_counter)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds):
            names = list(runs)
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                with around[name]():
                    self.wait()
                    start = clock()
                    runs[name]()
                    self.wait()
                    times[name].append(clock() - start)
        return times

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def extra_memory(self, run: Callable[[], object]) -> float | None:
        """Peak memory of a run above what was held before it, in GiB."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run()
            return (torch.cuda.max_memory_allocated() - before) / 2**30
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return None
        before = _status("VmRSS")
        run()
        return (_status("VmHWM") - before) / 2**30


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def instructions() -> str:
    """The instruction set that torch uses, and which of the kinds of products that matter here the processor has."""
    has = {
        "AMX": torch.cpu._is_amx_tile_supported(),
        "AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
        "AVX512-VNNI": torch.cpu._is_vnni_supported(),
    }
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *(name for name, there in has.items() if there)])


def machine(device: torch.device) -> dict[str, str | int]:
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [x.split(":")[1].strip() for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    found: dict[str, str | int] = {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(models),
        "threads": torch.get_num_threads(),
        "instructions": instructions(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name()
    return found


def _brief(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.4f}"


def table(rows: list[Row]) -> str:
    lines = [
        "| case | seconds | against | its seconds | ratio | extra GiB | target | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:{'.3f' if row.ratio < 2 else '.2f' if row.ratio < 10 else '.0f'}}×"
        base = "" if row.baseline_seconds is None else _brief(row.baseline_seconds)
        memory = "" if row.extra_gib is None else f"{row.extra_gib:.3f}"
        cells = [row.case, _brief(row.seconds), row.baseline, base, ratio, memory, row.target, row.note]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run_cases(
    name: str,
    cases: Mapping[str, Callable[[Bench], list[Row]]],
    *,
    about: str,
    loads: bool = False,
    packages: Sequence[str] = (),
) -> None:
    """The command line of a benchmark: run its cases, print the table, keep it as ``results/NAME-DEVICE.json``.

    The versions of ``packages`` are kept beside the machine's.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="small shapes, one repeat: does it run?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=cases, action="append", help="a case; may be given several times")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="other programs do not lengthen the processor's time")
    parser.add_argument("--out", type=Path, help="the JSON file")
    if loads:
        parser.add_argument("--model", type=Path, help="a checkpoint's folder that is to be loaded instead of a random model's")
    options = parser.parse_args()
    device = torch.device(options.device)
    repeats = 1 if options.quick else options.repeats
    bench = Bench(device, repeats, options.quick, options.model if loads else None, CLOCKS[options.clock])
    found = machine(device) | {"clock": options.clock}
    about_figures = f"{found['cpu']} ({found['instructions']}), {found['threads']} thread(s), {options.clock} clock"
    rows: list[Row] = []
    for case in options.only or cases:
        made = cases[case](bench)
        rows += made
        gc.collect()
        print(f"{about_figures}\n\n{table(made)}", flush=True)
    print(f"\n{about_figures}\n\n{table(rows)}")
    if options.quick and not options.out:
        return
    out = options.out or RESULTS / f"{name}-{device.type}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    results = [asdict(row) | {"ratio": row.ratio} for row in rows]
    ran_on = found | {package: version(package) for package in packages}
    out.write_text(json.dumps({"machine": ran_on, "rows": results}, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {out}")
