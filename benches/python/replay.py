# SPDX-License-Identifier: MIT OR Apache-2.0
"""How fast a trace is replayed: a million lines of CPython, git and sqlite3, with one Python interval that most of them miss.

The programs that are not installed are left out, which is said. Without strace, the trace of the tests is repeated.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import mmu_notifier as mn

LINES = 1_000_000
SPARE = Path(__file__).parents[2] / "tests" / "replay" / "threads.strace"
WORK = (
    "import json, mmap, os, subprocess, threading\n"
    "def work():\n"
    "    for pages in range(1, 100):\n"
    "        memory = mmap.mmap(-1, pages * 4096); memory.resize(2 * pages * 4096); memory.madvise(4); memory.close()\n"
    "        bytearray(pages * 50_000)\n"
    "threads = [threading.Thread(target=work) for _ in range(4)]\n"
    "[one.start() for one in threads]; [one.join() for one in threads]\n"
    "subprocess.run(['true'])\n"
)
GIT = "git init -q r && cd r && seq 5000 >f && git add f && git -c user.name=a -c user.email=b commit -qm c && git repack -adq && git fsck"
SQL = "create table t(a); with recursive c(x) as (select 1 union all select x+1 from c where x<50000) insert into t select hex(x) from c;"
PROGRAMS = {"python": [sys.executable, "-c", WORK], "git": ["sh", "-c", GIT], "sqlite3": ["sqlite3", "x.db", SQL]}


def traces() -> tuple[bytes, str]:
    """The programs' traces, one after the other, and what they are of."""
    parts, names = [], []
    if shutil.which("strace") is not None:
        for name, program in PROGRAMS.items():
            if name == "python" or shutil.which(name) is not None:
                mn.record(program, name, copies=False)
                parts.append(Path(name).read_bytes())
                names.append(name)
    if not b"".join(parts):
        return SPARE.read_bytes(), "the trace of the tests: strace cannot record here"
    return b"".join(parts), ", ".join(names)


def read_lines() -> float:
    """The peer: reading the lines and splitting each at its parenthesis, in Python, and nothing else."""
    begin = time.perf_counter()
    with open("trace", "rb") as file:
        for line in file:
            line.partition(b"(")
    return time.perf_counter() - begin


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        part, names = traces()
        lines = part.splitlines(keepends=True)
        Path("trace").write_bytes(b"".join((lines * (LINES // len(lines) + 1))[:LINES]))
        # Of the hot ranges, the one that is called least, but called.
        hot = mn.replay("trace", intervals=[(start, 4096) for start, _, _ in mn.replay("trace").hottest])
        calls: dict[int, int] = {}
        for watch in hot.watches:
            calls[watch.bytes[0]] = calls.get(watch.bytes[0], 0) + watch.hits
        start = min((start for start in calls if calls[start]), key=lambda start: calls[start])
        runs, cpu, peer = [], [], []
        for _ in range(3):
            begin = time.process_time()
            runs.append(mn.replay("trace", intervals=[(start, 4096)]))
            cpu.append(time.process_time() - begin)
            peer.append(read_lines())
        best = min(runs, key=lambda one: one.seconds)
        hits = sum(watch.hits for watch in best.watches)
        print(f"replay of {best.lines:,} lines ({names}), one Python interval, {hits:,} calls of it, {best.unreadable} lines unread:")
        print(f"  {best.total:,} events in {best.seconds:.2f} s: {best.total / best.seconds:,.0f} events/s, {best.lines / best.seconds:,.0f} lines/s")
        print(f"  {best.total / min(cpu):,.0f} events for each second of CPU time")
        print(f"  reading and splitting the lines in Python: {min(peer):.2f} s, ratio {best.seconds / min(peer):.1f}")
        os.chdir("/")


main()
