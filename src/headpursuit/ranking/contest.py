"""A contest: the edits of the cheap methods, each measured, and the ranking of the one that moves the target furthest.

None of the cheap methods is the best for all concepts: what heads write finds those that say a word, derivatives find those
that it is made from. A few edits of each, tried on the selection samples at equal cost on neutral texts, tell which it is. The
heads that any of them puts first are measured one by one, too, and take part in the order that this gives. Where the goal of
a recipe is the judge, so do heads that are added one by one.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, get_args

import numpy as np
from tqdm.auto import tqdm

from headpursuit.activations.measures import Divergence
from headpursuit.activations.positions import Positions, check_positions
from headpursuit.concepts import ConceptLike, MultiToken
from headpursuit.editing.edit import HeadEdit
from headpursuit.engines import LOCAL, Engine
from headpursuit.errors import HeadPursuitError, check_choice, check_counts, check_finite
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import Head
from headpursuit.model.samples import Samples, as_samples, fingerprint
from headpursuit.ranking.attribution import attribution, direction, integrated
from headpursuit.ranking.capturing import captured
from headpursuit.ranking.equal_cost import effect_at
from headpursuit.ranking.knockout import Measurements
from headpursuit.ranking.methods import UNITS
from headpursuit.ranking.natural import natural
from headpursuit.ranking.rank import ChanceWarning, rank
from headpursuit.ranking.ranking import HeadRanking, by_order, few_of
from headpursuit.ranking.target import OwnMetric, own_samples, quiet_texts, target_of

# Parts of the way from the unedited model to an edit's scale at which its effect and its cost are measured.
_WAY = (0.25, 0.5, 1.0)
# So many of each method's best heads are measured one by one.
CANDIDATES = 4
# Points along the scale for the integrated derivative: half of what it takes by itself, since only its best heads count here.
_STEPS = 4
# Attribution stays where no other is ahead by a tenth: on other samples a smaller lead turns over as often as not.
_LEAD = 1.1
# What the orders of measured heads are called among the methods.
MEASURED, GROWN = "measured", "grown"
# The next head is sought among so many of those whose own edits reach furthest.
_POOL = 6
# Each way is one line of edits, from the unedited model on.
Ways = Sequence[Sequence[HeadEdit]]


class Judge(Protocol):
    """Measures edits in place of log-odds and divergence."""

    def __call__(
        self, edits: Iterable[HeadEdit | None], *, done: Callable[[], object]
    ) -> Mapping[HeadEdit | None, tuple[float, float]]:
        """Each edit's value of the target, None being the unedited model, and its cost; ``done`` is called for each."""


def contest(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike,
    *,
    neutral: Samples | None = None,
    cost: float = 0.1,
    k: int | None = None,
    metric: OwnMetric | None = None,
    scale: float = -1.0,
    judge: Judge | None = None,
    positions: Positions = "mean",
    multi_token: MultiToken = "skip",
    variants: bool = True,
    batch_size: int = 8,
    limit: int | None = None,
    seed: int = 0,
    engine: Engine = LOCAL,
    progress: bool = True,
) -> HeadRanking:
    """Order all heads by whichever way has the edit that moves the target furthest for what it costs.

    The ways are the calibrated ranking of a capture, attribution, the natural gradient, the integrated derivative, and the best
    four heads of each of them in the order of what their own edits reach. Of each the best head's edit and that of the best
    ``k`` are measured on the way to the scale. Attribution wins unless another reaches a tenth more.

    Args:
        model: the model.
        samples: as for :func:`headpursuit.ranking.attribution.attribution`.
        concept: as for :func:`headpursuit.rank`.
        neutral: texts on which the model should stay as it is, packaged ones when left out; those with the concept's words do
            not count.
        cost: the divergence on them at which effects are compared, in nats a token.
        k: number of heads; 2 % of all, at most 8, at least 1 when left out.
        metric: measure this in place of the log-odds, as for :func:`headpursuit.ranking.knockout.knockout`.
        scale: the edit's factor.
        judge: what measures edits, such as the goal of a recipe; ``cost`` is then in its unit. Heads are compared as recipes
            edit them, all by the scale itself; and one more way takes part, heads that are added one by one, each the one with
            which the edit reaches furthest.
        positions: tokens whose mean is captured.
        multi_token: what becomes of words of several tokens, see :func:`headpursuit.concepts.resolve`.
        variants: also use case and plural forms of the words.
        batch_size: samples that run together; a backward pass keeps all that the forward pass computed.
        limit: only the first so many samples.
        seed: seed of the drawn tokens.
        engine: where samples are captured and edits are measured.
        progress: show progress bars.

    Returns:
        The ranking of the winner, with what each way reached in ``about["reached"]``. Where the measured heads win, they come
        first, the others behind them by attribution; the score is the number of heads behind a head, and what a measured head
        reaches stands beside it.

    Raises:
        HeadPursuitError: as for attribution; a cost that is not above 0.

    Examples:
        >>> ranking = hp.select(model, samples, "colours", method="contest", k=2, positions="last", progress=False)
        >>> ranking.about["won"], ranking.edit(2)
        ('attribution', HeadEdit(L3.H11, L5.H18 × -1))
    """
    if callable(concept):
        raise HeadPursuitError("the contest ranks heads by words or texts: give a concept, and the metric as metric=…")
    check_counts(k=k)
    check_positions(positions, part=model.anatomy.part)
    check_choice(get_args(MultiToken), multi_token=multi_token)
    check_finite(cost=cost)
    if not cost > 0:
        raise HeadPursuitError(f"cost={cost}: give a divergence above 0 at which edits are compared, such as 0.1")
    sign = direction(scale)
    chosen = None if samples is None else as_samples(samples, limit=limit)
    options: dict[str, Any] = {"multi_token": multi_token, "variants": variants}
    told: dict[str, Any] = {"batch_size": batch_size, "limit": limit, "progress": progress, **options}
    for sample in chosen or ():
        if not sample.target:
            raise HeadPursuitError(
                f"{sample.where or 'sample'}: no target that could speak of the concept; give one, or choose method=calibrated"
            )
    target = target_of(model, chosen, concept, metric=metric, limit=limit, **options)
    texts = quiet_texts(neutral, concept)
    read = own_samples(chosen, concept, limit=limit)
    running: dict[str, Any] = {"batch_size": batch_size, "engine": engine, "progress": progress}
    acts = captured(model, read, None, positions=positions, **running)
    attributed = attribution(model, chosen, concept, **told)
    rankings = [
        attributed,
        rank(acts, concept, seed=seed, progress=progress, **options),
        natural(model, chosen, concept, neutral=texts, seed=seed, **told),
        integrated(model, chosen, concept, scale=scale, steps=_STEPS, seed=seed, **told),
    ]
    goal = judge is not None
    if judge is None:
        divergence = Divergence(model, texts, batch_size=batch_size)
        judge = Measurements(model, target.metric(batch_size=batch_size), divergence, engine=engine).many
    measured: dict[HeadEdit | None, tuple[float, float]] = {}  # ways share edits

    def reached_by(contestants: Mapping[Any, Ways], unit: str) -> dict[Any, float]:
        """The furthest that each one's edits move the target at the cost."""
        edits = {edit: None for ways in contestants.values() for way in ways for edit in way}
        todo = [edit for edit in (None, *edits) if edit not in measured]
        with tqdm(total=len(todo), desc=f"contest of {unit}s", unit="edit", disable=not progress, leave=False) as bar:
            measured.update(judge(todo, done=bar.update))
        return {one: reach(ways) for one, ways in contestants.items()}

    def reach(ways: Ways) -> float:
        found = np.array([[measured[edit] for edit in way] for way in ways])
        return float(effect_at(sign * (found[..., 0] - measured[None][0]), found[..., 1], cost))

    def way(edit: Callable[..., HeadEdit]) -> Sequence[HeadEdit]:
        return [edit(scale=1 + part * (scale - 1)) for part in ((1.0,) if goal else _WAY)]

    heads = model.anatomy.heads()
    candidates = sorted({head for ranking in rankings for head in ranking.top(min(CANDIDATES, len(heads)))})
    alone = reached_by({head: [way(partial(HeadEdit, [head]))] for head in candidates}, "head")
    rankings.append(_measured(attributed, alone))
    most = min(len(heads), few_of(len(heads)) if k is None else k)
    if goal:
        pool = sorted(alone, key=lambda head: (-alone[head], head))[:_POOL]
        taken: list[Head] = []
        while len(taken) < min(most, len(pool)):
            sets = {head: [way(partial(HeadEdit, [*taken, head]))] for head in pool if head not in taken}
            reached = reached_by(sets, "set")
            taken.append(max(sets, key=lambda head: reached[head]))
        rankings.append(_ordered(attributed, taken, method=GROWN))
    ways = {
        ranking.method: [
            way(partial(HeadEdit, ranking.top(n)) if goal else partial(ranking.edit, n)) for n in sorted({1, most})
        ]
        for ranking in rankings
    }
    reached = reached_by(ways, "method")
    if not any(reached.values()):
        tried, where = ", ".join(reached), "within the goal's limits" if goal else f"at {cost:g} nats a token"
        warnings.warn(
            f"no edit of {tried} moves {target.name} {where}, so that their order is of little use: allow a higher cost, or "
            "give other or more samples",
            ChanceWarning,
            stacklevel=3,
        )
    first = max(rankings, key=lambda ranking: reached[ranking.method])
    winner = first if reached[first.method] > _LEAD * reached[attributed.method] else attributed
    about = {"won": winner.method, "reached": reached, "at": cost, "neutral": fingerprint(texts), "scale": scale}
    unit = winner.unit or UNITS[winner.method]
    return replace(winner, method="contest", unit=unit, about={**winner.about, **about})


def _measured(attributed: HeadRanking, alone: Mapping[Head, float]) -> HeadRanking:
    """Heads in the order of what their own edits reach, and behind them those that were not measured, by attribution."""
    reached = np.full_like(attributed.scores, np.nan)
    for head, effect in alone.items():
        reached[head.layer, head.head] = effect
    best = sorted((head for head in alone if alone[head] > 0), key=lambda head: (-alone[head], head))
    return replace(_ordered(attributed, best, method=MEASURED), values={"effect": reached})


def _ordered(attributed: HeadRanking, first: Sequence[Head], *, method: str) -> HeadRanking:
    """Some heads in their order, and behind them the others, by attribution."""
    order = [*first, *(head for head in attributed.order() if head not in first)]
    return replace(attributed, method=method, scores=by_order(order, attributed.scores.shape), unit="heads", values={})
