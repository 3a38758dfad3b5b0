#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Seeds mistakes in a copy of the library, one at a time, and has torture find each.

Usage: bite.py [-t SECONDS] [-o FOLDER] [NAME ...]
       bite.py --anchors

Not part of `make test`, but for the anchors: run it after a change of torture, or of what a mistake's anchor is in. An anchor that
does not match exactly once is a failure: write the mistake anew for the new code.
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
    "unregister-begins-before-unlinking": [("src/mm/notifiers.rs",
        "delist(subscription, mm, subscriptions);\n        chain::synchronize();",
        "let early = chain::WALKS.begin();\n        delist(subscription, mm, subscriptions);\n        chain::WALKS.wait(early);")],
    "free-before-grace-period": [("src/srcu/worker/queue.rs",
        "let ripe = first <= self.ripe;",
        "let ripe = first <= first.max(self.ripe);")],
    "worker-runs-one-ticket-early": [("src/srcu/worker/serve.rs",
        "queue.ripe = queue.ripe.max(ticket);",
        "queue.ripe = queue.ripe.max(Ticket(ticket.0 + 1));")],
    "put-takes-an-old-ticket": [("src/srcu/worker/mod.rs",
        "ticket_word(head).write(ticket.0) };",
        "ticket_word(head).write(ticket.0.saturating_sub(1)) };")],
    "grace-period-one-short": [("src/srcu/mod.rs", "number != 0 && number <= ticket.0", "number != 0 && number < ticket.0")],
    "grace-period-ignores-older": [
        ("src/srcu/mod.rs", "number != 0 && number <= ticket.0", "number != 0 && number == ticket.0")],
    "links-read-before-section": [("src/chain/walks.rs",
        "    section: Outermost,\n}",
        "    section: Outermost,\n    early: *mut crate::abi::types::hlist_node,\n}"),
        ("src/chain/walks.rs",
        "        let thread = thread::current();\n        Self {\n            chain,",
        "        let early = chain.first.load(Ordering::Acquire);\n        let thread = thread::current();\n"
        "        Self {\n            early,\n            chain,"),
        ("src/chain/walks.rs",
        "            chain,\n            mm,\n            thread: self.thread,",
        "            early: chain.first.load(Ordering::Acquire),\n            chain,\n            mm,\n            thread: self.thread,"),
        ("src/chain/walks.rs",
        "    pub fn first(&self) -> Place {\n        self.chain.first()\n",
        "    pub fn first(&self) -> Place {\n        Place(self.early)\n")],
    "nested-section-clears-the-word": [("src/srcu/mod.rs",
        "        if !section.0 {\n            return false;\n        }\n",
        "        let _ = section;\n")],
    "section-noted-late": [("src/srcu/mod.rs",
        "thread.section(KIND).number.store(now, Ordering::Release);",
        "thread.section(KIND).number.store(now + 1, Ordering::Release);")],
    "grace-period-without-heavy-fence": [("src/srcu/mod.rs",
        "let begun = self.now.load(Ordering::SeqCst) - 1;\n            fence::heavy();",
        "let begun = self.now.load(Ordering::SeqCst) - 1;")],
    "record-taken-from-the-living": [("src/thread/records.rs",
        "owner != 0 && (owner == heir || !sync::is_alive(owner)) && closed();",
        "owner != 0 && closed();")],
    # -- lost wake-ups of grace periods
    "awaited-never-set": [("src/srcu/mod.rs",
        "            reader.awaited.store(1, Ordering::Relaxed);\n",
        "            let _ = reader;\n")],
    "awaited-never-looked-at": [
        ("src/srcu/mod.rs", "let awaited = thread.section(KIND).awaited.load(Ordering::Relaxed) != 0;", "let awaited = false;")],
    "awaited-looked-at-too-early": [("src/srcu/mod.rs",
        "        thread.section(KIND).number.store(0, Ordering::Release);\n",
        "        let early = thread.section(KIND).awaited.load(Ordering::Relaxed) != 0;\n"
        "        thread.section(KIND).number.store(0, Ordering::Release);\n"),
        ("src/srcu/mod.rs", "let awaited = thread.section(KIND).awaited.load(Ordering::Relaxed) != 0;", "let awaited = early;")],
    "sleep-without-heavy-fence": [("src/srcu/mod.rs",
        "            // Its partner is the light fence in `read_unlock`.\n            fence::heavy();\n",
        "")],
    "sleep-without-a-second-look": [("src/srcu/mod.rs", "if !untold {", "if any || !untold {")],
    "worker-sleeps-unwatched": [("src/srcu/worker/serve.rs", "self.domain.is_over_or_watched(ticket)", "self.domain.is_over(ticket)")],
    "walk-does-not-poke-worker": [("src/mm/walk.rs", "            WORKER.poke();\n", "")],
    # -- lists
    "unlink-without-lock": [("src/chain/mod.rs",
        "            _guard: self.lock.lock(),",
        "            _guard: { drop(self.lock.lock()) },"),
        ("src/chain/mod.rs", "    _guard: LockGuard<'a, ()>,", "    _guard: (),"),
        ("src/chain/mod.rs",
        "use crate::sync::{AtomicPtr, Lock, LockGuard, Ordering};",
        "use crate::sync::{AtomicPtr, Lock, Ordering};")],
    "unlink-clears-next": [("src/chain/mod.rs",
        "        // ORDERING: Relaxed: as above.\n        pprev_of(node).store(ptr::null_mut(), Ordering::Relaxed);",
        "        // ORDERING: Relaxed: as above.\n"
        "        pprev_of(node).store(ptr::null_mut(), Ordering::Relaxed);\n        next_of(node).store(ptr::without_provenance_mut(0x5a50), Ordering::Relaxed);")],
    "get-not-counted": [("src/mm/counted.rs", "    *users += 1;\n", "    let _ = users;\n")],
    "synchronize-does-not-wait-for-frees": [("src/mm/counted.rs", "    WORKER.barrier(owed);\n", "    let _ = owed;\n")],
    "barrier-one-short": [("src/srcu/worker/mod.rs", "queue.finished >= target)", "queue.finished + 1 >= target)")],
    # -- drivers' domains
    "srcu-callback-early": [("src/srcu/domain.rs", "state.extra.ticket = state.close();", "state.close();")],
    "srcu-callback-not-kicked": [
        ("src/srcu/domain.rs", "        if handed == Some(true) {\n            worker.kick();\n        }\n", "")],
    "domain-one-generation-short": [
        ("src/srcu/generations.rs", "        self.oldest > ticket.0\n", "        self.oldest >= ticket.0\n")],
    "domain-ignores-older": [("src/srcu/generations.rs",
        "while self.oldest < self.current && self.readers[Self::slot(self.oldest)] == 0 {",
        "while self.oldest < self.current && self.readers[Self::slot(self.current - 1)] == 0 {")],
    "domain-reader-joins-late": [("src/srcu/generations.rs",
        "        let mut state = self.state.lock();\n        let slot = State::<N, C>::slot(state.current);\n",
        "        let slot = State::<N, C>::slot(self.state.lock().current);\n        let mut state = self.state.lock();\n")],
    "domain-reader-leaves-no-wake": [("src/srcu/generations.rs",
        "        if moved {\n            self.drained",
        "        if moved && cookie % 4 != 0 {\n            self.drained")],
    # -- steps of the word
    "ending-not-set": [
        ("src/interval/mod.rs", "self.try_step(old, even.with(ENDING))", "self.try_step(old, even.with(ENDING & 0))")],
    "ending-not-looked-at-by-hit": [("src/interval/ranges.rs",
        "let busy = old.has(CHANGING | ENDING) || sleepers",
        "let busy = old.has(CHANGING) || sleepers")],
    "ending-not-looked-at-by-miss": [("src/interval/ranges.rs",
        "old.has_seen(version.changes()) && !old.has(ENDING);",
        "old.has_seen(version.changes());")],
    "changing-not-set": [
        ("src/interval/membership.rs", "{ ATTENTION } else { CHANGING }", "{ ATTENTION } else { CHANGING & 0 }")],
    "changing-not-looked-at": [("src/interval/ranges.rs",
        "let busy = old.has(CHANGING | ENDING) || sleepers",
        "let busy = old.has(ENDING | CHANGING & 0) || sleepers")],
    "changes-not-looked-at-by-miss": [
        ("src/interval/ranges.rs", "old.has_seen(version.changes()) && !old.has(ENDING);", "!old.has(ENDING);")],
    "version-not-looked-at-by-miss": [
        ("src/interval/ranges.rs", "let found_nothing = self.index.is_still(version);", "let found_nothing = true;")],
    "version-and-changes-not-looked-at-by-hit": [("src/interval/ranges.rs",
        "if busy || !old.has_seen(version.changes()) || !self.index.is_still(version) {",
        "if busy {")],
    "attention-not-set-for-a-sleeper": [
        ("src/interval/membership.rs", "self.try_step(word, word.with(ATTENTION))", "self.try_step(word, word)")],
    "attention-not-set-for-what-is-deferred": [
        ("src/interval/membership.rs", "{ ATTENTION } else { CHANGING }", "{ ATTENTION & 0 } else { CHANGING }")],
    "attention-not-looked-at-by-end": [("src/interval/ranges.rs",
        "alone && (old.has(ATTENTION) || old.is_last_seq());",
        "alone && old.is_last_seq();")],
    "attention-not-looked-at-by-start": [
        ("src/interval/ranges.rs", "let sleepers = old.has(ATTENTION) && !old.is_odd();", "let sleepers = false;")],
    "hit-does-not-turn-odd": [("src/interval/ranges.rs", "let new = old.counted().with(ODD);", "let new = old.counted();")],
    "hit-under-the-lock-does-not-turn-odd": [
        ("src/interval/ranges.rs", "=> new.with(ODD).without(ATTENTION),", "=> new.without(ATTENTION),")],
    "insert-in-an-even-period": [
        ("src/interval/membership.rs", "let (seq, new) = if old.is_active() {", "let (seq, new) = if false {")],
    "number-stored-after-the-step": [("src/interval/membership.rs",
        "            unsafe { store_seq(sub, seq) };\n            if self.try_step(old, new) {\n",
        "            if self.try_step(old, new) {\n                unsafe { store_seq(sub, seq) };\n")],
    # -- busy periods
    "remove-does-not-wait": [("src/interval/membership.rs",
        "while self.seq(self.word()) == seq {\n            state = self.removers",
        "while false && self.seq(self.word()) == seq {\n            state = self.removers")],
    "remove-waits-for-any-change": [("src/interval/membership.rs",
        "        while self.seq(self.word()) == seq {\n            state = self.removers",
        "        if self.seq(self.word()) == seq {\n            drop(state);\n"
        "            std::thread::yield_now();\n            state = self.state.lock();\n        }\n        while false {\n            state = self.removers")],
    "read-begin-does-not-wait": [
        ("src/interval/membership.rs", "if self.word().may_be(seq) {", "if false && self.word().may_be(seq) {")],
    "read-begin-not-woken": [
        ("src/interval/ranges.rs", "            wakes.0.go(READ_BEGIN);\n", "            let _ = wakes.0;\n")],
    "read-begin-not-woken-by-insert": [
        ("src/interval/membership.rs", "        if wake_readers {\n", "        if false && wake_readers {\n")],
    "read-begin-not-woken-by-start": [("src/interval/ranges.rs",
        "if turned_odd && old.has(ATTENTION) {",
        "if false && turned_odd && old.has(ATTENTION) {")],
    "remove-not-woken": [("src/interval/ranges.rs", "            wakes.1.go(REMOVE);\n", "            let _ = wakes.1;\n")],
    "missed-wake-up": [("src/sync/wait.rs",
        "        // ORDERING: Relaxed: read and changed under the lock only. A change",
        "        drop(guard);\n        let guard = lock.lock();\n"
        "        // ORDERING: Relaxed: read and changed under the lock only. A change")],
    "sleepers-looked-at-too-early": [("src/sync/wait.rs",
        "        self.sleepers.fetch_add(1, Ordering::Relaxed);\n        drop(guard);\n",
        "        drop(guard);\n        self.sleepers.fetch_add(1, Ordering::Relaxed);\n")],
    "deferred-insert-dropped": [("src/interval/deferred.rs",
        "index.insert(&mut self.nodes, node_of(sub), mark);",
        "let _ = mark;")],
    "deferred-insert-not-undone": [("src/interval/membership.rs",
        "            unsafe { state.deferred.remove(sub) };\n        } else {",
        "            let _ = sub;\n        } else {")],
    "deferred-insert-promised-nothing": [("src/index/nodes.rs", "self.promised += count;", "let _ = count;"),
        ("src/index/nodes.rs", "self.promised -= count;", "let _ = count;")],
    "one-deferred-item-lost": [
        ("src/interval/deferred.rs", "while !self.deferred.is_empty() {", "if !self.deferred.is_empty() {")],
    "insert-while-busy-not-deferred": [("src/interval/membership.rs", "let may_change = !old.is_odd();", "let may_change = true;"),
        ("src/interval/membership.rs",
        "{ ATTENTION } else { CHANGING }",
        "{ ATTENTION | CHANGING } else { CHANGING }")],
    "seq-parity": [("src/interval/ranges.rs", "if alone { left.next_seq() } else { left }", "if alone { left } else { left }")],
    "seq-step": [("src/interval/word.rs", "Self(self.0.wrapping_add(ODD))", "Self(self.0.wrapping_add(3 * ODD))")],
    "seq-of-another-period": [("src/interval/ranges.rs",
        "                return Some(self.seq(new));",
        "                let seq = self.seq(new);\n                return Some(if seq % 1024 == 511 { seq + 2 } else { seq });")],
    "period-ends-with-ranges-in-flight": [
        ("src/interval/ranges.rs", "let last = old.active() <= 1;", "let last = old.active() <= 2;")],
    # -- exclusion
    "registration-beside-rmap-pairs": [("src/mm/notifiers.rs", "        locks::rmap().write_lock(mm, function)?;\n", ""),
        ("src/mm/notifiers.rs",
        "        warn_only(locks::rmap().write_unlock(mm, function));\n",
        "        let _ = function;\n")],
    "rwsem-writer-beside-readers": [("src/sync/rwsem.rs",
        "            self.holders == 0\n        } else {",
        "            self.holders >= 0\n        } else {")],
    "rwsem-reader-beside-writer": [
        ("src/sync/rwsem.rs", "            self.holders >= 0\n        }\n    }", "            true\n        }\n    }")],
    "rwsem-hand-over-forgets-one": [("src/sync/rwsem.rs",
        "unsafe { (*first).next = granted };",
        "unsafe { (*first).next = if write { granted } else { ptr::null_mut() } };")],
    # -- the life of mms
    "mmput-not-atomic": [("src/mm/lifetime.rs",
        "match users.compare_exchange(now, now - 1, Ordering::AcqRel, Ordering::Relaxed) {\n"
        "            Ok(_) => return Ok(now == 1),",
        "users.store(now - 1, Ordering::Release);\n        match Ok::<i32, i32>(now) {\n"
        "            Ok(_) => return Ok(now == 1),")],
    "mmget-not-zero-of-zero": [("src/mm/lifetime.rs", "(users > 0).then(", "(users >= 0).then(")],
    "free-keeps-its-reference": [("src/mm/counted.rs",
        "        if let Err(Error::Misuse(misuse)) = mmdrop(mm) {\n            misuse.report();\n        }\n",
        "        let _ = mm;\n")],
    "exit-drops-twice": [("src/mm/lifetime.rs",
        "        events::release(mm)?;\n        mmdrop(mm)\n",
        "        events::release(mm)?;\n        mmdrop(mm)?;\n        mmdrop(mm)\n")],
    "put-frees-twice": [("src/mm/counted.rs",
        "            frame.run(|| free(subscription));",
        "            frame.run(|| free(subscription));\n            frame.run(|| free(subscription));")],
    # -- fork
    "fork-keeps-walks": [("src/thread/records.rs",
        "                section.number.store(0, Ordering::Relaxed);\n",
        "                let _ = section;\n")],
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


def mistaken(edits):
    """The files with the mistake in them, as {name: text}; raises ValueError if an anchor does not match once."""
    texts = {}
    for name, old, new in edits:
        if name not in texts:
            with open(os.path.join(ROOT, name)) as file:
                texts[name] = file.read()
        count = texts[name].count(old)
        if count != 1:
            raise ValueError(f"an anchor in {name} matches {count} times")
        texts[name] = texts[name].replace(old, new)
    return texts


def seed(copy, edits):
    try:
        texts = mistaken(edits)
    except ValueError as error:
        return str(error)
    for name, text in texts.items():
        with open(os.path.join(copy, name), "w") as file:
            file.write(text)
    return None


def check_anchors():
    """Do all anchors match? Nothing is run."""
    failed = 0
    for name, edits in MISTAKES.items():
        try:
            mistaken(edits)
        except ValueError as error:
            print(f"FAIL {name}: {error}")
            failed += 1
    print(f"{len(MISTAKES) - failed} passed, {failed} failed")
    return failed != 0


def bite(copy, name, seconds):
    """Seeds, builds, runs; returns what was wrong with the try, or None."""
    edits = MISTAKES[name]
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
    options.add_argument("--anchors", action="store_true")
    options.add_argument("names", nargs="*")
    options = options.parse_args()
    if options.anchors:
        return check_anchors()
    unknown = [name for name in options.names if name not in MISTAKES]
    if unknown:
        sys.exit(f"there is no mistake {', '.join(unknown)}")
    copy = os.path.abspath(options.o) if options.o else tempfile.mkdtemp(prefix="bite-")
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
