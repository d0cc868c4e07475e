"""The number of threads that torch computes with is the process's, and stays as its owner set it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from benchmarks.data import bursty_layer, clustered_atoms

import headpursuit.pursuit as hp
from headpursuit.pursuit import compiled, compiled_loop


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def in_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def pursue() -> None:
    atoms = clustered_atoms(60, 24, seed=1)
    layer = bursty_layer(atoms, n=30, h=4, e=8, seed=2, topics=10)
    hp.somp_heads(layer.z, layer.projection, atoms, n_atoms=5)


def test_a_pursuit_leaves_it_for_threads_that_start_later(three_threads: None) -> None:
    pursue()
    assert (torch.get_num_threads(), in_a_new_thread()) == (3, 3)


def test_so_does_one_that_breaks_off(three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(compiled_loop, "pursue_correlations", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        pursue()
    assert (torch.get_num_threads(), in_a_new_thread()) == (3, 3)


def test_workers_compute_alone_and_new_threads_meanwhile_do_not(three_threads: None) -> None:
    with compiled._single_threaded_workers() as pool:
        assert set(pool.map(lambda _: torch.get_num_threads(), range(30))) == {1}
        assert in_a_new_thread() == 3
