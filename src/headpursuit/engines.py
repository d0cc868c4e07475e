"""Engines: where work that falls into parts is done, in this process or by workers of Ray.

A worker is set up once (a model is loaded, say) and then given one part after the other. What comes back is in the order of the
parts, so that a result does not depend on who did what, or how often: a part whose worker died is given to another one.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal, TypedDict, TypeVar

from headpursuit.errors import HeadPursuitError, check_choice, check_counts
from headpursuit.optional import optional_import

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")
# A part that workers die of so often is not given to a fourth.
TRIES = 3
# Parts that a worker has waiting for it: the next one is there when it is done with one, and no more are held.
_AHEAD = 2
# Looks at what a cluster has free, a fifth of a second apart.
_PATIENCE = 50

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Engine:
    """Where work is done.

    Attributes:
        name: ``local``, this process; ``ray``, workers of the cluster at ``RAY_ADDRESS``, or of this machine where that is
            not set.
        workers: how many at most; as many as fit when left out.
        cpus_per_worker: of these so many belong to each worker.
        gpus_per_worker: likewise; parts of one where workers share them.
    """

    name: EngineName = "local"
    workers: int | None = None
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    _held: _Held | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice(ENGINES, engine=self.name)
        check_counts(workers=self.workers)
        if not self.cpus_per_worker > 0 or self.gpus_per_worker < 0:
            raise HeadPursuitError(
                f"cpus_per_worker={self.cpus_per_worker}, gpus_per_worker={self.gpus_per_worker}: give more than 0 CPUs, "
                "and 0 GPUs or more"
            )


LOCAL = Engine()


class LostPartError(HeadPursuitError):
    """A part that was given to several workers, all of which died."""


class EngineOptions(TypedDict, total=False):
    """The options of functions whose work can be done by workers, as :func:`as_engine` takes them."""

    engine: EngineName | Engine
    workers: int | None
    cpus_per_worker: float | None
    gpus_per_worker: float | None


def as_engine(
    engine: EngineName | Engine = "local",
    *,
    workers: int | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
) -> Engine:
    """An engine from its name and the options that users give.

    Args:
        engine: ``local``, this process; ``ray``, workers of the cluster at ``RAY_ADDRESS``, or of this machine.
        workers: how many workers; as many as fit when left out.
        cpus_per_worker: CPUs that each takes, 1 when left out.
        gpus_per_worker: GPUs that each takes, none when left out.

    Raises:
        HeadPursuitError: there is no such engine, or options of workers without any.
    """
    if isinstance(engine, Engine):
        return engine
    check_choice(ENGINES, engine=engine)
    given = {"workers": workers, "cpus_per_worker": cpus_per_worker, "gpus_per_worker": gpus_per_worker}
    told = {name: value for name, value in given.items() if value is not None}
    if engine == "local" and told:
        raise HeadPursuitError(
            f"{next(iter(told))} speaks of workers, of which there are none: give engine='ray', or leave it out"
        )
    return Engine(engine, **told)  # type: ignore[arg-type]


def engine_of(options: dict[str, Any]) -> Engine:
    """The engine that some options ask for; they are taken out, and all others left.

    >>> options = {"engine": "ray", "workers": 2, "seed": 1}
    >>> engine_of(options), options
    (Engine(name='ray', workers=2, cpus_per_worker=1.0, gpus_per_worker=0.0), {'seed': 1})
    """
    return as_engine(**{name: options.pop(name) for name in EngineOptions.__annotations__ if name in options})


@contextmanager
def held(engine: Engine) -> Iterator[Engine]:
    """The engine with workers that stay from one call of :func:`mapped` to the next; the first that has a part hires them."""
    if engine.name == "local" or engine._held is not None:
        yield engine
        return
    with ExitStack() as stack:
        yield replace(engine, _held=_Held(stack))


def mapped(
    parts: Iterable[P], setup: Callable[[], Callable[[P], R]], *, engine: Engine, name: Callable[[P], str]
) -> Iterator[tuple[P, R | LostPartError]]:
    """Each part and what a worker makes of it, in the parts' order.

    Args:
        parts: taken one by one, no more than workers need.
        setup: called once in every worker, gives what is done there with each part; both travel to the workers.
        engine: where.
        name: what a part is called in messages.

    Yields:
        Each part, and what was made of it, or a :class:`LostPartError` where one worker after the other died of it.

    Raises:
        HeadPursuitError: what the work itself raises; no cluster at the address, fewer CPUs or GPUs than a worker needs.
        MissingExtraError: Ray is not installed.
    """
    if engine.name == "local":
        work = setup()
        for part in parts:
            yield part, work(part)
        return
    todo = iter(parts)
    for first in todo:  # without any there is nothing to hire workers for
        with held(engine) as own:
            assert own._held is not None
            yield from _by_workers(own._held.crew(own), chain([first], todo), setup, name=name)


class _Held:
    """Workers that stay, once they are hired, until a stack of contexts is left."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._crew: _Crew | None = None

    def crew(self, engine: Engine) -> _Crew:
        """The workers of an engine."""
        if self._crew is None:
            ray = _ray()
            count = self._stack.enter_context(_cluster(ray, engine))
            self._crew = _Crew(ray, engine=engine, count=count)
            self._stack.callback(self._crew.end)
        return self._crew


@contextmanager
def connected(engine: Engine) -> Iterator[None]:
    """Connect to an engine's cluster before there is work for it, so that one that is not there is said at once.

    Raises:
        HeadPursuitError: no cluster at the address, fewer CPUs or GPUs than a worker needs.
        MissingExtraError: Ray is not installed.
    """
    if engine.name == "local" or engine._held is not None:  # who holds workers connects when there is work
        yield
        return
    with _cluster(_ray(), engine):
        yield


def check_reachable(engine: Engine) -> None:
    """Check that an engine's libraries are there and somebody listens at its cluster's address; starts nothing.

    Raises:
        HeadPursuitError: nobody does.
        MissingExtraError: Ray is not installed.
    """
    if engine.name == "ray":
        _ray()
        with _answering(os.environ.get("RAY_ADDRESS")):
            _reach(os.environ.get("RAY_ADDRESS"))


def _ray() -> Any:
    return optional_import("ray", extra="ray", purpose="engine='ray'")


@contextmanager
def _answering(address: str | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, by version and kind of address
        raise HeadPursuitError(
            f"no Ray cluster answers at RAY_ADDRESS={address!r} ({_plain(error):.160}): start one "
            "(`ray start --head`), or unset RAY_ADDRESS for one on this machine"
        ) from error


@contextmanager
def _cluster(ray: Any, engine: Engine) -> Iterator[int]:
    """Connect to the cluster, or start one on this machine, and leave it again; gives the number of workers that fit."""
    address = os.environ.get("RAY_ADDRESS")
    ours = not ray.is_initialized()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers without a GPU keep what they would see
    if ours:
        more: dict[str, Any] = {}
        if not address:
            wanted = (engine.workers or 1) * engine.cpus_per_worker
            more = {"num_cpus": max(os.cpu_count() or 1, -int(-wanted // 1)), "include_dashboard": False}
        with _answering(address):
            _reach(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True, **more)
    try:
        wanted = min(_fitting(ray.cluster_resources(), engine), engine.workers or sys.maxsize)
        for _ in range(_PATIENCE):  # what others have just let go of is free a moment later
            there = ray.available_resources()
            if (fitting := _fitting(there, engine)) >= wanted:
                break
            time.sleep(0.2)
        if not fitting:
            raise HeadPursuitError(
                f"the cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs free, a worker needs "
                f"{engine.cpus_per_worker:g} and {engine.gpus_per_worker:g}: ask for fewer with cpus_per_worker=… and "
                "gpus_per_worker=…"
            )
        yield min(fitting, wanted)
    finally:
        if ours:
            ray.shutdown()


def _fitting(there: Mapping[str, float], engine: Engine) -> int:
    """How many workers some CPUs and GPUs are enough for."""
    found = int(there.get("CPU", 0.0) // engine.cpus_per_worker)
    if engine.gpus_per_worker:
        found = min(found, int(there.get("GPU", 0.0) / engine.gpus_per_worker + 1e-9))
    return found


def _reach(address: str | None) -> None:
    """Fail at once where nobody listens at a cluster's address, on which Ray itself waits for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host, int(port)), timeout=10):
            pass


def _by_workers(
    crew: _Crew, parts: Iterable[P], setup: Callable[[], Callable[[P], R]], *, name: Callable[[P], str]
) -> Iterator[tuple[P, R | LostPartError]]:
    crew.begin(setup)
    todo = enumerate(parts)
    again: deque[tuple[int, P]] = deque()
    tries: Counter[int] = Counter()
    done: dict[int, tuple[P, R | LostPartError]] = {}
    left: set[int] = set()
    following, ended = 0, False
    try:
        while not (ended and not again and not crew.busy):
            # A part that a worker left is done by one that has no other, so that it is known who dies of what. What is done
            # ahead of a slow part is held, and not without end.
            while crew.idle if again else crew.free and len(done) < 4 * _AHEAD * crew.count and not ended:
                taken = again.popleft() if again else next(todo, None)
                if taken is None:
                    ended = True
                else:
                    crew.give(taken, alone=taken[0] in left)
            if crew.busy:
                finished, unfinished, reason = crew.wait()
                done.update(finished)
                again.extend(unfinished)
                left.update(number for number, _ in unfinished)
                if unfinished:  # a worker does one part after the other: it died of the first of those that it had left
                    number, part = unfinished[0]
                    tries[number] += 1
                    if tries[number] == TRIES:
                        again.remove((number, part))
                        done[number] = part, LostPartError(f"{name(part)}: {TRIES} workers died of it ({reason})")
            while following in done:
                yield done.pop(following)
                following += 1
    finally:
        crew.leave_off()


class _Crew:
    """Workers of Ray, each with the parts that it was given, in their order; one that dies is replaced."""

    def __init__(self, ray: Any, *, engine: Engine, count: int) -> None:
        threads = max(1, int(engine.cpus_per_worker))

        @ray.remote(num_cpus=engine.cpus_per_worker, num_gpus=engine.gpus_per_worker, max_restarts=0)
        class Worker:
            def __init__(self) -> None:
                self.begun, self.work = 0, None

            def do(self, begun: int, setup: Sequence[Any], part: Any) -> tuple[Any, list[Any]]:
                with warnings.catch_warnings(record=True) as warned:
                    if self.begun != begun:  # here and not above, so that what it raises comes back as it is
                        import torch

                        torch.set_num_threads(threads)
                        self.work = None  # what was done before leaves its memory to what is now
                        self.work = ray.get(setup[0])()
                        self.begun = begun
                    return self.work(part), [(str(one.message), one.category) for one in warned]  # type: ignore[misc]

        self.ray, self.count, self.hired = ray, count, Worker.remote  # type: ignore[attr-defined]
        self.begun, self.setup = 0, None
        self.given: dict[Any, dict[Any, tuple[int, Any]]] = {}
        self.alone: set[Any] = set()

    def begin(self, setup: Callable[[], Any]) -> None:
        """Have all workers there, with what they are to do from now on."""
        self.begun, self.setup = self.begun + 1, self.ray.put(setup)
        self.given |= {self.hired(): {} for _ in range(self.count - len(self.given))}

    @property
    def free(self) -> bool:
        """Whether a worker can be given one more part."""
        return any(len(given) < _AHEAD and worker not in self.alone for worker, given in self.given.items())

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return not all(self.given.values())

    @property
    def busy(self) -> bool:
        """Whether a part is being done."""
        return any(self.given.values())

    def give(self, numbered: tuple[int, Any], *, alone: bool) -> None:
        """Give a part to the worker that has the fewest, and none behind it where it is to be alone."""
        able = [worker for worker in self.given if worker not in self.alone]
        worker = min(able, key=lambda one: len(self.given[one]))
        self.alone |= {worker} if alone else set()
        self.given[worker][worker.do.remote(self.begun, [self.setup], numbered[1])] = numbered

    def wait(self) -> tuple[dict[int, Any], list[tuple[int, Any]], str]:
        """Wait for a worker: what it has done, what is left of one that died, in the order of its work, and why it died."""
        ready, _ = self.ray.wait([ref for given in self.given.values() for ref in given], num_returns=1)
        worker, own = next((one, given) for one, given in self.given.items() if ready[0] in given)
        self.alone.discard(worker)
        try:
            found = self._got(ready[0])
            number, part = own.pop(ready[0])
            return {number: (part, found)}, [], ""
        except self.ray.exceptions.RayError as error:  # the worker died, or the machine that held what it gave
            reason = _plain(error)[:160]
        del self.given[worker]
        self.given[self.hired()] = {}
        done, left = {}, []
        for ref, (number, part) in own.items():
            try:
                done[number] = part, self._got(ref)
            except self.ray.exceptions.RayError:
                left.append((number, part))
        return done, left, reason

    def leave_off(self) -> None:
        """Let those workers go that are still at something; what they would have given is not wanted any more."""
        for worker in [one for one, given in self.given.items() if given]:
            self.ray.kill(worker)
            del self.given[worker]
        self.alone.clear()

    def end(self) -> None:
        """Let all workers go."""
        for worker in self.given:
            self.ray.kill(worker)

    def _got(self, ref: Any) -> Any:
        try:
            found, warned = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, HeadPursuitError) else _WorkError(error)) from error
        for message, category in warned:
            warnings.warn(message, category, stacklevel=2)
        return found


class _WorkError(HeadPursuitError):
    """What work raised that is no mistake of its reader's."""

    def __init__(self, error: Exception) -> None:
        lines = [line for line in str(error).splitlines() if line.strip()]
        super().__init__(f"a worker failed: {_COLOURS.sub('', lines[-1]) if lines else type(error).__name__:.300}")


_COLOURS = re.compile("\x1b\\[[0-9;]*m")


def _plain(error: Exception) -> str:
    return " ".join(_COLOURS.sub("", str(error)).split())
