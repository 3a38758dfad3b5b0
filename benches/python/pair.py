# SPDX-License-Identifier: MIT OR Apache-2.0
"""What pair.c measures, through Python: nanoseconds for a pair, the best of some rounds. Its argument is what pair.c printed."""

import sys
import time

import mmu_notifier as mn

PAGE = 0x1000
ROUNDS, PAIRS = 7, 20_000


class Interval(mn.IntervalNotifier):
    def invalidate(self, range: mn.Range, cur_seq: int) -> None:
        self.set_seq(cur_seq)


class Whole(mn.Notifier):
    def invalidate_range_start(self, range: mn.Range) -> None:
        pass


def measure(mm: mn.Mm, start: int) -> float:
    """Nanoseconds for a pair, written as a user writes it."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter_ns()
        for _ in range(PAIRS):
            with mm.invalidate(start, start + PAGE):
                pass
        best = min(best, (time.perf_counter_ns() - begin) / PAIRS)
    return best


def main() -> None:
    c = {name: float(ns) for name, ns in (line.split() for line in sys.argv[1].splitlines())}
    mm = mn.Mm()
    with mm.insert(Interval(), PAGE, PAGE):
        python = {"nobody": measure(mm, 256 * PAGE), "interval": measure(mm, PAGE)}
    with mm.register(Whole()):
        python["notifier"] = measure(mm, PAGE)
    print("a pair that calls        C, ns   Python, ns    ratio   callback alone in Python, ns")
    for name, ns in python.items():
        alone = "" if name == "nobody" else f"{ns - python['nobody']:.0f}"
        print(f"{name:20} {c[name]:9.1f} {ns:12.0f} {ns / c[name]:8.1f}   {alone}")


main()
