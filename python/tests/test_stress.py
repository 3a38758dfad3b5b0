# SPDX-License-Identifier: MIT OR Apache-2.0
"""Threads that invalidate while others register: no deadlock, and nothing is left over.

`STRESS_SECONDS=` (30) is how long; `STRESS_SEED=` repeats the choices of a run.
"""

import gc
import os
import random
import threading
import time
from collections import Counter

import pytest

import mmu_notifier as mn

SECONDS = float(os.environ.get("STRESS_SECONDS", "30"))
SEED = int(os.environ.get("STRESS_SEED", str(time.time_ns() % 2**32)))
PAGE = 0x1000
PAGES = 64


class Interval(mn.IntervalNotifier):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.table: dict[int, int] = {}
        self.calls = 0

    def invalidate(self, range: mn.Range, cur_seq: int) -> bool:
        if not self.lock.acquire(range.blockable):
            return False
        try:
            self.set_seq(cur_seq)
            self.calls += 1
            for address in [address for address in self.table if address in range]:
                del self.table[address]
        finally:
            self.lock.release()
        return True


class Whole(mn.Notifier):
    def __init__(self) -> None:
        self.depth = Counter[int]()
        self.lock = threading.Lock()
        self.calls = 0

    def invalidate_range_start(self, range: mn.Range) -> None:
        with self.lock:
            self.calls += 1

    def invalidate_range_end(self, range: mn.Range) -> None:
        pass

    def release(self, mm: mn.Mm) -> None:
        pass


class Cycle(mn.Notifier):
    """Refers to its own address space: garbage that only the collector finds."""

    def __init__(self, mm: mn.Mm) -> None:
        self.mm = mm

    def release(self, mm: mn.Mm) -> None:
        pass


class Shared(mn.Notifier):
    def invalidate_range_start(self, range: mn.Range) -> None:
        pass

    def free_notifier(self) -> None:
        pass


class Play:
    """What the threads do until the time is over."""

    def __init__(self) -> None:
        self.mm = mn.Mm()
        self.pages = {page * PAGE: 0 for page in range(PAGES)}
        self.lasting = [self.mm.insert(Interval(), page * PAGE, 8 * PAGE) for page in range(0, PAGES - 8, 8)]
        self.whole = self.mm.register(Whole())
        self.over = threading.Event()
        self.failures: list[BaseException] = []
        self.rounds = Counter[str]()

    def invalidate(self, choose: random.Random) -> None:
        start = choose.randrange(PAGES) * PAGE
        end = start + choose.randrange(1, 9) * PAGE
        with self.mm.read_lock():
            try:
                with self.mm.invalidate(start, end, mn.Event.CLEAR, blockable=choose.random() < 0.8):
                    for address in range(start, min(end, PAGES * PAGE), PAGE):
                        self.pages[address] = choose.randrange(2**32)
            except mn.BlockingError:
                pass

    def fault(self, choose: random.Random) -> None:
        interval = choose.choice(self.lasting)
        address = interval.start + choose.randrange(8) * PAGE
        while True:
            seq = interval.read_begin()
            page = self.pages[address]
            with interval.lock:
                if not interval.read_retry(seq):
                    interval.table[address] = page
                    assert self.pages[address] == page, "committed while it changes"
                    return

    def register(self, choose: random.Random) -> None:
        match choose.randrange(6):
            case 0:
                with self.mm.register(Whole()):
                    pass
            case 1:
                with self.mm.insert(Interval(), choose.randrange(PAGES) * PAGE, PAGE):
                    pass
            case 2:
                self.mm.register(Whole()).put()
            case 3:
                Shared.get(self.mm).put()
            case 4:
                mm = mn.Mm()
                mm.register(Cycle(mm))
                mm.insert(Interval(), 0, PAGE)
            case _:
                with mn.Mm() as mm:
                    mm.register(Whole())
                    mm.invalidate(0, PAGE).begin()

    def thread(self, name: str, seed: int) -> None:
        choose = random.Random(seed)
        act = getattr(self, name)
        try:
            while not self.over.is_set():
                act(choose)
                self.rounds[name] += 1
        except BaseException as failure:  # noqa: BLE001: told by the main thread
            self.failures.append(failure)
            self.over.set()

    def run(self, seconds: float, seed: int) -> None:
        names = ["invalidate"] * 8 + ["fault"] * 2 + ["register"] * 2
        threads = [
            threading.Thread(target=self.thread, args=(name, seed + number), name=name)
            for number, name in enumerate(names)
        ]
        for thread in threads:
            thread.start()
        # Readers and removers wait for a moment without ranges (K6), which a writer makes.
        deadline = time.monotonic() + seconds
        while not self.over.wait(0.005) and time.monotonic() < deadline:
            with self.mm.write_lock():
                pass
        self.over.set()
        for thread in threads:
            thread.join(30)
        assert not [thread.name for thread in threads if thread.is_alive()], "a deadlock"
        if self.failures:
            raise self.failures[0]


def settle() -> None:
    """Collects, and waits for what the library's worker owes."""
    for _ in range(3):
        gc.collect()
        mn.synchronize()
        time.sleep(0.05)


def objects() -> int:
    kinds = (mn.Mm, mn.Notifier, mn.IntervalNotifier, mn.Range, mn.Invalidation, mn.Lock)
    return sum(isinstance(one, kinds) for one in gc.get_objects())


def memory() -> int:
    """The process's resident bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parallel_threads(1)
@pytest.mark.timeout(SECONDS * 3 + 120)
def test_eight_threads_invalidate_while_others_register() -> None:
    print(f"STRESS_SEED={SEED}")
    # The first round pays for what is made once.
    play = Play()
    play.run(SECONDS / 5, SEED)
    del play
    settle()
    objects_before, memory_before = objects(), memory()
    play = Play()
    play.run(SECONDS * 4 / 5, SEED + 1000)
    print(dict(play.rounds))
    assert min(play.rounds[name] for name in ("invalidate", "fault", "register")) > 10, play.rounds
    assert play.whole.calls > 100
    mm = play.mm
    stale = [
        address
        for interval in play.lasting
        for address, page in interval.table.items()
        if play.pages[address] != page
    ]
    assert stale == []
    # One for the users; this registration, and the lasting intervals.
    settle()
    assert mm.references == 1 + 1 + len(play.lasting)
    assert mm.active == 0
    assert objects() > objects_before + len(play.lasting), "they are seen"
    mm.close()
    del mm, play
    settle()
    grown = memory() - memory_before
    print(f"objects {objects_before} -> {objects()}, memory grown by {grown >> 10} KiB")
    assert objects() <= objects_before
    assert grown < 8 << 20
