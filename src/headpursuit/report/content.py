"""What a report says, apart from how it looks: plain values that any run can fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from headpursuit.errors import HeadPursuitError
from headpursuit.model.heads import Head

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image


@dataclass(frozen=True)
class DescribedHead:
    """A head and the tokens that name it.

    Attributes:
        name: such as ``L18.H27``.
        tokens: readable, in the order in which they were chosen.
        explained_variance: share of the head's variance over samples that the tokens explain, if known.
        score: the head's score for the concept of its section, if it stands in one.
    """

    name: str
    tokens: Sequence[str] = ()
    explained_variance: float | None = None
    score: float | None = None

    @property
    def head(self) -> Head:
        """Layer and head as numbers.

        Raises:
            HeadPursuitError: the name is not the name of a head.
        """
        return Head.parse(self.name)


@dataclass(frozen=True)
class Example:
    """One held-out sample before and after the edit.

    Attributes:
        prompt: what the model was asked; may be empty for a bare image.
        before: the unedited model's text.
        after: its text under the suppressing edit.
        image: the image of a vision-language sample.
        enhanced: its text under the enhancing edit, if there was one.
        reference: the expected text, if there is one.
    """

    prompt: str
    before: str
    after: str
    image: Image | None = None
    enhanced: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What was promised for a concept, and whether it was reached.

    Attributes:
        target: the promise in words, such as "colour words at most 0.30 of the unedited count".
        reached: whether it held.
        reason: for a missed target, the best that was reached and why; for a reached one, a remark.
    """

    target: str
    reached: bool
    reason: str | None = None


@dataclass(frozen=True)
class ConceptSection:
    """Everything about one concept.

    Attributes:
        name: name of the concept.
        words: the words (or atom labels) that were kept for this tokenizer; those of them that occur in an example are
            highlighted.
        method: how the chosen heads were ranked, such as ``somp``.
        positions: which tokens each sample was the mean of.
        scores: the ranking's score of every head, shape ``(l, h)``; NaN where a layer has no such head.
        heads: the heads that were edited, best first.
        rows: tidy result rows (design: ``task``, ``concept``, ``selection``, ``k``, ``scale``, ``metric``, ``value``,
            ``normalized``, ``q25``, ``q75``, ``n``, ``seed``). ``q25`` and ``q75`` are in the unit of ``normalized``, or
            of ``value`` where a row has no ``normalized``.
        logit_lens_scores: the logit lens' score of every head, shape ``(l, h)``.
        examples: samples before and after.
        verdict: whether the concept's target was reached.
        target_metric: the ``metric`` that the edit is meant to change; by default that of the first row of the chosen
            heads.
        target_task: the ``task`` in which it is the target, where several tasks share the metric's name.
        k: number of edited heads that the summary speaks of; by default the number of ``heads``.
        description: one line under the title.
    """

    name: str
    words: Sequence[str]
    method: str
    positions: str
    scores: Float[np.ndarray, "l h"]
    heads: Sequence[DescribedHead] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    logit_lens_scores: Float[np.ndarray, "l h"] | None = None
    examples: Sequence[Example] = ()
    verdict: Verdict | None = None
    target_metric: str | None = None
    target_task: str | None = None
    k: int | None = None
    description: str = ""

    def __post_init__(self) -> None:
        for what, scores in (("scores", self.scores), ("logit_lens_scores", self.logit_lens_scores)):
            if scores is not None and (np.ndim(scores) != 2 or np.shape(scores) != np.shape(self.scores)):
                raise HeadPursuitError(
                    f"concept {self.name!r}: {what} must have shape (layers, heads), got {np.shape(scores)}"
                )
        layers, heads = np.shape(self.scores)
        for described in self.heads:
            if described.head.layer >= layers or described.head.head >= heads:
                raise HeadPursuitError(
                    f"concept {self.name!r}: {described.name} lies outside its {layers} × {heads} scores"
                )

    @property
    def n_edited(self) -> int:
        """Number of edited heads that the summary speaks of."""
        return len(self.heads) if self.k is None else self.k


@dataclass(frozen=True)
class RunReport:
    """One run, ready to be shown.

    Attributes:
        title: heading of the page.
        subtitle: one sentence below it.
        model: id or folder of the model.
        architecture: such as ``LlavaForConditionalGeneration``.
        concepts: one section each, in order.
        described: heads named without any concept.
        versions: of the software that made the numbers.
        date: when, as it should be printed.
        notes: limits and remarks, printed at the end.
        control_draws: number of random head sets behind each random value.
        command: what to type to get these numbers again.
    """

    title: str
    subtitle: str
    model: str
    architecture: str
    concepts: Sequence[ConceptSection] = ()
    described: Sequence[DescribedHead] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    notes: Sequence[str] = ()
    control_draws: int | None = None
    command: str | None = None
