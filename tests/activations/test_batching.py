"""Batches of like lengths: nothing of them shows in what is captured but how little is padded."""

from __future__ import annotations

import random
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tqdm.auto import tqdm

import headpursuit as hp
import tiny
from architectures.shrink import CAUSAL, small_model
from headpursuit.activations import batching
from headpursuit.activations import capture as capture_module
from headpursuit.activations.batching import batches

WORDS = tiny.WORDS.split()
PASS = 64  # tokens that one more pass costs on a CPU


def cost(found, lengths):
    return sum(len(rows) * max(lengths[row] for row in rows) + PASS for rows in found)


def cut_every_way(rows, batch_size):
    if not rows:
        return [[]]
    return [
        [rows[:end], *rest]
        for end in range(1, min(batch_size, len(rows)) + 1)
        for rest in cut_every_way(rows[end:], batch_size)
    ]


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=8), st.integers(1, 5))
def test_batches_cost_least_of_all_ways_to_cut(lengths, batch_size):
    found = batches(range(len(lengths)), lengths, batch_size=batch_size, device="cpu")
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    assert max(map(len, found)) <= batch_size
    assert all(lengths[one] >= lengths[other] for one, other in pairwise(row for rows in found for row in rows))
    ordered = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    assert cost(found, lengths) == min(cost(ways, lengths) for ways in cut_every_way(ordered, batch_size))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_texts_of_one_length_fill_their_batches(device):
    assert [len(rows) for rows in batches(range(40), [9] * 40, batch_size=16, device=device)] == [16, 16, 8]


@cache
def gemma():
    hf = small_model("gemma2", CAUSAL)
    hf.resize_token_embeddings(len(tiny.tokenizer()))
    return hp.wrap(hf, processor=tiny.tokenizer())


def drawn_samples(generator, *, images):
    """Samples of unlike lengths, some with an image, some too long to be read."""

    def one(number):
        words = generator.choices(WORDS, k=generator.choice([1, 2, 3, 5, 10, 30]))
        if generator.random() < 0.1:
            words *= 200
        picture = Image.effect_noise((20, 20), 90).convert("RGB") if images and generator.random() < 0.5 else None
        return hp.Sample(f"{number} {' '.join(words)}", target=generator.choice(WORDS), image=picture, where=f"sample {number}")

    return [one(number) for number in range(generator.randint(3, 50))]


@pytest.mark.parametrize("seed", range(12))
def test_a_capture_is_that_of_its_samples_one_by_one(seed, monkeypatch):
    generator = random.Random(seed)
    monkeypatch.setattr(capture_module, "BLOCK", generator.choice([1, 4, 9, 256]))
    monkeypatch.setattr(batching, "_PASS_ON_CPU", generator.choice([0, 5, 64, 1000]))
    family = ("llama", "llava", "gemma2")[seed % 3]
    model = gemma() if family == "gemma2" else tiny.tiny(family)
    samples = drawn_samples(generator, images=family == "llava")
    options = {
        "positions": generator.choice(["mean", "last", "answer"]),
        "through_norm": family == "gemma2",
        "skip_bad": True,
        "progress": False,
    }
    found = hp.capture(model, samples, batch_size=generator.randint(2, 9), **options)
    others = [hp.Sample("a dog", target="red"), hp.Sample("two cats", target="red")]  # a sample alone does not vary
    each = [hp.capture(model, [sample, *others], batch_size=1, **options) for sample in samples]
    alone = [one for one in each if one.n == 3]
    skipped = [reason for one in each for reason in one.about["skipped"]]
    assert found.about["skipped"] == skipped
    assert found.n == len(alone)
    for layer in found.layers:
        expected = torch.stack([one.z[layer][0] for one in alone])
        torch.testing.assert_close(found.z[layer], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_moments_are_those_of_one_by_one(seed, llama):
    generator = random.Random(seed)
    samples = drawn_samples(generator, images=False)
    options = {"positions": "all", "skip_bad": True, "progress": False}
    found, alone = (hp.capture(llama, samples, batch_size=size, **options) for size in (generator.randint(2, 9), 1))
    assert found.count == alone.count
    assert found.about["skipped"] == alone.about["skipped"]
    for layer in found.layers:
        torch.testing.assert_close(found.centered(layer), alone.centered(layer), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("positions", ["mean", "all"])
@pytest.mark.parametrize("seed", range(6))
def test_cut_off_anywhere_it_goes_on_to_the_same_bits(seed, positions, llama, tmp_path, monkeypatch):
    generator = random.Random(seed)
    monkeypatch.setattr(capture_module, "BLOCK", 8)
    monkeypatch.setattr("headpursuit.activations.store.KEPT_EVERY", 0.0)
    samples = drawn_samples(generator, images=False)
    options = {"positions": positions, "batch_size": generator.randint(1, 4), "skip_bad": True, "progress": False}
    whole = hp.capture(llama, samples, out=tmp_path / "whole", **options)
    real, left = capture_module.read_batch, 0

    def dying(*args, **given):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(*args, **given)

    monkeypatch.setattr(capture_module, "read_batch", dying)
    cuts = 0
    while True:
        left = generator.randint(8, 20)  # a block has eight samples
        try:
            found = hp.capture(llama, samples, out=tmp_path / "cut", **options)
            break
        except KeyboardInterrupt:
            cuts += 1
        assert cuts < 1000
    assert found == whole
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == names
    for name in names:
        if name.startswith("activations"):
            assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_begun_with_other_batches_goes_on(llama, tmp_path, monkeypatch):
    samples = drawn_samples(random.Random(3), images=False) + list(map(hp.Sample, tiny.TEXTS))
    monkeypatch.setattr(capture_module, "BLOCK", 6)
    real, left = capture_module.read_batch, 4

    def dying(*args, **given):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return real(*args, **given)

    monkeypatch.setattr(capture_module, "read_batch", dying)
    options = {"skip_bad": True, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        hp.capture(llama, samples, out=tmp_path / "acts", batch_size=3, **options)
    with pytest.raises(hp.HeadPursuitError, match="cut off after 6 samples"):
        hp.open_capture(tmp_path / "acts")
    found = hp.capture(llama, samples, out=tmp_path / "acts", batch_size=5, **options)
    alone = hp.capture(llama, samples, batch_size=1, **options)
    assert found.about["skipped"] == alone.about["skipped"]
    for layer in found.layers:
        torch.testing.assert_close(found.z[layer], alone.z[layer], rtol=1e-4, atol=1e-4)


def test_little_is_padded_and_the_bar_moves_batch_by_batch(monkeypatch):
    model = tiny.tiny("llama", context=512)
    generator = random.Random(0)
    samples = [" ".join(generator.choices(WORDS, k=min(200, int(generator.lognormvariate(3, 0.8)) + 1))) for _ in range(96)]
    seen, steps = [], []
    real = capture_module.read_batch

    class Bar(tqdm):
        def update(self, n=1):
            steps.append(n)
            return super().update(n)

    monkeypatch.setattr(capture_module, "tqdm", Bar)
    monkeypatch.setattr(
        capture_module,
        "read_batch",
        lambda model, batch, *args, **given: (seen.append(batch.real), real(model, batch, *args, **given))[1],
    )
    hp.capture(model, samples, batch_size=16, progress=False)
    assert steps == [len(real) for real in seen]
    assert sum(steps) == len(samples)
    side_by_side = sum(
        16 * max(len(model.tokenizer(text)["input_ids"]) for text in samples[first : first + 16]) for first in range(0, 96, 16)
    )
    real_tokens, run = sum(int(real.sum()) for real in seen), sum(real.numel() for real in seen)
    assert run < 1.15 * real_tokens
    assert side_by_side > 2 * real_tokens
