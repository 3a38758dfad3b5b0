# SPDX-License-Identifier: MIT OR Apache-2.0
"""Scenarios: threads that run step by step, in an order that is chosen, and the search for an order that breaks something.

A scenario is made by a setup, so that it can be run again from the beginning::

    import mmu_notifier as mn

    def setup(s):
        total = {"n": 0}

        def add():                      # a function, or a generator whose yields are schedule points
            seen = total["n"]
            yield
            total["n"] = seen + 1

        s.thread(add, name="a")
        s.thread(add, name="b")
        s.at_end(lambda: total["n"] == 2 or "an addition is lost")

    result = mn.Scenario(setup).explore()
    print(result)                       # the shortest schedule with the fewest preemptions, and its trace
    mn.Scenario(setup).run(result.violation.schedule)    # the same run again

One thread runs at a time, from one schedule point to the next: each call of this package, each ``yield``, each ``point()``, each
lock of the scenario. Who is blocked in a call is known from the library, never from time. What is not seen: docs/explore.md.
"""

from __future__ import annotations

import gc
import inspect
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypedDict, TypeVar

from mmu_notifier import _mmu_notifier as _native
from mmu_notifier._driver import Driver
from mmu_notifier._mmu_notifier import Mm, ScenarioLock
from mmu_notifier.trace import Step, Trace
from mmu_notifier.trace import step as trace_step

__all__ = ["Exploration", "Run", "Scenario"]

Check = Callable[[], object]
_T = TypeVar("_T")

_kept: list[Scenario] = []
"""Scenarios with threads that sleep for ever, which may be using what the scenario has made."""


class _Limits(TypedDict):
    preemptions: int | None
    max_schedules: int | None
    max_steps: int
    shorten: int
    patience: float


def _limits(
    preemptions: int | None = None,
    max_schedules: int | None = None,
    max_steps: int = 10_000,
    shorten: int = 0,
    patience: float = 10.0,
) -> _Limits:
    counts = {"preemptions": (preemptions, 32), "max_schedules": (max_schedules, 64), "max_steps": (max_steps, 64), "shorten": (shorten, 64)}
    for name, (count, bits) in counts.items():
        if count is not None and not 0 <= operator.index(count) < 1 << bits:
            raise ValueError(f"{name} is a number from 0 to 2**{bits} - 1, not {count}")
    return _Limits(
        preemptions=preemptions, max_schedules=max_schedules, max_steps=max_steps, shorten=shorten, patience=patience
    )


@dataclass(frozen=True)
class Run:
    """One run of a scenario. ``str()`` of it is the trace for readers."""

    schedule: list[str]
    """Who ran, step by step. ``Scenario.run`` takes it."""
    trace: Trace
    """What happened, as ``mmu_notifier.trace`` says."""
    violation: str | None
    """What was wrong, or None."""
    exception: BaseException | None
    """The first exception that a thread raised, if that was what was wrong."""
    preemptions: int
    """How often a thread was interrupted although it could have gone on."""
    leaked: bool
    """Are threads left that sleep for ever, or ranges that were never ended? Then nothing was torn down."""
    threads: list[str]
    """The threads' names. The first one is the library's worker."""
    _text: str = field(repr=False, compare=False, default="")

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True)
class Exploration:
    """What a search has found. ``str()`` of it is the report for readers."""

    violation: Run | None
    """The shortest run with the fewest preemptions that breaks something, or None."""
    schedules: int
    """Runs."""
    states: int
    """Different states that were met; without a state function each new step counts as one."""
    steps: int
    """Steps, those that repeat the beginning of another run included."""
    pruned: int
    """Runs that ended where a known state was met."""
    exhaustive: bool
    """Every schedule within the bound was run, and none broke anything."""
    unbounded: bool
    """The bound on preemptions left nothing out: the result holds for any number of them."""
    seconds: float
    """How long it took, in seconds."""

    @property
    def states_per_second(self) -> float:
        """Speed of the search."""
        return self.states / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        how = f"{self.schedules} schedules, {self.states} states, {self.states_per_second:.0f} states/s"
        if self.violation is None:
            return f"no violation in {how}" + ("" if self.exhaustive else "; the search was cut short")
        preemptions = self.violation.preemptions
        return f"violation after {how}, with {preemptions} preemption(s):\n{self.violation}"


def _wrong(check: Check) -> str | None:
    """What a check says is wrong. It says so by raising, by False, or by a text or texts."""
    try:
        said = check()
    except AssertionError as error:
        return str(error) or f"{_name(check)} does not hold"
    if said is False:
        return f"{_name(check)} does not hold"
    if isinstance(said, str):
        return said or None
    if isinstance(said, Iterable):
        return "; ".join(map(str, said)) or None
    return None


def _name(function: object) -> str:
    return getattr(function, "__name__", None) or repr(function)


def _finish(result: object) -> None:
    """Runs a generator to its end; each yield is a schedule point."""
    if inspect.isgenerator(result):
        for _ in result:
            _native.point()
    elif inspect.iscoroutine(result) or inspect.isasyncgen(result):
        raise TypeError("a thread is a function or a generator: nobody runs what is async")


class Scenario:
    """Threads, invariants, and what they are about.

    ``setup(scenario)`` adds them to a scenario that is new for each run; it is what ``run`` and ``explore`` call. Without a setup
    they are added to the scenario itself, which can then be run, or stepped, once.
    """

    def __init__(self, setup: Callable[[Scenario], object] | None = None) -> None:
        self._setup = setup
        self._threads: list[tuple[str, Callable[[], object]]] = []
        self._invariants: list[Check] = []
        self._at_end: list[Check] = []
        self._state: Callable[[], object] | None = None
        self._closers: list[Callable[[], object]] = []
        self._watched: Mm | None = None
        self._samples: list[tuple[int, int]] = []
        self._raised: list[BaseException] = []
        self._session: _native._Session | None = None
        self._used = False
        self._made: Scenario | None = None
        self._failure: BaseException | None = None

    # ------------------------------------------------------------------------------------------------ what it is made of

    def thread(self, run: Callable[..., object], *args: Any, name: str | None = None) -> None:
        """Adds a thread that calls ``run(*args)``: a function, or a generator whose yields are schedule points.

        ``name`` is for schedules and traces; without one it is the function's. An exception is a violation. Raises ``ValueError``:
        the name is taken, empty or not printable; ``TypeError``: ``run`` is no such function, or the name no str.
        """
        if not callable(run):
            raise TypeError(f"a thread is a function, not {type(run).__name__}")
        if inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run):
            raise TypeError(f"{_name(run)} is async: a thread is a function or a generator")
        name = _name(run) if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"a thread's name is a str, not {type(name).__name__}")
        if not (name and name.isprintable()):
            raise ValueError(f"{name!r} cannot be the name of a thread: it is not printable")
        if name == "worker" or name in dict(self._threads):
            raise ValueError(f"another thread is named {name}")

        # Not by way of the scenario, which a thread that was stepped would keep: its session ends when nobody refers to it.
        raised = self._raised

        def body() -> None:
            try:
                _finish(run(*args))
            except _native.Abandoned:
                raise
            except BaseException as error:
                raised.append(error)
                raise

        self._threads.append((name, body))

    def invariant(self, check: Check) -> Check:
        """Adds a condition that is looked at after every step, while all threads stand still. Usable as a decorator.

        It fails by raising, by returning False, or by returning a text (or a list of texts) that says what is wrong. It must not wait.
        """
        self._invariants.append(check)
        return check

    def at_end(self, check: Check) -> Check:
        """Adds a condition, as ``invariant`` does, that is looked at once all threads are over."""
        self._at_end.append(check)
        return check

    def state(self, state: Callable[[], object]) -> Callable[[], object]:
        """Sets the function whose value, hashable, stands for the state of the run: ``explore`` goes on from each state once.

        The value must depend on all that later steps depend on, what threads remember included; how far each thread has come is
        added by itself. What it raises ends the search, and is raised by ``explore``: also ``TypeError``, the value is not hashable.
        """
        self._state = state
        return state

    def on_close(self, close: Callable[[], object]) -> Callable[[], object]:
        """Adds what is done after the run, in the reverse order; not where threads sleep for ever or ranges were never ended."""
        self._closers.append(close)
        return close

    def lock(self, name: str = "lock") -> ScenarioLock:
        """A lock for the driver, whose holder the scheduler knows."""
        return ScenarioLock(name)

    @staticmethod
    def point() -> None:
        """A schedule point, for drivers that are given one to call."""
        _native.point()

    def watch(self, mm: Mm) -> Mm:
        """Has ``seq`` and ``active`` of an address space in the trace, after each step."""
        self._watched = mm
        return mm

    # ----------------------------------------------------------------------------------------------------------- running

    def run(
        self, schedule: Sequence[str] = (), *, max_steps: int = 10_000, patience: float = 10.0
    ) -> Run:
        """Runs it once. ``schedule`` says who runs, step by step, by names; after its end, whoever ran last goes on as long as it can.

        A run of more than ``max_steps`` steps, or a step of more than ``patience`` seconds of wall time, is a violation, and so is a
        schedule that names a thread which cannot run. Raises ``RuntimeError``: another scenario runs in this process, or this one,
        without a setup, has been run; and what the setup raises.
        """
        if isinstance(schedule, str):
            raise TypeError("a schedule is a list of names, not a str")
        limits = _limits(max_steps=max_steps, patience=patience)
        return self._searching(lambda: self._as_run(_native._run(self._make, list(schedule), limits)))

    def explore(
        self,
        preemptions: int | None = 2,
        *,
        max_schedules: int | None = None,
        max_steps: int = 10_000,
        patience: float = 10.0,
        shorten: int = 500,
    ) -> Exploration:
        """Runs it in every interleaving in which threads are interrupted, although they could go on, at most ``preemptions`` times
        (None: any number of times); those with fewer first, until one breaks something.

        ``max_schedules`` ends the search before its end; up to ``shorten`` further schedules are tried to find a shorter one that is
        wrong with as few preemptions. Raises ``ValueError``: there is no setup, or a limit is none; what the state function raises;
        and as ``run``.
        """
        if self._setup is None:
            raise ValueError("a scenario without a setup cannot be run again, and so not be explored")
        limits = _limits(preemptions, max_schedules, max_steps, shorten, patience)

        def search() -> Exploration:
            found = _native._explore(self._make, limits)
            self._check_state()
            run = found.pop("violation")
            if run is None:
                return Exploration(violation=None, **found)
            return Exploration(violation=self._again(run, limits), **found)

        return self._searching(search)

    def _again(self, run: dict[str, Any], limits: _Limits) -> Run:
        """What a search has found, run once more, for the exception and the numbers of the address space."""
        try:
            again = self._as_run(_native._run(self._make, run["schedule"], limits))
        except RuntimeError:  # no scenario can begin any more in this process
            return self._as_run(run, fresh=False)
        same = (again.schedule, again.violation) == (run["schedule"], run["violation"])
        return again if same else self._as_run(run, fresh=False)

    def _searching(self, search: Callable[[], _T]) -> _T:
        """Without the cyclic collector: what it frees would be part of some step."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return search()
        finally:
            self._made = None
            if collects:
                gc.enable()

    def _make(self) -> tuple[object, ...]:
        """A new scenario, as the compiled half wants it."""
        made = self
        self._check_state()
        if self._setup is not None:
            made = Scenario()
            self._setup(made)
        elif self._used:
            raise RuntimeError("a scenario without a setup can be run once")
        self._used = True
        # The one before goes here, where no thread of a scenario runs.
        self._made = made
        return made._parts()

    def _parts(self) -> tuple[object, ...]:
        invariants: list[Check] = [] if self._watched is None else [self._sample]
        invariants += [partial(_wrong, check) for check in self._invariants]
        at_end = [partial(_wrong, check) for check in self._at_end]
        number = None if self._state is None else self._number
        return self._threads, invariants, at_end, number, self._close

    def _number(self) -> int:
        """The state as a number."""
        assert self._state is not None
        try:
            return hash(self._state()) & (2**64 - 1)
        except BaseException as error:
            # Raised before the next run, or at the end of the search.
            self._failure = self._failure or error
            return 0

    def _check_state(self) -> None:
        """Raises what the state function raised in the last run."""
        if self._made is not None and self._made._failure is not None:
            raise self._made._failure

    def _sample(self) -> None:
        assert self._watched is not None
        self._samples.append((self._watched.seq, self._watched.active))

    def _close(self) -> None:
        for close in reversed(self._closers):
            close()

    def _as_run(self, run: dict[str, Any], *, fresh: bool = True) -> Run:
        made = self._made if fresh else None
        if run["leaked"] and self._made is not None:
            _kept.append(self._made)
        samples = made._samples if made is not None else []
        raised = made._raised[0] if made is not None and made._raised and run["violation"] else None
        return Run(
            schedule=run["schedule"],
            trace=_trace(run, samples),
            violation=run["violation"],
            exception=raised,
            preemptions=run["preemptions"],
            leaked=run["leaked"],
            threads=run["threads"],
            _text=run["text"],
        )

    # ------------------------------------------------------------------------------------------------------ step by step

    def step(self, name: str) -> str:
        """Has a thread run to its next schedule point, its next sleep or its end, and says how it is then: "ready: lock table",
        "waits for ...", "over". The first step begins a session, which ``close`` ends.

        Raises ``RuntimeError``: the thread cannot run, or there is none of this name.
        """
        if self._session is None:
            if self._setup is not None:
                raise RuntimeError("a scenario with a setup is run as a whole")
            if self._used:
                raise RuntimeError("a scenario without a setup can be run once")
            self._used = True
            self._session = _native._Session(self._threads, _limits())
        said = self._session.step(name)
        if self._watched is not None:
            self._sample()
        return said

    def status(self, name: str) -> str:
        """How a thread is, as ``step`` says it; "new" before the first step."""
        return "new" if self._session is None else self._session.describe(name)

    @property
    def runnable(self) -> list[str]:
        """Names of the threads that can run."""
        if self._session is None:
            return [name for name, _ in self._threads]
        return self._session.runnable()

    @property
    def trace(self) -> Trace:
        """What has happened since the first ``step``."""
        if self._session is None:
            return []
        return _trace(self._session.so_far(), self._samples)

    def close(self) -> None:
        """Lets the threads that were stepped run on to their ends, in any order, and ends the session."""
        if self._session is not None:
            session, self._session = self._session, None
            if session.close():
                _kept.append(self)
            else:
                self._close()

    def __enter__(self) -> Scenario:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- drivers in C

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scenario:
        """The scenario of a driver in C: a shared object that was compiled with ``-DMMU_NOTIFIER_EXPLORE``, not linked with the
        library, and that exports a ``struct mmu_notifier_scenario`` of that name (<mmu_notifier/explore.h>)::

            gcc -DMMU_NOTIFIER_EXPLORE -shared -fPIC driver.c -o driver.so $(pkg-config --cflags mmu_notifier)

        A driver that was compiled again is loaded anew: it runs beside the one before, of which its scenarios still are.

        Raises ``OSError``: it cannot be loaded; ``ValueError``: it is not such a driver.
        """
        return cls(Driver(os.path.abspath(path)).setup)


def _trace(run: dict[str, Any], samples: list[tuple[int, int]]) -> Trace:
    """Events as the steps of ``mmu_notifier.trace``: one for each thing that a thread did, with ``time`` counting scheduler's steps."""
    trace: Trace = []
    asleep: dict[str, bool] = {}
    for number, thread, state, op, object_, text in run["events"]:
        last = trace[-1] if trace and trace[-1]["thread"] == thread and trace[-1]["time"] == number else None
        if state in ("noted", "said", "finished", "failed"):
            if last is not None:
                said = last["reason"]
                last["reason"] = text if said is None else f"{said}, {text}"
            continue
        if state == "blocked" and op is None and last is not None and last["state"] == "running":
            last["state"], last["reason"] = "blocked", text
            asleep[thread] = True
            continue
        what = op if op is not None else _sleeping(trace, thread)
        shown = state
        if state == "running" and asleep.pop(thread, False):
            shown = "woken"
        elif state == "woken":
            asleep.pop(thread, None)
        elif state == "blocked":
            asleep[thread] = True
        args = {} if object_ is None else {object_.split(" ")[0] if " " in object_ else "lock": object_}
        kwargs: dict[str, Any] = {}
        if number < len(samples):
            kwargs = {"seq": samples[number][0], "active": samples[number][1]}
        one: Step = trace_step(
            len(trace), thread, what, args, time=number, state=shown, reason=text if shown != "running" else None, **kwargs
        )
        trace.append(one)
    if trace and run["violation"]:
        trace[-1]["violation"] = run["violation"]
    return trace


def _sleeping(trace: Trace, thread: str) -> str:
    """What a thread that wakes was doing."""
    for one in reversed(trace):
        if one["thread"] == thread:
            return str(one["op"])
    return "rest"
