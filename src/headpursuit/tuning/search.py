"""The search for an edit: which heads, how many, how far; by optuna's tree-structured Parzen estimator over cells.

Every number comes from cells, which are kept. The sampler is seeded and trials run one after the other, so that a
search which was cut off takes the same way again and meets its own cells: it goes on where it stopped, and ends as one that
was never cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from headpursuit.editing.edit import Factor, HeadEdit
from headpursuit.editing.where import ALL, Where, as_where
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.cells import Cells
from headpursuit.evaluation.goals import Goal, Trial, choose, tried
from headpursuit.model.heads import Head
from headpursuit.optional import optional_import

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Space:
    """The edits that may be chosen.

    Attributes:
        orders: heads, best first, by the method that put them in order.
        k: numbers of heads, at most this.
        low: smallest scale.
        high: largest scale.
        step: scales are multiples of it above ``low``, so that trials meet in the same cells.
        where: tokens at which the edit may hold.
        per_head: whether each head is given a scale of its own in the second half of the trials; 1 leaves it out.
    """

    orders: Mapping[str, Sequence[Head]]
    k: int
    low: float
    high: float
    step: float = 0.25
    where: tuple[Where, ...] = (ALL,)
    per_head: bool = True

    def __post_init__(self) -> None:
        shortest = min((len(order) for order in self.orders.values()), default=0)
        if not 1 <= self.k <= shortest:
            raise HeadPursuitError(f"k={self.k}: choose between 1 and the {shortest} heads that were ordered")
        if not self.low < self.high or not self.step > 0:
            raise HeadPursuitError(f"scales from {self.low} to {self.high} by {self.step}: give a range and a step above 0")
        if not self.where:
            raise HeadPursuitError("where: give the tokens that may be edited, such as 'all'")

    def order_of(self, heads: Sequence[Head]) -> Sequence[Head]:
        """The best heads of the first order that has all of some heads among them; empty where none has."""
        return next((order[: self.k] for order in self.orders.values() if set(heads) <= set(order[: self.k])), ())

    def holds(self, edit: HeadEdit) -> bool:
        """Whether an edit is one of those that may be chosen, scales between the steps included."""
        within = all(self.low <= factor.scale <= self.high and factor.where in self.where for factor in edit.factors)
        return within and bool(self.order_of(edit.heads))


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
        if edit not in found:
            found[edit] = tried(goal, cells, edit, number=len(found), method=method)
        bar.update()
        return found[edit]

    with bar:
        for edit in first:
            attempt(edit, "fixed")
        shared = trials - trials // 2 if space.per_head else trials
        _minimise(goal, _shared_scale(space, attempt), count=shared, seed=seed)
        inside = [trial for trial in found.values() if space.holds(trial.edit)]
        if space.per_head and inside:
            best = choose(goal, inside)
            _minimise(
                goal, _scale_each(space, best, attempt), count=trials - shared, seed=seed + 1, start=_as_start(space, best)
            )
    return list(found.values())


def front(goal: Goal, trials: Sequence[Trial]) -> list[Trial]:
    """The trade-off: edits than which none is both stronger and cheaper, cheapest first."""
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.cost, goal.weakness(one.effect), one.number)):
        if not kept or goal.weakness(trial.effect) < goal.weakness(kept[-1].effect):
            kept.append(trial)
    return kept


Attempt = Callable[[HeadEdit, str], Trial]


def _shared_scale(space: Space, attempt: Attempt) -> Callable[[optuna.Trial], Trial]:
    def run(asked: optuna.Trial) -> Trial:
        method = asked.suggest_categorical("method", list(space.orders))
        k = asked.suggest_int("k", 1, space.k)
        scale = asked.suggest_float("scale", space.low, space.high, step=space.step)
        where = asked.suggest_categorical("where", list(space.where))  # type: ignore[arg-type]
        return attempt(HeadEdit(space.orders[method][:k], scale=scale, where=as_where(where)), method)

    return run


def _scale_each(space: Space, best: Trial, attempt: Attempt) -> Callable[[optuna.Trial], Trial]:
    heads, where = _candidates(space, best), best.edit.token_groups[0]

    def run(asked: optuna.Trial) -> Trial:
        low, high = min(space.low, 1.0), max(space.high, 1.0)
        scales = {head: asked.suggest_float(head.name, low, high, step=space.step) for head in heads}
        edited = [Factor(head, scale, where) for head, scale in scales.items() if scale != 1]
        return attempt(HeadEdit.of(edited), "per head") if edited else best

    return run


def _candidates(space: Space, best: Trial) -> list[Head]:
    """The best edit's heads, and those that its method put next."""
    order = space.orders.get(best.method) or space.order_of(best.edit.heads)
    return list(dict.fromkeys((*best.edit.heads, *order[: space.k])))


def _as_start(space: Space, best: Trial) -> dict[str, float]:
    scales = {factor.head: factor.scale for factor in best.edit.factors}
    return {head.name: scales.get(head, 1.0) for head in _candidates(space, best)}


def _minimise(
    goal: Goal, run: Callable[[optuna.Trial], Trial], *, count: int, seed: int, start: Mapping[str, Any] | None = None
) -> None:
    """Ask the sampler for trials and tell it what came of them."""
    with _quiet_optuna() as optuna:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True))
        if start is not None:
            study.enqueue_trial(dict(start))
        for _ in range(count):
            asked = study.ask()
            trial = run(asked)
            if goal.reach is None:
                value, beyond = trial.weakness_bound, trial.cost_bound - 1
            else:
                value, beyond = trial.cost_bound, trial.weakness_bound - goal.weakness(goal.reach)
            asked.set_constraint("beyond", beyond)
            study.tell(asked, value)


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
