"""Select heads for a concept: one function for every method, and what each costs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from headpursuit.activations.captured import Captured
from headpursuit.activations.positions import Positions
from headpursuit.concepts import ConceptLike
from headpursuit.engines import LOCAL, Engine, engine_of, held
from headpursuit.errors import SEEDS, HeadPursuitError, check_counts, check_finite, did_you_mean
from headpursuit.model.head_model import HeadModel
from headpursuit.model.load import ModelLike, as_model
from headpursuit.model.samples import Samples
from headpursuit.ranking.attribution import attribution, integrated
from headpursuit.ranking.capturing import captured
from headpursuit.ranking.contest import contest
from headpursuit.ranking.cosine import cosine
from headpursuit.ranking.cost import Cost, metered
from headpursuit.ranking.fusion import fusion
from headpursuit.ranking.greedy import greedy
from headpursuit.ranking.knockout import knockout
from headpursuit.ranking.methods import CONTEST, UNITS, as_selector
from headpursuit.ranking.natural import natural
from headpursuit.ranking.rank import rank
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.target import OwnMetric, own_samples

# Methods that run the model under edits or backward; each is `f(model, samples, concept, **options)`.
_BY_RUNNING: Mapping[str, Callable[..., HeadRanking]] = {
    function.__name__: function for function in (attribution, integrated, natural, contest, greedy, knockout, cosine, fusion)
}

# Options that are numbers of any size, whichever method takes them, and those that count something.
_NUMBERS = {"scale", "share", "best", "cost"}
_COUNTS = {"batch_size", "limit", "k", "steps", "groups", "masks", "n_atoms", "passes"}


def select(
    model: ModelLike,
    samples: Samples | None,
    concept: ConceptLike | OwnMetric,
    *,
    method: str = CONTEST,
    acts: Captured | None = None,
    **options: Any,
) -> HeadRanking:
    """Order all heads for a concept, by whichever method.

    Args:
        model: the model, or what :func:`headpursuit.load` takes.
        samples: the samples; with targets that speak of the concept where a method reads log-odds. None for a concept that is
            made of texts (:meth:`headpursuit.Concept.from_texts`): its own are then read, and their contrast is what is moved.
        concept: as for :func:`headpursuit.rank`; for knock-outs also a function from the edited model to a number.
        method: one of those below, which docs/selection.md compares. The default is the one that is hardly ever surely behind
            another there; ``calibrated`` needs no targets.

            - ``calibrated``, ``somp``, ``logit_lens``: what a head writes; see :func:`headpursuit.rank`. One pass forward.
            - ``cosine``: what it writes on average, beside the concept's direction; see :mod:`headpursuit.ranking.cosine`.
            - ``attribution``, ``integrated``: derivatives by its scale, at 1 or along the way to an edit's; see
              :mod:`headpursuit.ranking.attribution`.
            - ``natural``: the derivative beside what the scale does to neutral texts; see :mod:`headpursuit.ranking.natural`.
            - ``contest``: whichever of ``calibrated``, ``attribution``, ``natural``, ``integrated`` and the single edits of
              their best heads has the edit that moves the target furthest at equal cost, which is measured; see
              :mod:`headpursuit.ranking.contest`.
            - ``greedy``: derivatives, one head after the other; see :mod:`headpursuit.ranking.greedy`.
            - ``knockout``: edits of random sets of heads, for any metric; see :mod:`headpursuit.ranking.knockout`.
            - ``fusion``: the best of the cheap methods, knocked out one by one; see :mod:`headpursuit.ranking.fusion`.
        acts: for methods that read a capture, one of this model, in place of one that is made of the samples.
        **options: those of the method; ``progress=False`` for none of its bars. Where it captures samples or measures edits,
            workers may do that: ``engine``, ``workers``, ``cpus_per_worker``, ``gpus_per_worker`` as for
            :func:`headpursuit.capture`.

    Returns:
        The ranking of all heads, with its unit and its cost.

    Raises:
        HeadPursuitError: no such method, an option that it does not take, or what the method itself refuses.

    Examples:
        >>> ranking = hp.select(model, samples, "colours", method="attribution", progress=False)
        >>> ranking.top(1)[0].name, ranking.unit, ranking.cost.forward, ranking.cost.backward
        ('L3.H11', 'nats a unit of scale', 24, 24)
    """
    key = as_selector(method)
    run: Callable[..., HeadRanking] = _BY_RUNNING.get(key, _captured)
    engine = engine_of(options)
    given = {**options, **({} if acts is None else {"acts": acts}), **({} if engine == LOCAL else {"engine": engine})}
    known = options_of(key)
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise HeadPursuitError(f"method={key!r} takes no {name}: {hint}its options are {', '.join(sorted(known))}")
    check_counts(**{name: value for name, value in given.items() if name in _COUNTS})
    check_counts(*SEEDS, **{name: value for name, value in given.items() if name == "seed"})
    check_finite(**{name: value for name, value in given.items() if name in _NUMBERS and value is not None})
    model = as_model(model)
    if run is _captured:
        given = {**given, "method": key}
    with metered(model) as meter, held(engine) as workers:
        ranking = run(model, samples, concept, **given | ({"engine": workers} if "engine" in given else {}))
    return replace(ranking, unit=ranking.unit or UNITS[key], cost=meter.cost + (ranking.cost or Cost()))


def _captured(
    model: HeadModel,
    samples: Samples | None,
    concept: ConceptLike,
    *,
    method: str,
    acts: Captured | None = None,
    positions: Positions = "mean",
    batch_size: int = 16,
    limit: int | None = None,
    engine: Engine = LOCAL,
    **options: Any,
) -> HeadRanking:
    """Rank a capture, which is made first where none is given."""
    progress = options.get("progress", True)
    own = own_samples(samples, concept, limit=limit) if acts is None else ()
    running: dict[str, Any] = {"batch_size": batch_size, "engine": engine, "progress": progress}
    found = captured(model, own, acts, positions=positions, **running)
    return rank(found, concept, method=method, **options)


def options_of(method: str) -> set[str]:
    """Names of the options that a method takes.

    Raises:
        HeadPursuitError: there is no such method.
    """
    run = _BY_RUNNING.get(as_selector(method))
    functions = (_captured, rank) if run is None else (run,)
    parameters = [one for function in functions for one in inspect.signature(function).parameters.values()]
    return {one.name for one in parameters if one.kind is one.KEYWORD_ONLY} - {"method"}
