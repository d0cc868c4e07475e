"""The target of a selection: a concept in a model's tokens, and the measure of it that edits should move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from headpursuit.activations.measures import Measure, contrast_measure, log_odds_measure
from headpursuit.concepts import ConceptLike, MultiToken, ResolvedConcept, as_concept, resolve
from headpursuit.concepts.counting import neutral_texts
from headpursuit.errors import HeadPursuitError, check_choice
from headpursuit.model.head_model import HeadModel
from headpursuit.model.projection import weight_of
from headpursuit.model.samples import Sample, Samples, as_samples, fingerprint
from headpursuit.ranking.own_metrics import function_name
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.versions import versions

POSITIONS = "all"
OwnMetric = Callable[[HeadModel], float]


@dataclass(frozen=True)
class Target:
    """What a selection is after.

    Attributes:
        name: the concept's name.
        words: labels of its tokens, or its words where no token is read; empty where it is a metric alone.
        samples: what it is measured on.
        measure: what edits should move: a number of the (edited) model.
        unit: unit of that number.
        about: what is needed to know it again, in plain values.
        depends_on: the same, with what its numbers depend on beside model and samples.
    """

    name: str
    words: tuple[str, ...]
    samples: Sequence[Sample]
    measure: Measure | OwnMetric
    unit: str
    about: Mapping[str, Any]
    depends_on: Any

    def metric(self, *, batch_size: int) -> OwnMetric:
        """The measure as a function of the model alone."""
        return partial(self.measure, batch_size=batch_size) if isinstance(self.measure, Measure) else self.measure


def target_of(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike | OwnMetric,
    *,
    metric: OwnMetric | None = None,
    multi_token: MultiToken,
    variants: bool,
    limit: int | None,
) -> Target:
    """A concept's target: its log-odds in samples, or without those the contrast of the texts that it was made of; or a metric.

    Args:
        model: the model.
        samples: samples with targets, or None; with a metric any.
        concept: as for :func:`headpursuit.rank`; or the metric itself.
        metric: given the model under an edit, a number.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        limit: only the first so many samples, or texts of each set.

    Raises:
        HeadPursuitError: no samples for a concept of words, a sample without target, a concept without tokens.
    """
    own = concept if callable(concept) else metric
    options: dict[str, Any] = {"multi_token": multi_token, "variants": variants}
    wanted = None if callable(concept) else as_concept(concept)
    if own is not None:
        unit = function_name(own)
        chosen = () if samples is None else as_samples(samples, limit=limit)
        named = (unit, ()) if wanted is None else (wanted.name, wanted.words)
        return Target(*named, chosen, own, unit, {**options, "metric": unit}, own)
    assert wanted is not None
    if samples is None and wanted.texts is not None:
        with_, without = wanted.texts.with_[:limit], wanted.texts.without[:limit]
        measure = contrast_measure(with_, without)
        return Target(wanted.name, wanted.words, measure.samples, measure, "nats", options, ["contrast", len(with_)])
    resolved = resolved_for(model, wanted, **options)
    options["multi_token"] = resolved.multi_token
    measure = log_odds_measure(own_samples(samples, wanted, limit=limit), resolved.token_ids)
    return Target(resolved.name, resolved.labels, measure.samples, measure, "nats", options, list(resolved.token_ids))


def own_samples(samples: Samples | None, concept: ConceptLike, *, limit: int | None) -> Sequence[Sample]:
    """The samples that were given, or else the texts with it that a concept was made of.

    Raises:
        HeadPursuitError: neither is there.
    """
    if samples is not None:
        return as_samples(samples, limit=limit)
    texts = as_concept(concept).texts
    if texts is None:
        raise HeadPursuitError("no samples: give some, or a concept that is made of texts (hp.Concept.from_texts)")
    return texts.with_[:limit]


def quiet_texts(neutral: Samples | None, concept: ConceptLike | OwnMetric) -> list[Sample]:
    """Neutral texts that have none of a concept's words, packaged ones where none are given.

    The words that tell sets of texts apart may be as common as a full stop, and are not looked for.

    Raises:
        HeadPursuitError: every text has one.
    """
    wanted = None if callable(concept) else as_concept(concept)
    found = neutral_texts(neutral, () if wanted is None or wanted.texts is not None else wanted.words)
    if not found:
        raise HeadPursuitError("neutral: every text speaks of the concept; give others")
    return found


def resolved_for(model: HeadModel, concept: ConceptLike, *, multi_token: MultiToken, variants: bool) -> ResolvedConcept:
    """A concept's tokens in a model's vocabulary."""
    check_choice(get_args(MultiToken), multi_token=multi_token)
    size = len(weight_of(model.module(model.anatomy.unembedding)))
    return resolve(as_concept(concept), model.tokenizer, multi_token=multi_token, variants=variants, vocabulary_size=size)


def target_ranking(
    model: HeadModel,
    target: Target,
    scores: Float[np.ndarray, "l h"],
    *,
    method: str,
    unit: str,
    about: Mapping[str, Any] | None = None,
    values: Mapping[str, Float[np.ndarray, "l h"]] | None = None,
) -> HeadRanking:
    """Scores that say what scaling heads does, with what is needed to know and repeat them."""
    return HeadRanking(
        scores=scores,
        concept=target.name,
        method=method,
        words=target.words,
        n=len(target.samples),
        positions=POSITIONS,
        model=model.identity,
        about={
            **(about or {}),
            **target.about,
            "data": fingerprint(target.samples),
            "dtype": str(model.hf.dtype).removeprefix("torch."),
            "versions": versions(),
        },
        unit=unit,
        values=values or {},
    )
