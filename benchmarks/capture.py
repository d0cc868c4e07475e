"""What a capture costs beside the forward pass it rides on, and what it holds: ``python -m benchmarks.capture``."""

from __future__ import annotations

import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast

import headpursuit as hp
from benchmarks.measure import Bench, Row, run_cases
from headpursuit.model.tokenize import collate, make_prompt

BATCH = 32
VOCABULARY = 32000


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

    captures = {
        f"capture, positions={positions}": partial(_capture, model, samples, positions) for positions in ("mean", "all")
    }
    forward()
    _capture(model, samples[:BATCH], "mean")
    times = _alternated(bench, {"tokenize + forward": forward, **captures}, rounds=bench.repeats)
    shape = {"n": len(samples), "l": 3, "h": 17, "e": 24}
    return [
        Row(name, times[name], "tokenize + forward, in turns", times["tokenize + forward"], shape=shape) for name in captures
    ]


def lengths_case(bench: Bench) -> list[Row]:
    """Capture of texts of unlike lengths against bare forward passes over the same tokens, none of which is padding."""
    shape = {"n": 32 if bench.quick else 512, "l": 8, "h": 8, "e": 64, "d": 512, "batch": 16}
    drawn = random.Random(1)
    words = made_up_words()
    with tempfile.TemporaryDirectory() as root:
        save_llama(Path(root), layers=shape["l"], heads=shape["h"], width=shape["d"])
        model = hp.load(root, device=str(bench.device))
        counts = [min(200, max(2, int(drawn.lognormvariate(2.7, 0.8)))) for _ in range(shape["n"])]
        samples = [hp.Sample(text=" ".join(drawn.choices(words, k=count))) for count in counts]
        alone = [collate(model, [make_prompt(model, sample)], side="right").inputs["input_ids"] for sample in samples]
        alike = [list(rows) for _, rows in groupby(sorted(alone, key=torch.Tensor.numel), key=torch.Tensor.numel)]
        batches = [torch.cat(rows[at : at + 16]) for rows in alike for at in range(0, len(rows), 16)]

        forward = partial(_forward, model)
        plain = {
            name: partial(forward, [{"input_ids": ids} for ids in rows])
            for name, rows in (("forward, one by one", alone), ("forward, equal lengths together", batches))
        }
        captures = {
            f"capture, unlike lengths, positions={positions}": partial(_capture, model, samples, positions, batch_size=16)
            for positions in ("mean", "all")
        }
        forward([{"input_ids": ids} for ids in alone[:BATCH]])
        _capture(model, samples[:BATCH], "mean")
        times = _alternated(bench, {**plain, **captures}, rounds=bench.repeats)
    faster = min(plain, key=times.__getitem__)
    spread = statistics.quantiles([ids.numel() for ids in alone], n=4)
    said = "; ".join(f"{name}: {times[name]:.2f} s" for name in plain)
    note = f"quartiles of the lengths {spread}, most {max(ids.numel() for ids in alone)} tokens; {said}"
    return [
        Row(name, times[name], f"{faster}, in turns", times[faster], target="≥ 0.952 (≤ 5 % slower)", note=note, shape=shape)
        for name in captures
    ]


def load_case(bench: Bench) -> list[Row]:
    """``hp.load``, proof of the heads included, against what it rides on: transformers' loading of model and tokenizer.

    transformers maps a checkpoint's files and leaves them unread until a layer runs, so both are compared with a first pass
    over a few tokens, too.
    """
    with tempfile.TemporaryDirectory() as root:
        if bench.model is None:
            save_llama(Path(root), layers=12, heads=12, width=768)
        folder = bench.model or Path(root)
        shape = {"parameters": sum(one.numel() for one in hp.load(folder, device="cpu").hf.parameters())}
        name = bench.model.name if bench.model else "a random Llama"
        rows = []
        for what, after in (("load", _nothing), ("load and a first pass", _first_pass)):
            runs = {
                "transformers": lambda after=after: after(_theirs(folder)),
                "ours": lambda after=after: after(_ours(folder)),
            }
            for said, clock in (("processor's time", time.process_time), ("wall time", time.perf_counter)):
                rounds = 3 if bench.quick else bench.repeats * 3
                times = _alternated(bench, runs, rounds=rounds, clock=clock)
                rows.append(
                    Row(
                        f"{what}, {name}, {said}",
                        times["ours"],
                        "transformers, in turns",
                        times["transformers"],
                        target="≥ 0.833 (≤ 20 % slower)",
                        note=f"medians of {rounds}",
                        shape=shape,
                    )
                )
    return rows


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


def large_case(bench: Bench) -> list[Row]:
    """Capture against forward passes of a model of Llama 2 7B's shape in bfloat16, random, prompts of 64 tokens; on a GPU."""
    if bench.device.type != "cuda" and not bench.quick:
        return []
    shape = {"n": 64 if bench.quick else 1024, "l": 2 if bench.quick else 32, "h": 32, "e": 128, "d": 4096, "t": 64}
    with tempfile.TemporaryDirectory(dir=_memory()) as root, torch.device(bench.device):
        save_llama(Path(root), layers=shape["l"], heads=shape["h"], width=shape["d"], mlp=11008, dtype=torch.bfloat16)
        model = hp.load(root, device=str(bench.device))
    drawn, words = random.Random(1), made_up_words()[:2000]
    drafts = (" ".join(drawn.choices(words, k=64)) for _ in range(shape["n"]))
    # Cut to as many tokens each, so that neither side runs padding.
    cut = (model.tokenizer(draft, add_special_tokens=False)["input_ids"][:64] for draft in drafts)
    samples = [hp.Sample(text=model.tokenizer.decode(ids), chat=False) for ids in cut]
    batches = [
        collate(model, [make_prompt(model, sample) for sample in samples[at : at + BATCH]], side="right").inputs
        for at in range(0, len(samples), BATCH)
    ]

    forward = partial(_forward, model, batches)
    captures: dict[str, Callable[[], object]] = {
        f"capture, {shape['l']} layers of 7B, positions={positions}": partial(_capture, model, samples, positions)
        for positions in ("mean", "all")
    }
    forward()
    for capture in captures.values():
        capture()
    times = _alternated(bench, {"forward": forward, **captures}, rounds=bench.repeats)
    tokens = sum(int(inputs["attention_mask"].sum()) for inputs in batches)
    work = 2 * tokens * sum(one.numel() for name, one in model.hf.named_parameters() if "layers" in name)
    note = f"{tokens} tokens; {work / times['forward'] / 1e12:.2g} Tflop/s of the forward passes"
    return [Row(name, times[name], "forward, in turns", times["forward"], note=note, shape=shape) for name in captures]


def _memory() -> str | None:
    """A folder that is held in memory, where there is one: 13 GB are written and read again."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def made_up_words() -> list[str]:
    """Words of one to four syllables, in a language that is none."""
    drawn = random.Random(0)
    syllables = [f"{one}{two}{three}" for one in "bdfgklmnprstvz" for two in "aeiou" for three in ("", "n", "r", "s", "l")]
    return ["".join(drawn.choices(syllables, k=drawn.randint(1, 4))) for _ in range(60_000)]


def save_llama(
    folder: Path, *, layers: int, heads: int, width: int, mlp: int | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Save a random Llama."""
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=mlp or width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
    )
    save_random(folder, config, dtype=dtype)


def save_random(folder: Path, config: PreTrainedConfig, *, dtype: torch.dtype = torch.float32) -> None:
    """Save a random model with a tokenizer of the usual size, of which much of the loading is, and as usual without padding."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    options: dict[str, Any] = {"special_tokens": ["<s>", "</s>"], "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    raw.train_from_iterator(made_up_words(), trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False, **options))
    own = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    own.save_pretrained(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)


def _theirs(folder: Path) -> Any:
    own = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return own, AutoTokenizer.from_pretrained(folder)


def _ours(folder: Path) -> Any:
    model = hp.load(folder, device="cpu")
    return model.hf, model.tokenizer


def _nothing(loaded: Any) -> None:
    pass


def _first_pass(loaded: Any) -> None:
    with torch.no_grad():
        loaded[0](input_ids=torch.tensor([[5, 6, 7, 8]]), use_cache=False)


@contextmanager
def _emptied() -> Iterator[None]:
    gc.collect()
    yield


def _alternated(
    bench: Bench, runs: dict[str, Callable[[], object]], *, rounds: int, clock: Callable[[], float] | None = None
) -> dict[str, float]:
    """Median times of runs that take turns."""
    times = bench.alternate(runs, dict.fromkeys(runs, _emptied), rounds=rounds, clock=clock)
    return {name: statistics.median(found) for name, found in times.items()}


def _forward(model: hp.HeadModel, batches: list[dict[str, torch.Tensor]]) -> None:
    with torch.no_grad():
        for inputs in batches:
            model.hf(**inputs, use_cache=False, logits_to_keep=1)


def _capture(model: hp.HeadModel, samples: list[hp.Sample], positions: str, *, batch_size: int = BATCH) -> object:
    return hp.capture(model, samples, positions=positions, batch_size=batch_size, progress=False)  # type: ignore[arg-type]


CASES: dict[str, Callable[[Bench], list[Row]]] = {
    "time": time_case,
    "lengths": lengths_case,
    "load": load_case,
    "memory": memory_case,
    "large": large_case,
}


if __name__ == "__main__":
    run_cases("capture", CASES, about=__doc__.splitlines()[0], loads=True)
