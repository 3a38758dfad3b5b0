# SPDX-License-Identifier: MIT OR Apache-2.0
"""Who keeps whom alive, collection, and the end of the interpreter."""

import gc
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import mmu_notifier as mn

PAGE = 0x1000


class Log(mn.Notifier):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def release(self, mm: mn.Mm) -> None:
        self.log.append("release")


class Quiet(mn.IntervalNotifier):
    mm_: mn.Mm

    def invalidate(self, range: mn.Range, cur_seq: int) -> None:
        self.set_seq(cur_seq)


def soon(condition: Callable[[], bool]) -> bool:
    """What the library's worker does is done soon."""
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.001)
    return condition()


def test_an_address_space_keeps_its_subscribers() -> None:
    mm, log = mn.Mm(), list[str]()
    subscriber = weakref.ref(mm.register(Log(log)))
    interval = weakref.ref(mm.insert(Quiet(), 0, PAGE))
    gc.collect()
    assert subscriber() is not None and interval() is not None
    mm.close()
    assert log == ["release"]
    assert soon(lambda: subscriber() is None and interval() is None and mm.references == 1)


def test_collection_ends_the_address_space() -> None:
    mm, log = mn.Mm(), list[str]()
    subscriber = mm.register(Log(log))
    del mm
    assert soon(lambda: log == ["release"])
    subscriber.unregister()


def test_collection_ends_a_registration() -> None:
    mm, log = mn.Mm(), list[str]()
    subscriber, interval = Log(log), Quiet()
    mm.register(subscriber)
    mm.insert(interval, 0, PAGE)
    # The Mm keeps them; this is how it loses them early.
    mm.close()
    log.clear()
    del subscriber, interval
    assert soon(lambda: mm.references == 1)
    assert log == [], "put, not unregistered"


def test_cycles_are_collected() -> None:
    gone: list[weakref.ref[Any]] = []
    for _ in range(10):
        mm = mn.Mm()
        interval, subscriber = mm.insert(Quiet(), 0, PAGE), mm.register(Log([]))
        interval.mm_ = mm
        setattr(subscriber, "ranges", [mm.invalidate(0, PAGE), mm.invalidate(0, PAGE).range])
        gone += [weakref.ref(mm), weakref.ref(interval), weakref.ref(subscriber)]
    del mm, interval, subscriber
    assert soon(lambda: not any(ref() for ref in gone))


def test_a_range_that_is_forgotten_ends() -> None:
    mm = mn.Mm()
    mm.insert(Quiet(), 0, PAGE)
    invalidation = mm.invalidate(0, PAGE)
    invalidation.begin()
    assert mm.active == 1
    del invalidation
    assert mm.active == 0


def test_a_subscriber_may_go_inside_a_callback() -> None:
    mm = mn.Mm()
    kept: list[object] = [mm.insert(Quiet(), 0, PAGE)]
    mm.close()  # which keeps it no longer

    class Drops(mn.IntervalNotifier):
        def invalidate(self, range: mn.Range, cur_seq: int) -> None:
            kept.clear()

    other = mn.Mm()
    dropping = other.insert(Drops(), 0, PAGE)
    with mm.invalidate(0, PAGE), other.invalidate(0, PAGE):
        pass
    assert soon(lambda: mm.references == 1)
    dropping.remove()


PREAMBLE = """
import os, sys, threading, time
import mmu_notifier as mn
class Interval(mn.IntervalNotifier):
    def invalidate(self, range, cur_seq):
        self.set_seq(cur_seq)
class Whole(mn.Notifier):
    def release(self, mm): print("release")
    def invalidate_range_start(self, range): pass
    def free_notifier(self): pass
mm = mn.Mm()
interval, whole, shared = mm.insert(Interval(), 0, 4096), mm.register(Whole()), Whole.get(mn.Mm.current())
def daemon(target):
    threading.Thread(target=target, daemon=True).start()
"""

AT_EXIT = {
    "live registrations": "",
    "a range in flight": "invalidation = mm.invalidate(0, 4096); invalidation.begin()",
    "a sleeping reader": """
invalidation = mm.invalidate(0, 4096); invalidation.begin()
daemon(interval.read_begin); time.sleep(0.05)""",
    "a thread that waits for a lock": """
lock = mm.write_lock(); lock.acquire()
daemon(lambda: mm.read_lock().acquire()); time.sleep(0.05)""",
    "threads that invalidate": """
def loop():
    while True:
        with mm.read_lock(), mm.invalidate(0, 4096): pass
for _ in range(4): daemon(loop)
time.sleep(0.05)""",
    "a callback that sleeps": """
class Slow(mn.Notifier):
    def invalidate_range_start(self, range): time.sleep(100)
slow = mm.register(Slow())
daemon(lambda: mm.invalidate(0, 1).begin()); time.sleep(0.05)""",
    "frees that are owed": """
for _ in range(1000): Whole.get(mm).put()
for _ in range(100): mn.Mm().insert(Interval(), 0, 4096)""",
    "a child": """
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0""",
}


@pytest.mark.parametrize("what", AT_EXIT)
def test_the_interpreter_ends_with(what: str) -> None:
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", PREAMBLE + AT_EXIT[what]], capture_output=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
other = interpreters.create()
"""

A_SECOND = """
import sys
import mmu_notifier as mn
class Whole(mn.Notifier):
    def invalidate_range_start(self, range): print("called")
mm = mn.Mm()
whole = mm.register(Whole())
text = "try: import mmu_notifier\\nexcept ImportError as error: print(error, flush=True)"
interpreters.run_string(other, text)
if sys.argv[1] == "ended":
    interpreters.destroy(other)
with mm.invalidate(0, 1):
    pass
"""


@pytest.mark.parametrize("how", ["ended", "left"])
def test_a_second_interpreter_is_refused(how: str) -> None:
    """Its end would be that of callbacks in the first."""
    done = subprocess.run([sys.executable, "-c", INTERPRETERS + A_SECOND, how], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    refused, called = done.stdout.splitlines()
    assert "one interpreter" in refused and called == "called"


def test_an_interpreter_that_ends_with_the_process_does_not_hang() -> None:
    only = INTERPRETERS + 'interpreters.run_string(other, "import mmu_notifier; mm = mmu_notifier.Mm()")'
    done = subprocess.run([sys.executable, "-c", only], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
