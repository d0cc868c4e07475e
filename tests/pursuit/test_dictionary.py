from __future__ import annotations

import gc

import pytest
import torch

import headpursuit.pursuit as hp
from headpursuit.errors import HeadPursuitError
from headpursuit.pursuit import batches


def test_restriction_keeps_rows_and_labels_together() -> None:
    custom = hp.Dictionary(torch.eye(3), ["x", "y", "z"]).restricted(torch.tensor([1]))
    assert list(custom.labels) == ["y"]
    assert torch.equal(custom.atoms, torch.eye(3)[1:2])


def test_a_pursuit_takes_a_dictionary_in_place_of_its_atoms() -> None:
    atoms, signal = torch.randn(9, 4), torch.randn(6, 4)
    named = hp.somp(signal, hp.Dictionary(atoms, [str(i) for i in range(9)]), n_atoms=2)
    assert torch.equal(named.support, hp.somp(signal, atoms, n_atoms=2).support)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(HeadPursuitError, match="2 labels"):
        hp.Dictionary(torch.eye(3), ["x", "y"])
    with pytest.raises(HeadPursuitError, match="matrix"):
        hp.Dictionary(torch.ones(3), ["x", "y", "z"])
    with pytest.raises(HeadPursuitError, match="do not all lie"):
        hp.Dictionary(torch.eye(3), ["x", "y", "z"]).restricted([3])


def test_a_dictionary_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headpursuit.pursuit.batches.SMALL", 0)
    dictionary = hp.Dictionary(torch.randn(9, 4), [str(i) for i in range(9)])
    first = hp.somp(torch.randn(6, 4), dictionary, n_atoms=2)
    assert len(first) == 2
    (prepared,) = batches._PREPARED[dictionary].values()
    hp.somp(torch.randn(6, 4), dictionary, n_atoms=2)
    assert next(iter(batches._PREPARED[dictionary].values())) is prepared
    assert dictionary.restricted([1, 2]) not in batches._PREPARED
    known = len(batches._PREPARED)
    del dictionary
    gc.collect()
    assert len(batches._PREPARED) < known
