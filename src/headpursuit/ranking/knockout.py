"""Knock-outs: the effect of each head on any measure, from edits of many random sets of heads.

A single head's edit is measured best by itself, but there are as many of those as heads. Random sets of a few heads, spread
over layers, measure several at once, and sparse regression splits what they change (ranking/sparse_effects.py). Unlike a
derivative this is the edit itself, at its own scale, and the measure may be anything: what the model writes, too.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from headpursuit.activations.measures import Divergence
from headpursuit.concepts import ConceptLike, MultiToken
from headpursuit.editing.edit import HeadEdit
from headpursuit.engines import LOCAL, Engine, LostPartError, mapped
from headpursuit.errors import HeadPursuitError, check_choice, shown
from headpursuit.files import digest, locked, read_kept, write_sealed
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import Head, HeadsLike, parse_heads
from headpursuit.model.identity import weights_fingerprint
from headpursuit.model.load import setup_for
from headpursuit.model.samples import Samples, fingerprint
from headpursuit.model.tokenize import token_fingerprint
from headpursuit.ranking.attribution import direction
from headpursuit.ranking.cost import Cost, metered, ran_elsewhere
from headpursuit.ranking.masks import random_masks
from headpursuit.ranking.methods import KNOCKOUT_ORDERS, KnockoutOrder
from headpursuit.ranking.own_metrics import function_fingerprint
from headpursuit.ranking.ranking import STEP, HeadRanking
from headpursuit.ranking.sparse_effects import sparse_effects
from headpursuit.ranking.target import OwnMetric, Target, quiet_texts, target_of, target_ranking
from headpursuit.versions import versions

FORMAT = 2
# What scores are divided by.
_UNITS: Mapping[str, str] = {"effect": "", "effect_per_cost": " a neutral nat", "natural": " a root of a neutral nat"}
_AGAIN = "delete it, and the next run measures it anew"
# Of the mean head's neutral cost; a head that seems to cost less counts as costing so much, lest luck put it first.
_LEAST = 0.25
# An edit, and what is measured under it: the metric (0), or the cost on neutral texts (1).
_Part = tuple[HeadEdit | None, int]


def knockout(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike | OwnMetric,
    *,
    metric: OwnMetric | None = None,
    heads: HeadsLike | None = None,
    scale: float = -1.0,
    masks: int = 200,
    share: float | None = None,
    neutral: Samples | None = None,
    order: KnockoutOrder = "effect",
    out: str | Path | None = None,
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 16,
    limit: int | None = None,
    seed: int = 0,
    engine: Engine = LOCAL,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by what their edit does to a measure, found from edits of random sets of heads.

    Args:
        model: the model.
        samples: as for :func:`headpursuit.ranking.attribution.attribution`; with a metric any, or None.
        concept: as for :func:`headpursuit.rank`; or the metric itself.
        metric: given the model under an edit, a number, such as how many words of the concept it writes; when left out the mean
            of the concept's log-odds, or without samples the contrast of the texts that it is made of.
        heads: edit these alone, all when left out; the others then score 0, between those that say the concept and those that
            hold it down.
        scale: the edit's factor.
        masks: how many sets of heads are edited, each one evaluation of the measure.
        share: share of the heads in a set, at least one head. A larger one measures more heads at once, but they interact more.
            When left out every head is edited by itself, once, where ``masks`` allows it, and else 0.05 of them together.
        neutral: texts, of which those with the concept's words do not count; what each head costs on them is then found
            likewise, as the divergence
            from the unedited model, see :class:`headpursuit.activations.measures.Divergence`.
        order: ``effect``; ``effect_per_cost``: divided by the neutral cost, which counts as a quarter of the mean head's at
            least; or ``natural``: divided by the root of the cost, and with a step for each head that is effect for cost, by
            which edits scale it, see :mod:`headpursuit.ranking.natural`.
        out: a folder to keep each set's measurement in; a run that was cut off goes on where it stopped.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        batch_size: samples that run together.
        limit: only the first so many samples.
        seed: seed of the sets.
        engine: where sets are measured.
        progress: show a progress bar.

    Returns:
        The ranking; a score is by how much the head's edit lowers the measure (for a scale above 1: raises it), in nats or in
        the metric's own unit; negative for a head that holds the concept down. Beside it stand the effect, its standard error
        and, with neutral texts, the cost in nats a token.

    Raises:
        HeadPursuitError: a measure that is no finite number or that nothing changes, too few masks, a share that makes them all
            alike, a scale of 1, an order by cost without neutral texts; a sample without target where the log-odds are read.

    Examples:
        >>> ranking = hp.select(model, samples, "colours", method="knockout", masks=40, share=0.1, progress=False)
        >>> ranking.unit, ranking.cost.forward == 41 * len(samples), list(ranking.values)
        ('nats', True, ['effect', 'error'])
    """
    check_order(order, neutral)
    sign = direction(scale)
    asked = sorted(model.anatomy.heads() if heads is None else set(parse_heads(heads)))
    model.anatomy.require(asked)
    sets = random_masks(asked, masks=masks, share=share, seed=seed)
    target = target_of(model, samples, concept, metric=metric, multi_token=multi_token, variants=variants, limit=limit)
    texts = None if neutral is None else quiet_texts(neutral, concept)
    about: dict[str, Any] = {"scale": scale, "share": share, "masks": masks, "seed": seed, "order": order}
    if heads is not None:
        about["heads"] = [head.name for head in asked]
    about["neutral"] = None if texts is None else fingerprint(texts)
    own, others = {}, {}
    if out is not None:
        alike = {"model": weights_fingerprint(model.hf), "dtype": str(model.hf.dtype), "versions": versions()}
        own = {**alike, **_depends_on(model, target)}
        others = {**alike, "neutral": about["neutral"], "tokens": texts and token_fingerprint(model, texts)}
    measure = Measurements(
        model,
        target.metric(batch_size=batch_size),
        None if texts is None else Divergence(model, texts, batch_size=batch_size),
        folder=None if out is None else Path(out),
        about=own,
        about_neutral=others,
        engine=engine,
    )
    edits = [HeadEdit(one, scale=scale) for one in sets]
    bar = tqdm(total=len(set(sets)) + 1, desc="knock-outs", unit="mask", disable=not progress, leave=False)
    with measure.held(), bar:
        found = measure.many([None, *edits], done=bar.update)
    measured = np.array([found[edit] for edit in edits])
    changes = measured[:, 0] - found[None][0]
    if not changes.any():
        raise HeadPursuitError(
            f"the metric is {found[None][0]:g} under each of {masks} masks as it is without: no head moves it on these samples"
        )
    design = np.array([[head in one for head in asked] for one in map(set, sets)], dtype=float)
    effects = sparse_effects(design, sign * changes)
    values, scores = {"effect": effects.values}, effects.values
    if not np.isnan(effects.errors).all():  # of heads that were edited alone there is none
        values["error"] = effects.errors
    if texts is not None:
        values["neutral"] = sparse_effects(design, measured[:, 1]).values
    if order != "effect":
        if not measured[:, 1].sum() > 0:
            raise HeadPursuitError(
                "no edit costs anything on the neutral texts, so that nothing is the dearer: order by effect"
            )
        floor = _LEAST * measured[:, 1].sum() / design.sum()
        costs = np.maximum(values["neutral"], floor)
        scores = effects.values / (costs if order == "effect_per_cost" else np.sqrt(costs))
        if order == "natural":
            values[STEP] = effects.values / costs
    ranking = target_ranking(
        model,
        target,
        _as_table(model, asked, scores, others=0.0),
        method="knockout",
        unit=target.unit + _UNITS[order],
        about=about,
        values={name: _as_table(model, asked, one, others=0.0 if name == STEP else np.nan) for name, one in values.items()},
    )
    return replace(ranking, cost=measure.kept)


def _depends_on(model: HeadModel, target: Target) -> dict[str, Any]:
    """Everything that a target's measure depends on beside the model and the edit."""
    metric = function_fingerprint(target.depends_on) if callable(target.depends_on) else target.depends_on
    return {"samples": fingerprint(target.samples), "tokens": token_fingerprint(model, target.samples), "metric": metric}


def check_order(order: str, neutral: Samples | None) -> None:
    """Refuse an order that there is none of, or one by cost without the texts that tell it.

    Raises:
        HeadPursuitError: naming the order.
    """
    check_choice(KNOCKOUT_ORDERS, order=order)
    if order != "effect" and neutral is None:
        raise HeadPursuitError(f"order={order!r}: what heads cost is measured on neutral texts, give some (neutral=…)")


@dataclass
class Measurements:
    """What a metric says under edits, and what they cost on neutral texts; kept on disk where a folder is given.

    Attributes:
        model: the model.
        metric: given the model under an edit, a number.
        neutral: the same for neutral texts, or None.
        folder: where measurements are kept, or None.
        about: everything that the metric depends on beside the edit, in plain values.
        about_neutral: the same for the neutral texts, which knock-outs for other metrics share.
        kept: what those cost that were found in the folder.
        engine: where edits are measured.
    """

    model: HeadModel
    metric: OwnMetric
    neutral: Divergence | None
    folder: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    about_neutral: Mapping[str, Any] = field(default_factory=dict)
    kept: Cost = field(default_factory=Cost)
    engine: Engine = LOCAL

    def many(
        self, edits: Iterable[HeadEdit | None], *, done: Callable[[], object] = lambda: None
    ) -> dict[HeadEdit | None, tuple[float, float]]:
        """The metric and the neutral cost (0 where none is measured) under every edit, None for the unedited model.

        Args:
            edits: those that are the same are measured once.
            done: called once for each that is measured.

        Raises:
            HeadPursuitError: the metric gives no finite number; a kept measurement is not as it was written; workers died of
                one.
        """
        measures: list[OwnMetric] = [self.metric] if self.neutral is None else [self.metric, self.neutral]
        found: dict[_Part, float] = {}
        missing: list[_Part] = []
        wanted = dict.fromkeys(edits)
        for part in ((edit, number) for edit in wanted for number in range(len(measures))):
            _, path = self._place(part)
            if path is not None and path.is_file():
                stored = read_kept(path, format=FORMAT, what="measurement", remedy=_AGAIN)
                self.kept += Cost(**stored["cost"])
                found[part] = float(stored["value"])
            else:
                missing.append(part)
        last = len(measures) - 1
        for _ in range(sum((edit, last) in found for edit in wanted)):
            done()
        setup = setup_for(partial(_measured, measures=measures), self.model, engine=self.engine)
        for part, given in mapped(missing, setup, engine=self.engine, name=_called):
            if isinstance(given, LostPartError):
                raise given
            found[part], cost = given
            about, path = self._place(part)
            if path is not None:
                content = {"format": FORMAT, "about": about, "value": found[part], "cost": asdict(cost)}
                write_sealed(path, content, indent=None)
            if self.engine.name != "local":
                ran_elsewhere(cost)
            if part[1] == last:
                done()
        return {edit: (found[edit, 0], found.get((edit, 1), 0.0)) for edit in wanted}

    def _place(self, part: _Part) -> tuple[dict[str, Any], Path | None]:
        """All that a number depends on, and where it is kept."""
        edit, number = part
        about = {**(self.about, self.about_neutral)[number], "edit": None if edit is None else edit.to_dict()}
        return about, None if self.folder is None else self.folder / f"{digest(about)}.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, if there is one, for this process alone."""
        with nullcontext() if self.folder is None else locked(self.folder):
            yield


def _called(part: _Part) -> str:
    edit, number = part
    return str(edit) if edit is not None else ("the unedited model", "neutral texts")[number]


def _measured(model: HeadModel, part: _Part, *, measures: Sequence[OwnMetric]) -> tuple[float, Cost]:
    edit, number = part
    with metered(model) as meter, nullcontext() if edit is None else edit.applied(model):
        found = _finite(measures[number](model), _called(part))
    return found, meter.cost


def _finite(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise HeadPursuitError(f"the metric gave {shown(value)} for {where}: it must give a number") from error
    if not math.isfinite(number):
        raise HeadPursuitError(f"the metric gave {number} for {where}: it must give a finite number under every edit")
    return number


def _as_table(
    model: HeadModel, heads: Sequence[Head], values: Float[np.ndarray, " j"], *, others: float = np.nan
) -> Float[np.ndarray, "l h"]:
    """Values of some heads in the shape of all; ``others`` where a head was not asked for."""
    table = np.full((model.anatomy.n_layers, model.anatomy.n_heads), np.nan)
    for head in model.anatomy.heads():
        table[head.layer, head.head] = others
    for head, value in zip(heads, values, strict=True):
        table[head.layer, head.head] = value
    return table
