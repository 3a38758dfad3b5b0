#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Shows that each part of the tests can fail: makes the mistakes of bite.txt, one at a time, in a copy of the source tree.

bite.py [PART ...]            for each mistake of these parts (default: of all) runs the part in the copy, which has to pass
                              without the mistake and to fail with it, for the reason that is given. Takes minutes a part.
bite.py --anchors             only looks whether each text to be replaced is there exactly once, and each part has a mistake

The copy is build/bite/tree: what git knows or would add, as it is now. It is kept, so that a second run compiles less.
`make stage` in the copy is a part of every run: a mistake that does not compile has to say so in `seen`.
"""

import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
LIST = TOP / "scripts/bite.txt"
TREE = TOP / "build/bite/tree"
LIMIT = int(os.environ.get("LIMIT", "1200"))  # seconds for one run of a part


def unescape(text):
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), text)


class Mistake:
    """A record of bite.txt."""

    def __init__(self, line):
        self.line, self.part, self.seen, self.edits = line, None, None, []

    def read(self, key, value):
        if key == "part":
            self.part = value
        elif key == "seen":
            self.seen = re.compile(value, re.MULTILINE)
        elif key == "file":
            self.edits.append([value, None, None])
        elif key in ("old", "new") and self.edits and self.edits[-1][1 if key == "old" else 2] is None:
            self.edits[-1][1 if key == "old" else 2] = unescape(value)
        else:
            sys.exit(f"{LIST}: the record at line {self.line}: {key!r} is not expected there")

    def check(self):
        whole = self.part and self.seen and self.edits
        if not whole or any(not old or new is None or old == new for _, old, new in self.edits):
            sys.exit(f"{LIST}: the record at line {self.line} wants part, file, old, new (another than old), seen")

    def wrong_anchors(self):
        """The edits whose text is not there exactly once."""
        for file, old, _ in self.edits:
            path = TOP / file
            found = path.read_text().count(old) if path.is_file() else None
            if found != 1:
                why = "there is no such file" if found is None else f"found {found} times"
                yield f"bite.txt:{self.line}: {file}: {why}: {old!r}"

    def name(self):
        return f"{self.edits[0][0]}: {' '.join(self.edits[0][1].split())}"


def mistakes():
    records, record = [], None
    for number, line in enumerate(LIST.read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            record = None
            continue
        key, separator, value = line.partition(":")
        if not separator:
            sys.exit(f"{LIST}:{number}: want `KEY: VALUE`")
        if record is None:
            record = Mistake(number)
            records.append(record)
        record.read(key, value.removeprefix(" "))
    for record in records:
        record.check()
    return records


def parts():
    """The parts that test.sh runs if none is named."""
    text = (TOP / "scripts/test.sh").read_text()
    return re.search(r"^ALL='(.*?)'", text, re.DOTALL | re.MULTILINE).group(1).split()


def anchors(records):
    """Checks the list. Prints what is wrong; returns how many checks there were and how many failed."""
    wrong = [list(record.wrong_anchors()) for record in records]
    for line in sum(wrong, []):
        print("FAIL", line)
    without = [part for part in parts() if all(record.part != part for record in records)]
    for part in without:
        print(f"FAIL {part}: no mistake in bite.txt that this part has to find")
    return len(records) + len(parts()), sum(map(bool, wrong)) + len(without)


def copy_tree():
    """Brings the copy up to date. Files that are the same are left alone, with their times."""
    known = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP, check=True, capture_output=True, text=True).stdout.split("\0")
    names = {name for name in known if name and (TOP / name).is_file()}
    for old in [path for path in TREE.rglob("*") if path.is_file() or path.is_symlink()]:
        name = old.relative_to(TREE)
        if name.parts[0] not in ("build", "target") and str(name) not in names:
            old.unlink()
    for name in names:
        source, copy = TOP / name, TREE / name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            shutil.copymode(source, copy)


def run(part, log):
    """Runs a part in the copy. Returns its status and what it said."""
    environment = dict(os.environ, CACHE=os.environ.get("CACHE", str(TOP / "build/cache")))
    # What finds a mistake at all finds these soon; a model that differs in many programs takes minutes to shrink them all.
    environment.setdefault("MODEL_PROGRAMS", "20")
    environment.setdefault("FUZZ_SECONDS", "5")
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PKG_CONFIG_PATH", "CARGO_TARGET_DIR"):
        environment.pop(name, None)
    with open(log, "w") as output:
        process = subprocess.Popen(["bash", "scripts/test.sh", part], cwd=TREE, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(LIMIT)
        except BaseException as why:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(why, subprocess.TimeoutExpired):
                raise
            status = 124
    return status, pathlib.Path(log).read_text(errors="replace")


def seed(record):
    """Makes the mistake in the copy; returns what undoes it."""
    before = {}
    for file, old, new in record.edits:
        path = TREE / file
        text = path.read_text()
        before.setdefault(path, text)
        if text.count(old) != 1:
            sys.exit(f"bite.txt:{record.line}: {file}: the edits of this record are in each other's way")
        path.write_text(text.replace(old, new))

    def undo():
        for path, text in before.items():
            path.write_text(text)
    return undo


def bite(record, log):
    """Says what became of a mistake, and what was seen."""
    undo = seed(record)
    try:
        status, said = run(record.part, log)
    finally:
        undo()
    found = record.seen.search(said)
    line = said[said.rfind("\n", 0, found.start()) + 1:].split("\n", 1)[0].strip() if found else ""
    if status == 124:
        return "TIMED OUT", line
    if status == 0:
        return "NOT FOUND", ""
    return ("found", line) if found else ("WRONG REASON", f"no {record.seen.pattern!r} in {log}")


def main():
    records = mistakes()
    checks, wrong = anchors(records)
    if sys.argv[1:] == ["--anchors"]:
        print(f"{checks - wrong} passed, {wrong} failed, 0 skipped")
        sys.exit(wrong > 0)
    wanted = sys.argv[1:] or parts()
    unknown = [part for part in wanted if all(record.part != part for record in records)]
    if wrong or unknown:
        sys.exit(f"no mistake for: {' '.join(unknown)}" if unknown else 1)
    logs = TREE.parent
    logs.mkdir(parents=True, exist_ok=True)
    lock = open(logs / "lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # another run has the copy
    copy_tree()
    table, passed, failed = [], 0, 0

    def row(part, name, result, seconds, line):
        table.append(f"{part:12} {result:13} {seconds:5.0f} s  {name[:76]:76}  {line[:110]}")
        print(table[-1], flush=True)

    for part in wanted:
        begin = time.monotonic()
        status, _ = run(part, logs / f"{part}.log")
        row(part, "(without a mistake)", "passes" if status == 0 else "FAILS", time.monotonic() - begin, "")
        if status != 0:
            print(f"FAIL {part} fails without a mistake: {logs / f'{part}.log'}")
            failed += sum(record.part == part for record in records)
            continue
        for record in (record for record in records if record.part == part):
            begin = time.monotonic()
            result, line = bite(record, logs / f"{part}-{record.line}.log")
            row(part, record.name(), result, time.monotonic() - begin, line)
            passed, failed = passed + (result == "found"), failed + (result != "found")
    print("\n" + "\n".join(table) + f"\n\n{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
