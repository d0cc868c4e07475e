"""What it means that a fast pursuit agrees with Algorithm 1 in float64, and each way to run it."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

import headpursuit.pursuit as hp
from headpursuit.pursuit import batches, screened
from headpursuit.pursuit.results import HeadPursuits

WAYS = {"compiled": 10**9, "small": 10**9, "large-bfloat16": 0, "large-float32": 0}


def use_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "SMALL", WAYS[name])
    if name != "compiled":
        monkeypatch.setattr(batches, "serves", lambda *_, **__: False)
    dtype = torch.bfloat16 if name.endswith("bfloat16") else torch.float32
    monkeypatch.setattr(batches, "screening_dtype", lambda *_: dtype)
    # A few atoms at first and a few pairs at a time, so that small dictionaries take every turn that a vocabulary takes.
    for name, few in {"_FIRST": 8, "_FIRST_SCORED": 2, "_TOGETHER": 16}.items():
        monkeypatch.setattr(screened, name, few)


def assert_same_as_literal(
    found: HeadPursuits,
    z: Tensor,
    projection: Tensor,
    atoms: Tensor,
    *,
    n_atoms: int,
    criterion: str = "l1",
    center: bool = True,
    normalize: bool = True,
) -> None:
    """Equal supports up to the first tie of the literal scores, and equal explained variances up to there."""
    for head in range(z.shape[1]):
        signal = hp.HeadSignal(z[:, head].double(), projection[head].double())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hp.EarlyStopWarning)
            literal = hp.somp_literal(
                signal, atoms.double(), n_atoms=n_atoms, criterion=criterion, center=center, normalize=normalize
            )
        fast = found.head(head)
        same = len(literal) if len(literal) == len(fast) else min(len(literal), len(fast))
        differing = (literal.support[:same] != fast.support[:same]).nonzero()
        if len(differing):
            same = int(differing[0])
            assert_tie(signal, atoms, literal.support, fast.support, same, criterion, center, normalize)
        else:
            assert len(literal) == len(fast)
        gap = (literal.explained_variance[:same] - fast.explained_variance[:same]).abs()
        assert not same or float(gap.max()) < 1e-5


def assert_tie(
    signal: hp.HeadSignal, atoms: Tensor, ours: Tensor, theirs: Tensor, step: int, criterion: str, center: bool, normalize: bool
) -> None:
    H = signal.dense()
    H = H - H.mean(0) if center else H
    D = atoms.double()
    D = D / D.norm(dim=1, keepdim=True).clamp_min(1e-300) if normalize else D
    if step:
        D_S = D[ours[:step]]
        H = H - torch.linalg.lstsq(D_S.T, H.T).solution.T @ D_S
    scores = [(H @ D[int(s[step])]).abs() for s in (ours, theirs)]
    totals = [float(s.sum() if criterion == "l1" else s.norm()) for s in scores]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)
