"""What an edit costs while a model runs, hooked and exported, beside the unedited model: ``python -m benchmarks.edits``.

The unedited model, the hooked one, the exported one and a second copy of the unedited one take turns, token by token, so that
whatever else the machine does falls on all of them. The second copy shows how much of a difference is noise. On the CPU times
are the processor's, not the clock's.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import headpursuit as hp
from benchmarks.measure import Bench, Context, Row, run_cases

SHAPE = {"l": 12, "h": 12, "e": 64, "d": 768, "v": 32000}
HEADS = 16  # as many as the paper edits, spread over every layer, since every layer that is touched costs a hook
PROMPT, PREFILL = 64, 512
NEW = 16
TARGETS = {"hooked": "≥ 0.97 (≤ 3 % slower)", "exported": "≥ 0.99 (≤ 1 % slower)"}


@dataclass(frozen=True)
class Variant:
    """A model, and what holds while it runs."""

    hf: Any
    edited: Callable[[], Context] = nullcontext


@contextmanager
def variants(bench: Bench) -> Iterator[Mapping[str, Variant]]:
    """The same random Llama of about 110 M parameters, unedited, hooked and exported."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=SHAPE["d"],
        intermediate_size=2048,
        num_hidden_layers=SHAPE["l"],
        num_attention_heads=SHAPE["h"],
        num_key_value_heads=SHAPE["h"],
        vocab_size=SHAPE["v"],
        tie_word_embeddings=True,
        max_position_embeddings=2048,
    )
    with tempfile.TemporaryDirectory() as root:
        original = Path(root) / "original"
        LlamaForCausalLM(config).save_pretrained(original)
        hp.load("demo").tokenizer.save_pretrained(original)
        model, copy = (hp.load(original, device=str(bench.device)) for _ in range(2))
        heads = [hp.Head(index % SHAPE["l"], index * 5 % (SHAPE["h"] - 1)) for index in range(HEADS)]
        everywhere, written = (hp.HeadEdit(heads, scale=-1, where=where) for where in ("all", "generated"))
        hp.export(model, everywhere, Path(root) / "exported", progress=False)
        exported = hp.load(Path(root) / "exported", device=str(bench.device))
        yield {
            "unedited": Variant(model.hf),
            "hooked": Variant(model.hf, lambda: everywhere.applied(model)),
            "hooked where generated": Variant(model.hf, lambda: written.applied(model)),
            "exported": Variant(exported.hf),
            "unedited, a second copy": Variant(copy.hf),
        }


def decode_case(bench: Bench) -> list[Row]:
    """One token behind a prompt that lies in a cache."""
    ids = _ids(PROMPT, bench)
    with variants(bench) as everyone, torch.no_grad():
        # which tokens were generated is known inside generate only
        found = {name: one for name, one in everyone.items() if name != "hooked where generated"}
        caches = {name: DynamicCache(config=one.hf.config) for name, one in found.items()}

        def run(name: str) -> Callable[[], object]:
            return lambda: found[name].hf(input_ids=ids[:, -1:], past_key_values=caches[name], use_cache=True)

        for name, one in found.items():
            one.hf(input_ids=ids, past_key_values=caches[name], use_cache=True)
        return _rows("decode", found, {name: run(name) for name in found}, bench, rounds=bench.repeats * 100, tokens=1)


def prefill_case(bench: Bench) -> list[Row]:
    """One pass over a prompt."""
    ids = _ids(PREFILL, bench)
    with variants(bench) as found, torch.no_grad():
        runs = {name: partial(one.hf, input_ids=ids, use_cache=False, logits_to_keep=1) for name, one in found.items()}
        return _rows("prefill", found, runs, bench, rounds=bench.repeats * 10, tokens=PREFILL)


def generate_case(bench: Bench) -> list[Row]:
    """A short text as a user has it written."""
    ids = _ids(PROMPT, bench)
    with variants(bench) as found, torch.no_grad():
        runs = {name: partial(_generate, one.hf, ids) for name, one in found.items()}
        return _rows("generate", found, runs, bench, rounds=bench.repeats * 5, tokens=NEW)


def _generate(hf: Any, ids: torch.Tensor) -> object:
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    return hf.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)


def _ids(tokens: int, bench: Bench) -> torch.Tensor:
    return torch.randint(SHAPE["v"], (1, tokens), generator=torch.Generator().manual_seed(1)).to(bench.device)


def _rows(
    case: str, found: Mapping[str, Variant], runs: Mapping[str, Callable[[], object]], bench: Bench, *, rounds: int, tokens: int
) -> list[Row]:
    around = {name: one.edited for name, one in found.items()}
    times = bench.alternate(runs, around, rounds=4 if bench.quick else rounds)
    rows = []
    for name in found:
        if name == "unedited":
            continue
        paired = [base / own for base, own in zip(times["unedited"], times[name], strict=True)]
        low, middle, high = statistics.quantiles(paired, n=4)
        own = statistics.median(times[name])
        rows.append(
            Row(
                f"{case}, {name}",
                own,
                "unedited, in turns",
                own * middle,
                target=TARGETS.get(name, ""),
                note=f"ratio of neighbours, median of {len(paired)} [quartiles]: {middle:.4f} [{low:.3f}, {high:.3f}]",
                shape={**SHAPE, "k": HEADS, "t": tokens},
            )
        )
    return rows


CASES: dict[str, Callable[[Bench], list[Row]]] = {"decode": decode_case, "prefill": prefill_case, "generate": generate_case}


if __name__ == "__main__":
    run_cases("edits", CASES, about=__doc__.splitlines()[0])
