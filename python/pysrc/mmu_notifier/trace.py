# SPDX-License-Identifier: MIT OR Apache-2.0
"""The trace: what happened, step by step, as plain data.

A trace is a list of dicts that ``json.dumps`` takes as it is. Scenarios and replays make traces, ``mn.plot`` draws them, and
a test may compare them. One dict, a :class:`Step`, is one thing that one thread did::

    {"step": 3, "time": 3, "thread": "fault", "op": "read_begin", "args": {"interval": "a"}, "result": None,
     "state": "blocked", "reason": "busy: [0x1000, 0x3000)", "seq": 3, "active": 1, "violation": None}

* ``step``: its number, from 0, in the order in which the steps happened.
* ``time``: never falls. A scenario counts steps; a replay gives the number of the event, or seconds where the trace of
  strace has them.
* ``thread``: the name of the logical thread; in a replay ``"pid 1234"``.
* ``op``: what it did, in the names of the library (``"invalidate_start"``, ``"set_seq"``) or of the system call
  (``"munmap"``). A call back is ``"call NAME"``, for instance ``"call invalidate"``.
* ``args``: what it was given, by name. Where they apply: ``start`` and ``end`` (bytes, end exclusive), ``event`` (the
  name of an ``Event``, ``"UNMAP"``), ``interval`` or ``notifier`` (a name), ``range`` (a number that a start and its end
  share), ``seq`` (what read_retry or set_seq was given), ``pid``.
* ``result``: what came back, or None: nothing, or nothing yet because it is blocked.
* ``state``: ``"running"``: the step was done. ``"blocked"``: the thread went to sleep inside it. ``"woken"``: the thread
  that slept goes on and finishes it; ``result`` is that of the step in which it went to sleep.
* ``reason``: of a sleep, what it waits for; of a wake, who woke it; else None or a remark.
* ``seq``, ``active``: the sequence number and the ranges in flight of the address space after the step; None where they
  are not known.
* ``violation``: the invariant or rule that this step broke (``"II-7: ..."``), or None.

Other keys are allowed and ignored. ``validate`` says what is wrong with a trace.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Optional, TypedDict, Union, cast

__all__ = ["STATES", "Step", "Trace", "dump", "load", "step", "validate"]

STATES = ("running", "blocked", "woken")


class Step(TypedDict, total=False):
    """One thing that one thread did; the module says what the keys mean."""

    step: int
    time: Union[int, float]
    thread: str
    op: str
    args: Dict[str, Any]
    result: Any
    state: str
    reason: Optional[str]
    seq: Optional[int]
    active: Optional[int]
    violation: Optional[str]


Trace = List[Step]


def step(
    number: int,
    thread: str,
    op: str,
    args: Optional[Dict[str, Any]] = None,
    *,
    time: Union[int, float, None] = None,
    result: Any = None,
    state: str = "running",
    reason: Optional[str] = None,
    seq: Optional[int] = None,
    active: Optional[int] = None,
    violation: Optional[str] = None,
) -> Step:
    """A step with every key; ``time`` is ``number`` unless it is given."""
    return Step(
        step=number,
        time=number if time is None else time,
        thread=thread,
        op=op,
        args=dict(args or {}),
        result=result,
        state=state,
        reason=reason,
        seq=seq,
        active=active,
        violation=violation,
    )


def validate(trace: Iterable[Step]) -> List[str]:
    """What is wrong with a trace, one sentence each; nothing if it is one."""
    wrong: List[str] = []
    last: Union[int, float, None] = None
    asleep: Dict[str, str] = {}
    for at, one in enumerate(trace):
        missing = [key for key in ("step", "time", "thread", "op", "state") if one.get(key) is None]
        if missing:
            wrong.append(f"step {at}: no {', '.join(missing)}")
            continue
        if one["step"] != at:
            wrong.append(f"step {at}: its number is {one['step']}")
        if last is not None and one["time"] < last:
            wrong.append(f"step {at}: time falls from {last} to {one['time']}")
        last = one["time"]
        wrong.extend(f"step {at}: {what}" for what in _wrong_state(one, asleep))
    return wrong


def _wrong_state(one: Step, asleep: Dict[str, str]) -> Iterable[str]:
    thread, state = one["thread"], one["state"]
    if state not in STATES:
        yield f"the state {state!r} is none of {', '.join(STATES)}"
    elif state == "woken":
        if asleep.pop(thread, None) is None:
            yield f"{thread} wakes, but did not sleep"
    elif thread in asleep:
        yield f"{thread} goes on, but sleeps in {asleep[thread]}"
    elif state == "blocked":
        asleep[thread] = one["op"]


def dump(trace: Trace, path: str) -> None:
    """Writes a trace to a file, one step a line."""
    with open(path, "w", encoding="utf-8") as file:
        for one in trace:
            file.write(json.dumps(one) + "\n")


def load(path: str) -> Trace:
    """Reads what :func:`dump` wrote. Raises ValueError where a line is no step."""
    trace: Trace = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                one = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
            if not isinstance(one, dict):
                raise ValueError(f"{path}:{number}: no step but {type(one).__name__}")
            trace.append(cast(Step, one))
    return trace
