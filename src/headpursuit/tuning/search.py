"""The search for an edit: which heads, how many, how far; by optuna's tree-structured Parzen estimator over cells.

The first half of the trials are edits that rankings give, ``ranking.edit(k, scale=…)``; the second gives each head of the best
of them a scale of its own.

Every number comes from cells, which are kept. The sampler is seeded and trials run one after the other, so that a
search which was cut off takes the same way again and meets its own cells: it goes on where it stopped, and ends as one that
was never cut off. Workers, where there are some, run ahead of it what it is sure to ask for, and change nothing of the way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from headpursuit.editing.edit import Factor, HeadEdit
from headpursuit.editing.where import ALL, Where, as_where
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.goals import Goal, Trial, choose, tried
from headpursuit.model.heads import Head
from headpursuit.optional import optional_import
from headpursuit.ranking.ranking import HeadRanking

if TYPE_CHECKING:
    import optuna

FIXED = "fixed"
# So often is the stretch of scales halved in which a path meets a limit.
_HALVINGS = 5
_DECIMALS = 2


@dataclass(frozen=True)
class Space:
    """The edits that may be chosen.

    Attributes:
        rankings: heads in order, by the method that put them in it; an edit of theirs may scale some up and others down.
        k: numbers of heads, at most this.
        low: smallest scale. Heads that hold the concept down may be scaled as far on the other side of 1.
        high: largest scale, likewise.
        where: tokens at which the edit may hold.
        per_head: whether each head is given a scale of its own in the second half of the trials.
    """

    rankings: Mapping[str, HeadRanking]
    k: int
    low: float
    high: float
    where: tuple[Where, ...] = (ALL,)
    per_head: bool = True

    def __post_init__(self) -> None:
        shortest = min((len(ranking.order()) for ranking in self.rankings.values()), default=0)
        if not 1 <= self.k <= shortest:
            raise HeadPursuitError(f"k={self.k}: choose between 1 and the {shortest} heads that were ordered")
        if not self.low < self.high:
            raise HeadPursuitError(f"scales from {self.low} to {self.high}: give a smaller one and a larger one")
        if not self.where:
            raise HeadPursuitError("where: give the tokens that may be edited, such as 'all'")

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest scale of any head."""
        return min(self.low, 2 - self.high), max(self.high, 2 - self.low)

    def edit(self, scales: Mapping[Head, float], where: Where) -> HeadEdit:
        """The edit of some heads, scales rounded, so that trials meet in the same cells; a scale of 1 leaves a head out."""
        low, high = self.range
        rounded = {head: min(max(round(scale, _DECIMALS), low), high) for head, scale in scales.items()}
        edited = {head: scale for head, scale in rounded.items() if scale != 1} or rounded
        return HeadEdit.of(Factor(head, scale, where) for head, scale in edited.items())

    def of_ranking(self, method: str, k: int, scale: float, where: Where) -> HeadEdit:
        """The edit that a ranking gives."""
        own = self.rankings[method].edit(k, scale=scale)
        return self.edit({factor.head: factor.scale for factor in own.factors}, where)

    def holds(self, edit: HeadEdit) -> bool:
        """Whether an edit's number of heads, its scales and its tokens are allowed, whoever chose the heads."""
        low, high = self.range
        within = all(low <= factor.scale <= high and factor.where in self.where for factor in edit.factors)
        return within and len(edit.heads) <= self.k


def search(
    goal: Goal, cells: Cells, space: Space, *, trials: int, first: Sequence[HeadEdit] = (), seed: int = 0, progress: bool = True
) -> list[Trial]:
    """Try edits, each chosen in the light of those before.

    Args:
        goal: what is wished.
        cells: of the tuning split.
        space: what may be chosen.
        trials: how many edits, those in ``first`` beside them.
        first: edits that are tried before the search, such as a fixed one that it should beat; they need not be in the space.
        seed: seed of the sampler.
        progress: show a progress bar.

    Returns:
        The distinct edits that were tried, in order.

    Raises:
        MissingExtraError: optuna is not installed.
    """
    found: dict[HeadEdit, Trial] = {}
    bar = tqdm(total=trials + len(first), desc=f"tune {goal.concept}", unit="edit", disable=not progress, leave=False)

    def attempt(edit: HeadEdit, method: str) -> Trial:
        bar.set_postfix_str(str(edit)[:60], refresh=False)
        known = found.get(edit)
        # A fixed edit that a ranking gives, too, is the ranking's.
        if known is None or (known.method == FIXED and method in space.rankings):
            found[edit] = tried(goal, cells, edit, number=len(found) if known is None else known.number, method=method)
        return found[edit]

    def walk(ways: Iterator[Trial], count: int) -> None:
        for _ in islice(ways, count):
            bar.update()

    with bar, _quiet_optuna() as optuna:
        walk((attempt(edit, FIXED) for edit in first), len(first))
        shared = trials - trials // 2 if space.per_head else trials
        _look_ahead(goal, cells, space, shared)
        walk(_along_rankings(goal, space, _asking(optuna, goal, _shared_scale(space, attempt), seed=seed)), shared)
        best = choose(goal, [trial for trial in found.values() if trial.method in space.rankings])
        around = _around(space, best)
        each = _asking(optuna, goal, _scale_each(around, best, attempt), seed=seed + 1)
        walk(_head_by_head(around, best, list(found.values()), each), trials - shared)
    return list(found.values())


def front(goal: Goal, trials: Sequence[Trial]) -> list[Trial]:
    """The trade-off: edits than which none is both stronger and cheaper, cheapest first."""
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.cost, goal.weakness(one.effect), one.number)):
        if not kept or goal.weakness(trial.effect) < goal.weakness(kept[-1].effect):
            kept.append(trial)
    return kept


Attempt = Callable[[HeadEdit, str], Trial]
# The trial of some parameters, or of those that the sampler proposes.
Ask = Callable[[Mapping[str, Any] | None], Trial]


def _along_rankings(goal: Goal, space: Space, ask: Ask) -> Iterator[Trial]:
    """Trials without end: each ranking's largest edit, weakened until it keeps the limits; then what the sampler proposes."""
    for method, where in product(space.rankings, space.where):
        path = _weaker_and_weaker(goal, space)
        scale: float | None = next(path)
        while scale is not None:
            trial = ask({"method": method, "k": space.k, "scale": scale, "where": where})
            yield trial
            scale = path.send(trial)
    while True:
        yield ask(None)


def _weaker_and_weaker(goal: Goal, space: Space) -> Generator[float | None, Trial, None]:
    """The scales that are tried of one ranking, each in the light of the trial of the one before; None behind the last."""
    near, far = (space.low, space.high) if goal.rises else (space.high, space.low)
    scale, weaker, stronger = far, near, far
    for _ in range(_HALVINGS):
        trial = yield scale
        # A limit is broken, or what was wished is reached: a weaker edit is next.
        if (_standing(goal, trial)[1] > 0) == (goal.reach is None):
            stronger = scale
        elif scale == far:
            break
        else:
            weaker = scale
        scale = (weaker + stronger) / 2
    yield None


def _look_ahead(goal: Goal, cells: Cells, space: Space, trials: int) -> None:
    """Have workers run what the search will ask for along the rankings, for which one does not wait for another."""
    if cells.engine.name == "local":
        return
    whole = islice(product(space.rankings, space.where), trials // _HALVINGS)  # of others the search may not come to the end
    paths = {way: _weaker_and_weaker(goal, space) for way in whole}
    scales = {way: next(path) for way, path in paths.items()}
    while edits := {
        way: space.of_ranking(way[0], space.k, scale, way[1]) for way, scale in scales.items() if scale is not None
    }:
        cells.fill(goal.keys(edits.values()))
        trials_of = {way: tried(goal, cells, edit, number=0, method=way[0]) for way, edit in edits.items()}
        scales = {way: paths[way].send(trial) for way, trial in trials_of.items()}


def _standing(goal: Goal, trial: Trial) -> tuple[float, float]:
    """What should be small, and what should be at most 0: weakness and cost, or with a reach the other way round."""
    if goal.reach is None:
        return trial.weakness_bound, trial.cost_bound - 1
    return trial.cost_bound, trial.weakness_bound - goal.weakness(goal.reach)


def _head_by_head(space: Space, best: Trial, known: Sequence[Trial], ask: Ask) -> Iterator[Trial]:
    """Trials without end, after the sampler was told of the known ones that differ from the best in scales alone."""
    heads, where = _candidates(space, best), best.edit.token_groups
    for trial in known:
        if space.holds(trial.edit) and trial.edit.token_groups == where and set(trial.edit.heads) <= set(heads):
            scales = {factor.head: factor.scale for factor in trial.edit.factors}
            ask({head.name: scales.get(head, 1.0) for head in heads})
    while True:
        yield ask(None)


def _around(space: Space, best: Trial) -> Space:
    """The part of a space in which scales are up to twice as far from 1 as the best edit's: what costs too much is left out."""
    most = space.range[1] - 1
    far = min(2 * max(abs(factor.scale - 1) for factor in best.edit.factors) or most, most)
    return replace(space, low=1 - far, high=1 + far)


def _candidates(space: Space, best: Trial) -> Sequence[Head]:
    """The best edit's heads, and those that its method put next."""
    return space.rankings[best.method].edit(space.k, scale=space.low).heads


def _shared_scale(space: Space, attempt: Attempt) -> Callable[[optuna.Trial], Trial]:
    def run(asked: optuna.Trial) -> Trial:
        method = asked.suggest_categorical("method", list(space.rankings))
        k = asked.suggest_int("k", 1, space.k)
        scale = asked.suggest_float("scale", space.low, space.high)
        where = asked.suggest_categorical("where", list(space.where))  # type: ignore[arg-type]
        return attempt(space.of_ranking(method, k, scale, as_where(where)), method)

    return run


def _scale_each(space: Space, best: Trial, attempt: Attempt) -> Callable[[optuna.Trial], Trial]:
    heads, where = _candidates(space, best), best.edit.token_groups[0]

    def run(asked: optuna.Trial) -> Trial:
        return attempt(space.edit({head: asked.suggest_float(head.name, *space.range) for head in heads}, where), "per head")

    return run


def _asking(optuna: Any, goal: Goal, run: Callable[[optuna.Trial], Trial], *, seed: int) -> Ask:
    """A way to ask a sampler for trials, which tells it what came of them."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True))

    def ask(given: Mapping[str, Any] | None) -> Trial:
        if given is not None:
            study.enqueue_trial(dict(given))
        asked = study.ask()
        trial = run(asked)
        value, beyond = _standing(goal, trial)
        asked.set_constraint("beyond", beyond)
        study.tell(asked, value)
        return trial

    return ask


@contextmanager
def _quiet_optuna() -> Iterator[Any]:
    """optuna without its log lines; its verbosity is put back, since it is the whole process's."""
    optuna = optional_import("optuna", extra="tune", purpose="tuning an edit")
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)
