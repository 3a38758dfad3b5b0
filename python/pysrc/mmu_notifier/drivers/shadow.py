# SPDX-License-Identifier: MIT OR Apache-2.0
"""The reference driver: a shadow page table under a user lock, and the mistakes that such drivers have been seen to make.

A :class:`Process` has pages, and changes them between the start and the end of a range. A :class:`Shadow` mirrors them by the
protocol of SPEC 4.3. ``Shadow.stale()`` says where the mirror is wrong; it must be empty at every moment.

To write your own driver, begin with :class:`Shadow`, and replace ``table`` by your device. :data:`EXERCISES` are wrong drivers
(SPEC 6.2): each makes one mistake, in one method, and works most of the time. What finds them is an explorer of schedules: give
it ``Exercise.setup``. ``lock`` and ``point`` are its handle: the lock is what it has for ``threading.Lock``, and the driver calls
``point()`` between any two steps that another thread may come in between::

    from mmu_notifier.drivers import shadow

    setup = shadow.EXERCISES[0].setup()
    for thread in setup.threads.values():
        thread()            # one after the other nothing happens
    assert not setup.check()
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import mmu_notifier as mn

__all__ = [
    "EXERCISES",
    "EndMissing",
    "Exercise",
    "LockLike",
    "NoReadSection",
    "PAGE",
    "Process",
    "RIGHT",
    "RemoveInCallback",
    "RetryIgnored",
    "RetryOutsideLock",
    "SetSeqMissing",
    "SetSeqUnlocked",
    "Setup",
    "Shadow",
    "SleepsNonBlockable",
]

PAGE = 0x1000
"""Bytes of a page here."""


class LockLike(Protocol):
    """What a driver needs of its lock: that of ``threading.Lock``."""

    def acquire(self, blocking: bool = True) -> bool:
        """Waits for the lock, or gives up if it may not; says whether it was acquired."""

    def release(self) -> None:
        """Releases the lock."""


def _nothing() -> None:
    """No schedule point."""


class Process:
    """Pages, by their addresses, and what is in them. Changes are announced to the subscribers of ``mm``."""

    def __init__(self, pages: dict[int, int], *, point: Callable[[], None] = _nothing) -> None:
        self.mm = mn.Mm()
        self.pages = pages
        self.point = point

    def change(
        self, start: int, end: int, page: int | None, event: mn.Event = mn.Event.CLEAR, *, blockable: bool = True
    ) -> bool:
        """Puts ``page`` into every page of the bytes ``[start, end)``; None takes them away.

        Returns False, with nothing changed, if the range is not blockable and a subscriber refused.
        """
        invalidation = self.mm.invalidate(start, end, event, blockable=blockable)
        with self.mm.read_lock():
            try:
                invalidation.begin()
            except mn.BlockingError:
                return False
            for address in range(start, end, PAGE):
                self.point()
                if page is None:
                    self.pages.pop(address, None)
                else:
                    self.pages[address] = page
            self.point()
            self.finish(invalidation)
        return True

    def finish(self, invalidation: mn.Invalidation) -> None:
        """The change is done."""
        invalidation.end()


class Shadow(mn.IntervalNotifier):
    """Mirrors the pages of a process. ``table`` is the device's: what it would read, by address."""

    def __init__(
        self, process: Process, *, lock: LockLike | None = None, point: Callable[[], None] = _nothing
    ) -> None:
        self.process = process
        self.lock: LockLike = threading.Lock() if lock is None else lock
        self.point = point
        self.table: dict[int, int] = {}

    # The four steps of a fault. Wrong drivers differ in one of them.

    def fault(self, address: int) -> None:
        """The device wants the page at ``address``: mirrors it, unless there is none. Not under the lock, nor in a callback."""
        while True:
            seq = self.read_begin()
            self.point()
            page = self.process.pages.get(address)
            self.point()
            if self.commit(address, page, seq):
                return

    def commit(self, address: int, page: int | None, seq: int) -> bool:
        """Mirrors what was read, if it holds still: the closing step of the read that began with ``seq``."""
        self.lock.acquire()
        try:
            if self.read_retry(seq):
                return False
            self.store(address, page)
            return True
        finally:
            self.lock.release()

    def store(self, address: int, page: int | None) -> None:
        """The device's part, under the lock."""
        self.point()
        if page is not None:
            self.table[address] = page

    def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
        """Drops what is mirrored of ``range``; refuses a range that is not blockable rather than wait for the lock."""
        if not self.lock.acquire(range.blockable):
            return False
        try:
            self.set_seq(cur_seq)
            self.drop(range)
        finally:
            self.lock.release()
        return True

    def drop(self, range: mn.Range) -> None:
        """The device's part, under the lock."""
        self.point()
        for address in [address for address in self.table if address in range]:
            del self.table[address]

    def stale(self) -> list[int]:
        """The addresses at which the mirror does not show what is there."""
        pages = self.process.pages
        return [address for address, page in self.table.items() if pages.get(address) != page]


class SetSeqMissing(Shadow):
    """Its callback does not call ``set_seq``: a fault that has read the old page does not see that it changed."""

    def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
        """As in Shadow, but for the mistake."""
        if not self.lock.acquire(range.blockable):
            return False
        try:
            self.drop(range)
        finally:
            self.lock.release()
        return True


class SetSeqUnlocked(Shadow):
    """Its callback calls ``set_seq`` after it has released the lock: a fault gets the lock in between."""

    def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
        """As in Shadow, but for the mistake."""
        if not self.lock.acquire(range.blockable):
            return False
        try:
            self.drop(range)
        finally:
            self.lock.release()
        self.point()
        self.set_seq(cur_seq)
        return True


class RetryIgnored(Shadow):
    """It commits whatever ``read_retry`` says."""

    def commit(self, address: int, page: int | None, seq: int) -> bool:
        """As in Shadow, but for the mistake."""
        self.lock.acquire()
        try:
            self.read_retry(seq)
            self.store(address, page)
            return True
        finally:
            self.lock.release()


class RetryOutsideLock(Shadow):
    """It asks ``read_retry`` first, and takes the lock then: a range starts in between."""

    def commit(self, address: int, page: int | None, seq: int) -> bool:
        """As in Shadow, but for the mistake."""
        if self.read_retry(seq):
            return False
        self.point()
        self.lock.acquire()
        try:
            self.store(address, page)
            return True
        finally:
            self.lock.release()


class NoReadSection(Shadow):
    """It looks at the page before ``read_begin``: a range starts and ends in between (hfi1, b3deec25847b)."""

    def fault(self, address: int) -> None:
        """As in Shadow, but for the mistake."""
        while True:
            page = self.process.pages.get(address)
            self.point()
            if self.commit(address, page, self.read_begin()):
                return


class RemoveInCallback(Shadow):
    """It removes itself in its callback, which would wait for itself (IR-10)."""

    def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
        """As in Shadow, but for the mistake."""
        answer = super().invalidate(range, cur_seq)
        self.remove()
        return answer


class SleepsNonBlockable(Shadow):
    """It waits for its lock although the range is not blockable (hfi1, kfd_svm)."""

    def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
        """As in Shadow, but for the mistake."""
        self.lock.acquire()
        try:
            self.set_seq(cur_seq)
            self.drop(range)
        finally:
            self.lock.release()
        return True


class EndMissing(Process):
    """A process that does not end its ranges: faults sleep for ever."""

    def __init__(self, pages: dict[int, int], *, point: Callable[[], None] = _nothing) -> None:
        super().__init__(pages, point=point)
        # Kept, or collection would end them.
        self.unended: list[mn.Invalidation] = []

    def finish(self, invalidation: mn.Invalidation) -> None:
        """As in Process, but for the mistake."""
        self.unended.append(invalidation)


@dataclass(frozen=True)
class Setup:
    """A process, its mirror, and what happens: ready to run, once."""

    process: Process
    shadow: Shadow
    threads: dict[str, Callable[[], None]]
    """What happens at the same time, by name."""

    def check(self) -> list[str]:
        """What is wrong at this moment, a sentence each. To be asked after every step."""
        return [f"the mirror of {address:#x} is stale" for address in self.shadow.stale()]

    def close(self) -> None:
        """Ends what goes on. (Not if a thread sleeps for ever.)"""
        if self.shadow.inserted:
            self.shadow.remove()
        self.process.mm.close()


@dataclass(frozen=True)
class Exercise:
    """A driver to be tried: two pages, a fault on one, and a change of it at the same time."""

    name: str
    """What is wrong."""
    driver: type[Shadow] = Shadow
    process: type[Process] = Process
    blockable: bool = True
    """Is the range of the change blockable?"""

    def setup(
        self, *, lock: Callable[[], LockLike] = threading.Lock, point: Callable[[], None] = _nothing
    ) -> Setup:
        """A new process with its mirror. ``lock`` makes the driver's lock, ``point`` is called where threads may change."""
        process = self.process({0: 1, PAGE: 1}, point=point)
        shadow = self.driver(process, lock=lock(), point=point)
        process.mm.insert(shadow, 0, 2 * PAGE)

        def change() -> None:
            process.change(0, PAGE, 2, blockable=self.blockable)

        return Setup(process, shadow, {"fault": lambda: shadow.fault(0), "change": change})


RIGHT = (Exercise("nothing"), Exercise("nothing, non-blockable", blockable=False))
"""The right driver, with either kind of range."""

EXERCISES = (
    Exercise("set_seq missing", SetSeqMissing),
    Exercise("set_seq unlocked", SetSeqUnlocked),
    Exercise("retry ignored", RetryIgnored),
    Exercise("retry outside the lock", RetryOutsideLock),
    Exercise("mapping outside a read section", NoReadSection),
    Exercise("remove in a callback", RemoveInCallback),
    Exercise("sleeping in a non-blockable range", SleepsNonBlockable, blockable=False),
    Exercise("end missing", process=EndMissing),
)
"""Drivers that make one mistake each, by its name."""
