# SPDX-License-Identifier: MIT OR Apache-2.0
"""The Linux kernel's MMU-notifier contract, from Python.

Address spaces, subscribers, ranges and their events, on the same core that C drivers link::

    import threading
    import mmu_notifier as mn

    class Shadow(mn.IntervalNotifier):
        def __init__(self):
            self.lock = threading.Lock()
            self.table = {}

        def invalidate(self, range, cur_seq):
            with self.lock:
                self.set_seq(cur_seq)
                for address in [a for a in self.table if a in range]:
                    del self.table[address]
            return True

    mm = mn.Mm()
    shadow = mm.insert(Shadow(), 0x1000, 0x4000)
    with mm.read_lock(), mm.invalidate(0x1000, 0x2000, event=mn.Event.UNMAP):
        pass  # the pages change here

Addresses and lengths are ints, in bytes, from 0 to 2**64 - 1; ends are exclusive. Callbacks run on the thread that causes the
event, several at a time. An exception in a callback goes on in the call that caused the event, once everybody was told; a note on
it names the callback. No call that can wait holds the GIL. docs/spec/SPEC.md is the contract; names such as DV-7 are its rules.
"""

from mmu_notifier._errors import BlockingError, MisuseError, MisuseWarning
from mmu_notifier._event import Event
from mmu_notifier._mmu_notifier import (
    Abandoned,
    IntervalNotifier,
    Invalidation,
    Lock,
    Mm,
    Notifier,
    Range,
    ScenarioLock,
    __version__,
    note,
    point,
    spin,
    synchronize,
)
from mmu_notifier._plot import plot
from mmu_notifier._record import Recording, record
from mmu_notifier._replay import Difference, Process, Replayed, Watch, replay
from mmu_notifier.scenario import Exploration, Run, Scenario

__all__ = [
    "Abandoned",
    "BlockingError",
    "Difference",
    "Event",
    "Exploration",
    "IntervalNotifier",
    "Invalidation",
    "Lock",
    "MisuseError",
    "MisuseWarning",
    "Mm",
    "Notifier",
    "Process",
    "Range",
    "Recording",
    "Replayed",
    "Run",
    "Scenario",
    "ScenarioLock",
    "Watch",
    "__version__",
    "note",
    "plot",
    "point",
    "record",
    "replay",
    "spin",
    "synchronize",
]
