"""How long pursuits take, beside the literal algorithm on the same input: ``python -m benchmarks.pursuit``.

Both sides of a ratio run in this process, on the same tensors in the same dtype with the same threads. Where the literal
side would take hours, a stated part of it is timed and multiplied; the table says so. Its steps get dearer as the
support grows (the refit), so a part from its first steps flatters it.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

import headpursuit.pursuit as hp
from benchmarks.data import Layer, bursty_layer, clustered_atoms

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

    def time(self, run: Callable[[], object], *, repeats: int | None = None, warm: bool = True) -> float:
        """Median wall time; one run before the clock starts unless it would take too long."""
        if warm:
            run()
        times = []
        for _ in range(repeats or self.repeats):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

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

    def layer(self, *, v: int, d: int, n: int, h: int, e: int, topics: int = 512, dtype: torch.dtype) -> Layer:
        if self.quick:
            v, d, h = v // 8, d // 4, max(h // 4, 1)
        atoms = clustered_atoms(v, d)
        made = bursty_layer(atoms, n=n, h=h, e=e, topics=topics)
        del atoms
        return Layer(*(t.to(self.device, dtype) for t in (made.z, made.projection, made.atoms)))


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def literal_seconds(bench: Bench, layer: Layer, *, n_atoms: int, heads: int = 2) -> float:
    """All heads of a layer by Algorithm 1, from its first three steps on two heads; the dictionary is normalised once."""
    unit = torch.nn.functional.normalize(layer.atoms.float(), dim=1)
    signals = [hp.HeadSignal(layer.z[:, i].float(), layer.projection[i].float()) for i in range(heads)]

    def steps(k: int) -> float:
        run = [lambda s=s: hp.somp_literal(s, unit, n_atoms=k, normalize=False) for s in signals]
        return statistics.mean(bench.time(r, repeats=1, warm=False) for r in run)

    steps(1)
    one, three = steps(1), steps(3)
    return layer.z.shape[1] * (one + (n_atoms - 1) * (three - one) / 2)


def float64_step_seconds(bench: Bench, layer: Layer) -> float:
    """One step for one head in the manner of ResiDual: float64, atoms as columns, refit by the pseudo-inverse."""
    H = (layer.z[:, 0].double() @ layer.projection[0].double()).T
    D = torch.nn.functional.normalize(layer.atoms.double(), dim=1)

    def step() -> Tensor:
        R = H - H.mean(dim=1, keepdim=True)
        chosen = D[(D @ R).abs().sum(dim=1).argmax()][:, None]
        return R - chosen @ (torch.linalg.pinv(chosen) @ R)

    return bench.time(step, repeats=1)


def layer_case(bench: Bench, n: int) -> list[Row]:
    """One layer of Mistral-7B's shape over its whole vocabulary."""
    layer = bench.layer(v=32000, d=4096, n=n, h=32, e=128, dtype=torch.float32)
    shape = dict(zip("nhe", layer.z.shape, strict=True)) | {"v": len(layer.atoms), "d": layer.atoms.shape[1], "k": 50}
    flat = layer.projection.reshape(-1, layer.projection.shape[2])

    def ours() -> object:
        return hp.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=50)

    seconds = bench.time(ours)
    memory = bench.extra_memory(ours)
    product = bench.time(lambda: layer.atoms @ flat.T)
    literal = literal_seconds(bench, layer, n_atoms=50)
    target = {1000: "≥ 150×", 4000: "≥ 600×"}.get(n, "")
    part = "literal: 3 steps of 2 heads, × 32 heads × 50 steps"
    rows = [
        Row(f"layer, n={n}, L1", seconds, "literal float32", literal, memory, target, part, shape),
        Row(f"layer, n={n}, L1", seconds, "product D Wₒᵀ", product, None, "≥ 0.4× (≤ 2.5 products)", "", shape),
    ]
    if n == 1000:
        double = float64_step_seconds(bench, layer) * 50 * layer.z.shape[1]
        rows.append(
            Row(f"layer, n={n}, L1", seconds, "ResiDual-style float64", double, None, "", "1 step of 1 head", shape)
        )
        l2 = bench.time(lambda: hp.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=50, criterion="l2"))
        centred = layer.z.double() - layer.z.double().mean(dim=0)
        moment = torch.bmm(centred.permute(1, 2, 0), centred.transpose(0, 1))
        moments = bench.time(lambda: hp.somp_moments(moment, layer.projection, layer.atoms, n_atoms=50))
        rows.append(Row(f"layer, n={n}, L2", l2, "product D Wₒᵀ", product, None, "", "", shape))
        rows.append(Row("layer, from moments, L2", moments, "product D Wₒᵀ", product, None, "", "no rows", shape))
        half = dict(shape)
        checkpoint = Layer(*(t.bfloat16() for t in (layer.z, layer.projection, layer.atoms)))
        bf16 = bench.time(lambda: hp.somp_heads(checkpoint.z, checkpoint.projection, checkpoint.atoms, n_atoms=50))
        rows.append(Row("layer, bfloat16 inputs", bf16, "product D Wₒᵀ float32", product, None, "", "", half))
        if bench.device.type == "cuda":
            vocabulary = hp.Dictionary(layer.atoms, range(len(layer.atoms)))  # type: ignore[arg-type]
            whole = bench.time(
                lambda: [hp.somp_heads(layer.z, layer.projection, vocabulary, n_atoms=50) for _ in range(32)], repeats=1
            )
            rows.append(Row("all 1024 heads (32 layers)", whole, note="the same layer 32 times", shape=shape))
    return rows


def no_topic_case(bench: Bench) -> list[Row]:
    """The hardest input for a screening bound: heads that write nothing in particular."""
    layer = bench.layer(v=32000, d=4096, n=1000, h=32, e=128, topics=4, dtype=torch.float32)
    flat = layer.projection.reshape(-1, layer.projection.shape[2])
    seconds = bench.time(lambda: hp.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=50), repeats=1)
    product = bench.time(lambda: layer.atoms @ flat.T)
    return [
        Row("layer, n=1000, no topics", seconds, "product D Wₒᵀ", product, note="hardest input: no atom stands out")
    ]


def ranking_case(bench: Bench) -> list[Row]:
    """One concept over every head of Mistral-7B's shape."""
    heads = 64 if bench.quick else 1024
    atoms = clustered_atoms(4000, 4096)
    part = bursty_layer(atoms, n=1000, h=min(64, heads), e=128, topics=512)
    times = heads // part.z.shape[1]
    # Every head is its own memory, as it would be; the 64 drawn ones repeat.
    z, projection = part.z.repeat(1, times, 1).to(bench.device), part.projection.repeat(times, 1, 1).to(bench.device)
    concept = atoms[torch.randperm(3000, generator=torch.Generator().manual_seed(0))[:200]].to(bench.device)
    shape = {"n": 1000, "h": heads, "e": 128, "d": 4096, "v": 200, "k": 50}

    def ours() -> object:
        return hp.somp_heads(z, projection, concept, n_atoms=50)

    seconds = bench.time(ours)
    memory = bench.extra_memory(ours)
    some = [hp.HeadSignal(z[:, i].contiguous(), projection[i]) for i in range(2)]
    literal = statistics.mean(bench.time(lambda s=s: hp.somp_literal(s, concept, n_atoms=50), repeats=1) for s in some)
    note = f"literal: 2 heads whole, × {heads // 2}"
    return [
        Row(f"ranking {heads} heads", seconds, "literal float32", literal * heads, memory, "≥ 100×, < 5 s", note, shape)
    ]


def null_case(bench: Bench) -> list[Row]:
    """A null distribution: many random dictionaries for one layer."""
    count = 20 if bench.quick else 200
    atoms = clustered_atoms(32000, 4096)
    layer = bursty_layer(atoms, n=1000, h=32, e=128, topics=512)
    z, projection, atoms = (t.to(bench.device) for t in (layer.z, layer.projection, atoms))
    g = torch.Generator().manual_seed(0)
    lists = [torch.randperm(31000, generator=g)[:200] for _ in range(count)]
    shape = {"n": 1000, "h": 32, "e": 128, "d": 4096, "g": count, "v": 200, "k": 50}

    def ours() -> object:
        return hp.somp_many(z, projection, atoms, lists, n_atoms=50)

    seconds = bench.time(ours, repeats=1, warm=False)
    memory = bench.extra_memory(ours) if bench.quick else None
    return [Row(f"{count} random dictionaries, 32 heads", seconds, "", None, memory, "< 60 s", "", shape)]


def wide_case(bench: Bench) -> list[Row]:
    """A layer of Gemma-3-12B's shape, in its checkpoint's bfloat16."""
    layer = bench.layer(v=262144, d=3840, n=1000, h=16, e=256, dtype=torch.bfloat16)
    shape = dict(zip("nhe", layer.z.shape, strict=True)) | {"v": len(layer.atoms), "d": layer.atoms.shape[1], "k": 50}

    def ours() -> object:
        return hp.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=50)

    held: list[float] = []
    memory = bench.extra_memory(lambda: held.append(bench.time(ours, repeats=1, warm=False)))
    inputs = sum(t.numel() * t.element_size() for t in (layer.z, layer.projection, layer.atoms)) / 2**30
    note = f"and {inputs:.1f} GiB of inputs"
    return [Row("wide vocabulary, bfloat16", held[0], "", None, memory, "< 8 GB", note, shape)]


CASES: dict[str, Callable[[Bench], list[Row]]] = {
    "layer-1000": lambda bench: layer_case(bench, 1000),
    "layer-2000": lambda bench: layer_case(bench, 2000),
    "layer-4000": lambda bench: layer_case(bench, 4000),
    "no-topics": no_topic_case,
    "ranking": ranking_case,
    "null": null_case,
    "wide": wide_case,
}


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
        "amx": str(torch.cpu._is_amx_tile_supported()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name()
    return found


def table(rows: list[Row]) -> str:
    lines = [
        "| case | seconds | against | its seconds | ratio | extra GiB | target | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}×" if row.ratio < 10 else f"{row.ratio:.0f}×"
        base = "" if row.baseline_seconds is None else f"{row.baseline_seconds:.1f}"
        memory = "" if row.extra_gib is None else f"{row.extra_gib:.2f}"
        cells = [row.case, f"{row.seconds:.2f}", row.baseline, base, ratio, memory, row.target, row.note]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes, one repeat: does it run?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=CASES, action="append", help="a case; may be given several times")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="the JSON file (default: benchmarks/results/DEVICE.json)")
    options = parser.parse_args()
    device = torch.device(options.device)
    bench = Bench(device, 1 if options.quick else options.repeats, options.quick)
    rows: list[Row] = []
    for name in options.only or CASES:
        made = CASES[name](bench)
        rows += made
        gc.collect()
        print(table(made), flush=True)
    print(f"\n{table(rows)}")
    if options.quick and not options.out:
        return
    out = options.out or RESULTS / f"{device.type}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    results = [asdict(row) | {"ratio": row.ratio} for row in rows]
    out.write_text(json.dumps({"machine": machine(device), "rows": results}, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
