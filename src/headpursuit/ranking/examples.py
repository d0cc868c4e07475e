"""The samples that drive a head: where it writes most of the token that names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.captured import Captured
from headpursuit.errors import HeadPursuitError
from headpursuit.model.samples import Sample, fingerprint

# Letters of a text that are shown.
_SHOWN = 64
# At these positions the end of a text is what a head has just read.
_AT_THE_END = ("last", "answer")


@dataclass(frozen=True)
class HeadExample:
    """A sample at which a head writes much of its first token, or against it.

    Attributes:
        sample: its number among the captured samples.
        score: length of the head's output, less its mean over samples, along the token's direction; below 0 against it.
        text: a short part of its text: the end where the end was captured, else the beginning; empty where it is not known.
    """

    sample: int
    score: float
    text: str


def check_samples(acts: Captured, samples: Sequence[Sample]) -> None:
    """Check that samples are those that were captured, one a row.

    Raises:
        HeadPursuitError: they are others, or some were skipped.
    """
    if fingerprint(samples) != acts.about["data"]:
        raise HeadPursuitError(
            f"these {len(samples)} samples are not those of the capture, which were {acts.about['n_samples']}: give "
            "the same in the same order (the same limit, sample and seed)"
        )
    if acts.about.get("skipped"):
        skipped = len(acts.about["skipped"])
        raise HeadPursuitError(f"{skipped} samples were skipped, so whose the rows are is not known: capture without them")


def driving_samples(
    z: Float[Tensor, "n e"],
    projection: Float[Tensor, "e d"],
    atom: Float[Tensor, " d"],
    samples: Sequence[Sample],
    *,
    positions: str,
    count: int,
) -> tuple[HeadExample, ...]:
    """The samples whose head output lies farthest along an atom, from the mean.

    Args:
        z: the head's activations.
        projection: its rows of the output projection.
        atom: the direction, of any length.
        samples: one a row of ``z``; none where their texts are not known.
        positions: which tokens were captured.
        count: how many.
    """
    wide = atom.double()
    scores = (z.double() - z.double().mean(dim=0)) @ (projection.double() @ (wide / wide.norm()))
    best = scores.abs().topk(min(count, len(scores))).indices.tolist()
    return tuple(HeadExample(row, float(scores[row]), _excerpt(samples[row], positions) if samples else "") for row in best)


def _excerpt(sample: Sample, positions: str) -> str:
    text = " ".join(sample.text.split()) or sample.where or "image"
    if len(text) <= _SHOWN:
        return text
    return f"…{text[-_SHOWN:].lstrip()}" if positions in _AT_THE_END else f"{text[:_SHOWN].rstrip()}…"
