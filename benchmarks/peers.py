"""What a capture takes beside the forward pass alone and beside peers: ``make bench-peers``.

All are asked for the same: of every sample the mean over its tokens of what every head wrote, from one random model. The model
reads 16 samples at a time, without a cache, and computes the logits of the last token alone (plain passes, TransformerLens)
or none. nnsight takes the mean inside of its trace and stops the model behind the last layer that is read; TransformerLens
keeps what ``run_with_cache`` is told to. Prompts are tokenized beforehand, but for `headpursuit`, which is handed texts and
tokenizes them in its own time.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

import headpursuit as hp
from benchmarks.capture import made_up_words, save_llama, save_random
from benchmarks.measure import Bench, Row, run_cases
from benchmarks.pursuit import make_layer

LENGTH, BATCH = 64, 16


@dataclass(frozen=True)
class Prompts:
    """The same prompts as texts and as batches of tokens."""

    texts: list[str]
    batches: list[Tensor]

    def first(self, n: int) -> Prompts:
        return Prompts(self.texts[:n], [ids[:n] for ids in self.batches[: -(-n // BATCH)]])


# What each layer's heads wrote, a sample a row, (n, h·e) each; nothing where a contestant gives no rows.
Rows = list[Tensor]
Run = Callable[[Prompts], Rows]


def plain(folder: Path) -> Run:
    hf = _model(folder)

    @torch.no_grad()
    def run(prompts: Prompts) -> Rows:
        for ids in prompts.batches:
            hf(input_ids=ids, use_cache=False, logits_to_keep=1)
        return []

    return run


def transformer_lens(folder: Path) -> Run:
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=_model(folder), tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu"
    )
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(bridge.cfg.n_layers)]
    options: dict[str, Any] = {"names_filter": names, "return_type": None, "use_cache": False, "logits_to_keep": 1}

    @torch.no_grad()
    def run(prompts: Prompts) -> Rows:
        found = []
        for ids in prompts.batches:
            _, cache = bridge.run_with_cache(ids, **options)
            found.append([cache[name].mean(dim=1).flatten(1) for name in names])
        return _joined(found)

    return run


def nnsight(folder: Path) -> Run:
    import nnsight

    model = nnsight.TransformersModel(_model(folder), tokenizer=AutoTokenizer.from_pretrained(folder))
    if model.config.model_type == "gpt2":
        projections = [layer.attn.c_proj for layer in model.transformer.h]
    else:
        projections = [layer.self_attn.o_proj for layer in model.model.layers]

    @torch.no_grad()
    def run(prompts: Prompts) -> Rows:
        found = []
        for ids in prompts.batches:
            with model.trace(ids, use_cache=False, logits_to_keep=1) as tracer:
                rows = nnsight.save([])
                for projection in projections:
                    rows.append(projection.input.mean(dim=1))
                tracer.stop()
            found.append(rows)
        return _joined(found)

    return run


def ours(folder: Path, *, positions: str = "mean") -> Run:
    model = hp.wrap(_model(folder), processor=AutoTokenizer.from_pretrained(folder))

    def run(prompts: Prompts) -> Rows:
        acts = hp.capture(model, prompts.texts, positions=positions, batch_size=BATCH, progress=False)  # type: ignore[arg-type]
        return [acts.z[layer].flatten(1) for layer in acts.layers] if isinstance(acts, hp.HeadActivations) else []

    return run


OURS, MOMENTS = "hp.capture, positions=mean", "hp.capture, positions=all (moments)"
CONTESTANTS: dict[str, Callable[[Path], Run]] = {
    "forward": plain,
    "TransformerLens": transformer_lens,
    "nnsight": nnsight,
    OURS: ours,
    MOMENTS: partial(ours, positions="all"),
}


def llama_case(bench: Bench) -> list[Row]:
    """A random Llama of 110 M parameters."""
    with tempfile.TemporaryDirectory() as root:
        save_llama(Path(root), layers=12, heads=12, width=768)
        return _contest(bench, Path(root), "Llama, 110 M")


def gpt2_case(bench: Bench) -> list[Row]:
    """Random weights in GPT-2's shape."""
    with tempfile.TemporaryDirectory() as root:
        save_random(Path(root), GPT2Config())
        return _contest(bench, Path(root), "GPT-2, 124 M")


def somp_case(bench: Bench) -> list[Row]:
    """A layer of GPT-2's shape by Algorithm 1 in float64, in the manner of ResiDual, one head of it whole."""
    layer = make_layer(bench, v=32000, d=768, n=256, h=12, e=64, dtype=torch.float32)
    steps = 10 if bench.quick else 50
    heads = 1
    found: dict[str, Any] = {}

    def fast() -> None:
        found["ours"] = hp.pursuit.somp_heads(layer.z, layer.projection, layer.atoms, n_atoms=steps)

    def literal() -> None:
        found["literal"] = [
            residual_somp(layer.z[:, head].double() @ layer.projection[head].double(), layer.atoms, n_atoms=steps)
            for head in range(heads)
        ]

    fast()
    runs = {"ours": fast, "literal": literal}
    times = bench.alternate(runs, dict.fromkeys(runs, nullcontext), rounds=bench.repeats)
    mine, theirs = (statistics.median(times[name]) for name in runs)
    for head, (support, explained) in enumerate(found["literal"]):
        assert found["ours"].support[head].tolist() == support
        torch.testing.assert_close(found["ours"].explained_variance[head].double(), explained, rtol=0, atol=1e-5)
    shape = dict(zip("nhe", layer.z.shape, strict=True)) | {"v": len(layer.atoms), "d": layer.atoms.shape[1], "k": steps}
    scale = layer.z.shape[1] / heads
    note = f"processor's time; the literal one: {heads} head whole, × {scale:g}; the same atoms in the same order"
    return [Row("SOMP, a layer", mine, "ResiDual-style float64, in turns", theirs * scale, note=note, shape=shape)]


def residual_somp(H: Tensor, D: Tensor, *, n_atoms: int) -> tuple[list[int], Tensor]:
    """Algorithm 1 in float64: correlate, take the best atom, refit by the pseudo-inverse, subtract.

    Gives the rows that were chosen, and the share of the variance that is explained after each.
    """
    H = H.double() - H.double().mean(dim=0)
    D = torch.nn.functional.normalize(D.double(), dim=1)
    R, support, explained = H, [], []
    for _ in range(n_atoms):
        scores = (D @ R.T).abs().sum(dim=1)
        scores[support] = -1
        support.append(int(scores.argmax()))
        chosen = D[support]
        R = H - (H @ torch.linalg.pinv(chosen)) @ chosen
        explained.append(1 - R.square().sum() / H.square().sum())
    return support, torch.stack(explained)


def _contest(bench: Bench, folder: Path, name: str) -> list[Row]:
    prompts = _prompts(folder, 2 * BATCH if bench.quick else 256)
    runs = {who: make(folder) for who, make in CONTESTANTS.items()}
    expected = runs[OURS](prompts.first(BATCH))
    for who, run in runs.items():  # the first passes of all, and a check that they are asked for the same
        for own, theirs in zip(run(prompts.first(BATCH)), expected, strict=False):
            torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()), msg=who)
    timed = {who: partial(run, prompts) for who, run in runs.items()}
    clock: Any = lambda: np.array([time.process_time(), time.perf_counter()])  # noqa: E731  # both, of the same runs
    times = bench.alternate(timed, dict.fromkeys(timed, nullcontext), rounds=bench.repeats, clock=clock)
    medians = {who: np.median(found, axis=0).tolist() for who, found in times.items()}
    del runs, timed
    shape = {"n": len(prompts.texts), "t": LENGTH, "batch": BATCH, "l": len(expected), "d": expected[0].shape[1]}
    rows = []
    for who, (seconds, wall) in medians.items():
        extra, whole = _alone(who, folder, bench)
        note = f"processor's time; wall time {wall:.2f} s, the forward's {medians['forward'][1]:.2f} s; process {whole:.2f} GiB"
        target = "≥ 0.952 (≤ 5 % slower), ahead of peers" if who in (OURS, MOMENTS) else ""
        rows.append(Row(f"{name}: {who}", seconds, "forward, in turns", medians["forward"][0], extra, target, note, shape))
    return rows


def _prompts(folder: Path, count: int) -> Prompts:
    """Prompts of 32 words, each of which is two tokens: a blank and one that is in the vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    drawn = random.Random(0)
    words = [word for word in made_up_words() if len(tokenizer.tokenize(f" {word}")) == 2]
    texts = ["".join(f" {word}" for word in drawn.choices(words, k=LENGTH // 2)) for _ in range(count)]
    ids = torch.tensor(tokenizer(texts)["input_ids"])
    assert ids.shape == (count, LENGTH)
    return Prompts(texts, list(ids.split(BATCH)))


def _alone(who: str, folder: Path, bench: Bench) -> tuple[float, float]:
    """Peak memory of a contestant in a process of its own, in GiB: above that of the loaded model, and all of it.

    The C library is told to give back at once what is freed: what it would keep is more than what runs differ by, and chance.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory, who, folder, bench).result()


def _memory(who: str, folder: Path, bench: Bench) -> tuple[float, float]:
    run = CONTESTANTS[who](folder)
    prompts = _prompts(folder, 2 * BATCH)
    run(prompts.first(2))
    ctypes.CDLL(None).malloc_trim(0)  # what loading has freed is no room for the run
    held: list[Rows] = []
    extra = bench.extra_memory(lambda: held.append(run(prompts)))
    assert extra is not None
    lines = Path("/proc/self/status").read_text().splitlines()
    return extra, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def _model(folder: Path) -> Any:
    hf = AutoModelForCausalLM.from_pretrained(folder).eval()
    for weight in hf.parameters():  # transformers maps files, and what is read of them would count as a run's memory
        weight.data = weight.data.clone()
    return hf


def _joined(batches: list[Rows]) -> Rows:
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


CASES: dict[str, Callable[[Bench], list[Row]]] = {"llama": llama_case, "gpt2": gpt2_case, "somp": somp_case}


if __name__ == "__main__":
    run_cases("peers", CASES, about=__doc__.splitlines()[0], packages=("transformers", "transformer-lens", "nnsight"))
