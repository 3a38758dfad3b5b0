#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Seeds mistakes in a copy of the library, one at a time, and has torture find each.

Usage: bite.py [-t SECONDS] [-o FOLDER] [NAME ...]

Not part of `make test`: run it after a change of torture, or of what a mistake's anchor is in. An anchor that does not match
exactly once is a failure: write the mistake anew for the new code.
"""
import argparse, os, re, shutil, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# name: (file, old, new), ...
MISTAKES = {
    # -- grace periods of walks
    "unregister-no-grace-period": [("src/mm/notifiers.rs",
        "delist(subscription, mm, subscriptions);\n        chain::synchronize();",
        "delist(subscription, mm, subscriptions);")],
    "exit-no-grace-period": [("src/mm/events.rs", "    chain::synchronize();\n", "")],
    "free-before-grace-period": [("src/srcu/worker.rs",
        "if first.is_null() || !domain.is_over(Ticket(unsafe { ticket_word(first).read() })) {",
        "if first.is_null() || (false && !domain.is_over(Ticket(unsafe { ticket_word(first).read() }))) {")],
    "grace-period-one-short": [("src/srcu/mod.rs", "        self.oldest > ticket.0\n", "        self.oldest >= ticket.0\n")],
    "grace-period-ignores-older": [("src/srcu/mod.rs",
        "while self.oldest < self.current && self.readers[Self::slot(self.oldest)] == 0 {",
        "while self.oldest < self.current && self.readers[Self::slot(self.current - 1)] == 0 {")],
    "reader-joins-late": [("src/srcu/mod.rs",
        "        let mut state = self.state.lock();\n        let slot = State::<N, C>::slot(state.current);\n",
        "        let slot = State::<N, C>::slot(self.state.lock().current);\n        let mut state = self.state.lock();\n")],
    "put-takes-an-old-ticket": [("src/srcu/worker.rs",
        "ticket_word(head).write(ticket.0) };", "ticket_word(head).write(ticket.0.saturating_sub(1)) };")],
    "reader-leaves-no-wake": [("src/srcu/mod.rs",
        "        if moved {\n            self.drained", "        if moved && cookie % 4 != 0 {\n            self.drained")],
    "walk-does-not-poke-worker": [("src/mm/walk.rs", "            WORKER.poke();\n", "")],
    "unlink-without-lock": [
        ("src/chain/mod.rs", "            _guard: self.lock.lock(),", "            _guard: { drop(self.lock.lock()) },"),
        ("src/chain/mod.rs", "    _guard: LockGuard<'a, ()>,", "    _guard: (),"),
        ("src/chain/mod.rs", "use crate::sync::{AtomicPtr, Lock, LockGuard, Ordering};", "use crate::sync::{AtomicPtr, Lock, Ordering};")],
    "unlink-clears-next": [("src/chain/mod.rs",
        "        // ORDERING: Relaxed: as above.\n        pprev_of(node).store(ptr::null_mut(), Ordering::Relaxed);",
        "        // ORDERING: Relaxed: as above.\n        pprev_of(node).store(ptr::null_mut(), Ordering::Relaxed);\n"
        "        next_of(node).store(ptr::without_provenance_mut(0x5a50), Ordering::Relaxed);")],
    "get-not-counted": [("src/mm/notifiers.rs", "    *users += 1;\n", "    let _ = users;\n")],
    "synchronize-does-not-wait-for-frees": [("src/mm/notifiers.rs", "    WORKER.barrier(owed);\n", "    let _ = owed;\n")],
    "barrier-one-short": [("src/srcu/worker.rs", "queue.finished >= target)", "queue.finished + 1 >= target)")],
    # -- drivers' domains
    "srcu-callback-early": [("src/srcu/domain.rs", "state.extra.ticket = state.close();", "state.close();")],
    "srcu-callback-not-kicked": [("src/srcu/domain.rs",
        "        if handed == Some(true) {\n            worker.kick();\n        }\n", "")],
    # -- busy periods
    "remove-does-not-wait": [("src/interval/membership.rs",
        "                while state.seq == seq {\n                    state = self.removers",
        "                while false && state.seq == seq {\n                    state = self.removers")],
    "remove-waits-for-any-change": [("src/interval/membership.rs",
        "                while state.seq == seq {\n                    state = self.removers",
        "                if state.seq == seq {\n                    drop(state);\n                    std::thread::yield_now();\n"
        "                    state = self.state.lock();\n                }\n"
        "                while false {\n                    state = self.removers")],
    "read-begin-does-not-wait": [("src/interval/membership.rs",
        "            while state.seq == seq {\n                state = self.readers",
        "            while false && state.seq == seq {\n                state = self.readers")],
    "read-begin-not-woken": [("src/interval/ranges.rs", "            wakes.0.go(READ_BEGIN);\n", "            let _ = wakes.0;\n")],
    "remove-not-woken": [("src/interval/ranges.rs", "            wakes.1.go(REMOVE);\n", "            let _ = wakes.1;\n")],
    "missed-wake-up": [("src/sync/wait.rs",
        "        // ORDERING: Relaxed: read and changed under the lock only. A change",
        "        drop(guard);\n        let guard = lock.lock();\n        // ORDERING: Relaxed: read and changed under the lock only. A change")],
    "sleepers-looked-at-too-early": [("src/sync/wait.rs",
        "        self.sleepers.fetch_add(1, Ordering::Relaxed);\n        drop(guard);\n",
        "        drop(guard);\n        self.sleepers.fetch_add(1, Ordering::Relaxed);\n")],
    "deferred-insert-dropped": [("src/interval/mod.rs", "self.index.insert(node_of(sub), abi.number());\n                    self.set_place",
        "let _ = abi.number();\n                    self.set_place")],
    "deferred-insert-not-undone": [("src/interval/membership.rs",
        "                unsafe { state.undefer(sub) };\n            }\n            Some(Membership::Inserted) if",
        "                let _ = sub;\n            }\n            Some(Membership::Inserted) if")],
    "one-deferred-item-lost": [("src/interval/mod.rs", "        while !self.deferred.is_null() {\n", "        if !self.deferred.is_null() {\n")],
    "insert-in-an-even-period": [("src/interval/membership.rs",
        "        let turns_odd = !was_odd && self.active > 0;", "        let turns_odd = false;"),
        ("src/interval/membership.rs", "        let seq = if self.active == 0 {", "        let seq = if !was_odd {")],
    "insert-while-busy-not-deferred": [("src/interval/membership.rs", "        let was_odd = self.is_odd();\n        if was_odd {",
        "        let was_odd = self.is_odd();\n        if false {")],
    "seq-parity": [("src/interval/mod.rs", "self.seq = self.seq.wrapping_add(1);", "self.seq = self.seq.wrapping_add(2);")],
    "seq-step": [("src/interval/mod.rs", "self.seq = self.seq.wrapping_add(1);", "self.seq = self.seq.wrapping_add(3);")],
    "seq-read-after-the-lock": [("src/interval/ranges.rs",
        "        let seq = state.seq;\n        thread::range_started(self.key());\n        if turns_odd {",
        "        let mut seq = state.seq;\n        if seq & 1 == 1 && seq % 1024 == 511 {\n            seq += 2;\n        }\n"
        "        thread::range_started(self.key());\n        if turns_odd {")],
    "period-ends-with-ranges-in-flight": [("src/interval/ranges.rs",
        "        if state.active == 0 && state.end_busy_period() {", "        if state.active < 2 && state.end_busy_period() {")],
    # -- exclusion
    "registration-beside-rmap-pairs": [("src/mm/notifiers.rs",
        "        locks::rmap().write_lock(mm, function)?;\n", ""), ("src/mm/notifiers.rs",
        "        warn_only(locks::rmap().write_unlock(mm, function));\n", "        let _ = function;\n")],
    "rwsem-writer-beside-readers": [("src/sync/rwsem.rs", "            self.holders == 0\n        } else {",
        "            self.holders >= 0\n        } else {")],
    "rwsem-reader-beside-writer": [("src/sync/rwsem.rs", "            self.holders >= 0\n        }\n    }",
        "            true\n        }\n    }")],
    "rwsem-hand-over-forgets-one": [("src/sync/rwsem.rs", "unsafe { (*first).next = granted };",
        "unsafe { (*first).next = if write { granted } else { ptr::null_mut() } };")],
    # -- the life of mms
    "mmput-not-atomic": [("src/mm/lifetime.rs",
        "match users.compare_exchange(now, now - 1, Ordering::AcqRel, Ordering::Relaxed) {\n"
        "            Ok(_) => return Ok(now == 1),",
        "users.store(now - 1, Ordering::Release);\n        match Ok::<i32, i32>(now) {\n            Ok(_) => return Ok(now == 1),")],
    "mmget-not-zero-of-zero": [("src/mm/lifetime.rs", "(users > 0).then(", "(users >= 0).then(")],
    "free-keeps-its-reference": [("src/mm/notifiers.rs",
        "        if let Err(Error::Misuse(misuse)) = mmdrop(mm) {\n            misuse.report();\n        }\n", "        let _ = mm;\n")],
    "exit-drops-twice": [("src/mm/lifetime.rs", "        events::release(mm)?;\n        mmdrop(mm)\n",
        "        events::release(mm)?;\n        mmdrop(mm)?;\n        mmdrop(mm)\n")],
    "put-frees-twice": [("src/mm/notifiers.rs", "            frame.run(|| free(subscription));",
        "            frame.run(|| free(subscription));\n            frame.run(|| free(subscription));")],
    # -- fork
    "fork-keeps-readers": [("src/srcu/mod.rs", "        state.readers = [0; N];\n        each", "        each")],
    "fork-keeps-locks": [("src/sync/rwsem.rs", "        if !keep {\n", "        if !keep && false {\n")],
}


def run(command, **options):
    return subprocess.run(command, shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def build(copy):
    """Builds and stages; torture itself is compiled once."""
    made = run("nice make -s stage", cwd=copy)
    if made.returncode:
        return made.stdout
    program = os.path.join(copy, "build/torture")
    if not os.path.exists(program):
        stage = os.path.join(copy, "build/stage")
        flags = f"-std=gnu11 -O2 -g -I{stage}/include/mmu_notifier -L{stage}/lib -Wl,-rpath,{stage}/lib -lmmu_notifier -ldl"
        made = run(f"${{CC:-cc}} c-tests/stress/*.c -o {program} {flags}", cwd=copy)
    return made.stdout if made.returncode else None


def seed(copy, edits):
    for name, old, new in edits:
        path = os.path.join(copy, name)
        with open(path) as file:
            text = file.read()
        if text.count(old) != 1:
            return f"an anchor in {name} matches {text.count(old)} times"
        with open(path, "w") as file:
            file.write(text.replace(old, new))
    return None


def bite(copy, name, seconds):
    """Seeds, builds, runs; returns what was wrong with the try, or None."""
    edits = MISTAKES[name]
    for file in {edit[0] for edit in edits}:
        shutil.copy(os.path.join(ROOT, file), os.path.join(copy, file))
    try:
        error = seed(copy, edits) or build(copy)
        if error:
            return f"FAIL {name}: {error}"
        began = time.monotonic()
        try:
            ran = run(f"exec nice build/torture -t {seconds} -H 8", cwd=copy, timeout=seconds + 60)
            status, output = ran.returncode, ran.stdout
        except subprocess.TimeoutExpired:
            return f"FAIL {name}: torture hangs"
        found = re.search(r"VIOLATION.*", output)
        if not status or not (found or status < 0):
            return f"FAIL {name}: not found in {seconds} s"
        print(f"found {name} in {time.monotonic() - began:.1f} s: {found.group(0) if found else f'signal {-status}'}", flush=True)
        return None
    finally:
        for file in {edit[0] for edit in edits}:
            shutil.copy(os.path.join(ROOT, file), os.path.join(copy, file))


def main():
    options = argparse.ArgumentParser(usage=__doc__)
    options.add_argument("-t", type=int, default=60)
    options.add_argument("-o")
    options.add_argument("names", nargs="*")
    options = options.parse_args()
    copy = options.o or tempfile.mkdtemp(prefix="bite-")
    os.makedirs(copy, exist_ok=True)
    run(f"git ls-files -z | xargs -0 cp --parents -t {copy}", cwd=ROOT)
    run("rm -f build/torture", cwd=copy)
    passed = failed = 0
    for name in options.names or MISTAKES:
        error = bite(copy, name, options.t)
        if error:
            print(error, flush=True)
            failed += 1
        else:
            passed += 1
    if not options.o:
        shutil.rmtree(copy)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
