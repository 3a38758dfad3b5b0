#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Coverage of live events on real programs, with strace as the ground truth.

Each program runs under `strace -f -i` with a preloaded library (mark.c, and mmu-notifier-trace's) that switches live events on.
strace says for every memory system call where the instruction is that made it. A call that takes mappings away counts as seen
if that instruction is in our library: then it went through the hook. Calls of a process image before its mark, and of images
without the library (static ones), are not counted. Expected: all of them, in every image.

Usage: coverage.py DIRECTORY PROGRAM...    COVERAGE_OFF=1 leaves live events off, which has to fail.
"""

import os
import re
import shutil
import subprocess
import sys

MARK = "prctl(0x4d4d5531"
LINE = re.compile(r"^(\d+) +\[([0-9a-f]+|\?+)\] (.*)$")
CALL = re.compile(r"^(\w+)\((.*)$")
CHILD = re.compile(r"\) *= (\d+)")
TRACE = "%memory,/^(clone3?|v?fork|execve|prctl|process_madvise|remap_file_pages|shm.*)$"
DESTRUCTIVE_ADVICE = re.compile(r"MADV_(DONTNEED|FREE|REMOVE|DONTNEED_LOCKED|GUARD_INSTALL|PAGEOUT|COLLAPSE)\b|0x18|0x66")


class Image:
    """What a process runs since its last exec, shared by its threads."""

    def __init__(self, like=None):
        self.text = like.text if like else None  # (start, end) of the library's, once it is marked
        self.brk = like.brk if like else 0


def is_destructive(image, name, rest):
    """Does the call take mappings away, or change their protection? `rest` is what strace prints behind the bracket."""
    if name in ("munmap", "mremap", "mprotect", "pkey_mprotect", "shmdt", "remap_file_pages"):
        return True
    if name in ("madvise", "process_madvise"):
        return bool(DESTRUCTIVE_ADVICE.search(rest))
    if name == "mmap":
        return bool(re.search(r"MAP_FIXED\b", rest))
    if name == "shmat":
        return "SHM_REMAP" in rest
    if name == "brk":
        result = re.search(r"= (0x[0-9a-f]+)", rest)
        before, image.brk = image.brk, int(result.group(1), 16) if result else image.brk
        return image.brk < before
    return False


def read_log(path):
    """(pid, address of the instruction or None, text) of each line."""
    with open(path, errors="replace") as log:
        for line in log:
            match = LINE.match(line)
            if match:
                pid, at, text = match.groups()
                yield int(pid), None if "?" in at else int(at, 16), text


def parents_of(lines):
    """child -> (parent, whether they share memory). A child's first line may come before its parent's call returns."""
    parents, open_calls = {}, {}
    for pid, _, text in lines:
        if re.match(r"(clone3?|v?fork)\(", text):
            open_calls[pid] = text
        elif not re.match(r"<\.\.\. (clone3?|v?fork) resumed>", text):
            continue
        child = CHILD.search(text)
        if child:
            call = open_calls.get(pid, text)
            shares = "CLONE_VM" in call or call.startswith("vfork")
            parents[int(child.group(1))] = (pid, shares)
    return parents


def coverage(path):
    """images with a mark, calls, destructive calls, those that were seen, the misses."""
    lines = list(read_log(path))
    parents, images = parents_of(lines), {}
    marked = calls = destructive = seen = 0
    misses = []
    for pid, at, text in lines:
        if pid not in images:
            parent, shares = parents.get(pid, (None, False))
            known = images.get(parent)
            images[pid] = known if shares and known else Image(known)
        image = images[pid]
        call = CALL.match(text)
        if not call:
            continue
        name, rest = call.groups()
        if text.startswith(MARK):
            image.text = tuple(int(word, 16) for word in re.findall(r"0x[0-9a-f]+", rest)[1:3])
            marked += 1
        elif name == "execve":
            images[pid] = image if "= -1" in rest else Image()
        elif name not in ("clone", "clone3", "fork", "vfork", "prctl", "shmget", "shmctl"):
            takes = is_destructive(image, name, rest)
            if image.text and at is not None:
                calls += 1
                destructive += takes
                inside = image.text[0] <= at < image.text[1]
                seen += takes and inside
                if takes and not inside:
                    misses.append(f"{pid} [{at:x}] {text}")
    return marked, calls, destructive, seen, misses


# ------------------------------------------------------------------------------------------------------------ programs

PYTHON = """
import mmap, multiprocessing, os, subprocess, sys, threading
def work(n):
    for i in range(20):
        m = mmap.mmap(-1, 1 << 20); m[0] = 1; m.resize(2 << 20) if hasattr(m, 'resize') else None; m.close()
        b = bytearray(3 << 20); del b
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
assert subprocess.run([sys.executable, '-c', 'print(len(bytearray(1 << 22)))'], capture_output=True).stdout == b'4194304\\n'
pid = os.fork()
if pid == 0:
    work(1)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
if __name__ == '__main__':
    with multiprocessing.get_context('fork').Pool(2) as pool:
        assert sum(pool.map(abs, range(100))) == 4950
print('done')
"""

SQL = """
pragma journal_mode=wal; pragma mmap_size=268435456; pragma wal_autocheckpoint=200;
create table t(a integer primary key, b text); create index i on t(b);
""" + "".join(f"""
insert into t(b) select hex(randomblob(200 + {n})) from generate_series(1, 4000);
delete from t where a % 3 = {n % 3}; vacuum; analyze;
attach 'db{n}' as other; pragma other.mmap_size=268435456;
create table other.t as select * from t; select count(*) from other.t; detach other;
""" for n in range(12)) + "pragma integrity_check;"

GIT = """
set -e
git init -q one && cd one
git config user.email a@b && git config user.name a && git config commit.gpgsign false
for i in $(seq 60); do seq $((i * 100)) >file$i; done
git add . && git commit -qm one
for i in $(seq 30); do seq $((i * 90)) >file$i; done
git commit -qam two && git repack -qad && git gc -q
cd .. && git clone -q one two && cd two && git fsck --full && git log -p >/dev/null
echo done
"""

REDIS = """
set -e
"$REDIS_SERVER" --port 0 --unixsocket "$PWD/s" --save '' --dir "$PWD" --io-threads 3 --daemonize no --loglevel warning &
for i in $(seq 600); do [ -S s ] && redis-cli -s s ping >/dev/null 2>&1 && break; sleep 0.1; done
redis-benchmark -s s -q -n 4000 -r 4000 -d 2000 -t set,lpush >/dev/null
redis-cli -s s bgsave >/dev/null; sleep 0.5
redis-cli -s s flushall async >/dev/null; redis-cli -s s debug jmap >/dev/null 2>&1 || true
redis-benchmark -s s -q -n 2000 -r 2000 -d 4000 -t set >/dev/null
redis-cli -s s memory purge >/dev/null; sleep 0.3
redis-cli -s s shutdown nosave || true
wait
echo done
"""

NODE = """
const { Worker, isMainThread } = require('worker_threads');
const { execFileSync } = require('child_process');
if (isMainThread) {
  let left = 3;
  for (let i = 0; i < 3; i++)
    new Worker(__filename).on('exit', () => { if (--left === 0) {
      if (execFileSync(process.execPath, ['-e', 'console.log(6 * 7)']).toString() !== '42\\n') process.exit(1);
      console.log('done');
    } });
} else {
  for (let i = 0; i < 30; i++) { const b = Buffer.alloc(4 << 20, i); new Array(1e5).fill({}).map((x, n) => ({ n, b })); }
}
"""


def script(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def find(name):
    return shutil.which(name, path="/usr/bin:/bin") or shutil.which(name)


def programs(directory):
    """name -> (what has to be there, the command, what it has to print)"""
    python = subprocess.run([find("python3"), "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    redis = script(directory, "redis.sh", REDIS.replace("$REDIS_SERVER", find("redis-server") or ""))
    return {
        "CPython": ("python3", [python.stdout.strip(), script(directory, "job.py", PYTHON)], "done"),
        "sqlite3": ("sqlite3", ["sqlite3", os.path.join(directory, "db"), "-cmd", ".read " + script(directory, "job.sql", SQL),
                                ".quit"], "ok"),
        "git": ("git", ["bash", script(directory, "git.sh", GIT)], "done"),
        "redis-server": ("redis-server", ["bash", redis], "done"),
        "Node": ("node", ["node", script(directory, "job.js", NODE)], "done"),
    }


def run(name, needed, command, expected, preload, directory):
    """None if it is covered, or why not."""
    log = os.path.join(directory, f"{name}.strace")
    folder = os.path.join(directory, f"{name}.work")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    strace = ["strace", "-f", "-i", "-s", "64", "--seccomp-bpf", "-e", "trace=" + TRACE, "-o", log,
              "-E", f"LD_PRELOAD={preload}", "-E", f"MMU_NOTIFIER_TRACE={directory}/{name}.trace"]
    done = subprocess.run(strace + command, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
    if done.returncode or expected not in done.stdout:
        return f"the program failed, status {done.returncode}: {(done.stdout + done.stderr)[-600:]}"
    marked, calls, destructive, seen, misses = coverage(log)
    share = f"{100 * seen / destructive:.2f} %" if destructive else "none"
    print(f"{name:14} {marked:4} images {calls:7} calls {destructive:7} destructive {seen:7} seen {share:>9}", flush=True)
    if not marked:
        return "no image had the library"
    if destructive < 20:
        return "hardly any destructive calls: this run proves nothing"
    return f"{len(misses)} not seen, such as {misses[0]}" if misses else None


def main():
    directory, *only = sys.argv[1:]
    directory = os.path.abspath(directory)
    preload = os.environ["COVERAGE_PRELOAD"]
    passed = failed = skipped = 0
    for name, (needed, command, expected) in programs(directory).items():
        if only and name not in only:
            continue
        if not find(needed) or not find("strace"):
            skipped += 1
            print(f"SKIP {name}: {needed if find('strace') else 'strace'} is not installed")
            continue
        why = run(name, needed, command, expected, preload, directory)
        passed, failed = passed + (why is None), failed + (why is not None)
        if why:
            print(f"FAIL {name}: {why}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed != 0


sys.exit(main())
