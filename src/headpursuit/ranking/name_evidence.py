"""What chance would give in place of a head's name: of a large vocabulary some token always fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments
from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head
from headpursuit.optional import optional_import
from headpursuit.pursuit.best_fit import best_fits, chance_fits, principal
from headpursuit.pursuit.dictionary import Dictionary
from headpursuit.ranking.significance import against_null

# A head has a name if its q is no higher.
FDR = 0.05


@dataclass(frozen=True)
class NameEvidence:
    """How well the best token fits a head, beside the same head turned at random.

    Attributes:
        tokens: the tokens that fit best, best first: what is tested, and so the name of a head that has one. They may be forms
            of one word, where the pursuit's later tokens explain what its first left over.
        fit: how many times better the best token fits the head's main directions than a token does on average, less the
            direction that all tokens share; see :mod:`headpursuit.pursuit.best_fit`.
        by_chance: mean of that over the random turns.
        p: probability of so good a fit by chance: counted where 10 or more turns reach it, else the tail of a normal
            distribution of the logarithms of the turns' fits.
        q: the lowest false-discovery rate at which the head is found (Benjamini and Hochberg 1995), over the heads described.
        draws: number of random turns.
    """

    tokens: tuple[str, ...]
    fit: float
    by_chance: float
    p: float
    q: float
    draws: int

    def __str__(self) -> str:
        return f"fit {self.fit:.3g}, by chance {self.by_chance:.3g}, q {self.q:.2g}"

    @property
    def found(self) -> bool:
        """Whether a token fits better than chance, at a false-discovery rate of 0.05."""
        return self.q <= FDR


def name_evidence(
    acts: HeadActivations | HeadMoments,
    heads: Sequence[Head],
    dictionary: Dictionary,
    *,
    draws: int,
    n_best: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> dict[Head, NameEvidence]:
    """Test the names of some heads together.

    Args:
        acts: a capture.
        heads: the heads over which the false-discovery rate holds.
        dictionary: what they are named by.
        draws: number of random turns, which serve all heads.
        n_best: how many of the tokens that fit best are kept.
        seed: seed of the turns.
        progress: show a progress bar.

    Raises:
        HeadPursuitError: fewer than two draws.
        MissingExtraError: scipy is not installed.
    """
    if draws < 2:
        raise HeadPursuitError(f"significance={draws}: {draws} random turns make no distribution; draw at least 2, better 200")
    stats = optional_import("scipy.stats", extra="stats", purpose="the significance of names")
    amplitudes, directions = zip(
        *(
            principal(_moment(acts, head), acts.weights.projection(head.layer)[head.head][None])
            for head in tqdm(heads, desc="directions", unit="head", disable=not progress, leave=False)
        ),
        strict=True,
    )
    found, rows = best_fits(torch.cat(amplitudes), torch.cat(directions), dictionary.atoms, n_best=n_best)
    fits = found.numpy()
    chance = chance_fits(torch.cat(amplitudes), dictionary.atoms, draws=draws, seed=seed).numpy()
    tested = against_null(fits[None], chance[:, None], logarithmic=True, tail="fitted", stats=stats)
    chance_means, p, q = (tested[name][0].tolist() for name in ("null_mean", "p", "q"))
    tokens = [tuple(dictionary.labels[row] for row in line) for line in rows.tolist()]
    return {head: NameEvidence(tokens[i], float(fits[i]), chance_means[i], p[i], q[i], draws) for i, head in enumerate(heads)}


def _moment(acts: HeadActivations | HeadMoments, head: Head) -> Float[Tensor, "1 e e"]:
    if isinstance(acts, HeadMoments):
        return acts.centered(head.layer)[head.head][None]
    z = acts.z[head.layer][:, head.head].double()
    z = z - z.mean(dim=0)
    return (z.mT @ z)[None]
