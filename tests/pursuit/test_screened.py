"""The fast pursuits against Algorithm 1 in float64: the same atoms, the same explained variance."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from benchmarks.data import bursty_layer, clustered_atoms
from hypothesis import given, settings
from hypothesis import strategies as st

import headpursuit.pursuit as hp
from headpursuit.errors import HeadPursuitError
from headpursuit.pursuit import batches
from headpursuit.pursuit.results import HeadPursuits
from pursuit.agreement import WAYS, assert_same_as_literal, use_way

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each way to hold a dictionary, whatever its size and whatever this machine would choose."""
    use_way(request.param, monkeypatch)
    return request.param


def test_clustered_dictionary_and_bursty_samples(way: str) -> None:
    atoms = clustered_atoms(900, 96, seed=5)
    layer = bursty_layer(atoms, n=120, h=3, e=16, seed=6, topics=40)
    for criterion in ("l1", "l2"):
        found = hp.somp_heads(layer.z, layer.projection, atoms, n_atoms=25, criterion=criterion)
        assert_same_as_literal(found, layer.z, layer.projection, atoms, n_atoms=25, criterion=criterion)


@pytest.mark.parametrize("name", WAYS)
def test_any_shape_dtype_and_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_way(name, monkeypatch)

    @given(
        seed=st.integers(0, 10**6),
        n=st.integers(2, 40),
        h=st.integers(1, 4),
        e=st.integers(1, 12),
        d=st.integers(4, 48),
        v=st.integers(3, 120),
        k=st.integers(1, 12),
        dtype=st.sampled_from(DTYPES),
        criterion=st.sampled_from(["l1", "l2"]),
        center=st.booleans(),
        normalize=st.booleans(),
        copies=st.integers(0, 3),
    )
    @settings(max_examples=60, deadline=None)
    def check(
        seed: int, n: int, h: int, e: int, d: int, v: int, k: int, dtype: torch.dtype, criterion: str,
        center: bool, normalize: bool, copies: int,
    ) -> None:  # fmt: skip
        g = torch.Generator().manual_seed(seed)
        z = (torch.randn(n, h, e, generator=g) * torch.randn(n, 1, 1, generator=g).exp()).to(dtype)
        projection = (torch.randn(h, e, d, generator=g) / d**0.5).to(dtype)
        atoms = clustered_atoms(v, d, seed=seed, family=4).to(dtype)
        atoms = torch.cat([atoms, *[atoms[: v // 2]] * copies])
        options = {"n_atoms": k, "criterion": criterion, "center": center, "normalize": normalize}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hp.EarlyStopWarning)
            found = hp.somp_heads(z, projection, atoms, **options)
        assert_same_as_literal(found, z, projection, atoms, **options)

    check()


def test_a_batch_is_its_heads_one_by_one(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = clustered_atoms(400, 64, seed=1)
    layer = bursty_layer(atoms, n=60, h=5, e=8, seed=2, topics=20)
    together = hp.somp_heads(layer.z, layer.projection, atoms, n_atoms=10)
    for head in range(5):
        alone = hp.somp(hp.HeadSignal(layer.z[:, head], layer.projection[head]), atoms, n_atoms=10)
        assert torch.equal(alone.support, together.support[head])
    monkeypatch.setattr(batches, "MEMORY", 1)
    in_turns = hp.somp_heads(layer.z, layer.projection, atoms, n_atoms=10)
    assert torch.equal(in_turns.support, together.support)


def test_a_chunked_vocabulary_is_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    use_way("large-float32", monkeypatch)
    atoms = clustered_atoms(400, 64, seed=1)
    layer = bursty_layer(atoms, n=60, h=3, e=8, seed=2, topics=20)
    whole = hp.somp_heads(layer.z, layer.projection, atoms, n_atoms=10)
    monkeypatch.setattr("headpursuit.pursuit.large_dictionary._READ", 37)
    monkeypatch.setattr("headpursuit.pursuit.large_dictionary._MULTIPLY", 41)
    chunked = hp.somp_heads(layer.z, layer.projection, atoms, n_atoms=10)
    assert torch.equal(whole.support, chunked.support)


@pytest.mark.parametrize("shape", [(1, 24), (9, 24), (40, 24)])
def test_a_dense_signal(way: str, shape: tuple[int, int]) -> None:
    signal = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    atoms = clustered_atoms(200, 24, seed=3)
    center = shape[0] > 1
    fast = hp.somp(signal, atoms, n_atoms=8, center=center)
    literal = hp.somp_literal(signal.double(), atoms.double(), n_atoms=8, center=center)
    assert torch.equal(fast.support, literal.support)
    assert torch.allclose(fast.explained_variance, literal.explained_variance, atol=1e-5)


def test_many_dictionaries_at_once() -> None:
    atoms = clustered_atoms(600, 64, seed=1)
    layer = bursty_layer(atoms, n=60, h=5, e=8, seed=2, topics=20)
    g = torch.Generator().manual_seed(0)
    lists = [torch.randperm(600, generator=g)[: 20 + 3 * i] for i in range(11)]
    lists.append(torch.arange(4))
    with pytest.warns(hp.EarlyStopWarning, match="5 of 60 pursuits"):
        support, explained = hp.somp_many(layer.z, layer.projection, atoms, lists, n_atoms=6)
    assert support.shape == explained.shape == (12, 5, 6)
    for i, rows in enumerate(lists[:-1]):
        alone = hp.somp_heads(layer.z, layer.projection, atoms[rows], n_atoms=6)
        assert torch.equal(rows[alone.support], support[i])
        assert torch.allclose(alone.explained_variance, explained[i], atol=1e-7)
    assert support[-1, :, 4:].eq(-1).all()
    assert explained[-1, :, 4:].eq(explained[-1, :, 3:4]).all()


def test_moments_are_enough_for_l2(way: str) -> None:
    atoms = clustered_atoms(300, 48, seed=1)
    layer = bursty_layer(atoms, n=90, h=4, e=8, seed=2, topics=20)
    rows = hp.somp_heads(layer.z, layer.projection, atoms, n_atoms=12, criterion="l2")
    z = layer.z.double() - layer.z.double().mean(0)
    moment = torch.einsum("nhe,nhf->hef", z, z)
    from_moments = hp.somp_moments(moment, layer.projection, atoms, n_atoms=12)
    assert torch.equal(rows.support, from_moments.support)
    assert torch.allclose(rows.explained_variance, from_moments.explained_variance, atol=1e-9)
    scaled = hp.somp_moments(moment / 90, layer.projection, atoms, n_atoms=12)
    assert torch.equal(rows.support, scaled.support)


def test_exhausted_dictionaries_stop_early_with_one_warning(way: str) -> None:
    g = torch.Generator().manual_seed(0)
    z, projection = torch.randn(20, 3, 6, generator=g), torch.randn(3, 6, 16, generator=g)
    atoms = torch.randn(5, 16, generator=g)
    atoms = torch.cat([torch.zeros(2, 16), atoms, 2 * atoms.flip(0), atoms[:1] + atoms[1:2]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        support, explained = hp.somp_heads(z, projection, atoms, n_atoms=9)
    assert [w.category for w in caught] == [hp.EarlyStopWarning]
    assert (support >= 0).sum(1).tolist() == [5, 5, 5]
    assert explained[:, 5:].eq(explained[:, 4:5]).all()
    assert_same_as_literal(HeadPursuits(support, explained), z, projection, atoms, n_atoms=9)


def test_fewer_atoms_than_steps(way: str) -> None:
    g = torch.Generator().manual_seed(0)
    z, projection, atoms = torch.randn(20, 3, 6, generator=g), torch.randn(3, 6, 16, generator=g), torch.eye(16)[:4]
    with pytest.warns(hp.EarlyStopWarning):
        support, explained = hp.somp_heads(z, projection, atoms, n_atoms=9)
    assert support[:, :4].sort(1).values.tolist() == [[0, 1, 2, 3]] * 3
    assert support[:, 4:].eq(-1).all()
    assert explained.shape == (3, 9)


def test_silent_heads_explain_nothing(way: str) -> None:
    g = torch.Generator().manual_seed(0)
    z, projection = torch.randn(20, 3, 6, generator=g), torch.randn(3, 6, 16, generator=g)
    atoms = torch.randn(50, 16, generator=g)
    z[:, 1] = 3.7
    with pytest.warns(hp.EarlyStopWarning, match=r"no variance over samples in head\(s\) 1"):
        support, explained = hp.somp_heads(z, projection, atoms, n_atoms=4)
    assert support[1].eq(-1).all()
    assert explained[1].eq(0).all()
    others = hp.somp_heads(z[:, [0, 2]], projection[[0, 2]], atoms, n_atoms=4)
    assert torch.equal(others.support, support[[0, 2]])
    with pytest.raises(HeadPursuitError, match="no variance over its 20"):
        hp.somp_heads(z[:, 1:2], projection[1:2], atoms, n_atoms=4)
    with pytest.raises(HeadPursuitError, match="no variance over its 1 "):
        hp.somp(torch.randn(1, 16), atoms)


def test_bad_input_is_refused() -> None:
    g = torch.Generator().manual_seed(0)
    z, projection = torch.randn(20, 3, 6, generator=g), torch.randn(3, 6, 16, generator=g)
    atoms = torch.randn(50, 16, generator=g)
    broken = z.clone()
    broken[0, 0, 0] = float("nan")
    with pytest.raises(HeadPursuitError, match="head activations has 1 NaN"):
        hp.somp_heads(broken, projection, atoms)
    with pytest.raises(HeadPursuitError, match="needs z"):
        hp.somp_heads(z, projection[:2], atoms)
    with pytest.raises(HeadPursuitError, match="dictionary 1 of 2"):
        hp.somp_many(z, projection, atoms, [[0, 1], [50]])
    with pytest.raises(HeadPursuitError, match="square"):
        hp.somp_moments(torch.zeros(3, 6, 5), projection, atoms)


def test_inputs_are_left_as_they_were(way: str) -> None:
    z, projection, atoms = (torch.randn(*shape, dtype=torch.float64) for shape in ((9, 1, 4), (1, 4, 8), (30, 8)))
    copies = [tensor.clone() for tensor in (z, projection, atoms)]
    hp.somp_heads(z, projection, atoms, n_atoms=3)
    assert all(torch.equal(*pair) for pair in zip(copies, (z, projection, atoms), strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_near_underflow_are_atoms_like_others(way: str, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(4)
    z, projection = torch.randn(20, 2, 6, generator=g), torch.randn(2, 6, 16, generator=g)
    atoms = torch.randn(50, 16, generator=g, dtype=torch.float64)
    atoms[::3] *= 1e-30 if dtype == torch.float32 else 1e-60
    atoms[::5] *= 1e15
    found = hp.somp_heads(z, projection, atoms.to(dtype), n_atoms=8)
    assert_same_as_literal(found, z, projection, atoms.to(dtype), n_atoms=8)


def test_bounds_hold_whatever_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the proof claims of every atom and step, checked against float64."""
    from headpursuit.pursuit import bounds, large_dictionary, scores
    from headpursuit.pursuit.whitening import whiten_rows

    atoms = clustered_atoms(300, 64, seed=1)
    layer = bursty_layer(atoms, n=80, h=2, e=8, seed=2, topics=20)
    for dtype in (torch.bfloat16, torch.float32):
        W = layer.projection.double()
        whitened = whiten_rows(layer.z, W @ W.mT, criterion="l1", center=True)
        vocabulary = large_dictionary.Vocabulary(atoms, dtype=dtype)
        vectors = large_dictionary.LargeDictionary(vocabulary, layer.projection, whitened, steps=20)
        everyone, every = torch.arange(2), torch.arange(300).expand(2, -1)
        places = scores.Places.of(torch.arange(600), 300)
        scorer = scores.Scorer(whitened)
        assert bool((vectors.exact(everyone, every)[0].norm(dim=2) <= vectors.bounds()).all())
        previous = None
        for _ in range(20):
            y, component = vectors.exact(everyone, every)
            approximate, error = vectors.approximate(places)
            assert bool(((y.flatten(0, 1) - approximate).norm(dim=1) <= error).all())
            score = scorer.exact(everyone, y)
            low, high = scorer.between(places, approximate, error)
            assert bool((low <= score.flatten()).all())
            assert bool((score.flatten() <= high).all())
            near, slack = scorer.near(everyone, y)
            assert bool(((near - score).abs() <= slack).all())
            if previous is not None:
                assert bool((score <= previous).all())
            pick = score.argmax(dim=1)
            u, reach = vectors.commit(pick, y[everyone, pick], component[everyone, pick], ~whitened.silent)
            previous = score + reach * scorer.exact(everyone, u[:, None])
    squares = scores.Scorer(whiten_rows(layer.z, W @ W.mT, criterion="l2", center=True))
    y = torch.randn(600, 8) * torch.logspace(-6, 3, 600)[:, None]
    error = y.norm(dim=1) * torch.rand(600)
    off = torch.nn.functional.normalize(torch.randn(600, 8, dtype=torch.float64), dim=1) * error[:, None]
    true = squares.near(everyone, (y.double() + off).view(2, 300, 8))[0].flatten()
    low, high = squares.between(places, y, error)
    assert bool((low <= true).all())
    assert bool((true <= high).all())
    gram = torch.randn(5, 30, 12)
    true = torch.linalg.matrix_norm(gram, ord=2)
    bound = bounds.spectral_bound(gram @ gram.mT)
    assert bool(((bound >= true) & (bound < 1.6 * true)).all())


def test_parameters_are_taken_as_they_are(way: str) -> None:
    atoms = clustered_atoms(60, 24, seed=1).requires_grad_()
    layer = bursty_layer(atoms.detach(), n=30, h=2, e=8, seed=2, topics=10)
    plain = hp.somp_heads(layer.z, layer.projection, atoms.detach(), n_atoms=5)
    learned = hp.somp_heads(layer.z, layer.projection.requires_grad_(), atoms, n_atoms=5)
    assert torch.equal(learned.support, plain.support)
