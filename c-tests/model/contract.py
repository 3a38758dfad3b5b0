# SPDX-License-Identifier: MIT OR Apache-2.0
"""docs/spec/SPEC.md, section 3 with the decisions of section 7, as an executable model.

It is naive on purpose: plain lists, one short function per group of rules, the ids of the rules in the comments. It
was written from the text of SPEC.md, not from src/, and must stay so: a difference between the two is what it is for.

Threads. A call that may sleep is a generator. It yields STEP where another thread may run in between, and a predicate
where it sleeps until the predicate holds; whoever drives the generators decides who runs next. What happens between two
yields is atomic, which is all that locks (S.lock, the SRCU internals) are here.

Subscribers. `ops` is a dict from the member's name to a function; a missing key is a NULL member. All of them are
generators too, except free_notifier. The identity of the dict is the ops pointer.

Not modelled: allocation failures, -EINTR (DV-4), wrapping of S.seq (ST-7), the reverse-map lock (DV-2: no program of
mnrun's holds it), the misuse that DV-7 and DV-9 catch. What DV-3 calls a BUG raises Bug.
"""

EAGAIN, EINVAL, EOVERFLOW = 11, 22, 75
ULONG_MAX = 2**64 - 1
UINT_MAX = 2**32 - 1
BLOCKABLE = 1  # MMU_NOTIFIER_RANGE_BLOCKABLE
EVENT_RELEASE = 5  # MMU_NOTIFY_RELEASE

STEP = None  # yielded: others may run here


class Bug(Exception):
    """DV-3: the library reports and aborts."""


class Range:
    """struct mmu_notifier_range, as mmu_notifier_range_init_owner leaves it."""

    def __init__(self, mm, start, end, flags, event, owner):
        self.mm, self.start, self.end = mm, start, end
        self.flags, self.event, self.owner = flags, event, owner

    @property
    def blockable(self):
        return bool(self.flags & BLOCKABLE)

    @property
    def last(self):
        return (self.end - 1) & ULONG_MAX  # RS-9: in unsigned arithmetic


class ListSub:
    """struct mmu_notifier. `outer` is for the user: what container_of would find."""

    def __init__(self, ops=None, outer=None):
        self.ops, self.outer = ops, outer
        self.mm = None
        self.users = 0
        self.next_when_unlinked = None  # HS-11


class IntervalSub:
    """struct mmu_interval_notifier. `in_tree` is what the rules call "rb not empty"."""

    def __init__(self, outer=None):
        self.outer = outer
        self.ops = self.mm = None
        self.start = self.last = None
        self.in_tree = False
        self.seq = None


class Subscriptions:
    """S, the subscriptions object of one mm."""

    def __init__(self):  # ST-1
        self.list = []  # newest first
        self.has_itree = False
        self.seq = 2
        self.active = 0
        self.tree = []  # by start; equal starts in insertion order
        self.deferred = []  # head first

    @property
    def odd(self):
        return bool(self.seq & 1)

    # The list. HS-3: insertion at the head. HS-11: an unlinked sub keeps the link it had.

    def link(self, sub):
        self.list.insert(0, sub)

    def linked(self, sub):
        return sub in self.list

    def unlink(self, sub):
        if self.linked(sub):
            sub.next_when_unlinked = self.successor(sub)
            self.list.remove(sub)

    def first(self):
        return self.list[0] if self.list else None

    def successor(self, sub):
        if not self.linked(sub):
            return sub.next_when_unlinked
        behind = self.list[self.list.index(sub) + 1 :]
        return behind[0] if behind else None

    # The tree. RS-2, RS-9, II-6: both ends are inclusive.

    def tree_insert(self, isub):
        at = len([other for other in self.tree if other.start <= isub.start])
        self.tree.insert(at, isub)
        isub.in_tree = True

    def tree_remove(self, isub):
        self.tree.remove(isub)
        isub.in_tree = False

    def intersecting(self, rng):
        return [isub for isub in self.tree if isub.start <= rng.last and rng.start <= isub.last]


class MmapLock:
    """ML-5."""

    def __init__(self):
        self.readers = self.waiting_writers = 0
        self.writer = False

    def read_lock(self):
        yield lambda: not self.writer and not self.waiting_writers
        self.readers += 1

    def write_lock(self):
        self.waiting_writers += 1
        yield lambda: not self.writer and not self.readers
        self.waiting_writers -= 1
        self.writer = True

    def read_unlock(self):
        self.readers -= 1

    def write_unlock(self):
        self.writer = False


class Mm:
    """struct mm_struct."""

    def __init__(self):  # ML-1
        self.users = self.count = 1
        self.subs = None
        self.mmap_lock = MmapLock()
        self.freed = False


class Section:
    """One SRCU-read section: somebody's walk, or unregister's own call of release."""


class Contract:
    """The calls. `warn(rule)` is told of every WARN (DV-3)."""

    def __init__(self, warn=lambda rule: None):
        self.warn = warn
        self.warned_once = set()
        self.sections = []  # DV-6: one domain for all mms
        self.owed = []  # (sub, sections its free_notifier waits for)

    def warn_once(self, rule):
        if rule not in self.warned_once:
            self.warned_once.add(rule)
            self.warn(rule)

    # ------------------------------------------------------------------------------ grace periods: DV-6, GP-7, SY-1

    def enter_section(self):
        section = Section()
        self.sections.append(section)
        return section

    def leave_section(self, section):
        self.sections.remove(section)
        self.free_what_is_due()

    def any_open(self, sections):
        return any(section in self.sections for section in sections)

    def grace_period(self):
        """DV-6: wait for the sections open now, for no later one."""
        before = list(self.sections)
        yield lambda: not self.any_open(before)

    def free_later(self, sub):  # GP-5
        self.owed.append((sub, list(self.sections)))
        self.free_what_is_due()

    def free_what_is_due(self):  # GP-7: first free_notifier, then the reference
        for item in list(self.owed):
            sub, before = item
            if not self.any_open(before):
                self.owed.remove(item)
                mm = sub.mm
                sub.ops["free_notifier"](sub)
                self.mmdrop(mm)

    def synchronize(self):  # SY-1, DV-5
        owed = list(self.owed)
        yield from self.grace_period()
        yield lambda: not any(item in self.owed for item in owed)

    # -------------------------------------------------------------------------------------------- walks: HS-3, HS-11

    def walk(self, subs, visit):
        """Call visit(sub) for each sub, newest first, until one says stop. The caller holds a section."""
        sub = subs.first()
        while sub is not None:
            stop = yield from visit(sub)
            if stop:
                return
            yield STEP
            sub = subs.successor(sub)

    def calling(self, member, *args):
        """A visit that calls one op of every sub that has it."""

        def visit(sub):
            if member in sub.ops:
                yield from sub.ops[member](sub, *args)

        return visit

    def walk_in_section(self, mm, visit):
        if mm.subs is not None:  # 1.3: the inlines do nothing without S
            section = self.enter_section()
            yield from self.walk(mm.subs, visit)
            self.leave_section(section)

    # ----------------------------------------------------------------------------- range start: 1.3, RS, HS, DV-1

    def invalidate_range_start(self, rng):
        """The blockable inline."""
        if rng.mm.subs is not None:
            rng.flags |= BLOCKABLE
            yield from self.range_start(rng)  # HS-9: the result is dropped

    def invalidate_range_start_nonblock(self, rng):
        if rng.mm.subs is None:
            return 0
        rng.flags &= ~BLOCKABLE
        return (yield from self.range_start(rng))

    def range_start(self, rng):
        subs = rng.mm.subs
        counted = subs.has_itree
        if counted:
            refused = yield from self.tree_start(subs, rng)
            if refused:  # HS-1
                return refused
        if subs.list:  # HS-2
            return (yield from self.list_start(subs, rng, counted))
        return 0

    def tree_start(self, subs, rng, refused_rule="RS-5"):
        subs.active += 1  # RS-1
        hit = subs.intersecting(rng)  # RS-3: the tree cannot change while the callbacks of this start run
        if hit:
            subs.seq |= 1
        cur_seq = subs.seq
        yield STEP
        for isub in hit:  # RS-2, RS-6, RS-7, RS-8
            agreed = yield from isub.ops["invalidate"](isub, rng, cur_seq)
            if not agreed and rng.blockable:  # RS-5
                self.warn(refused_rule)
            elif not agreed:  # RS-4
                self.inv_end(subs)
                yield STEP
                return -EAGAIN
        return 0

    def list_start(self, subs, rng, counted):
        section = self.enter_section()  # HS-2: one for both loops
        result = yield from self.ask_all(subs, rng)
        if result:
            if counted and not rng.blockable:  # DV-1
                self.inv_end(subs)
                yield STEP
            yield from self.walk(subs, self.calling("invalidate_range_end", rng))  # HS-7
        self.leave_section(section)
        return result

    def ask_all(self, subs, rng):
        """Every sub's start; the last error in call order."""
        result = 0

        def visit(sub):
            nonlocal result
            if "invalidate_range_start" not in sub.ops:
                return
            answer = yield from sub.ops["invalidate_range_start"](sub, rng)
            if answer:  # HS-5, HS-6
                result = answer
                if rng.blockable or answer != -EAGAIN:
                    self.warn("HS-5")
                if "invalidate_range_end" in sub.ops:
                    self.warn("HS-5")

        yield from self.walk(subs, visit)
        return result

    # -------------------------------------------------------------------------------------------------- range end: RE

    def invalidate_range_end(self, rng):
        subs = rng.mm.subs
        if subs is None:
            return
        if subs.has_itree:  # RE-1: readers and removers go first
            self.inv_end(subs)
            yield STEP
        if subs.list:
            section = self.enter_section()
            yield from self.walk(subs, self.calling("invalidate_range_end", rng))
            self.leave_section(section)

    def inv_end(self, subs):
        if subs.active == 0:  # RE-5, DV-8
            self.warn("DV-8")
            return
        subs.active -= 1
        if subs.active or not subs.odd:  # RE-2
            return
        subs.seq += 1  # RE-3; whoever sleeps on seq sees it change
        for isub in subs.deferred:  # RE-4: head first, so the last deferred comes first
            if isub.in_tree:
                subs.tree_remove(isub)
            else:
                subs.tree_insert(isub)
        subs.deferred = []

    # -------------------------------------------------------------------------------------------- young and so on: YG

    def clear_flush_young(self, mm, start, end):
        return (yield from self.young_of_all(mm, "clear_flush_young", start, end))

    def clear_young(self, mm, start, end):
        return (yield from self.young_of_all(mm, "clear_young", start, end))

    def young_of_all(self, mm, member, start, end):  # YG-1
        result = 0

        def visit(sub):
            nonlocal result
            if member in sub.ops:
                result |= yield from sub.ops[member](sub, mm, start, end)

        yield from self.walk_in_section(mm, visit)
        return result

    def test_young(self, mm, address):  # YG-2
        result = 0

        def visit(sub):
            nonlocal result
            if "test_young" in sub.ops:
                result = yield from sub.ops["test_young"](sub, mm, address)
            return result != 0

        yield from self.walk_in_section(mm, visit)
        return result

    def change_pte(self, mm, address, pte):  # YG-3
        yield from self.walk_in_section(mm, self.calling("change_pte", mm, address, pte))

    def arch_invalidate_secondary_tlbs(self, mm, start, end):  # YG-3
        yield from self.walk_in_section(mm, self.calling("arch_invalidate_secondary_tlbs", mm, start, end))

    # -------------------------------------------------------------------------------------------- readers: RB, 1.3

    def read_begin(self, isub):
        subs = isub.mm.subs
        seq = isub.seq  # RB-2
        if seq == subs.seq:
            yield lambda: subs.seq != seq  # RB-3
        return seq  # RB-4

    def read_retry(self, isub, seq):  # and check_retry
        return isub.seq != seq

    def set_seq(self, isub, cur_seq):
        isub.seq = cur_seq

    # ------------------------------------------------------------------------------------------- interval insert: II

    def insert(self, isub, mm, start, length, ops):
        if mm.subs is None or not mm.subs.has_itree:  # II-1, II-11
            yield from self.register(None, mm)
        return self.insert_registered(isub, mm, start, length, ops)

    def insert_locked(self, isub, mm, start, length, ops):  # II-1
        if mm.subs is None or not mm.subs.has_itree:
            yield from self.register_locked(None, mm)
        return self.insert_registered(isub, mm, start, length, ops)

    def insert_registered(self, isub, mm, start, length, ops):
        isub.mm, isub.ops, isub.start = mm, ops, start  # II-4
        isub.in_tree = False
        if length == 0:
            return -EOVERFLOW
        isub.last = (start + length - 1) & ULONG_MAX  # II-6
        if isub.last != start + length - 1:
            return -EOVERFLOW
        if mm.users <= 0:
            self.warn("II-4")
            return -EINVAL
        mm.count += 1  # II-5
        self.place(isub, mm.subs)
        return 0  # II-9

    def place(self, isub, subs):  # II-7
        if subs.active == 0:
            if subs.odd:
                self.warn("II-7")
            isub.seq = subs.seq - 1
            subs.tree_insert(isub)
        elif not subs.odd:
            subs.seq |= 1
            subs.tree_insert(isub)
            isub.seq = subs.seq
        else:
            subs.deferred.insert(0, isub)
            isub.seq = subs.seq

    # ------------------------------------------------------------------------------------------- interval remove: IR

    def remove(self, isub):
        subs = isub.mm.subs
        if subs.odd and not isub.in_tree:  # IR-2
            subs.deferred.remove(isub)
        elif subs.odd:  # IR-3, IR-6
            subs.deferred.insert(0, isub)
            seq = subs.seq
            yield lambda: subs.seq != seq
        else:  # IR-4
            subs.tree_remove(isub)
        yield STEP
        self.mmdrop(isub.mm)  # IR-7

    # -------------------------------------------------------------------------------- register, get, put: RG, GP

    def register(self, sub, mm):  # RG-8
        yield from mm.mmap_lock.write_lock()
        result = yield from self.register_locked(sub, mm)
        mm.mmap_lock.write_unlock()
        return result

    def register_locked(self, sub, mm):
        if mm.users <= 0:  # RG-1
            raise Bug("RG-1")
        if sub is not None and self.contradictory(sub.ops):  # RG-2
            self.warn_once("RG-2")
            return -EINVAL
        yield STEP
        if mm.subs is None:  # RG-3
            mm.subs = Subscriptions()
        if sub is None:  # RG-5, ST-3
            mm.subs.has_itree = True
        else:
            mm.count += 1
            sub.mm = mm
            sub.users = 1
            mm.subs.link(sub)
        return 0

    def contradictory(self, ops):  # RG-2
        starts_or_ends = "invalidate_range_start" in ops or "invalidate_range_end" in ops
        return "arch_invalidate_secondary_tlbs" in ops and starts_or_ends

    def get(self, ops, mm):  # 1.3
        yield from mm.mmap_lock.write_lock()
        found = yield from self.get_locked(ops, mm)
        mm.mmap_lock.write_unlock()
        return found

    def get_locked(self, ops, mm):
        """The sub, or a negative error."""
        for sub in mm.subs.list if mm.subs is not None else []:
            if sub.ops is ops:  # GP-1, GP-2
                if sub.users == UINT_MAX:
                    return -EOVERFLOW
                sub.users += 1
                return sub
        sub = yield from ops["alloc_notifier"](mm)  # GP-3
        if isinstance(sub, int):
            return sub
        sub.ops = ops
        error = yield from self.register_locked(sub, mm)
        if error:
            ops["free_notifier"](sub)
            return error
        return sub  # GP-4

    def put(self, sub):  # GP-5, GP-6
        if sub.users == 0:
            self.warn("GP-5")
            return
        sub.users -= 1
        if sub.users == 0:
            sub.mm.subs.unlink(sub)
            self.free_later(sub)

    # ---------------------------------------------------------------------------------------------- unregister: UN

    def unregister(self, sub, mm):
        if mm.count <= 0:  # UN-1
            raise Bug("UN-1")
        if mm.subs.linked(sub):  # UN-2, else UN-3
            section = self.enter_section()
            if "release" in sub.ops:
                yield from sub.ops["release"](sub, mm)
            self.leave_section(section)
            yield STEP
            mm.subs.unlink(sub)
        yield STEP
        yield from self.grace_period()  # UN-4
        self.mmdrop(mm)

    # ------------------------------------------------------------------------------------- life of an mm: ML, RL, DS

    def mmget(self, mm):
        mm.users += 1

    def mmget_not_zero(self, mm):
        if mm.users == 0:
            return False
        mm.users += 1
        return True

    def mmgrab(self, mm):
        mm.count += 1

    def mmput(self, mm):  # ML-2
        mm.users -= 1
        if mm.users == 0:
            if mm.subs is not None:
                yield from self.exit_release(mm)
            self.mmdrop(mm)

    def mmdrop(self, mm):  # ML-3, DS-1
        mm.count -= 1
        if mm.count == 0:
            if mm.subs is not None and mm.subs.list:
                raise Bug("DS-1")
            mm.freed = True

    def exit_release(self, mm):
        subs = mm.subs
        if subs.has_itree:  # RL-1
            everything = Range(mm, 0, ULONG_MAX, BLOCKABLE, EVENT_RELEASE, 0)
            yield from self.tree_start(subs, everything, refused_rule="RL-1")
            self.inv_end(subs)
            yield STEP
        if subs.list:  # RL-2, RL-3
            section = self.enter_section()
            yield from self.walk(subs, self.calling("release", mm))
            while subs.list:  # from the head: programs/srcu-passed needs the links that this order leaves
                subs.unlink(subs.first())
            self.leave_section(section)
            yield from self.grace_period()
