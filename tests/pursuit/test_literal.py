"""Algorithm 1 as written, against scikit-learn, the logit lens and the inputs that break pursuits."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp

import headpursuit.pursuit as hp
from headpursuit.errors import HeadPursuitError


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@given(seed=st.integers(0, 10**6), d=st.integers(4, 40), v=st.integers(8, 60), k=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_one_uncentred_sample_is_orthogonal_mp(seed: int, d: int, v: int, k: int) -> None:
    k = min(k, d - 1)
    signal, atoms = gaussian(1, d, seed=seed), gaussian(v, d, seed=seed + 1)
    unit = atoms / atoms.norm(dim=1, keepdim=True)
    coefficients = orthogonal_mp(unit.T.numpy(), signal[0].numpy(), n_nonzero_coefs=k)
    found = hp.somp_literal(signal, atoms, n_atoms=k, center=False)
    assert set(found.support.tolist()) == set(coefficients.nonzero()[0].tolist())
    residual = signal[0] - unit.T @ torch.as_tensor(coefficients)
    expected = 1 - residual.square().sum() / signal.square().sum()
    assert float(found.explained_variance[-1]) == pytest.approx(float(expected), abs=1e-10)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_one_step_of_one_sample_is_the_logit_lens(seed: int) -> None:
    signal, unembedding = gaussian(1, 24, seed=seed), gaussian(90, 24, seed=seed + 1)
    logits = (signal @ unembedding.T)[0]
    found = hp.somp_literal(signal, unembedding, n_atoms=1, center=False, normalize=False)
    assert int(found.support) == int(logits.abs().argmax())


def test_explained_variance_is_that_of_the_least_squares_fit() -> None:
    signal, atoms = gaussian(30, 16), gaussian(50, 16, seed=1)
    found = hp.somp_literal(signal, atoms, n_atoms=7)
    centred = signal - signal.mean(0)
    for t in range(1, 8):
        chosen = atoms[found.support[:t]]
        fit = centred @ torch.linalg.pinv(chosen) @ chosen
        expected = 1 - (centred - fit).square().sum() / centred.square().sum()
        assert float(found.explained_variance[t - 1]) == pytest.approx(float(expected), abs=1e-12)
    assert bool((found.explained_variance.diff() > 0).all())


def test_the_factored_signal_is_its_product() -> None:
    z, projection, atoms = gaussian(20, 6), gaussian(6, 16, seed=1), gaussian(40, 16, seed=2)
    factored = hp.somp_literal(hp.HeadSignal(z, projection), atoms, n_atoms=5)
    dense = hp.somp_literal(z @ projection, atoms, n_atoms=5)
    assert torch.equal(factored.support, dense.support)


def test_criteria_differ_where_one_sample_dominates() -> None:
    atoms = torch.eye(3, dtype=torch.float64)
    signal = torch.tensor([[3.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=torch.float64)
    assert int(hp.somp_literal(signal, atoms, n_atoms=1, center=False, criterion="l1").support) == 1
    assert int(hp.somp_literal(signal, atoms, n_atoms=1, center=False, criterion="l2").support) == 0


def test_duplicate_and_zero_rows_are_never_chosen_twice() -> None:
    atoms = gaussian(6, 12)
    atoms = torch.cat([torch.zeros(2, 12, dtype=torch.float64), atoms, atoms.flip(0)])
    with pytest.warns(hp.EarlyStopWarning, match="stopped after 6 of 10"):
        found = hp.somp_literal(gaussian(15, 12, seed=3), atoms, n_atoms=10)
    assert sorted(found.support.tolist()) == list(range(2, 8))


def test_fewer_atoms_than_steps_gives_one_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = hp.somp_literal(gaussian(15, 12), gaussian(4, 12, seed=1), n_atoms=9)
    assert len(found) == 4
    assert [w.category for w in caught] == [hp.EarlyStopWarning]


@pytest.mark.parametrize("rows", [1, 7])
def test_no_variance_is_an_error(rows: int) -> None:
    signal = gaussian(1, 12).expand(rows, 12) * 1e3
    with pytest.raises(HeadPursuitError, match="no variance"):
        hp.somp_literal(signal, gaussian(20, 12, seed=1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_input_is_an_error(bad: float) -> None:
    signal, atoms = gaussian(5, 12), gaussian(20, 12, seed=1)
    broken = signal.clone()
    broken[2, 3] = bad
    with pytest.raises(HeadPursuitError, match="the signal has 1 NaN"):
        hp.somp_literal(broken, atoms)
    with pytest.raises(HeadPursuitError, match="the dictionary has 1 NaN"):
        hp.somp_literal(signal, torch.cat([atoms, broken[2:3]]))


def test_options_and_shapes_are_checked() -> None:
    signal, atoms = gaussian(5, 12), gaussian(20, 12, seed=1)
    with pytest.raises(HeadPursuitError, match="n_atoms=0"):
        hp.somp_literal(signal, atoms, n_atoms=0)
    with pytest.raises(HeadPursuitError, match="l3"):
        hp.somp_literal(signal, atoms, criterion="l3")
    with pytest.raises(HeadPursuitError, match="same width"):
        hp.somp_literal(signal, atoms[:, :5])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_inputs_are_promoted(dtype: torch.dtype) -> None:
    signal, atoms = gaussian(9, 12).to(dtype), gaussian(30, 12, seed=1).to(dtype)
    found = hp.somp_literal(signal, atoms, n_atoms=4)
    reference = hp.somp_literal(signal.double(), atoms.double(), n_atoms=4)
    assert torch.equal(found.support, reference.support)
