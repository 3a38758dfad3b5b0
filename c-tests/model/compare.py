#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Run programs on mnrun and on the model, compare, shrink what differs. compare.sh builds mnrun and calls this.

Usage: compare.py MNRUN [-n COUNT] [-s SEED] [-p PROFILE] [-t SECONDS] [-j JOBS] [-f] [-k DIR] [FILE ...]
  -n -s  the programs of SEED .. SEED+COUNT-1 (generate.py); with FILEs: those instead
  -p     all of one profile (dv1 is in no other way)
  -t     start no program after so many seconds
  -f     stop at the first difference
  -k     keep the minimal programs there, as SEED.txt

Compared are the trace, the exit (a BUG of the model's is an abort) and the rules named in the warnings on stderr. When
they differ, mnrun runs again, with more time before it calls an operation blocked: a difference that does not stay is
"unstable", not a failure (a loaded machine, or a race in the library: look at it). The program of a lasting one is
shrunk: lines are dropped while a lasting difference remains. "racy" are programs whose trace depends on the schedule in
the model itself (generate.py says why there should be none); they are not compared.
"""

import argparse
import difflib
import multiprocessing
import os
import re
import subprocess
import sys
import time

import generate
import model


class Outcome:
    def __init__(self, lines, exit_code, warnings):
        self.lines, self.exit_code, self.warnings = lines, exit_code, sorted(warnings)

    def __eq__(self, other):
        return vars(self) == vars(other)

    def text(self):
        return self.lines + [f"exit {self.exit_code}", "warnings " + " ".join(self.warnings)]


ABORTED = -6


def of_model(program):
    warnings = []
    lines = model.trace(program, warn=warnings.append)
    if lines[-1].startswith("BUG"):
        return Outcome(lines[:-1], ABORTED, [*warnings, lines[-1].split()[1]])
    return Outcome(lines, 0, warnings)


def of_library(mnrun, program, window_ms=None):
    env = dict(os.environ, **({"MNRUN_WINDOW_MS": str(window_ms)} if window_ms else {}))
    text = "".join(line.rstrip("\n") + "\n" for line in program)
    run = subprocess.run([mnrun, "-c"], input=text, capture_output=True, text=True, env=env, errors="replace")
    reports = [line for line in run.stderr.splitlines() if line.startswith("mmu_notifier: ")]
    rules = [re.search(r"\[([A-Z]+-[0-9a-z]+)", line) for line in reports if "info" not in line.split()[1]]
    lines = [re.sub(" live_mms=.*", "", line) for line in run.stdout.splitlines()]
    return Outcome(lines, run.returncode, [rule.group(1) if rule else "?" for rule in rules])


def differs(mnrun, program, attempts=2):
    """Lastingly."""
    try:
        expected = of_model(program)
    except (model.BadProgram, AttributeError):
        return False
    return all(of_library(mnrun, program, 12) != expected for _ in range(attempts))


def shrink(mnrun, program, seconds=60):
    """Drop ever smaller pieces while the difference remains."""
    stop = time.monotonic() + seconds
    size = len(program) // 2
    while size and time.monotonic() < stop:
        at, dropped = 0, False
        while at < len(program) and time.monotonic() < stop:
            fewer = program[:at] + program[at + size :]
            if fewer and differs(mnrun, fewer):
                program, dropped = fewer, True
            else:
                at += size
        if size > 1 or not dropped:
            size //= 2
    return program


def side_by_side(mnrun, program):
    expected, got = of_model(program).text(), of_library(mnrun, program, 12).text()
    diff = difflib.unified_diff(expected, got, "model", "library", n=len(expected), lineterm="")
    return [*program, "--- the model's trace (-) and the library's (+):", *list(diff)[3:]]


def check(job):
    """(name, verdict, the minimal program or None)"""
    mnrun, name, profile = job
    if os.path.exists(name):
        with open(name, encoding="ascii") as source:
            program = source.read().splitlines()
    else:
        program = generate.program(int(name), profile)
    if generate.racy(program):
        return name, "racy", None
    if of_model(program) == of_library(mnrun, program):
        return name, "passed", None
    if not differs(mnrun, program):
        return name, "unstable", None
    return name, "failed", shrink(mnrun, program)


def jobs_of(options):
    """A generator that dries up when the time is over."""
    stop = time.monotonic() + options.t
    names = options.files or map(str, range(options.s, options.s + options.n))
    for name in names:
        if time.monotonic() > stop:
            return
        yield options.mnrun, name, options.p


def keep(options, name, program):
    if options.k:
        os.makedirs(options.k, exist_ok=True)
        with open(os.path.join(options.k, os.path.basename(name) + ".txt"), "w", encoding="ascii") as out:
            out.write("\n".join(program) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mnrun")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("-s", type=int, default=1)
    parser.add_argument("-p", choices=generate.PROFILES)
    parser.add_argument("-t", type=float, default=480)
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("-f", action="store_true")
    parser.add_argument("-k")
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    counts = dict(passed=0, failed=0, unstable=0, racy=0)
    began = time.monotonic()
    with multiprocessing.Pool(options.j) as pool:
        for done in in_turn(pool, jobs_of(options), options.j):
            name, verdict, minimal = done
            counts[verdict] += 1
            if verdict != "passed":
                print(f"{verdict.upper()} {name} (program {sum(counts.values())})", flush=True)
            if minimal:
                print("\n".join(side_by_side(options.mnrun, minimal)), flush=True)
                keep(options, name, minimal)
            if options.f and minimal:
                break
    total, seconds = sum(counts.values()), time.monotonic() - began
    print(f"seeds {options.s}..{options.s + total - 1}: " if not options.files else "", end="")
    print(f"{total} programs, {total / seconds:.1f} per second, {counts['unstable']} unstable, {counts['racy']} racy")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


def in_turn(pool, jobs, ahead):
    """Results in the order of the jobs, which are made no earlier than needed."""
    waiting = []
    for job in jobs:
        waiting.append(pool.apply_async(check, (job,)))
        if len(waiting) > ahead:
            yield waiting.pop(0).get()
    for result in waiting:
        yield result.get()


if __name__ == "__main__":
    sys.exit(main())
