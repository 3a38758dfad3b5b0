#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Do the models find the mistakes of models/mutations? Makes each in a copy below build/ and runs its model.

Usage: bite.py [-j JOBS] [-s SECONDS] [NAME ...]
-s: as many as fit into so many seconds, beginning where the day says, so that all get their turn; the rest counts as skipped.
"""
import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "models-bite"
TARGET = ROOT / "build" / "models"


def mutations():
    """Each as (name, model, file, message, old, new)."""
    text = (ROOT / "models" / "mutations").read_text()
    for block in re.split(r"^@ ", text, flags=re.M)[1:]:
        head, body = block.split("\n", 1)
        name, model, file, message = (part.strip() for part in head.split(" | ", 3))
        old, new = body.split("\n=>\n", 1)
        yield name, model, file, message, old, new.strip("\n")


def stale_anchors(every):
    """The mutations whose text does not stand exactly once in the sources as they are."""
    for name, _, file, _, old, _ in every:
        found = (ROOT / file).read_text().count(old)
        if found != 1:
            yield f"{name}: its text stands {found} times in {file}"


def copy_sources(place):
    """A copy of what the models are compiled from, with a target folder of its own that knows the dependencies already."""
    if not (place / "target").exists():
        command = ["cargo", "build", "--locked", "-q", "-j2", "--target-dir", str(TARGET)]
        subprocess.run(command, cwd=ROOT / "models", check=True)
        shutil.copytree(TARGET, place / "target")
    for folder in ("src", "models"):
        shutil.rmtree(place / folder, ignore_errors=True)
        shutil.copytree(ROOT / folder, place / folder)


def compile_models(place):
    command = ["cargo", "build", "--locked", "-q", "-j1", "--target-dir", str(place / "target")]
    # A mistake shows early in the exploration: what takes time is the compiler.
    quick = os.environ | {"CARGO_PROFILE_DEV_OPT_LEVEL": "0"}
    return subprocess.run(command, cwd=place / "models", capture_output=True, text=True, env=quick)


def bite(place, mutation):
    """What is wrong with the model's answer to a mutation, or None."""
    _, model, file, message, old, new = mutation
    path = place / file
    whole = path.read_text()
    path.write_text(whole.replace(old, new))
    try:
        compiled = compile_models(place)
        if compiled.returncode != 0:
            return "does not compile:\n" + compiled.stderr
        program = [str(place / "target" / "debug" / "models"), model]
        try:
            run = subprocess.run(program, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return f"{model} found nothing in 60 s"
        if run.returncode == 0:
            return f"{model} passes: {run.stdout}"
        if run.returncode != 1 or not re.search(message, run.stderr):
            return f"{model} fails for another reason (status {run.returncode}):\n{run.stderr}"
        return None
    finally:
        path.write_text(whole)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("-s", type=float)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()

    every = list(mutations())
    stale = list(stale_anchors(every))
    print(*stale, sep="\n", end="\n" if stale else "")
    if stale:
        sys.exit(f"0 passed, {len(stale)} failed")
    if arguments.names:
        every = [mutation for mutation in every if mutation[0] in arguments.names]
    if not every:
        sys.exit("there is no such mutation")
    if arguments.s:
        turn = int(time.time() // 86400) * 7 % len(every)
        every = every[turn:] + every[:turn]

    places = queue.Queue()
    for number in range(arguments.j):
        place = BUILD / str(number)
        place.mkdir(parents=True, exist_ok=True)
        copy_sources(place)
        compiled = compile_models(place)
        if compiled.returncode != 0:
            sys.exit(compiled.stderr)
        places.put(place)
    start = time.monotonic()
    passed = failed = skipped = 0

    def work(mutation):
        if arguments.s and time.monotonic() - start > arguments.s:
            return mutation[0], "skipped", 0
        place = places.get()
        begin = time.monotonic()
        wrong = bite(place, mutation)
        places.put(place)
        return mutation[0], wrong, time.monotonic() - begin

    with concurrent.futures.ThreadPoolExecutor(arguments.j) as pool:
        for name, wrong, seconds in pool.map(work, every):
            if wrong == "skipped":
                skipped += 1
            elif wrong is None:
                passed += 1
                print(f"{name}: found, {seconds:.1f} s", flush=True)
            else:
                failed += 1
                print(f"{name}: NOT FOUND: {wrong}", flush=True)
    if skipped:
        print(f"SKIP {skipped} mutations: their turn comes on another day (all: make models-bite)")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
