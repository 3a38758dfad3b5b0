# SPDX-License-Identifier: MIT OR Apache-2.0
"""Replays what strace recorded on address spaces of the library."""

from __future__ import annotations

import errno
import json
import os
import runpy
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmu_notifier._event import Event
from mmu_notifier._mmu_notifier import IntervalNotifier, Mm, Range, Replay

__all__ = ["Difference", "Process", "Replayed", "Watch", "replay"]

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"\xfd7zXZ\0": "unxz", b"\x28\xb5\x2f\xfd": "unzstd", b"BZh": "bunzip2"}
"""How compressed files begin, and what unpacks them."""

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""How files in UTF-16 begin, which shells of Windows make of a program's output."""

# Lines between two looks at the progress.
_LINES = 20_000


@dataclass(frozen=True)
class Process:
    """An address space that comes into being in a replay, and whose it is."""

    pid: int
    """The process; 0 if the trace has no pids."""
    space: int
    """A number that no other address space of the replay has."""
    parent: int | None
    """The address space that it was forked from; None for a new program, also after execve."""
    line: int
    """The line of the trace, from 1."""


@dataclass(frozen=True)
class Difference:
    """Bytes on which the rebuilt address space and ``/proc/PID/maps`` differ."""

    pid: int
    """The process; 0 if the trace has no pids."""
    line: int
    """The line of the trace, from 1, at which they were compared."""
    start: int
    """First byte."""
    end: int
    """End in bytes, exclusive."""
    model: str
    """What is there by the trace."""
    kernel: str
    """What is there by the kernel."""

    def __str__(self) -> str:
        bytes_ = f"[{self.start:#x}, {self.end:#x})"
        return f"line {self.line}, pid {self.pid}, {bytes_}: replayed {self.model}, in /proc {self.kernel}"


class Watch(IntervalNotifier):
    """A subscriber that reads its interval again after each change, as a driver does that keeps a copy of it.

    ``hits`` counts the calls of ``invalidate`` but RELEASE, ``reads`` the reads that were begun, ``retries`` those that a change made
    void. ``lines`` are the lines of the trace whose change touched it, up to 100,000.
    """

    def __init__(self, start: int, length: int) -> None:
        self.label = f"{start:#x}:{length:#x}"
        self.bytes = (start, start + length)
        self.lock = threading.Lock()
        self.hits = 0
        self.reads = 0
        self.retries = 0
        self.lines: list[int] = []
        self._seq: int | None = None

    def invalidate(self, range: Range, cur_seq: int) -> bool:
        """Notes the change, and asks to be read again."""
        with self.lock:
            self.set_seq(cur_seq)
            if range.event != Event.RELEASE:
                self.hits += 1
        Replay.wake()
        return True

    def read(self, line: int = 0) -> None:
        """Begins a read, unless the last one still holds."""
        with self.lock:
            holds = self._seq is not None and not self.read_retry(self._seq)
        if holds:
            return
        self.retries += self._seq is not None
        if line and len(self.lines) < 100_000:
            self.lines.append(line)
        self.reads += 1
        self._seq = self.read_begin()


@dataclass
class Replayed:
    """What :func:`replay` did."""

    file: str
    """The trace's file."""
    lines: int = 0
    """Lines of the trace."""
    calls: int = 0
    """Calls that the model follows."""
    processes: int = 0
    """Processes, threads not counted."""
    spaces: int = 0
    """Address spaces: one for each new process, fork and execve."""
    forks: int = 0
    """Processes that began with a copy of another's address space."""
    execs: int = 0
    """Programs that were begun: execves that succeeded."""
    unreadable: int = 0
    """Lines that could not be read."""
    unread: list[tuple[int, str]] = field(default_factory=list)
    """The first lines that could not be read: their numbers, from 1, and their texts."""
    not_followed: dict[str, int] = field(default_factory=dict)
    """Calls that change mappings in ways that a trace does not tell, by name."""
    unknown_lengths: int = 0
    """Attached segments of unknown length: they count as one page."""
    busy_periods: int = 0
    """Times in which a change that touched an interval notifier was under way, of all address spaces."""
    events: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By the name of the ``Event``: how many pairs, and the bytes of their ranges."""
    hottest: list[tuple[int, int, int]] = field(default_factory=list)
    """The ranges that changed most often: start, end, how often."""
    watches: list[Watch] = field(default_factory=list)
    """The subscribers of ``intervals``, one for each address space of the process that they watch."""
    drivers: list[Any] = field(default_factory=list)
    """What the driver's ``attach`` returned."""
    compared: int = 0
    """Copies of ``/proc/PID/maps`` with which the rebuilt address spaces were compared."""
    differences: list[Difference] = field(default_factory=list)
    """Where they differ."""
    seconds: float = 0.0
    """How long it took, in seconds."""
    columns: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """With ``keep``: one column of numbers for each property of the events, for :func:`mmu_notifier.plot`."""
    mappings: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """With ``keep``: what was mapped where, likewise."""
    files: dict[int, str] = field(default_factory=dict, repr=False)
    """With ``keep``: names of mapped files, by the numbers that ``mappings`` has for them."""

    @property
    def total(self) -> int:
        """All pairs of start and end."""
        return sum(count for count, _ in self.events.values())

    @property
    def retries(self) -> int:
        """Reads of subscribers that a change made void."""
        drivers = (getattr(driver, "retries", 0) for driver in self.drivers)
        return sum(watch.retries for watch in self.watches) + sum(one for one in drivers if isinstance(one, int))


def load_driver(path: str | os.PathLike[str]) -> Callable[[Mm, Process], Any]:
    """The function ``attach(mm, process)`` of a Python file."""
    attach = runpy.run_path(os.fspath(path)).get("attach")
    if not callable(attach):
        raise ValueError(f"{os.fspath(path)} has no function attach(mm, process)")
    return attach  # type: ignore[no-any-return]


class _Audience:
    """Subscribes to the address spaces of a replay."""

    def __init__(
        self,
        result: Replayed,
        intervals: Sequence[tuple[int, int]],
        pid: int | None,
        attach: Callable[[Mm, Process], Any] | None,
        every: bool,
    ) -> None:
        self.result = result
        self.intervals = intervals
        self.pid = pid
        self.attach = attach
        self.every = every
        self.watches: dict[int, list[Watch]] = {}
        self.drivers: dict[int, Any] = {}

    def created(self, mm: Mm, space: int, pid: int, parent: int | None, line: int) -> None:
        if self.pid is None:
            self.pid = pid
        if pid == self.pid and parent is None:
            watches = [mm.insert(Watch(start, length), start, length) for start, length in self.intervals]
            self.watches[space] = watches
            self.result.watches += watches
            for watch in watches:
                watch.read()
        if self.attach is not None:
            driver = self.attach(mm, Process(pid, space, parent, line))
            if driver is not None:
                self.drivers[space] = driver
                self.result.drivers.append(driver)

    def changed(self, space: int, start: int, end: int, event: int, call: str, line: int) -> None:
        for watch in self.watches.get(space, ()):
            watch.read(line)
        if self.every and (changed := getattr(self.drivers.get(space), "changed", None)) is not None:
            changed(start, end, Event(event), call)

    def ended(self, space: int, line: int) -> None:
        for watch in self.watches.pop(space, ()):
            watch.remove()
        driver = self.drivers.pop(space, None)
        if (close := getattr(driver, "close", None)) is not None:
            close()


def replay(
    file: str | os.PathLike[str],
    *,
    intervals: Iterable[tuple[int, int]] = (),
    pid: int | None = None,
    attach: Callable[[Mm, Process], Any] | None = None,
    every: bool = False,
    keep: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Replayed:
    """Replays what ``strace -f -e trace=%memory,%process`` wrote to ``file``: each change of an address space becomes an event.

    ``intervals``: pairs of start and length, in bytes; a :class:`Watch` is inserted for each into every address space of the process
    ``pid``, by default the first one of the trace: its execves begin new ones, with new watches. The children that it
    forks have other pids and are not watched.

    ``attach(mm, process)`` is called for each address space of the trace, to subscribe to it. What it returns is kept until the address
    space has ended; its method ``close()``, if it has one, is called then, after the release. With ``every``, its method
    ``changed(start, end, event, call)`` is called after each change that leaves nothing in flight: there it may begin reads.

    ``keep`` keeps what a picture needs, some 100 bytes for each event. ``progress(lines, bytes)`` is told now and then how far it is.

    Copies of ``/proc/PID/maps`` beside the trace (``FILE.maps``, see :func:`mmu_notifier.record`) are taken into account.

    Raises OSError if the file cannot be read, ValueError if it is compressed or in UTF-16, and what ``attach`` or a callback raises.
    """
    result = Replayed(os.fspath(file))
    audience = _Audience(result, list(intervals), pid, attach, every)
    snapshots = list(_snapshots(Path(f"{os.fspath(file)}.maps")))
    _refuse_encoded(file)
    core = Replay(os.fspath(file), audience, every=every, keep=keep, snapshots=snapshots)
    begin = time.perf_counter()
    while core.advance(_LINES):
        if progress is not None:
            progress(*core.progress())
    result.seconds = time.perf_counter() - begin
    if progress is not None:
        progress(*core.progress())
    _take(result, core, keep)
    return result


def _refuse_encoded(file: str | os.PathLike[str]) -> None:
    """Also says which file it is that cannot be opened."""
    if os.path.isdir(file):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(file))
    if not os.path.isfile(file):
        # A pipe must not be read from, nor opened twice.
        os.stat(file)
        return
    with open(file, "rb") as opened:
        begin = opened.read(6)
    for magic, unpack in _COMPRESSED.items():
        if begin.startswith(magic):
            raise ValueError(f"{os.fspath(file)} is compressed: unpack it with {unpack}")
    if begin.startswith(_UTF_16):
        raise ValueError(f"{os.fspath(file)} is in UTF-16: convert it with iconv -f UTF-16 -t UTF-8")


def _take(result: Replayed, core: Replay, keep: bool) -> None:
    summary = core.summary()
    totals = summary.pop("totals")
    result.events = {Event(kind).name: (count, size) for kind, count, size in totals if count}
    for name, value in summary.items():
        setattr(result, name, value)
    rows, result.compared = core.differences()
    result.differences = [Difference(*row) for row in rows]
    if keep:
        result.columns, result.mappings = core.columns()
        number = 1
        while (path := core.file(number)) is not None:
            result.files[number] = path
            number += 1


def _snapshots(path: Path) -> Iterable[tuple[int, bool, str]]:
    if not path.is_file():
        return
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if "maps" in entry:
                    yield int(entry["line"]), entry["when"] == "exit", str(entry["maps"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: no copy of /proc/PID/maps: {error}") from None
