"""How long pursuits take, beside the literal algorithm on the same input: ``python -m benchmarks.pursuit``.

Both sides of a ratio run in this process, on the same tensors in the same dtype with the same threads. Where the literal
side would take hours, a stated part of it is timed and multiplied; the table says so. Its steps get dearer as the
support grows (the refit), so a part from its first steps flatters it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

import headpursuit.pursuit as hp
from benchmarks.data import Layer, bursty_layer, clustered_atoms
from benchmarks.measure import Bench, Row, run_cases
from headpursuit.pursuit.best_fit import best_fits, chance_fits, principal


def make_layer(bench: Bench, *, v: int, d: int, n: int, h: int, e: int, topics: int = 512, dtype: torch.dtype) -> Layer:
    if bench.quick:
        v, d, h = v // 8, d // 4, max(h // 4, 1)
    atoms = clustered_atoms(v, d)
    made = bursty_layer(atoms, n=n, h=h, e=e, topics=topics)
    del atoms
    return Layer(*(t.to(bench.device, dtype) for t in (made.z, made.projection, made.atoms)))


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
    layer = make_layer(bench, v=32000, d=4096, n=n, h=32, e=128, dtype=torch.float32)
    shape = dict(zip("nhe", layer.z.shape, strict=True)) | {"v": len(layer.atoms), "d": layer.atoms.shape[1], "k": 50}
    flat = layer.projection.reshape(-1, layer.projection.shape[2])

    def ours() -> object:
        return hp.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=50)

    memory = bench.extra_memory(ours)
    runs: dict[str, Callable[[], object]] = {"ours": ours, "product": lambda: layer.atoms @ flat.T}
    times = bench.alternate(runs, dict.fromkeys(runs, nullcontext), rounds=bench.repeats, clock=bench.clock)
    seconds, product = (statistics.median(times[name]) for name in runs)
    literal = literal_seconds(bench, layer, n_atoms=50)
    target = {1000: "≥ 150×", 4000: "≥ 600×"}.get(n, "")
    part = "literal: 3 steps of 2 heads, × 32 heads × 50 steps"
    rows = [
        Row(f"layer, n={n}, L1", seconds, "literal float32", literal, memory, target, part, shape),
        Row(f"layer, n={n}, L1", seconds, "product D Wₒᵀ", product, None, "≥ 0.4× (≤ 2.5 products)", "", shape),
    ]
    if n == 1000:
        double = float64_step_seconds(bench, layer) * 50 * layer.z.shape[1]
        rows.append(Row(f"layer, n={n}, L1", seconds, "ResiDual-style float64", double, None, "", "1 step of 1 head", shape))
        l2 = bench.time(lambda: hp.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=50, criterion="l2"))
        centred = layer.z.double() - layer.z.double().mean(dim=0)
        moment = torch.bmm(centred.permute(1, 2, 0), centred.transpose(0, 1))
        moments = bench.time(lambda: hp.somp_moments(moment, layer.projection, layer.atoms, n_atoms=50))
        rows.append(Row(f"layer, n={n}, L2", l2, "product D Wₒᵀ", product, None, "", "", shape))
        rows.append(Row("layer, from moments, L2", moments, "product D Wₒᵀ", product, None, "", "no rows", shape))
        checkpoint = Layer(*(t.bfloat16() for t in (layer.z, layer.projection, layer.atoms)))
        bf16 = bench.time(lambda: hp.somp_heads(checkpoint.z, checkpoint.projection, checkpoint.atoms, n_atoms=50))
        rows.append(Row("layer, bfloat16 inputs", bf16, "product D Wₒᵀ float32", product, None, "", "", shape))
        if bench.device.type == "cuda":
            vocabulary = hp.Dictionary(layer.atoms, range(len(layer.atoms)))  # type: ignore[arg-type]
            whole = bench.time(
                lambda: [hp.somp_heads(layer.z, layer.projection, vocabulary, n_atoms=50) for _ in range(32)], repeats=1
            )
            rows.append(Row("all 1024 heads (32 layers)", whole, note="the same layer 32 times", shape=shape))
    return rows


def no_topic_case(bench: Bench) -> list[Row]:
    """The hardest input for a screening bound: heads that write nothing in particular."""
    layer = make_layer(bench, v=32000, d=4096, n=1000, h=32, e=128, topics=4, dtype=torch.float32)
    flat = layer.projection.reshape(-1, layer.projection.shape[2])
    seconds = bench.time(lambda: hp.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=50), repeats=1)
    product = bench.time(lambda: layer.atoms @ flat.T)
    return [Row("layer, n=1000, no topics", seconds, "product D Wₒᵀ", product, note="hardest input: no atom stands out")]


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
    return [Row(f"ranking {heads} heads", seconds, "literal float32", literal * heads, memory, "≥ 100×, < 5 s", note, shape)]


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
    layer = make_layer(bench, v=262144, d=3840, n=1000, h=16, e=256, dtype=torch.bfloat16)
    shape = dict(zip("nhe", layer.z.shape, strict=True)) | {"v": len(layer.atoms), "d": layer.atoms.shape[1], "k": 50}

    def ours() -> object:
        return hp.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=50)

    held: list[float] = []
    memory = bench.extra_memory(lambda: held.append(bench.time(ours, repeats=1, warm=False)))
    inputs = sum(t.numel() * t.element_size() for t in (layer.z, layer.projection, layer.atoms)) / 2**30
    note = f"and {inputs:.1f} GiB of inputs"
    return [Row("wide vocabulary, bfloat16", held[0], "", None, memory, "< 8 GB", note, shape)]


def names_case(bench: Bench) -> list[Row]:
    """What the significance of names adds to naming all heads of a model of Gemma 3 270M's shape, with 200 turns."""
    count = 18
    layer = make_layer(bench, v=262144, d=640, n=1100, h=4, e=256, dtype=torch.float32)
    z = layer.z - layer.z.mean(dim=0)
    second = torch.einsum("nhe,nhf->hef", z, z)
    atoms = hp.Dictionary(layer.atoms, range(len(layer.atoms)))

    def plain() -> object:
        return hp.somp_heads(layer.z, layer.projection, atoms, n_atoms=5)

    def evidence() -> object:
        found = [principal(second, layer.projection) for _ in range(count)]
        amplitudes, directions = (torch.cat(parts) for parts in zip(*found, strict=True))
        return best_fits(amplitudes, directions, atoms.atoms), chance_fits(amplitudes, atoms.atoms, draws=200)

    runs = {"plain": plain, "evidence": evidence}
    times = bench.alternate(runs, dict.fromkeys(runs, nullcontext), rounds=bench.repeats)
    one, more = (statistics.median(times[name]) for name in runs)
    shape = dict(zip("nhe", layer.z.shape, strict=True)) | {"v": len(atoms), "d": layer.atoms.shape[1], "k": 5, "l": count}
    note = f"{count} layers, each as long as one; CPU seconds"
    return [Row("names with significance", count * one + more, "without", count * one, None, "> 0.33×", note, shape)]


CASES: dict[str, Callable[[Bench], list[Row]]] = {
    "layer-1000": lambda bench: layer_case(bench, 1000),
    "layer-2000": lambda bench: layer_case(bench, 2000),
    "layer-4000": lambda bench: layer_case(bench, 4000),
    "no-topics": no_topic_case,
    "ranking": ranking_case,
    "null": null_case,
    "wide": wide_case,
    "names": names_case,
}


if __name__ == "__main__":
    run_cases("pursuit", CASES, about=__doc__.splitlines()[0])
