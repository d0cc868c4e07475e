"""Inputs shaped like the real thing: unembeddings whose rows come in families, heads that write in bursts.

Real unembeddings are clustered (inflections, casings, neighbours in meaning) and real head activations are heavy-tailed:
a few samples carry much of the energy, and a head writes some topics on some samples. Gaussian inputs would flatter a
screening bound, so both properties are built in here, from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """One layer's inputs: ``z (n, h, e)``, ``projection (h, e, d)`` and the dictionary ``atoms (v, d)``."""

    z: Tensor
    projection: Tensor
    atoms: Tensor


def clustered_atoms(v: int, d: int, *, seed: int = 0, family: int = 8, reserved: int = 64) -> Tensor:
    """Rows in families of about `family` (cosine about 0.4), families in themes (cosine about 0.15), lengths spread.

    The last `reserved` rows are one vector repeated, as the unused tokens of real vocabularies are, and one row is zero.
    """
    g = torch.Generator().manual_seed(seed)
    families = max(v // family, 1)
    themes = max(families // 20, 1)
    shared = torch.randn(d, generator=g)
    theme = torch.randn(themes, d, generator=g)
    centre = 0.8 * torch.randn(families, d, generator=g).add_(
        theme[torch.randint(themes, (families,), generator=g)], alpha=0.75
    )
    atoms = torch.randn(v, d, generator=g)
    # Blocks keep the peak at one dictionary and a bit: the widest vocabulary here is gigabytes.
    for rows in torch.arange(v).split(16384):
        member = torch.randint(families, (len(rows),), generator=g)
        length = torch.exp(0.2 * torch.randn(len(rows), 1, generator=g)) / d**0.5
        atoms[rows] = (atoms[rows] + centre[member] + 0.2 * shared) * length
    reserved = min(reserved, v // 20)
    if reserved:
        atoms[-reserved:] = atoms[-reserved].clone()
        atoms[v // 2] = 0
    return atoms


def bursty_layer(
    atoms: Tensor, *, n: int, h: int, e: int, seed: int = 0, topics: int = 96, dtype: torch.dtype = torch.float32
) -> Layer:
    """Heads that write a few topics each on a few samples, over a heavy-tailed background of falling spectrum."""
    g = torch.Generator().manual_seed(seed + 1)
    v, d = atoms.shape
    spectrum = torch.arange(1, e + 1).pow(-0.5)
    prominence = torch.arange(1, topics + 1).pow(-0.6)
    z = torch.empty(n, h, e)
    projection = torch.empty(h, e, d)
    for head in range(h):
        read = torch.randn(topics, e, generator=g) / e**0.5
        write = atoms[torch.randint(v, (topics,), generator=g)].float()
        write = write / write.norm(dim=1, keepdim=True).clamp_min(1e-6)
        projection[head] = torch.randn(e, d, generator=g) / d**0.5 + read.T @ write
        tails = torch.randn(n, e, generator=g) / torch.empty(n, e).exponential_(4 / 2, generator=g).add_(0.3).sqrt_()
        loudness = torch.exp(0.5 * torch.randn(n, 1, generator=g))
        strength = torch.empty(n, topics).exponential_(0.5, generator=g) * (torch.rand(n, topics, generator=g) < 0.15)
        offset = 0.5 * torch.randn(e, generator=g)
        z[:, head] = loudness * (tails * spectrum + (strength * prominence) @ read) + offset
    return Layer(z.to(dtype), projection.to(dtype), atoms.to(dtype))
