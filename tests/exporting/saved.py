"""Tiny checkpoints on disk in several shards, and what a test wants to know of their files."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

import headpursuit as hp
import tiny
import vlm
from headpursuit.demo import demo_path
from headpursuit.model.tokenize import collate, make_prompt

VLMS = ("gemma3", "qwen2_5_vl")
FAMILIES = ("llama", "qwen3", "gpt2", "mixtral", "llava-next", *VLMS)


def save(family: str, folder: Path, dtype: torch.dtype) -> Path:
    """Write a tiny random model of a family, its processor, and a side file, in several shards."""
    hf = copy.deepcopy(vlm.vlm(family).hf) if family in VLMS else tiny.hf_model(family)
    hf.to(dtype).save_pretrained(folder, max_shard_size="60KB" if dtype == torch.float32 else "30KB")
    # a processor with a video processor is neither written nor opened without torchvision
    (processor(family).tokenizer if family in VLMS else processor(family)).save_pretrained(folder)
    (folder / "nested").mkdir()
    (folder / "nested" / "note.txt").write_text("a side file")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@cache
def processor(family: str):
    return vlm.processor(family) if family in VLMS else tiny.processor(family)


def opened(family: str, folder: Path) -> hp.HeadModel:
    """The model in a folder."""
    auto = AutoModelForCausalLM if processor(family) is tiny.tokenizer() else AutoModelForImageTextToText
    return hp.wrap(auto.from_pretrained(folder, dtype="auto").eval(), processor=processor(family))


def demo() -> hp.HeadModel:
    return hp.load(demo_path())


def some_heads(model: hp.HeadModel) -> list[hp.Head]:
    heads = model.anatomy.heads()
    return [heads[1], heads[len(heads) // 2], heads[-1]]


def logits(model: hp.HeadModel) -> torch.Tensor:
    """Logits behind every token of two texts, an image before each where the model takes one; shape ``(b, t, v)``."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    samples = [
        hp.Sample(text, image=None if model.images is None else Image.fromarray(picture), chat=False)
        for text, picture in zip(tiny.TEXTS[::2], noise, strict=True)
    ]
    batch = collate(model, [make_prompt(model, sample) for sample in samples], side="right")
    with torch.no_grad():
        return model.hf(**batch.inputs).logits[batch.real]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as shard:
            found |= {key: shard.get_tensor(key) for key in shard.keys()}  # noqa: SIM118
    return found


def headers(folder: Path) -> dict[str, bytes]:
    """The first bytes of every shard: names, dtypes, shapes, places and metadata of its tensors."""
    found = {}
    for file in folder.glob("*.safetensors"):
        content = file.read_bytes()
        found[file.name] = content[: 8 + int.from_bytes(content[:8], "little")]
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
