"""The fit of a head's best atom beside that of the head turned at random, and what a head without a name gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headpursuit.pursuit.best_fit import best_fits, chance_fits, principal


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def atoms(v=1200, d=48):
    """Clusters, directions of unequal strength and a common direction, as an unembedding has them."""
    centres = drawn(150, d, seed=1) * torch.linspace(1.5, 0.3, d)
    belongs = torch.randint(150, (v,), generator=torch.Generator().manual_seed(2))
    return centres[belongs] + drawn(v, d, seed=3) + 0.7 * drawn(1, d, seed=4)


def moments(z):
    z = z - z.mean(dim=0)
    return torch.einsum("nhe,nhf->hef", z, z)


def test_the_best_atom_is_that_of_the_dense_output():
    z, W, D = drawn(60, 5, 12, seed=5), drawn(5, 12, 48, seed=6), atoms()
    amplitudes, directions = principal(moments(z), W, k=12)
    assert torch.allclose(amplitudes.square().sum(dim=1), torch.ones(5, dtype=torch.float64))
    H = torch.einsum("nhe,hed->hnd", z - z.mean(dim=0), W)
    _, size, v = torch.linalg.svd(H, full_matrices=False)
    unit = D / D.norm(dim=1, keepdim=True)
    shared = unit.mean(dim=0) / unit.mean(dim=0).norm()
    cosines = (v - (v @ shared)[..., None] * shared) @ unit.T
    energy = (size[..., None] * cosines.square()).sum(dim=1)
    fits, rows = best_fits(amplitudes, directions, D, n_best=3)
    assert torch.allclose(fits, energy.amax(dim=1) / energy.mean(dim=1), rtol=1e-4)
    assert torch.equal(rows, energy.topk(3, dim=1).indices)


@pytest.mark.parametrize("slow", [0.1, 1.0])
def test_a_head_without_relation_to_the_dictionary_has_uniform_p_values(slow):
    h, draws = 600, 999  # all heads share the draws: with few, all p-values are off alike
    z, W = drawn(40, h, 8, seed=7) * torch.logspace(0, np.log10(slow), 8), drawn(h, 8, 48, seed=8)
    amplitudes, directions = principal(moments(z), W, k=6)
    best, chance = best_fits(amplitudes, directions, atoms())[0], chance_fits(amplitudes, atoms(), draws=draws)
    p = ((chance >= best).sum(dim=0) + 1).numpy() / (draws + 1)
    # One set of draws serves all heads, so the whole curve may lie a little high or low.
    for level, off in ((0.01, 0.015), (0.05, 0.025), (0.1, 0.04), (0.5, 0.1)):
        assert abs((p <= level).mean() - level) < off


def test_a_head_that_writes_a_token_fits_it_better_than_chance():
    D = atoms()
    W, z = drawn(6, 8, 48, seed=9), drawn(40, 6, 8, seed=10)
    W[:, 0] = 7 * D[17] / D[17].norm()
    z[:, :, 0] *= 4
    amplitudes, directions = principal(moments(z), W, k=6)
    best, chance = best_fits(amplitudes, directions, D)[0], chance_fits(amplitudes, D, draws=99)
    assert bool((best > chance.amax(dim=0)).all())


def test_a_head_along_what_all_atoms_share_has_no_name():
    D = atoms()
    W, z = drawn(20, 8, 48, seed=11), drawn(40, 20, 8, seed=12)
    W[:, 0] = 30 * D.mean(dim=0)
    amplitudes, directions = principal(moments(z), W, k=6)
    best, chance = best_fits(amplitudes, directions, D)[0], chance_fits(amplitudes, D, draws=99)
    assert ((chance >= best).double().mean(dim=0) > 0.05).double().mean() > 0.7


def test_where_no_atom_says_more_than_another_the_fit_is_one():
    amplitudes, directions = principal(torch.zeros(1, 4, 4), drawn(1, 4, 16), k=4)
    assert best_fits(amplitudes, directions, torch.cat([torch.zeros(1, 16), torch.eye(16)]))[0].tolist() == [1.0]
    amplitudes, directions = principal(torch.eye(4)[None], drawn(1, 4, 16), k=4)
    assert best_fits(amplitudes, directions, torch.eye(16)[:1])[0].tolist() == [1.0]


def test_turns_are_the_seeds_alone():
    amplitudes = torch.tensor([[0.5, 0.25], [0.9, 0.1]])
    one, other = (chance_fits(amplitudes, atoms(), draws=30, seed=seed) for seed in (3, 4))
    assert one.shape == (30, 2)
    assert torch.equal(one, chance_fits(amplitudes, atoms(), draws=30, seed=3))
    assert not torch.equal(one, other)
