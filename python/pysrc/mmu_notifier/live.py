# SPDX-License-Identifier: MIT OR Apache-2.0
"""Live events: what this process does to its own address space.

After :func:`enable`, every munmap, mremap, mprotect, ... of the process, whoever makes it, is an event for those who watch the
memory. Python cannot run inside such a call (it may be one of Python's own allocator), so changes go into a queue, and a reader
hears of one when it may be made already. ``Watch.read_retry`` tells at once::

    from mmu_notifier import live

    live.enable()
    queue = live.Queue()
    with queue.watch(address, length) as watch:
        seq = watch.read_begin()
        ...                         # what is read now is good
        if watch.read_retry(seq):   # unless this says True
            print(queue.wait())

Subclasses of ``Notifier`` and ``IntervalNotifier`` on ``Mm.current()`` are not called inside a system call either: such a change
counts as missed, and raises the epoch. docs/live.md says what is covered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from mmu_notifier import _mmu_notifier
from mmu_notifier._event import Event
from mmu_notifier._mmu_notifier import LiveQueue as Queue
from mmu_notifier._mmu_notifier import LiveWatch as Watch

__all__ = ["Change", "Queue", "Status", "Watch", "disable", "enable", "epoch", "events", "status"]

_NET = 1


@dataclass(frozen=True)
class Change:
    """A change of watched memory: the bytes ``[start, end)``, end exclusive."""

    start: int
    """First byte."""
    end: int
    """End in bytes, exclusive."""
    event: Event
    """Why."""


@dataclass(frozen=True)
class Status:
    """What is covered, and what was missed so far."""

    enabled: bool
    """Between :func:`enable` and :func:`disable`?"""
    mechanisms: int
    """What is in force: 1, the system calls of libc and ld.so; 2, the net."""
    write_method: int
    """How sites were written: 0 not, 1 mprotect, 2 /proc/self/mem, 3 by replacing their page."""
    sites: int
    """System calls that are taken over."""
    foreign_sites: int
    """System calls that somebody else had taken over before; where his code leads to is taken over, too."""
    lost_sites: int
    """System calls that somebody else has taken away since; the epoch has risen."""
    blind_objects: int
    """Loaded objects with memory system calls of their own, which nothing covers."""
    events: int
    """Calls that were announced."""
    late: int
    """Changes that were told after they had been made."""
    missed: int
    """Changes of watched memory that were not told."""
    nested: int
    """Memory system calls from inside a callback."""
    release_timeouts: int
    """Calls that went on although a release stage had not ended."""
    epoch: int
    """As :func:`epoch`."""
    reason: str
    """Why live events are not enabled, or what is not covered; empty if there is nothing to say."""


def enable(*, net: bool = False) -> None:
    """From now on changes of the process's own memory are events. Enabled again: nothing.

    ``net`` adds a userfaultfd on watched memory, which hears, late, of changes that libc had no part in. Raises ``OSError``
    (ENOTSUP) where the process cannot be covered: ``status().reason`` says why.
    """
    _mmu_notifier._live_enable(_NET if net else 0)


def disable() -> None:
    """Ends what :func:`enable` began. Watches stay, and hear nothing. Raises ``OSError`` (EDEADLK) from inside an event."""
    _mmu_notifier._live_disable()


def status() -> Status:
    """What is covered at the moment, and what was missed so far."""
    return Status(**_mmu_notifier._live_status())


def epoch() -> int:
    """A number that rises whenever a change of watched memory was missed, late, or found no room in a queue.

    What was read before it rose may be stale, whatever a ``Watch`` says.
    """
    return _mmu_notifier._live_epoch()


def events(start: int, length: int, *, timeout: float | None = None, capacity: int = 1024) -> Iterator[Change]:
    """The changes of ``length`` bytes from ``start``, as they come, until none comes for ``timeout`` seconds (None: for ever).

    The memory is watched from the call on, until the iterator is exhausted, closed or collected. Raises ``OverflowError`` if the
    length is 0 or the end lies beyond 2**64, ``OSError`` (EINVAL) if ``capacity`` is 0.
    """
    queue = Queue(capacity)
    return _changes(queue, queue.watch(start, length), timeout)


def _changes(queue: Queue, watch: Watch, timeout: float | None) -> Iterator[Change]:
    with contextlib.closing(watch):
        while (found := queue.wait(timeout)) is not None:
            _, start, end, number = found
            yield Change(start, end, Event(number))
