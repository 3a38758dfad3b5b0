# SPDX-License-Identifier: MIT OR Apache-2.0
"""Live events: real changes of this process's memory. Each test runs in a process of its own: live events are for all of it."""

import subprocess
import sys

import pytest

import mmu_notifier as mn
from mmu_notifier import live

PREAMBLE = """
import ctypes, gc, mmap, threading
import mmu_notifier as mn
from mmu_notifier import live
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = mmap.PAGESIZE
def pages(count):
    return libc.mmap(None, count * PAGE, 3, 0x22, -1, 0)
live.enable()
assert live.status().enabled and live.status().sites > 0
"""

PROGRAMS = {
    "changes come in order": """
start = pages(4)
changes = live.events(start, 4 * PAGE, timeout=5.0)
assert libc.mprotect(start + PAGE, PAGE, 1) == 0
assert libc.munmap(start, 2 * PAGE) == 0
one, two = next(changes), next(changes)
assert one == live.Change(start + PAGE, start + 2 * PAGE, mn.Event.PROTECTION_VMA), one
assert two == live.Change(start, start + 2 * PAGE, mn.Event.UNMAP), two
changes.close()
libc.munmap(start + 2 * PAGE, 2 * PAGE)
""",
    "a watch tells at once": """
start, queue = pages(1), live.Queue(8)
with queue.watch(start, PAGE, cookie=7) as watch:
    seq = watch.read_begin()
    assert not watch.read_retry(seq)
    libc.munmap(start, PAGE)
    assert watch.read_retry(seq)
    assert queue.wait(5.0) == (7, start, start + PAGE, 0)
assert watch.closed
try:
    watch.read_retry(1)
except mn.MisuseError as error:
    assert error.rule == "RB-1"
else:
    raise AssertionError("closed")
""",
    "what finds no room is counted": """
start, queue, before = pages(1), live.Queue(2), live.epoch()
with queue.watch(start, PAGE):
    for protection in (1, 3, 1, 3):
        libc.mprotect(start, PAGE, protection)
assert queue.lost == 2, queue.lost
assert live.epoch() > before
assert [queue.wait(0)[3] for _ in range(2)] == [mn.Event.PROTECTION_VMA] * 2
assert queue.wait(0) is None
""",
    "a reader sleeps until another thread changes something": """
start, queue, found = pages(1), live.Queue(), []
watch = queue.watch(start, PAGE)
reader = threading.Thread(target=lambda: found.append(queue.wait()))
reader.start()
reader.join(0.05)
assert reader.is_alive() and not found
libc.munmap(start, PAGE)
reader.join()
assert found == [(0, start, start + PAGE, 0)]
reader = threading.Thread(target=lambda: found.append(queue.wait()))
reader.start()
queue.close()
reader.join()
assert found[1] is None
del watch
""",
    "Python is not called inside a system call": """
class Called(mn.IntervalNotifier):
    calls = 0
    def invalidate(self, range, cur_seq):
        self.calls += 1
mm, start, before = mn.Mm.current(), pages(1), live.epoch()
called = mm.insert(Called(), start, PAGE)
libc.munmap(start, PAGE)
assert called.calls == 0 and live.epoch() > before and live.status().missed > 0
with mm.invalidate(start, start + PAGE):
    assert called.calls == 1
""",
    "Python's own memory is watched and freed": """
start, queue = pages(1), live.Queue(1 << 12)
watch = queue.watch(0, 2**64 - 1)
for _ in range(20):
    junk = [bytearray(1 << 20) for _ in range(8)]
    del junk
    threading.Thread(target=gc.collect).start()
assert queue.wait(5.0) is not None
watch.close()
""",
    "off again": """
start, queue = pages(1), live.Queue()
watch = queue.watch(start, PAGE)
live.disable()
live.disable()
assert not live.status().enabled
libc.munmap(start, PAGE)
assert queue.wait(0.01) is None
""",
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_live(what: str) -> None:
    program = PREAMBLE + PROGRAMS[what]
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, timeout=60, text=True)
    if "OSError: [Errno 95]" in done.stderr:
        pytest.skip("this process cannot be covered")
    assert (done.returncode, done.stderr) == (0, "")


def test_before_it_is_enabled() -> None:
    status = live.status()
    assert not status.enabled and status.sites == 0
    with pytest.raises(OverflowError):
        live.events(0, 0)
    with pytest.raises(OSError, match="22"):
        live.Queue(0)
    queue = live.Queue()
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError):
            queue.wait(wrong)
    assert queue.wait(0.0) is None
    with mn.Mm.current() as mm, queue.watch(0x1000, 0x1000, 3), mm.invalidate(0x1000, 0x1001, mn.Event.MIGRATE):
        assert queue.wait(1) == (3, 0x1000, 0x1001, mn.Event.MIGRATE)
