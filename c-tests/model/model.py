#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What `mnrun -c` should print for a program: the contract of contract.py under the runner of ../conformance/mnrun.c.

Usage: model.py [-w] [-s SEED] < program     or: model.py [-s SEED] -e FILE.txt ...
  -w       the rule of every WARN on stderr, a line each
  -s SEED  let the scheduler choose at random wherever more than one thread could run (default: the oldest first); a
           program whose trace depends on the seed has a race
  -e       compare the trace of each FILE.txt with FILE.expected, the reference's; with the files of ../conformance that
           is the test of the model itself

Here are the runner's own affairs only: the language, the guards ("SKIP why"), the format of the trace, the gates. They
mirror mnrun.c; `prep_`, `exec_` and `fin_` are what they are there. An operation runs in three parts, as it does there:
prep, on the main thread, refuses it or books it; exec, on a thread of its own, makes the call; fin, on the main thread
again and only when no thread can run any more, books the result. The runner's limits on the number of objects (4096,
and 20000 operations) are not modelled.
"""

import random
import re
import sys

import contract
from contract import STEP, Contract

MAX_MM, MAX_N, MAX_O, MAX_I, MAX_R, MAX_K, MAX_G, MAX_H, MAX_T = 16, 128, 64, 128, 64, 64, 16, 128, 10
MAX_LIST, MAX_ARGS, MAX_WORD = 8, 12, 60

# What mnrun calls a callback -> the member of the ops.
MEMBERS = {
    "rel": "release",
    "cfy": "clear_flush_young",
    "cy": "clear_young",
    "ty": "test_young",
    "cpte": "change_pte",
    "start": "invalidate_range_start",
    "end": "invalidate_range_end",
    "tlb": "arch_invalidate_secondary_tlbs",
    "alloc": "alloc_notifier",
    "free": "free_notifier",
    "inv": "invalidate",
}

# The states of a subscriber's object.
NEW, LIVE, BUSY, PUT, DEAD = "new", "live", "busy", "put", "dead"


class BadProgram(Exception):
    """mnrun exits with 2."""


def number(text):
    """A C number: decimal, hex, octal, max, max-5."""
    if text.startswith("max"):
        return (contract.ULONG_MAX - number(text[4:])) & contract.ULONG_MAX if text[3:4] == "-" else contract.ULONG_MAX
    match = re.match(r"(-?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))", text)
    if not match:
        return 0
    sign, hexa, octal, decimal = match.groups()
    value = int(hexa, 16) if hexa else int(octal, 8) if octal else int(decimal)
    return min(value, contract.ULONG_MAX) if not sign else -value & contract.ULONG_MAX


def index(text, prefix, limit):
    """n5 or 5 -> 5; None if it is no number below the limit."""
    digits = text[1:] if text.startswith(prefix) else text
    return int(digits) if re.fullmatch("[0-9]+", digits) and int(digits) < limit else None


def hexa(value):
    """%#lx"""
    return hex(value) if value else "0"


class Returns:
    """Values used in turn."""

    def __init__(self):
        self.values, self.at = [], 0

    def parse(self, text):
        self.values = [int(value, 0) for value in text.split(",") if value][:MAX_LIST]

    def next(self, default):
        if not self.values:
            return default
        self.at += 1
        return self.values[(self.at - 1) % len(self.values)]


class Act:
    """act=CB:put, act=CB:iins:I:START:LEN:P"""

    def __init__(self, text):
        self.kind, *args = text.split(":")
        if self.kind == "iins" and len(args) == 4:
            self.i, self.p = index(args[0], "i", MAX_I), index(args[3], "p", MAX_O)
            self.start, self.length = number(args[1]), number(args[2])
            if self.i is None or self.p is None:
                raise BadProgram("act iins")
        elif text != "put":
            raise BadProgram("act")


class OpSet:
    """A set of callbacks and how they behave. `members` is the ops struct, made by the runner."""

    def __init__(self, interval, words):
        self.has = {"inv"} if interval else set()
        self.returns = {cb: Returns() for cb in MEMBERS}
        self.blockable_returns = Returns()
        self.gate, self.act = {}, {}
        self.sets_seq, self.sets_seq_on_false = True, False
        for word in words:
            self.parse(interval, *word.partition("=")[::2])
        self.members = {}

    def parse(self, interval, key, value):
        if key == "bstart" or interval and key == "b":
            self.blockable_returns.parse(value)
        elif interval and key == "nb":
            self.returns["inv"].parse(value)
        elif interval and key == "set":
            self.sets_seq = value[:1] == "1"
        elif interval and key == "setf":
            self.sets_seq_on_false = value[:1] == "1"
        elif key == "gate":
            cb, _, gate = value.partition(":")
            self.gate[self.callback(cb)] = index(gate, "g", MAX_G)
            if None in self.gate.values():
                raise BadProgram("gate")
        elif key == "act":
            cb, _, act = value.partition(":")
            self.act[self.callback(cb)] = Act(act)
        else:
            self.has.add(self.callback(key))
            self.returns[key].parse(value)

    @staticmethod
    def callback(name):
        if name not in MEMBERS:
            raise BadProgram("callback name")
        return name


class MmSlot:
    """What the runner knows of m0, m1, ..."""

    def __init__(self, number):
        self.number = number
        self.pending = 0  # operations on it in progress
        self.reset(None)

    def reset(self, mm):
        self.mm = mm
        self.live = mm is not None
        self.users = int(self.live)  # references that the program holds
        self.count = 0
        self.registered = 0  # registrations and intervals that hold it
        self.active = self.unlocked = 0  # ranges in flight; those of them without mmap_lock
        self.itree_on = False
        self.lockwait = 0  # operations in progress that may sleep on mmap_lock
        self.rlocked = self.wlocked = 0  # by named threads

    def name(self):
        return f"m{self.number}"


class ListObject:
    """A struct mmu_notifier of the program's: n3 registered it, or a2 came from alloc_notifier."""

    def __init__(self, name, opset, slot, state):
        self.name, self.opset, self.m, self.state = name, opset, slot, state
        self.users = 0
        self.put_at = 0  # index of the operation that did the last put
        self.freed = self.reported = False
        self.sub = contract.ListSub(opset.members, outer=self)


class IntervalObject:
    def __init__(self, number, opset):
        self.number, self.opset = number, opset
        self.state, self.m = BUSY, None
        self.readers = 0
        self.shown_seq = None
        self.sub = contract.IntervalSub(outer=self)


class RangeSlot:
    def __init__(self):
        self.active = self.busy = self.locked = False
        self.m = self.thread = self.range = None


class Token:
    def __init__(self):
        self.valid = self.busy = False
        self.io = self.seq = None


class Gate:
    def __init__(self):
        self.closed = self.waiter = False


class NamedThread:
    """t0, t1, ..."""

    def __init__(self, number):
        self.number = number
        self.op = None
        self.rl = self.wl = None  # the MmSlot it has locked
        self.ranges = 0  # that it has in flight on it


class Op:
    """One operation: a line of the program, then the thread that runs it."""

    def __init__(self, at, line):
        words = line.split()
        self.at, self.thread, self.forced = at, None, False
        if re.match("t[0-9]:", words[0]):
            self.thread = int(words.pop(0)[1])
        if not words:
            raise BadProgram("line")
        self.name = words[0]
        if self.name.endswith("!"):
            self.name, self.forced = self.name[:-1], True
        self.argv = words[1 : 1 + MAX_ARGS]
        prefix = "" if self.thread is None else f"t{self.thread}: "
        self.text = prefix + " ".join([words[0], *(arg[:MAX_WORD] for arg in self.argv)])
        self.m = self.os = self.n = self.io = self.r = self.k = self.slot = None
        self.write = self.has_lock = self.lockwait = self.blocked = self.done = False
        self.call = self.sleeps_until = self.ret = None
        self.out = []

    def ready(self):
        return self.sleeps_until is None or self.sleeps_until()

    def run(self):
        """Up to the next point where another thread may run."""
        try:
            self.sleeps_until = next(self.call)
        except StopIteration as stop:
            self.ret, self.done = stop.value, True


class Runner:
    def __init__(self, write=print, schedule=None, warn=lambda rule: None):
        self.write = write  # takes a line of the trace
        self.random = None if schedule is None else random.Random(schedule)
        self.contract = Contract(warn)
        self.mms = [MmSlot(i) for i in range(MAX_MM)]
        self.opsets, self.iopsets = {}, {}
        self.n, self.h, self.i = {}, {}, {}  # slot -> object
        self.h_busy = set()
        self.ranges = [RangeSlot() for _ in range(MAX_R)]
        self.tokens = [Token() for _ in range(MAX_K)]
        self.gates = [Gate() for _ in range(MAX_G)]
        self.objects = []  # every ListObject there ever was
        self.allocated = 0
        self.threads = [NamedThread(i) for i in range(MAX_T)]
        self.ops = self.skipped = self.blocked = self.callbacks = 0
        self.pending = []
        self.current = None  # the operation whose thread is running

    # ------------------------------------------------------------------------------------------------- a program

    def run(self, lines):
        for line in lines:
            self.run_source_line(line)
        for op in self.pending:
            self.write(f"PENDING [{op.at}] {op.text}")
        self.write(f"END ops={self.ops} skipped={self.skipped} blocked={self.blocked} callbacks={self.callbacks}")

    def run_source_line(self, line):
        if line.startswith("cleanup"):
            self.cleanup(re.split("[#\r\n]", line)[0][len("cleanup") :])
        elif line.split("#")[0].strip():
            self.run_line(line.split("#")[0])

    def run_line(self, line):
        self.ops += 1
        op = Op(self.ops, line)
        if op.name not in ARGC or (len(op.argv) != ARGC[op.name] if ARGC[op.name] >= 0 else not op.argv):
            raise BadProgram(op.text)
        self.write(f"[{op.at}] {op.text}")
        why = self.refusal(op)
        if why:
            self.write(f"  SKIP {why}")
            self.skipped += 1
        elif op.name in NO_THREAD:
            self.settle([])
            self.write("  = ok")
        else:
            self.start(op)
        self.report_pending()
        self.show_seqs()

    def refusal(self, op):
        if op.thread is not None and self.threads[op.thread].op:
            return "thread busy"
        return getattr(self, "prep_" + PREP.get(op.name, op.name))(op)

    def start(self, op):
        if op.m:
            op.m.pending += 1
            op.m.lockwait += op.lockwait
        if op.thread is not None:
            self.threads[op.thread].op = op
        op.call = getattr(self, "exec_" + op.name)(op)
        self.settle([op])
        if op.done:
            self.finish(op)
            return
        op.blocked = True
        self.blocked += 1
        self.flush(op)
        self.write("  BLOCKED")
        self.pending.append(op)

    def settle(self, new):
        """Let the threads run until none can."""
        alive = new + self.pending
        while True:
            able = [op for op in alive if not op.done and op.ready()]
            if not able:
                break
            self.current = self.random.choice(able) if self.random else able[0]
            self.current.run()
        self.current = None

    def report_pending(self):
        for op in list(self.pending):
            if op.done:
                self.pending.remove(op)
                self.finish(op)
            elif op.out:
                self.write(f"  [{op.at}] still BLOCKED")
                self.flush(op)

    def finish(self, op):
        result = getattr(self, "fin_" + FIN.get(op.name, op.name))(op)
        if op.m:
            op.m.pending -= 1
            op.m.lockwait -= op.lockwait
            self.mm_maybe_dead(op.m)
        if op.thread is not None:
            self.threads[op.thread].op = None
        self.flush(op)
        self.write(f"  [{op.at}] DONE = {result}" if op.blocked else f"  = {result}")

    def flush(self, op):
        for line in op.out:
            self.write(line)
        op.out = []

    def show_seqs(self):
        for i in sorted(self.i):
            io = self.i[i]
            if (io.state == LIVE or io.state == BUSY and io.m) and io.sub.seq != io.shown_seq:
                io.shown_seq = io.sub.seq
                self.write(f"  seq i{i}={io.sub.seq}")

    # -------------------------------------------------------------------------------------------------- cleanup

    def cleanup(self, order):
        for what in "gggc" + order + "inmscds":
            for line in getattr(self, "cleanup_" + what, list)():
                self.run_line(line)

    def cleanup_g(self):
        for g, gate in enumerate(self.gates):
            if gate.closed:
                yield f"open g{g}"
        for r, slot in enumerate(self.ranges):
            if slot.active:
                yield (f"t{slot.thread}: " if slot.locked and slot.thread is not None else "") + f"end r{r}"
        for thread in self.threads:
            if thread.rl or thread.wl:
                yield f"t{thread.number}: unlock {(thread.rl or thread.wl).name()}"

    def cleanup_i(self):
        return (f"irem i{i}" for i in range(MAX_I) if i in self.i)

    def cleanup_n(self):
        return (f"unreg n{n}" for n in range(MAX_N) if self.n_of(n))

    def cleanup_h(self):
        return (f"put h{h}" for h in range(MAX_H) if h in self.h)

    def cleanup_m(self):
        return (f"mmput {m.name()}" for m in self.mms for _ in range(m.users if m.live else 0))

    def cleanup_c(self):
        return (f"counts {m.name()}" for m in self.mms if m.live and (m.users or m.count))

    def cleanup_d(self):
        return (f"mmdrop {m.name()}" for m in self.mms for _ in range(m.count if m.live else 0))

    def cleanup_s(self):
        return ["sync"]

    # ------------------------------------------------------------------------------------------------ callbacks

    def emit(self, text):
        self.current.out.append(text)

    def mm_name(self, mm):
        slots = [m for m in self.mms if m.mm is mm]
        live = [m for m in slots if m.live]
        return (live or slots)[-1 if live else 0].name() if slots else "m?"

    def range_text(self, rng):
        return (
            f"{self.mm_name(rng.mm)} [{hexa(rng.start)},{hexa(rng.end)}) "
            f"ev={rng.event} fl={hexa(rng.flags)} ow={hexa(rng.owner)}"
        )

    def pass_gate(self, opset, cb):
        if cb not in opset.gate or not self.gates[opset.gate[cb]].closed:
            return
        gate = self.gates[opset.gate[cb]]
        if gate.waiter:
            self.emit(f"    gate {opset.gate[cb]} taken")
            return
        gate.waiter = True
        yield lambda: not gate.closed
        gate.waiter = False

    def do_act(self, opset, cb, n, m):
        act = opset.act.get(cb)
        if act and act.kind == "put":
            yield STEP
            self.act_put(opset, n)
        elif act:
            yield STEP
            yield from self.act_insert(act, m)

    def act_put(self, opset, n):
        if not n or n.state != LIVE or n.users < 1 or (n.users == 1 and "free" not in opset.has):
            self.emit("    act put SKIP")
            return
        self.book_put(n, self.ops)
        self.contract.put(n.sub)
        self.emit("    act put")

    def act_insert(self, act, m):
        opset = self.iopsets.get(act.p)
        if not opset or not m or not m.itree_on or m.users < 1 or act.i in self.i:
            self.emit(f"    act iins i{act.i} SKIP")
            return
        io = self.i[act.i] = IntervalObject(act.i, opset)
        ret = yield from self.contract.insert(io.sub, m.mm, act.start, act.length, opset.members)
        self.emit(f"    act iins i{act.i} = {ret}")
        self.book_insert(io, m, ret)

    def enter(self, n):
        self.callbacks += 1
        if n.state == DEAD:
            self.emit(f"  !!! callback on dead {n.name}")

    def leave(self, n, cb, may_sleep):
        if may_sleep:
            yield from self.pass_gate(n.opset, cb)
        yield from self.do_act(n.opset, cb, n, n.m)

    def cb_rel(self, sub, mm):
        n = sub.outer
        self.enter(n)
        self.emit(f"  cb {n.name}.release {self.mm_name(mm)}")
        yield from self.leave(n, "rel", True)

    def young(self, sub, cb, what):
        n = sub.outer
        self.enter(n)
        ret = n.opset.returns[cb].next(0)
        self.emit(f"  cb {n.name}.{MEMBERS[cb]} {what} -> {ret}")
        yield from self.leave(n, cb, True)
        return ret

    def cb_cfy(self, sub, mm, start, end):
        return (yield from self.young(sub, "cfy", f"{self.mm_name(mm)} [{hexa(start)},{hexa(end)})"))

    def cb_cy(self, sub, mm, start, end):
        return (yield from self.young(sub, "cy", f"{self.mm_name(mm)} [{hexa(start)},{hexa(end)})"))

    def cb_ty(self, sub, mm, address):
        return (yield from self.young(sub, "ty", f"{self.mm_name(mm)} {hexa(address)}"))

    def cb_cpte(self, sub, mm, address, pte):
        n = sub.outer
        self.enter(n)
        self.emit(f"  cb {n.name}.change_pte {self.mm_name(mm)} {hexa(address)} pte={hexa(pte)}")
        yield from self.leave(n, "cpte", True)

    def cb_start(self, sub, rng):
        n = sub.outer
        blockable = rng.blockable
        self.enter(n)
        ret = (n.opset.blockable_returns if blockable else n.opset.returns["start"]).next(0)
        self.emit(f"  cb {n.name}.start {self.range_text(rng)} -> {ret}")
        yield from self.leave(n, "start", blockable)
        return ret

    def cb_end(self, sub, rng):
        n = sub.outer
        self.enter(n)
        self.emit(f"  cb {n.name}.end {self.range_text(rng)}")
        yield from self.leave(n, "end", rng.blockable)

    def cb_tlb(self, sub, mm, start, end):
        n = sub.outer
        self.enter(n)
        self.emit(f"  cb {n.name}.tlb {self.mm_name(mm)} [{hexa(start)},{hexa(end)})")
        yield from self.leave(n, "tlb", True)

    def cb_alloc(self, mm):
        opset, m = self.current.os, self.current.m
        self.callbacks += 1
        error = opset.returns["alloc"].next(0)
        if error:
            self.emit(f"  cb alloc {self.mm_name(mm)} -> {error}")
            return error
        n = ListObject(f"a{self.allocated}", opset, m, NEW)
        self.allocated += 1
        self.objects.append(n)
        self.emit(f"  cb alloc {self.mm_name(mm)} -> {n.name}")
        yield from self.pass_gate(opset, "alloc")
        return n.sub

    def cb_free(self, sub):
        n = sub.outer
        if n.freed or n.state == DEAD:
            self.emit(f"  !!! second free of {n.name}")
        elif n.state == NEW:  # registering failed under get
            self.emit(f"  cb {n.name}.free")
        elif n.state != PUT:
            self.emit(f"  !!! free of {n.name}, which is still in use")
        n.freed = True
        n.state = DEAD

    def cb_inv(self, isub, rng, cur_seq):
        io = isub.outer
        opset, blockable = io.opset, rng.blockable
        self.callbacks += 1
        if io.state == DEAD:
            self.emit(f"  !!! callback on removed i{io.number}")
        returns = opset.blockable_returns if blockable else opset.returns["inv"]
        ret = returns.next(1) != 0
        self.emit(f"  cb i{io.number}.inv {self.range_text(rng)} seq={cur_seq} -> {int(ret)}")
        if blockable:
            yield from self.pass_gate(opset, "inv")
        yield from self.do_act(opset, "inv", None, io.m or self.current.m)
        yield STEP
        if opset.sets_seq if ret else opset.sets_seq_on_false:
            self.contract.set_seq(isub, cur_seq)
        return ret

    # ------------------------------------------------------------------------------------ bookkeeping and guards

    def n_of(self, slot):
        if slot in self.n and self.n[slot].state in (PUT, DEAD):
            del self.n[slot]  # a callback has put it
        return self.n.get(slot)

    def book_put(self, n, at):
        n.users -= 1
        n.put_at = at
        if not n.users:
            n.state = PUT
            n.m.registered -= 1

    def book_insert(self, io, m, ret):
        if ret:
            io.state = DEAD
            if self.i.get(io.number) is io:
                del self.i[io.number]
        else:
            io.state, io.m, io.shown_seq = LIVE, m, None
            m.registered += 1

    def mm_maybe_dead(self, m):
        if not (m.users or m.count or m.registered or m.pending):
            m.live = False

    def take_m(self, op, arg, explicit_reference):
        slot = index(op.argv[arg], "m", MAX_MM)
        if slot is None:
            return "syntax"
        op.m = self.mms[slot]
        if not op.m.live:
            return "no mm"
        if explicit_reference and not op.m.users and not op.m.count:
            return "no reference"
        return None

    def take_opset(self, op, arg, interval):
        slot = index(op.argv[arg], "p" if interval else "o", MAX_O)
        op.os = (self.iopsets if interval else self.opsets).get(slot)
        return None if op.os else "no ops"

    def named(self, op):
        return self.threads[op.thread] if op.thread is not None else None

    def holds(self, op):
        thread = self.named(op)
        return bool(thread) and op.m in (thread.rl, thread.wl)

    def want_lock(self, op, owner_ok):
        thread = self.named(op)
        if thread and thread.wl is op.m and owner_ok:
            op.has_lock = True
            return None
        if self.holds(op):
            return "self-deadlock"
        if op.m.lockwait:
            return "another waiter"
        op.lockwait = True
        return None

    def structural(self, op):
        """A change that must stay out of every start..end."""
        if op.forced:
            return None
        if op.m.unlocked:
            return "range in flight"
        thread = self.named(op)
        if op.m.active and thread and thread.ranges:
            return "own range in flight"
        return None

    def locked(self, op, call):
        """Make the call with mmap_lock held for writing."""
        if op.has_lock:
            return (yield from call)
        yield from op.m.mm.mmap_lock.write_lock()
        ret = yield from call
        op.m.mm.mmap_lock.write_unlock()
        return ret

    def simply(self, call, *args):
        """The exec of a call that does not sleep."""
        yield STEP
        return call(*args)

    def fin_ok(self, op):
        return "ok"

    def fin_ret(self, op):
        return str(int(op.ret))

    # ------------------------------------------------------------------------------------------ ops, iops, gates

    def prep_ops(self, op):
        return self.define(op, self.opsets, "o", False)

    def prep_iops(self, op):
        return self.define(op, self.iopsets, "p", True)

    def define(self, op, opsets, prefix, interval):
        slot = index(op.argv[0], prefix, MAX_O)
        if slot is None:
            return "syntax"
        if slot in opsets:
            return "defined"
        opset = opsets[slot] = OpSet(interval, op.argv[1:])
        for cb in opset.has:
            opset.members[MEMBERS[cb]] = getattr(self, "cb_" + cb)
        return None

    def prep_gate(self, op):
        slot = index(op.argv[0], "g", MAX_G)
        if slot is None:
            return "syntax"
        self.gates[slot].closed = op.name == "close"
        return None

    # ------------------------------------------------------------------------------------------------- mm's life

    def prep_mm(self, op):
        slot = index(op.argv[0], "m", MAX_MM)
        if slot is None:
            return "syntax"
        op.m = self.mms[slot]
        return "exists" if op.m.live or op.m.pending else None

    def exec_mm(self, op):
        return self.simply(contract.Mm)

    def fin_mm(self, op):
        op.m.reset(op.ret)
        return "ok"

    def prep_mmget(self, op):
        return self.take_m(op, 0, False) or (None if op.m.users else "users 0")

    def exec_mmget(self, op):
        return self.simply(self.contract.mmget, op.m.mm)

    def fin_mmget(self, op):
        op.m.users += 1
        return "ok"

    def prep_with_reference(self, op):
        return self.take_m(op, 0, True)

    def exec_mmget_nz(self, op):
        return self.simply(self.contract.mmget_not_zero, op.m.mm)

    def fin_mmget_nz(self, op):
        op.m.users += op.ret
        return str(int(op.ret))

    def prep_mmput(self, op):
        why = self.take_m(op, 0, False)
        if why:
            return why
        m = op.m
        if not m.users:
            return "users 0"
        if m.users == 1 and (m.lockwait or m.rlocked or m.wlocked):
            return "locked"
        if m.users == 1 and not m.count and (m.active or m.pending):
            return "in use"
        m.users -= 1
        return None

    def exec_mmput(self, op):
        return self.contract.mmput(op.m.mm)

    def exec_mmgrab(self, op):
        return self.simply(self.contract.mmgrab, op.m.mm)

    def fin_mmgrab(self, op):
        op.m.count += 1
        return "ok"

    def prep_mmdrop(self, op):
        why = self.take_m(op, 0, False)
        if why:
            return why
        m = op.m
        if not m.count:
            return "count 0"
        if m.count == 1 and not m.users and (m.active or m.pending):
            return "in use"
        m.count -= 1
        return None

    def exec_mmdrop(self, op):
        return self.simply(self.contract.mmdrop, op.m.mm)

    def exec_has(self, op):
        return self.simply(lambda: op.m.mm.subs is not None)

    def exec_counts(self, op):
        yield from self.contract.synchronize()
        return op.m.mm.users, op.m.mm.count

    def fin_counts(self, op):
        return "ok" if op.blocked else "users=%d count=%d" % op.ret

    # ------------------------------------------------------------------------------------------------- mmap_lock

    def prep_lock(self, op):
        why = self.take_m(op, 1, True)
        if why:
            return why
        thread = self.named(op)
        if not thread:
            return "unnamed thread"
        if not op.m.users:
            return "users 0"
        if thread.rl or thread.wl:
            return "holds one"
        op.write = op.argv[0].startswith("w")
        return self.want_lock(op, False)

    def exec_lock(self, op):
        lock = op.m.mm.mmap_lock
        return lock.write_lock() if op.write else lock.read_lock()

    def fin_lock(self, op):
        if op.write:
            self.named(op).wl = op.m
            op.m.wlocked += 1
        else:
            self.named(op).rl = op.m
            op.m.rlocked += 1
        return "ok"

    def prep_unlock(self, op):
        why = self.take_m(op, 0, True)
        if why:
            return why
        if not self.holds(op):
            return "not held"
        if self.named(op).ranges:
            return "range in flight"
        op.write = self.named(op).wl is op.m
        return None

    def exec_unlock(self, op):
        lock = op.m.mm.mmap_lock
        return self.simply(lock.write_unlock if op.write else lock.read_unlock)

    def fin_unlock(self, op):
        if op.write:
            self.named(op).wl = None
            op.m.wlocked -= 1
        else:
            self.named(op).rl = None
            op.m.rlocked -= 1
        return "ok"

    # ----------------------------------------------------------------------------------------- register, unregister

    def prep_reg(self, op):
        op.slot = index(op.argv[0], "n", MAX_N)
        why = self.take_m(op, 1, False) or self.take_opset(op, 2, False)
        if why:
            return why
        if op.slot is None:
            return "syntax"
        if self.n_of(op.slot):
            return "registered"
        if not op.m.users and not op.forced:
            return "users 0"
        why = self.structural(op) or self.want_lock(op, op.name == "reg_locked")
        if why:
            return why
        op.n = self.n[op.slot] = ListObject(f"n{op.slot}", op.os, op.m, BUSY)
        self.objects.append(op.n)
        return None

    def exec_reg(self, op):
        return self.contract.register(op.n.sub, op.m.mm)

    def exec_reg_locked(self, op):
        return self.locked(op, self.contract.register_locked(op.n.sub, op.m.mm))

    def fin_reg(self, op):
        if op.ret:
            op.n.state = DEAD
            del self.n[op.slot]
        else:
            op.n.state = LIVE
            op.n.users = 1
            op.m.registered += 1
        return str(op.ret)

    def take_n(self, op):
        op.slot = index(op.argv[0], "n", MAX_N)
        op.n = self.n_of(op.slot)
        if not op.n:
            return "not registered"
        if op.n.state != LIVE:
            return "busy"
        op.m, op.os = op.n.m, op.n.opset
        return None

    def prep_unreg(self, op):
        why = self.take_n(op)
        if why:
            return why
        if op.n.users != 1:
            return "gets outstanding"
        op.n.state = BUSY
        return None

    def exec_unreg(self, op):
        return self.contract.unregister(op.n.sub, op.m.mm)

    def fin_unreg(self, op):
        op.n.state = DEAD
        del self.n[op.slot]
        op.m.registered -= 1
        return "ok"

    # --------------------------------------------------------------------------------------------------- get, put

    def prep_nput(self, op):
        why = self.take_n(op)
        if why:
            return why
        if op.n.users != 1:
            return "gets outstanding"
        if "free" not in op.os.has:
            return "no free_notifier"
        self.book_put(op.n, op.at)
        return None

    def exec_nput(self, op):
        return self.simply(self.contract.put, op.n.sub)

    def prep_get(self, op):
        op.slot = index(op.argv[0], "h", MAX_H)
        why = self.take_m(op, 1, False) or self.take_opset(op, 2, False)
        if why:
            return why
        if op.slot is None:
            return "syntax"
        if op.slot in self.h or op.slot in self.h_busy:
            return "in use"
        if not {"alloc", "free"} <= op.os.has:
            return "no alloc_notifier"
        if not op.m.users:
            return "users 0"
        if any(n.m is op.m and n.opset is op.os and n.state == BUSY for n in self.objects):
            return "busy"
        why = self.structural(op) or self.want_lock(op, op.name == "get_locked")
        if why:
            return why
        self.h_busy.add(op.slot)
        return None

    def exec_get(self, op):
        return self.contract.get(op.os.members, op.m.mm)

    def exec_get_locked(self, op):
        return self.locked(op, self.contract.get_locked(op.os.members, op.m.mm))

    def fin_get(self, op):
        self.h_busy.remove(op.slot)
        if isinstance(op.ret, int):
            return str(op.ret)
        n = op.ret.outer
        if n.state == NEW:
            n.state = LIVE
            op.m.registered += 1
        n.users += 1
        self.h[op.slot] = n
        return n.name

    def prep_put(self, op):
        op.slot = index(op.argv[0], "h", MAX_H)
        op.n = self.h.get(op.slot)
        if not op.n:
            return "no handle"
        if op.n.state in (PUT, DEAD):
            del self.h[op.slot]  # a callback has put it
            return "gone"
        if op.n.state != LIVE:
            return "busy"
        op.m, op.os = op.n.m, op.n.opset
        del self.h[op.slot]
        self.book_put(op.n, op.at)
        return None

    exec_put = exec_nput

    def prep_getmax(self, op):
        op.slot = index(op.argv[0], "h", MAX_H)
        op.n = self.h.get(op.slot)
        if not op.n or op.n.state != LIVE:
            return "no handle"
        op.m, op.os = op.n.m, op.n.opset
        if not op.m.users:
            return "users 0"
        for n in self.objects:
            if n is not op.n and n.m is op.m and n.opset is op.os and n.state in (LIVE, BUSY):
                return "ambiguous"
        if op.m.rlocked or op.m.wlocked or op.m.lockwait:
            return "locked"
        return self.want_lock(op, False)

    def exec_getmax(self, op):
        before, op.n.sub.users = op.n.sub.users, contract.UINT_MAX
        ret = yield from self.contract.get(op.os.members, op.m.mm)
        op.n.sub.users = before
        return ret

    def fin_getmax(self, op):
        return str(op.ret if isinstance(op.ret, int) else op.ret.outer.name)

    def prep_sync(self, op):
        return None

    def exec_sync(self, op):
        return self.contract.synchronize()

    def fin_sync(self, op):
        for n in self.objects:
            if n.users or not n.put_at or n.put_at >= op.at or n.reported:
                continue
            if n.freed:
                n.reported = True
                op.out.append(f"  freed {n.name}")
            else:
                op.out.append(f"  NOT FREED {n.name}")
        return "ok"

    # -------------------------------------------------------------------------------------------------- intervals

    def prep_iins(self, op):
        takes_lock = op.name == "iins_locked"
        op.slot = index(op.argv[0], "i", MAX_I)
        why = self.take_m(op, 1, True) or self.take_opset(op, 4, True)
        if why:
            return why
        if op.slot is None:
            return "syntax"
        if op.slot in self.i:
            return "inserted"
        if not op.m.users and not (op.forced and op.m.itree_on and not takes_lock):
            return "users 0"
        why = None
        if not op.m.itree_on:
            why = self.structural(op)
        if not why and (takes_lock or not op.m.itree_on):
            why = self.want_lock(op, takes_lock)
        if why:
            return why
        op.io = self.i[op.slot] = IntervalObject(op.slot, op.os)
        return None

    def insert_args(self, op):
        return op.io.sub, op.m.mm, number(op.argv[2]), number(op.argv[3]), op.os.members

    def exec_iins(self, op):
        return self.contract.insert(*self.insert_args(op))

    def exec_iins_locked(self, op):
        return self.locked(op, self.contract.insert_locked(*self.insert_args(op)))

    def fin_iins(self, op):
        op.m.itree_on = True
        self.book_insert(op.io, op.m, op.ret)
        return str(op.ret) if op.ret else f"0 [{hexa(op.io.sub.start)},{hexa(op.io.sub.last)}]"

    def take_i(self, op, arg):
        op.slot = index(op.argv[arg], "i", MAX_I)
        op.io = self.i.get(op.slot)
        if not op.io:
            return "not inserted"
        if op.io.state != LIVE:
            return "busy"
        op.m = op.io.m
        return None

    def prep_irem(self, op):
        why = self.take_i(op, 0)
        if why:
            return why
        if op.io.readers:
            return "reader inside"
        op.io.state = BUSY
        return None

    def exec_irem(self, op):
        return self.contract.remove(op.io.sub)

    def fin_irem(self, op):
        op.io.state = DEAD
        del self.i[op.slot]
        op.m.registered -= 1
        return "ok"

    def prep_rb(self, op):
        slot = index(op.argv[0], "k", MAX_K)
        why = self.take_i(op, 1)
        if why:
            return why
        if slot is None:
            return "syntax"
        op.k = self.tokens[slot]
        if op.k.busy:
            return "token busy"
        op.k.busy, op.k.valid, op.k.io = True, False, op.io
        op.io.readers += 1
        return None

    def exec_rb(self, op):
        return self.contract.read_begin(op.io.sub)

    def fin_rb(self, op):
        op.k.busy, op.k.valid, op.k.seq = False, True, op.ret
        op.io.readers -= 1
        return str(op.ret)

    def prep_retry(self, op):
        slot = index(op.argv[0], "k", MAX_K)
        op.k = None if slot is None else self.tokens[slot]
        if not op.k or not op.k.valid or op.k.busy:
            return "no token"
        op.io = op.k.io
        if op.io.state not in (LIVE, BUSY):
            return "removed"
        op.m = op.io.m
        return None

    def exec_rr(self, op):
        return self.simply(self.contract.read_retry, op.io.sub, op.k.seq)

    exec_cr = exec_rr

    # ------------------------------------------------------------------------------------------- ranges and young

    def prep_start(self, op):
        slot = index(op.argv[0], "r", MAX_R)
        why = self.take_m(op, 1, True)
        if why:
            return why
        if slot is None:
            return "syntax"
        op.r = self.ranges[slot]
        if op.r.active or op.r.busy:
            return "active"
        if not self.holds(op) and op.m.lockwait and not op.forced:
            return "registration in progress"
        if op.name == "start_nb" and not op.forced and op.m.itree_on and self.may_refuse(op.m):
            return "would leak"
        self.book_start(op)
        return None

    def may_refuse(self, m):
        return any(
            n.m is m and n.state not in (PUT, DEAD) and "start" in n.opset.has and n.opset.returns["start"].values
            for n in self.objects
        )

    def book_start(self, op):
        r = op.r
        r.m, r.thread, r.locked, r.busy = op.m, op.thread, self.holds(op), True
        op.m.active += 1
        if r.locked:
            self.named(op).ranges += 1
        else:
            op.m.unlocked += 1
        start, end, event, flags = (number(arg) for arg in op.argv[2:6])
        owner = 0 if op.argv[6] == "-" else number(op.argv[6])
        r.range = contract.Range(op.m.mm, start, end, flags & contract.UINT_MAX, event, owner)

    def exec_start(self, op):
        return self.contract.invalidate_range_start(op.r.range)

    def exec_start_nb(self, op):
        return self.contract.invalidate_range_start_nonblock(op.r.range)

    def fin_start(self, op):
        op.r.busy = False
        if op.ret:
            self.range_gone(op.r)
        else:
            op.r.active = True
        return f"{op.ret or 0} fl={hexa(op.r.range.flags)}"

    def range_gone(self, r):
        r.active = r.busy = False
        r.m.active -= 1
        if r.locked:
            self.threads[r.thread].ranges -= 1
        else:
            r.m.unlocked -= 1

    def prep_end(self, op):
        slot = index(op.argv[0], "r", MAX_R)
        r = None if slot is None else self.ranges[slot]
        if not r or not r.active:
            return "not active"
        if r.busy:
            return "busy"
        if r.locked and r.thread != op.thread:
            return "not the locking thread"
        op.r, op.m = r, r.m
        r.busy = True
        return None

    def exec_end(self, op):
        return self.contract.invalidate_range_end(op.r.range)

    def fin_end(self, op):
        self.range_gone(op.r)
        return "ok"

    def exec_cfy(self, op):
        return self.contract.clear_flush_young(op.m.mm, number(op.argv[1]), number(op.argv[2]))

    def exec_cy(self, op):
        return self.contract.clear_young(op.m.mm, number(op.argv[1]), number(op.argv[2]))

    def exec_ty(self, op):
        return self.contract.test_young(op.m.mm, number(op.argv[1]))

    def exec_tlb(self, op):
        return self.contract.arch_invalidate_secondary_tlbs(op.m.mm, number(op.argv[1]), number(op.argv[2]))

    def exec_cpte(self, op):
        return self.contract.change_pte(op.m.mm, number(op.argv[1]), number(op.argv[2]))


# The operations: how many arguments (-1: one or more), and which of them share a part.
ARGC = dict(
    ops=-1, iops=-1, open=1, close=1, mm=1, mmget=1, mmget_nz=1, mmput=1, mmgrab=1, mmdrop=1, lock=2, unlock=1, reg=3,
    reg_locked=3, unreg=1, nput=1, get=3, get_locked=3, put=1, getmax=1, sync=0, iins=5, iins_locked=5, irem=1, start=7,
    start_nb=7, end=1, cfy=3, cy=3, tlb=3, ty=2, cpte=3, has=1, counts=1, rb=2, rr=1, cr=1,
)  # fmt: skip
NO_THREAD = {"ops", "iops", "open", "close"}
PREP = dict(
    open="gate", close="gate", mmget_nz="with_reference", mmgrab="with_reference", has="with_reference",
    counts="with_reference", cfy="with_reference", cy="with_reference", ty="with_reference", tlb="with_reference",
    cpte="with_reference", reg_locked="reg", get_locked="get", iins_locked="iins", start_nb="start", rr="retry",
    cr="retry",
)  # fmt: skip
FIN = dict(
    mmput="ok", mmdrop="ok", nput="ok", put="ok", tlb="ok", cpte="ok", cfy="ret", cy="ret", ty="ret", has="ret",
    rr="ret", cr="ret", reg_locked="reg", get_locked="get", iins_locked="iins", start_nb="start", unreg="unreg",
)  # fmt: skip


def trace(lines, schedule=None, warn=lambda rule: None):
    """The trace of a program, a list of lines. After a BUG it ends with the rule's id."""
    out = []
    try:
        Runner(out.append, schedule, warn).run(lines)
    except contract.Bug as bug:
        out.append(f"BUG {bug}")
    return out


def check(files, schedule):
    """Print the names of those that differ; 1 if there are any."""

    def lines(name):
        with open(name, encoding="ascii") as source:
            return source.read().splitlines()

    different = [name for name in files if trace(lines(name), schedule) != lines(name.removesuffix("txt") + "expected")]
    print("".join(f"DIFFERS {name}\n" for name in different) + f"{len(files) - len(different)} of {len(files)} agree")
    return int(bool(different))


def main(args):
    schedule = int(args[args.index("-s") + 1]) if "-s" in args else None
    if "-e" in args:
        return check(args[args.index("-e") + 1 :], schedule)
    warn = (lambda rule: print("warning", rule, file=sys.stderr)) if "-w" in args else (lambda rule: None)
    try:
        out = trace(sys.stdin.readlines(), schedule, warn)
    except BadProgram as bad:
        sys.exit(f"model: bad {bad}")
    print("\n".join(out))
    return 134 if out[-1].startswith("BUG") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
