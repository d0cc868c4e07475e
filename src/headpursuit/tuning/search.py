"""The search for an edit: which heads, how many, how far; by optuna's tree-structured Parzen estimator over cells of a bench.

Every number comes from the bench, which keeps its cells. The sampler is seeded and trials run one after the other, so that a
search which was cut off takes the same way again and meets its own cells: it goes on where it stopped, and ends as one that
was never cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from headpursuit.editing.edit import Factor, HeadEdit
from headpursuit.editing.where import ALL, as_where
from headpursuit.errors import HeadPursuitError, MissingExtraError

if TYPE_CHECKING:
    import optuna

    from headpursuit.editing.where import TokenGroup
    from headpursuit.evaluation.cells import Bench
    from headpursuit.evaluation.goals import Goal
    from headpursuit.model.heads import Head


@dataclass(frozen=True)
class Space:
    """What may be chosen.

    Attributes:
        orders: heads, best first, by the method that put them in order.
        k: numbers of heads, at most this.
        low: smallest scale.
        high: largest scale.
        step: scales are multiples of it above ``low``, so that trials meet in the same cells.
        places: tokens at which the edit may hold.
        per_head: whether each head is given a scale of its own in the second half of the trials; 1 leaves it out.
    """

    orders: Mapping[str, Sequence[Head]]
    k: int
    low: float
    high: float
    step: float = 0.25
    places: tuple[TokenGroup, ...] = (ALL,)
    per_head: bool = True

    def __post_init__(self) -> None:
        shortest = min((len(order) for order in self.orders.values()), default=0)
        if not 1 <= self.k <= shortest:
            raise HeadPursuitError(f"k={self.k}: choose between 1 and the {shortest} heads that were ordered")
        if not self.low < self.high or not self.step > 0:
            raise HeadPursuitError(
                f"scales from {self.low} to {self.high} by {self.step}: give a range and a step above 0"
            )
        if not self.places:
            raise HeadPursuitError("no place to edit: give at least one, such as 'all'")


@dataclass(frozen=True)
class Trial:
    """One edit that was tried.

    Attributes:
        number: when.
        edit: the edit.
        method: how its heads were put in order.
        effect: what became of the target, see :meth:`Goal.effect`.
        cost: its largest loss as a share of what is allowed.
        weakness_bound: see :meth:`Goal.weakness_bound`.
        cost_bound: see :meth:`Goal.cost_bound`.
    """

    number: int
    edit: HeadEdit
    method: str
    effect: float
    cost: float
    weakness_bound: float
    cost_bound: float


def search(
    goal: Goal,
    bench: Bench,
    space: Space,
    *,
    trials: int,
    first: Sequence[HeadEdit] = (),
    seed: int = 0,
    progress: bool = True,
) -> list[Trial]:
    """Try edits, each chosen in the light of those before.

    Args:
        goal: what is wished.
        bench: the tuning split.
        space: what may be chosen.
        trials: how many edits, those in ``first`` beside them.
        first: edits that are tried before the search, such as a fixed one that it should beat.
        seed: seed of the sampler.
        progress: show a progress bar.

    Returns:
        The distinct edits that were tried, in order.

    Raises:
        MissingExtraError: optuna is not installed.
    """
    found: dict[HeadEdit, Trial] = {}
    bar = tqdm(total=trials + len(first), desc=f"tune {goal.concept}", unit="edit", disable=not progress, leave=False)

    def tried(edit: HeadEdit, method: str) -> Trial:
        bar.set_postfix_str(str(edit)[:60], refresh=False)
        if edit not in found:
            found[edit] = measured(goal, bench, edit, number=len(found), method=method)
        bar.update()
        return found[edit]

    with bar:
        for edit in first:
            tried(edit, "fixed")
        shared = trials - trials // 2 if space.per_head else trials
        _minimise(goal, _shared_scale(space, tried), count=shared, seed=seed)
        if space.per_head and found:
            best = choose(goal, list(found.values()))
            _minimise(
                goal,
                _scale_each(space, best, tried),
                count=trials - shared,
                seed=seed + 1,
                start=_as_start(space, best),
            )
    return list(found.values())


def measured(goal: Goal, bench: Bench, edit: HeadEdit, *, number: int, method: str) -> Trial:
    """What an edit does and costs on a split."""
    return Trial(
        number,
        edit,
        method,
        effect=goal.effect(bench, edit),
        cost=goal.cost(bench, edit),
        weakness_bound=goal.weakness_bound(bench, edit),
        cost_bound=goal.cost_bound(bench, edit),
    )


def choose(goal: Goal, trials: Sequence[Trial]) -> Trial:
    """The edit that comes nearest to what is wished, judged by what may well be on other samples: one standard error worse.

    Within the limits the strongest, or the cheapest where no edit keeps them; with a reach the cheapest that reaches it, or the
    strongest where none does. The best of many tries is in part the luckiest, against which the one-standard-error rule guards
    (Breiman et al. 1984, section 3.4.3).
    """

    def judged(trial: Trial) -> tuple[float, ...]:
        weak, cost = trial.weakness_bound, trial.cost_bound
        if goal.reach is None:
            return (0.0, weak, cost) if cost <= 1 else (1.0, cost, weak)
        return (0.0, cost, weak) if weak <= goal.weakness(goal.reach) else (1.0, weak, cost)

    return min(trials, key=lambda trial: (*judged(trial), trial.number))


def front(goal: Goal, trials: Sequence[Trial]) -> list[Trial]:
    """The trade-off: edits than which none is both stronger and cheaper, cheapest first."""
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.cost, goal.weakness(one.effect), one.number)):
        if not kept or goal.weakness(trial.effect) < goal.weakness(kept[-1].effect):
            kept.append(trial)
    return kept


Tried = Callable[[HeadEdit, str], Trial]


def _shared_scale(space: Space, tried: Tried) -> Callable[[optuna.Trial], Trial]:
    def run(asked: optuna.Trial) -> Trial:
        method = asked.suggest_categorical("method", list(space.orders))
        k = asked.suggest_int("k", 1, space.k)
        scale = asked.suggest_float("scale", space.low, space.high, step=space.step)
        where = asked.suggest_categorical("where", list(space.places))
        return tried(HeadEdit(space.orders[method][:k], scale=scale, where=as_where(where)), method)

    return run


def _scale_each(space: Space, best: Trial, tried: Tried) -> Callable[[optuna.Trial], Trial]:
    heads, where = _candidates(space, best), best.edit.token_groups[0]

    def run(asked: optuna.Trial) -> Trial:
        low, high = min(space.low, 1.0), max(space.high, 1.0)
        scales = {head: asked.suggest_float(head.name, low, high, step=space.step) for head in heads}
        edited = [Factor(head, scale, where) for head, scale in scales.items() if scale != 1]
        return tried(HeadEdit.of(edited), "per head") if edited else best

    return run


def _candidates(space: Space, best: Trial) -> list[Head]:
    """The best edit's heads, and those that its method put next."""
    order = space.orders.get(best.method, next(iter(space.orders.values())))
    return list(dict.fromkeys((*best.edit.heads, *order[: space.k])))


def _as_start(space: Space, best: Trial) -> dict[str, float]:
    scales = {factor.head: factor.scale for factor in best.edit.factors}
    return {head.name: scales.get(head, 1.0) for head in _candidates(space, best)}


def _minimise(
    goal: Goal,
    run: Callable[[optuna.Trial], Trial],
    *,
    count: int,
    seed: int,
    start: Mapping[str, Any] | None = None,
) -> None:
    """Ask the sampler for trials and tell it what came of them."""
    optuna = _optuna()
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


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", extra="tune", purpose="tuning an edit") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
