#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Random programs for mnrun, mean ones.

Usage: generate.py SEED [COUNT [DIR]]
  prints the program of SEED (and of the COUNT-1 that follow), or writes each to DIR/SEED.txt

A program is the same for the same seed and the same generator. It is made line by line with a model running it, so that
most lines do something; some are wrong on purpose, for the guards. A profile (the first line names it) says what there
is much of. `!` forms: `iins!` where an mm has no users any more, as in the reference's programs; `start_nb!` in the
profile dv1 only, where the library differs from the reference on purpose (DV-1).

Races. An operation sleeps at a closed gate, for mmap_lock, for a busy period to end or for a grace period. The last two
only have to drop a reference or to return when they wake; a gate has one sleeper at most, mnrun allows one operation at
a time to wait for an mm's mmap_lock, and no line wakes more than one thread of these two kinds. So at any time one
thread at most runs callbacks, and the trace, which is sorted by operation, does not depend on who runs first. racy()
checks that: the model has to print the same under other schedules. No line is sorted or left out of a comparison.
"""

import os
import random
import sys

import model

WEIGHTS = dict(
    mm=2, mmget=1, mmget_nz=1, mmput=2, mmgrab=1, mmdrop=1, has=1, counts=3,
    reg=6, reg_locked=2, unreg=4, nput=2, get=5, get_locked=2, put=4, getmax=0.5, sync=3,
    iins=10, iins_locked=2, irem=7, rb=9, rr=6, cr=2,
    start=14, start_nb=7, end=16, cfy=3, cy=3, ty=3, cpte=2, tlb=3,
    lock=0, unlock=0, open=0, close=0, cleanup=0.1, define=0.5, populate=3,
)  # fmt: skip

# profile -> weights that differ, then what it has: gates, edge (shapes and addresses), acts, refusals, mms
PROFILES = {
    "basic": (dict(), dict()),
    "edge": (dict(iins=16, start=18, irem=9), dict(edge=0.6)),
    "nested": (dict(start=22, end=20, iins=16, irem=12, rb=14), dict()),
    "getput": (dict(get=14, get_locked=6, put=12, nput=5, getmax=2, sync=6, reg=8), dict(acts=0.4)),
    "locks": (dict(lock=9, unlock=7, reg=9, get=8, reg_locked=6, get_locked=5, iins_locked=6), dict(named=0.3)),
    "gates": (dict(open=8, close=10, cfy=5, cy=4, ty=4, sync=4), dict(gates=0.5)),
    "srcu": (
        dict(open=8, close=12, unreg=10, reg=14, sync=5, cfy=8, ty=5, tlb=6, start=8, end=8, nput=5, iins=4),
        dict(gates=0.7, mms=3),
    ),
    "life": (dict(mm=8, mmput=12, mmget_nz=4, mmdrop=5, mmgrab=4, counts=6), dict(gates=0.3, mms=5, acts=0.3)),
    "lifelocks": (
        dict(mm=8, mmput=10, mmdrop=5, mmgrab=4, lock=6, unlock=5, open=6, close=4),
        dict(gates=0.4, mms=4, named=0.25),
    ),
    "refuse": (dict(start_nb=20, reg=10, iins=12), dict(refuse=0.6, gates=0.3)),
    "retreat": (
        dict(start=16, end=12, sync=6, unreg=6, reg=12, open=8, close=12, iins=6, irem=4, rb=4),
        dict(gates=0.8, refuse=0.9),
    ),
    "callbacks": (dict(start=20, reg=9, get=9, open=4, close=3), dict(acts=0.8, gates=0.3)),
    "mix": (
        dict(lock=5, unlock=4, open=6, close=8, mmput=4, cleanup=0.4),
        dict(gates=0.5, edge=0.3, acts=0.3, refuse=0.2, mms=4, named=0.25),
    ),
    "dv1": (dict(start_nb=24, reg=8, rb=12, open=3, close=2), dict(refuse=0.8, gates=0.3, leak=0.7)),
}
TRAITS = dict(gates=0.0, edge=0.05, acts=0.1, refuse=0.1, mms=2, named=0.05, leak=0.0)
WRONG = 0.04  # how often an argument is a random one
EDGES = [0, 1, 0xFFF, 0x1000, 2**63 - 1, 2**63, "max-8191", "max-4096", "max-4095", "max-1", "max"]


class Generator:
    def __init__(self, seed, profile=None):
        self.random = random.Random(seed)
        self.profile = profile or self.random.choice([name for name in PROFILES if name != "dv1"])
        weights, traits = PROFILES[self.profile]
        self.weights = {**WEIGHTS, **weights}
        self.traits = {**TRAITS, **traits}
        if self.traits["gates"]:
            self.weights["open"] = max(self.weights["open"], 4)
            self.weights["close"] = max(self.weights["close"], 6)
        self.patience = self.random.choice([3, 6, 10])  # operations in progress before it lets some go
        self.lines = []
        self.runner = model.Runner(write=lambda line: None)

    # ----------------------------------------------------------------------------------------------------- helpers

    def chance(self, p):
        return self.random.random() < p

    def pick(self, candidates):
        candidates = list(candidates)
        return self.random.choice(candidates) if candidates else None

    def add(self, line):
        self.lines.append(line)
        self.runner.run_source_line(line)

    def trait(self, name):
        return self.chance(self.traits[name])

    def wrong(self):
        return self.chance(WRONG)

    def address(self):
        if self.trait("edge"):
            edge = self.random.choice(EDGES)
            return edge if isinstance(edge, str) else hex(edge) if edge else "0"
        page = self.random.randrange(16) * 0x1000
        return hex(page + self.random.choice([0, 0, 0, 0, 1, 2, 0x800, 0xFFF])) if page else "0"

    def bounds(self):
        """start and end of a range"""
        if self.trait("edge"):
            start = self.address()
            return start, self.random.choice([start, "0", "max", self.address(), self.address()])
        if self.chance(0.12):
            return "0", "max"
        start = model.number(self.address())
        length = self.random.choice([1, 0xFFF, 0x1000, 0x1001, 0x2000, 0x4000, 0x8000, 0])
        return hex(start), hex(start + length)

    def length(self):
        if self.trait("edge"):
            return self.random.choice(["0", "1", "max", "max-1", "max-4096", "max-8191", hex(2**63), hex(2**63 - 1)])
        return hex(self.random.choice([1, 0x1000, 0x1000, 0x1001, 0x2000, 0x4000, 0x6000, 0x10000]))

    # ---------------------------------------------------------------------------------------------- picking objects

    def mm(self, users=False):
        live = [m for m in self.runner.mms if m.live and (m.users or m.count) and (m.users or not users)]
        m = self.pick(self.runner.mms[:6] if self.wrong() else live)
        return m and m.name()

    def free_slot(self, prefix, taken, limit=12):
        choice = self.pick(i for i in range(limit) if (i in taken) == self.wrong())
        return None if choice is None else f"{prefix}{choice}"

    def used_slot(self, prefix, objects, suits=lambda thing: True):
        """An object that is not in the middle of something, and suits."""
        good = [i for i, thing in objects.items() if thing.state == model.LIVE and suits(thing)]
        choice = self.random.randrange(12) if self.wrong() else self.pick(list(objects) if self.wrong() else good)
        return None if choice is None else f"{prefix}{choice}"

    def opset(self, opsets, prefix, *needs):
        suitable = [o for o, opset in opsets.items() if set(needs) <= opset.has]
        choice = self.random.randrange(8) if self.wrong() else self.pick(suitable)
        return None if choice is None else f"{prefix}{choice}"

    def on_thread(self, line, may_wait_for_range=False):
        """The line, sometimes on a named thread."""
        if line is None or not self.trait("named"):
            return line
        idle = [t for t in self.runner.threads[:5] if not t.op]
        if may_wait_for_range and not self.chance(0.03):  # else it may wait for its own range, for ever
            idle = [t for t in idle if not t.ranges]
        thread = self.pick(self.runner.threads[:5] if self.wrong() else idle)
        return f"t{thread.number}: {line}" if thread else line

    def fill(self, *words):
        return None if None in words else " ".join(words)

    # ----------------------------------------------------------------------------------------------- sets of callbacks

    def values(self, pool):
        return ",".join(str(self.random.choice(pool)) for _ in range(self.random.randint(1, 4)))

    def act(self, may_put):
        if may_put and self.chance(0.5):
            return "put"
        return f"iins:i{self.random.randint(20, 59)}:{self.address()}:{self.length()}:p{self.random.randrange(3)}"

    def list_members(self):
        """The callbacks of a set, with their return values."""
        chosen = {"rel": "rel" if self.chance(0.7) else None}
        for cb, pool in (("cfy", [0, 0, 1, 2]), ("cy", [0, 0, 1, 4]), ("ty", [0, 0, 1, 3])):
            if self.chance(0.6):
                chosen[cb] = f"{cb}={self.values(pool)}"
        if self.chance(0.5):
            chosen["cpte"] = "cpte"
        if self.chance(0.2):
            chosen["tlb"] = "tlb"
        if "tlb" not in chosen or self.chance(0.1):
            chosen.update(self.start_and_end())
        if self.chance(0.65):
            chosen["alloc"] = "alloc=" + self.values([-12, -22, 0]) if self.chance(0.15) else "alloc"
            chosen["free"] = "free"
        elif self.chance(0.5):
            chosen["free"] = "free"
        return {cb: word for cb, word in chosen.items() if word}

    def start_and_end(self):
        chosen = {}
        if self.chance(0.75):
            refuses = self.chance(self.traits["refuse"])
            chosen["start"] = "start=" + self.values([0, 0, -11, -11, -22, 5]) if refuses else "start"
        if self.chance(0.7):
            chosen["end"] = "end"
        return chosen

    def define(self):
        if self.chance(0.4):
            return self.define_intervals()
        slot = next((o for o in range(8) if o not in self.runner.opsets), None)
        if slot is None:
            return None
        chosen = self.list_members()
        words = list(chosen.values())
        if "start" in chosen and self.chance(self.traits["refuse"] * 0.7):
            words.append("bstart=" + self.values([0, 0, -11, -22, 7]))
        for cb in chosen:
            if cb != "free" and self.trait("gates"):
                words.append(f"gate={cb}:{self.random.randrange(5)}")
        sleeping = [cb for cb in chosen if cb not in ("alloc", "free")]
        if sleeping and self.trait("acts"):
            words.append(f"act={self.pick(sleeping)}:{self.act('free' in chosen)}")
        return " ".join(["ops", f"o{slot}", *words[:11]])

    def define_intervals(self):
        slot = next((p for p in range(5) if p not in self.runner.iopsets), None)
        if slot is None:
            return None
        words = []
        if self.chance(max(0.15, self.traits["refuse"])):
            words.append("nb=" + self.values([1, 1, 0]))
        if self.chance(self.traits["refuse"]):
            words.append("b=" + self.values([1, 1, 0]))
        if self.chance(0.15):
            words.append("set=0")
        if self.chance(0.2):
            words.append("setf=1")
        if self.trait("gates"):
            words.append(f"gate=inv:{self.random.randrange(5)}")
        if self.trait("acts"):
            words.append("act=inv:" + self.act(False))
        return " ".join(["iops", f"p{slot}", *words])

    # ------------------------------------------------------------------------------------------------------- lines

    def line_define(self):
        return self.define()

    def populate(self, m):
        """Register and insert a few. Nobody can with ranges in flight."""
        for _ in range(self.random.randint(1, 5)):
            kind = self.random.choice(["reg", "reg", "get", "iins", "iins"])
            if kind == "reg":
                line = self.registration("reg", "n", self.runner.n, m=m)
            elif kind == "get":
                line = self.registration("get", "h", self.runner.h, "alloc", "free", m=m)
            else:
                line = self.line_iins(m)
            if line:
                self.add(line)

    def line_populate(self):
        """Mostly: end the ranges of an mm that no thread holds, then populate it."""
        m = self.pick(m for m in self.runner.mms if m.live and m.users)
        if not m:
            return None
        for r in range(10):
            slot = self.runner.ranges[r]
            if slot.m is m and slot.active and not slot.busy and not slot.locked:
                self.add(f"end r{r}")
        self.populate(m.name())
        return "counts " + m.name()

    def new_mm(self, m):
        self.add("mm " + m)
        if self.chance(0.8):
            self.add("mmgrab " + m)
        if self.chance(0.9):
            self.populate(m)

    def line_mm(self):
        if sum(m.live for m in self.runner.mms) >= self.traits["mms"] and not self.wrong():
            return None
        dead = [m for m in self.runner.mms[:6] if not m.live]
        m = self.pick(self.runner.mms[:6] if self.wrong() or not dead else dead)
        self.new_mm(m.name())
        return "has " + m.name()

    def line_mmput(self):
        # The last user goes less often, and rarely while the last reference goes with it.
        def weight(m):
            return 6 if m.users > 1 else 2 if m.count else 1

        live = [m for m in self.runner.mms if m.live and m.users for _ in range(weight(m))]
        m = self.pick(live)
        return m and self.on_thread("mmput " + m.name(), True)

    def line_mmdrop(self):
        m = self.pick(m for m in self.runner.mms if m.live and m.count > (0 if self.chance(0.3) else 1))
        return m and "mmdrop " + m.name()

    def line_mmget(self):
        return self.fill("mmget", self.mm(users=True))

    def line_mmget_nz(self):
        return self.fill("mmget_nz", self.mm())

    def line_mmgrab(self):
        return self.fill("mmgrab", self.mm())

    def line_has(self):
        return self.fill("has", self.mm())

    def line_counts(self):
        return self.fill("counts", self.mm())

    def registration(self, name, prefix, taken, *needs, m=None):
        line = self.fill(
            name, self.free_slot(prefix, taken), m or self.quiet_mm(), self.opset(self.runner.opsets, "o", *needs)
        )
        return self.locked_form(line) if name.endswith("_locked") else self.on_thread(line)

    def quiet_mm(self):
        """Mostly one that can be registered with."""
        quiet = [m for m in self.runner.mms if m.live and m.users and not m.unlocked and not m.lockwait]
        m = self.pick(quiet) if not self.wrong() else None
        return m.name() if m else self.mm(users=True) if self.wrong() else None

    def locked_form(self, line):
        """A _locked call is best made by who has the lock."""
        m = line and next(word for word in line.split() if word[0] == "m")
        owner = self.pick(t for t in self.runner.threads if not t.op and t.wl and t.wl.name() == m)
        return f"t{owner.number}: {line}" if owner and self.chance(0.8) else self.on_thread(line)

    def line_reg(self):
        return self.registration("reg", "n", self.runner.n)

    def line_reg_locked(self):
        return self.registration("reg_locked", "n", self.runner.n)

    def line_get(self):
        return self.registration("get", "h", self.runner.h, "alloc", "free")

    def line_get_locked(self):
        return self.registration("get_locked", "h", self.runner.h, "alloc", "free")

    def line_unreg(self):
        return self.on_thread(self.fill("unreg", self.used_slot("n", self.runner.n, lambda n: n.users == 1)), True)

    def line_nput(self):
        return self.on_thread(self.fill("nput", self.used_slot("n", self.runner.n, lambda n: n.users == 1)))

    def line_put(self):
        return self.on_thread(self.fill("put", self.used_slot("h", self.runner.h)))

    def line_getmax(self):
        return self.fill("getmax", self.used_slot("h", self.runner.h))

    def line_sync(self):
        return self.on_thread("sync", True)

    def line_iins(self, m=None):
        m = m or self.mm()
        slot = self.free_slot("i", self.runner.i, 14)
        line = self.fill(slot, m, self.address(), self.length(), self.opset(self.runner.iopsets, "p"))
        if line is None:
            return None
        mm = self.runner.mms[int(m[1:])]
        return f"iins! {line}" if mm.live and not mm.users and mm.itree_on else self.on_thread(f"iins {line}")

    def line_iins_locked(self):
        m = self.mm(users=True)
        slot = self.free_slot("i", self.runner.i, 14)
        opset = self.opset(self.runner.iopsets, "p")
        return self.locked_form(self.fill("iins_locked", slot, m, self.address(), self.length(), opset))

    def line_irem(self):
        return self.on_thread(self.fill("irem", self.used_slot("i", self.runner.i, lambda i: not i.readers)), True)

    def line_rb(self):
        token = self.pick(k for k in range(10) if not self.runner.tokens[k].busy or self.wrong())
        line = self.fill("rb", f"k{token}", self.used_slot("i", self.runner.i))
        return self.on_thread(line, True)

    def token(self):
        tokens = [(k, self.runner.tokens[k]) for k in range(10)]
        valid = [k for k, token in tokens if token.valid and (token.io.state != model.DEAD or self.wrong())]
        choice = self.random.randrange(10) if self.wrong() else self.pick(valid)
        return None if choice is None else f"k{choice}"

    def line_rr(self):
        return self.fill("rr", self.token())

    def line_cr(self):
        return self.fill("cr", self.token())

    def start_words(self):
        m = self.mm()
        busy = {r for r in range(10) if self.runner.ranges[r].active or self.runner.ranges[r].busy}
        owner = "-" if self.chance(0.6) else str(self.random.choice([0, 7, 42]))
        event, flags = str(self.random.randrange(8)), str(self.random.choice([0, 0, 1, 2, 6]))
        return self.fill(self.free_slot("r", busy, 10), m, *self.bounds(), event, flags, owner)

    def on_holder(self, line):
        """A range of a thread that holds mmap_lock."""
        m = line and line.split()[2]
        holders = [t for t in self.runner.threads if not t.op and m in [lock.name() for lock in (t.rl, t.wl) if lock]]
        holder = self.pick(holders)
        return f"t{holder.number}: {line}" if holder and self.chance(0.6) else self.on_thread(line)

    def line_start(self):
        return self.on_holder(self.fill("start", self.start_words()))

    def line_start_nb(self):
        return self.on_holder(self.fill("start_nb!" if self.trait("leak") else "start_nb", self.start_words()))

    def line_end(self):
        r = self.pick(r for r in range(10) if self.runner.ranges[r].active and not self.runner.ranges[r].busy)
        if r is None:
            return None
        slot = self.runner.ranges[r]
        line = f"end r{r}"
        return f"t{slot.thread}: {line}" if slot.locked and not self.wrong() else self.on_thread(line)

    def line_cfy(self):
        return self.on_thread(self.fill("cfy", self.mm(), *self.bounds()))

    def line_cy(self):
        return self.on_thread(self.fill("cy", self.mm(), *self.bounds()))

    def line_tlb(self):
        return self.on_thread(self.fill("tlb", self.mm(), *self.bounds()))

    def line_ty(self):
        return self.on_thread(self.fill("ty", self.mm(), self.address()))

    def line_cpte(self):
        return self.on_thread(self.fill("cpte", self.mm(), self.address(), hex(self.random.getrandbits(60))))

    def line_lock(self):
        idle = [t for t in self.runner.threads[:5] if not t.op and (not (t.rl or t.wl) or self.wrong())]
        thread, m = self.pick(idle), self.mm(users=True)
        return thread and m and f"t{thread.number}: lock {self.random.choice('rrrw')} {m}"

    def line_unlock(self):
        owners = [t for t in self.runner.threads if not t.op and (t.rl or t.wl) and (not t.ranges or self.wrong())]
        thread = self.pick(owners)
        return thread and f"t{thread.number}: unlock {(thread.rl or thread.wl).name()}"

    def line_open(self):
        closed = [g for g in range(5) if self.runner.gates[g].closed]
        g = self.pick([g for g in closed if self.runner.gates[g].waiter] or closed)
        return None if g is None else f"open g{g}"

    def line_close(self):
        opsets = [*self.runner.opsets.values(), *self.runner.iopsets.values()]
        used = {g for opset in opsets for g in opset.gate.values()}
        g = self.pick(g for g in sorted(used) if not self.runner.gates[g].closed)
        return None if g is None else f"close g{g}"

    def line_cleanup(self):
        order = list("inhm")
        self.random.shuffle(order)
        return "cleanup " + "".join(order)

    # ----------------------------------------------------------------------------------------------------- a program

    def make_room(self):
        """With much in progress, prefer what lets it go on."""
        return {"open": 5, "end": 4, "unlock": 4} if len(self.runner.pending) > self.patience else {}

    def one_line(self):
        room = self.make_room()
        names = list(self.weights)
        weights = [self.weights[name] * room.get(name, 1) for name in names]
        for name in self.random.choices(names, weights, k=20):
            line = getattr(self, "line_" + name)()
            if line:
                self.add(line)
                return

    def program(self):
        self.lines = [f"# profile {self.profile}"]
        length = self.random.randint(50, 300)
        for _ in range(self.random.randint(3, 6)):
            self.add(self.define() or self.define_intervals() or "ops o7 rel")
        if not self.runner.iopsets:
            self.add("iops p0")
        for m in range(self.random.randint(1, self.traits["mms"])):
            self.new_mm(f"m{m}")
        while len(self.lines) < length:
            self.one_line()
        if self.chance(0.95):
            self.add(self.line_cleanup())
        return self.lines


def program(seed, profile=None):
    """The lines of the program of a seed. Profile: None is any but dv1."""
    return Generator(seed, profile).program()


def racy(lines, schedules=(1, 2)):
    """Does the trace depend on who runs first?"""
    expected = model.trace(lines)
    return any(model.trace(lines, schedule) != expected for schedule in schedules)


def main(args):
    seed, count = int(args[0]), int(args[1]) if len(args) > 1 else 1
    if len(args) < 3:
        print("\n".join(line for s in range(seed, seed + count) for line in program(s)))
        return
    os.makedirs(args[2], exist_ok=True)
    for s in range(seed, seed + count):
        with open(os.path.join(args[2], f"{s}.txt"), "w", encoding="ascii") as out:
            out.write("\n".join(program(s)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
