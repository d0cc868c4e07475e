"""The samples that drive a head: where it writes most of the token that names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from headpursuit.activations.captured import Captured
from headpursuit.activations.head_activations import HeadActivations
from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head
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
    """Check that samples are those that were captured, and that it is known whose the rows are.

    Raises:
        HeadPursuitError: they are others, or some were skipped of a capture that keeps a row of each.
    """
    if fingerprint(samples) != acts.about["data"]:
        raise HeadPursuitError(
            f"these {len(samples)} samples are not those of the capture, which were {acts.about['n_samples']}: give "
            "the same in the same order (the same limit, sample and seed)"
        )
    if acts.about.get("skipped") and acts.rows is not None and getattr(acts.rows, "numbers", None) is None:
        skipped = len(acts.about["skipped"])
        raise HeadPursuitError(f"{skipped} samples were skipped, so whose the rows are is not known: capture without them")


def driving_samples(
    acts: HeadActivations, head: Head, atom: Float[Tensor, " d"], samples: Sequence[Sample], *, count: int
) -> tuple[HeadExample, ...]:
    """The samples whose head output lies farthest along an atom, from the mean.

    Args:
        acts: a capture of rows, or the rows that one of moments kept.
        head: the head.
        atom: the direction, of any length.
        samples: all that were captured; none where their texts are not known.
        count: how many.
    """
    z, projection = acts.z[head.layer][:, head.head].double(), acts.weights.projection(head.layer)[head.head].double()
    wide = atom.double()
    scores = (z - z.mean(dim=0)) @ (projection @ (wide / wide.norm()))
    best = scores.abs().topk(min(count, len(scores))).indices.tolist()
    numbers = acts.numbers or range(len(scores))
    texts = [_excerpt(samples[numbers[row]], acts.positions) if samples else "" for row in best]
    return tuple(HeadExample(numbers[row], float(scores[row]), text) for row, text in zip(best, texts, strict=True))


def _excerpt(sample: Sample, positions: str) -> str:
    text = " ".join(sample.text.split()) or sample.where or "image"
    if len(text) <= _SHOWN:
        return text
    return f"…{text[-_SHOWN:].lstrip()}" if positions in _AT_THE_END else f"{text[:_SHOWN].rstrip()}…"
