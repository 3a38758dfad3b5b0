// SPDX-License-Identifier: MIT OR Apache-2.0
//! docs/spec/SPEC.md, section 3 with the visible decisions of section 7, as an executable model.
//!
//! Naive on purpose: plain vectors, one short function per group of rules, the ids of the rules in the comments. It was
//! written from the text of SPEC.md, not from the library's sources, and must stay so: a difference between the two is
//! what it is for.
//!
//! A call that may sleep is an `async fn`. It awaits [`Contract::until`] where it sleeps until something is so; what
//! happens between two sleeps is atomic, which is all that locks (S.lock, the SRCU internals) are here. Whoever polls the
//! calls decides who runs next.
//!
//! Objects are numbers that the user chooses (subscribers, intervals) or that a call returns (mms). Callbacks go to the
//! user's [`Driver`]. After a BUG (DV-3) the call never goes on, and [`Contract::bug`] names the rule.
//!
//! Not modelled: allocation failures, -EINTR (DV-4), the reverse-map lock (DV-2: no program holds it), the misuse of DV-7
//! and DV-9, fork (DV-13).

use std::cell::{RefCell, RefMut};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// A callback, by the name of its member in the ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of the ops structs")]
pub enum Op {
    Release,
    ClearFlushYoung,
    ClearYoung,
    TestYoung,
    ChangePte,
    Start,
    End,
    Tlb,
    Alloc,
    Free,
    Invalidate,
}

/// How many kinds of callbacks there are.
pub const OPS: usize = 11;

/// An ops struct: its address (any number), and the members that are not NULL, a bit for each [`Op`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ops {
    /// Identity of the struct.
    pub id: usize,
    /// `1 << Op`.
    pub members: u16,
}

impl Ops {
    /// Is the member set?
    pub fn has(self, op: Op) -> bool {
        self.members & (1 << op as u16) != 0
    }
}

/// MMU_NOTIFIER_RANGE_BLOCKABLE.
pub const BLOCKABLE: u32 = 1;
/// MMU_NOTIFY_RELEASE.
pub const EVENT_RELEASE: i32 = 5;
/// What an object's memory holds before it is used.
pub const POISON: u64 = 0x5a5a_5a5a_5a5a_5a5a;

const EAGAIN: i64 = 11;
const EINVAL: i64 = 22;
const EOVERFLOW: i64 = 75;

/// struct mmu_notifier_range.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the members of the struct")]
pub struct Range {
    pub mm: usize,
    pub start: u64,
    pub end: u64,
    pub flags: u32,
    pub event: i32,
    pub owner: u64,
}

impl Range {
    /// 1.3: bit 0.
    pub fn blockable(&self) -> bool {
        self.flags & BLOCKABLE != 0
    }

    /// RS-9: in unsigned arithmetic.
    fn last(&self) -> u64 {
        self.end.wrapping_sub(1)
    }
}

/// What a callback is called with, beside its subscriber.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the parameters of the ops")]
pub enum Args {
    Mm { mm: usize },
    Span { mm: usize, start: u64, end: u64 },
    Address { mm: usize, address: u64 },
    Pte { mm: usize, address: u64, pte: u64 },
    Range { range: Range, cur_seq: u64 },
}

/// A callback of the subscriber `subject`: an interval's number for [`Op::Invalidate`], else a list subscriber's.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "see above")]
pub struct Call {
    pub op: Op,
    pub subject: usize,
    pub args: Args,
}

/// Something that may sleep.
pub type Sleepy<T> = Pin<Box<dyn Future<Output = T>>>;

/// The code of drivers.
pub trait Driver {
    /// Runs a callback.
    fn call(&self, call: Call) -> Sleepy<i64>;
    /// alloc_notifier: a subscriber's number or an error.
    fn alloc(&self, ops: Ops, mm: usize) -> Sleepy<Result<usize, i64>>;
    /// free_notifier.
    fn free(&self, subject: usize);
}

/// struct mmu_notifier.
#[derive(Clone, Copy, Debug, Default)]
struct Sub {
    ops: Ops,
    mm: usize,
    users: u32,
    /// HS-11: an unlinked sub keeps the link it had.
    next_when_unlinked: Option<usize>,
}

/// struct mmu_interval_notifier.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields by the names of the rules")]
pub struct Interval {
    pub ops: Option<Ops>,
    pub mm: Option<usize>,
    pub start: u64,
    pub last: u64,
    /// "rb not empty"; `None` while nobody has written it.
    pub in_tree: Option<bool>,
    pub seq: u64,
    /// Was deferred_item ever written?
    pub was_deferred: bool,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            ops: None,
            mm: None,
            start: POISON,
            last: POISON,
            in_tree: None,
            seq: POISON,
            was_deferred: false,
        }
    }
}

/// S: the subscriptions of one mm.
#[derive(Debug)]
struct Subscriptions {
    /// HS-3: newest first.
    list: Vec<usize>,
    has_itree: bool,
    seq: u64,
    active: u64,
    /// By start; equal starts in insertion order (RS-2).
    tree: Vec<usize>,
    /// Head first.
    deferred: Vec<usize>,
}

impl Subscriptions {
    /// ST-1.
    fn new() -> Self {
        Self {
            list: Vec::new(),
            has_itree: false,
            seq: 2,
            active: 0,
            tree: Vec::new(),
            deferred: Vec::new(),
        }
    }

    fn odd(&self) -> bool {
        self.seq & 1 == 1
    }
}

/// ML-5: mmap_lock.
#[derive(Debug, Default)]
struct MmapLock {
    readers: u32,
    writer: bool,
    waiting_writers: u32,
}

/// struct mm_struct.
#[derive(Debug)]
struct Mm {
    users: i64,
    count: i64,
    subs: Option<Subscriptions>,
    lock: MmapLock,
}

/// A put whose free_notifier is still to come, and the sections that it waits for.
#[derive(Debug)]
struct Owed {
    number: u64,
    sub: usize,
    before: Vec<u64>,
}

#[derive(Debug, Default)]
struct State {
    mms: Vec<Mm>,
    subs: Vec<Sub>,
    intervals: Vec<Interval>,
    /// DV-6: open read sections, of one domain for all mms.
    sections: Vec<u64>,
    owed: Vec<Owed>,
    tickets: u64,
    warnings: Vec<&'static str>,
    warned_once: bool,
    bug: Option<&'static str>,
    progress: u64,
}

impl State {
    /// S of an mm that has it.
    fn s(&mut self, mm: usize) -> &mut Subscriptions {
        self.mms[mm].subs.as_mut().expect("S was created")
    }

    fn has_subs(&self, mm: usize) -> bool {
        self.mms[mm].subs.is_some()
    }

    fn has_itree(&self, mm: usize) -> bool {
        self.mms[mm].subs.as_ref().is_some_and(|s| s.has_itree)
    }

    fn list_is_empty(&mut self, mm: usize) -> bool {
        self.s(mm).list.is_empty()
    }

    fn sub(&mut self, id: usize) -> &mut Sub {
        if self.subs.len() <= id {
            self.subs.resize(id + 1, Sub::default());
        }
        &mut self.subs[id]
    }

    fn interval(&mut self, id: usize) -> &mut Interval {
        if self.intervals.len() <= id {
            self.intervals.resize(id + 1, Interval::default());
        }
        &mut self.intervals[id]
    }

    // The list.

    fn successor(&self, mm: usize, sub: usize) -> Option<usize> {
        let list = &self.mms[mm].subs.as_ref()?.list;
        match list.iter().position(|listed| *listed == sub) {
            Some(at) => list.get(at + 1).copied(),
            None => self.subs[sub].next_when_unlinked, // HS-11
        }
    }

    fn unlink(&mut self, mm: usize, sub: usize) {
        if self.s(mm).list.contains(&sub) {
            self.subs[sub].next_when_unlinked = self.successor(mm, sub);
            self.s(mm).list.retain(|listed| *listed != sub);
        }
    }

    // The tree. RS-2, RS-9, II-6: both ends of an interval are inclusive.

    fn tree_insert(&mut self, mm: usize, id: usize) {
        let start = self.interval(id).start;
        let before = |other: &usize| self.intervals[*other].start <= start;
        let tree = &self.mms[mm].subs.as_ref().expect("S").tree;
        let at = tree.iter().filter(|other| before(other)).count();
        self.s(mm).tree.insert(at, id);
        self.interval(id).in_tree = Some(true);
    }

    fn tree_remove(&mut self, mm: usize, id: usize) {
        self.s(mm).tree.retain(|other| *other != id);
    }

    fn intersecting(&mut self, range: &Range) -> Vec<usize> {
        let hit = |id: &usize| {
            let interval = &self.intervals[*id];
            interval.start <= range.last() && range.start <= interval.last
        };
        let tree = &self.mms[range.mm].subs.as_ref().expect("S").tree;
        tree.iter().copied().filter(hit).collect()
    }
}

/// The calls.
pub struct Contract {
    state: RefCell<State>,
    driver: Box<dyn Driver>,
}

impl Contract {
    /// No mm yet. `warned_once`: the process has had its WARN_ON_ONCE of RG-2.
    pub fn new(driver: Box<dyn Driver>, warned_once: bool) -> Rc<Self> {
        let state = RefCell::new(State {
            warned_once,
            ..State::default()
        });
        Rc::new(Self { state, driver })
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Sleep until it is so.
    pub async fn until(&self, is_so: impl Fn(&View<'_>) -> bool) {
        poll_fn(|_| {
            let mut state = self.state();
            if !is_so(&View(&state)) {
                return Poll::Pending;
            }
            state.progress += 1;
            Poll::Ready(())
        })
        .await;
    }

    /// Counts the sleeps that have ended.
    pub fn progress(&self) -> u64 {
        self.state().progress
    }

    fn warn(&self, rule: &'static str) {
        self.state().warnings.push(rule);
    }

    /// The rules of the WARNs since the last call.
    pub fn take_warnings(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().warnings)
    }

    /// DV-3: the library reports and aborts.
    async fn die(&self, rule: &'static str) {
        self.state().bug = Some(rule);
        pending::<()>().await;
    }

    /// The rule of the BUG, if there was one.
    pub fn bug(&self) -> Option<&'static str> {
        self.state().bug
    }

    // ------------------------------------------------------------------------- what a driver can read of its objects

    /// mm_users and mm_count.
    pub fn counts(&self, mm: usize) -> (i64, i64) {
        let state = self.state();
        (state.mms[mm].users, state.mms[mm].count)
    }

    /// sub.users, and is it linked?
    pub fn sub(&self, sub: usize) -> (u32, bool) {
        let mut state = self.state();
        let Sub { users, mm, .. } = *state.sub(sub);
        (users, state.s(mm).list.contains(&sub))
    }

    /// The fields of an interval.
    pub fn interval(&self, id: usize) -> Interval {
        *self.state().interval(id)
    }

    /// mm_has_notifiers.
    pub fn has_notifiers(&self, mm: usize) -> bool {
        self.state().has_subs(mm)
    }

    // ----------------------------------------------------------------------------- grace periods: DV-6, GP-7, SY-1

    fn enter_section(&self) -> u64 {
        let mut state = self.state();
        state.tickets += 1;
        let section = state.tickets;
        state.sections.push(section);
        section
    }

    fn leave_section(&self, section: u64) {
        self.state().sections.retain(|open| *open != section);
        self.free_what_is_due();
    }

    /// DV-6: waits for the sections that are open now, for no later one.
    async fn grace_period(&self) {
        let before = self.state().sections.clone();
        self.until(|state| !state.any_open(&before)).await;
    }

    fn free_what_is_due(&self) {
        loop {
            let mut state = self.state();
            let over = |owed: &Owed| !View(&state).any_open(&owed.before);
            let Some(at) = state.owed.iter().position(over) else {
                return;
            };
            let sub = state.owed.remove(at).sub;
            let mm = state.sub(sub).mm;
            drop(state);
            self.driver.free(sub); // GP-7: first free_notifier, then the reference
            self.drop_count(mm);
        }
    }

    /// mmu_notifier_synchronize. SY-1, DV-5.
    pub async fn synchronize(&self) {
        let owed: Vec<u64> = self.state().owed.iter().map(|owed| owed.number).collect();
        self.grace_period().await;
        self.until(|state| !state.any_owed(&owed)).await;
    }

    // ------------------------------------------------------------------------------------------ walks: HS-3, HS-11

    /// One pass over the list inside a section: calls `op` of each sub that has it, newest first, and tells `answer` what
    /// it said; stops when that says so.
    async fn walk(&self, mm: usize, op: Op, args: Args, mut answer: impl FnMut(Ops, i64) -> bool) {
        let mut at = self.state().s(mm).list.first().copied();
        while let Some(subject) = at {
            let ops = self.state().sub(subject).ops;
            if ops.has(op) {
                let said = self.driver.call(Call { op, subject, args }).await;
                if answer(ops, said) {
                    return;
                }
            }
            at = self.state().successor(mm, subject);
        }
    }

    /// 1.3: the inlines do nothing without S.
    async fn walk_in_section(
        &self,
        mm: usize,
        op: Op,
        args: Args,
        answer: impl FnMut(Ops, i64) -> bool,
    ) {
        if self.has_notifiers(mm) {
            let section = self.enter_section();
            self.walk(mm, op, args, answer).await;
            self.leave_section(section);
        }
    }

    // --------------------------------------------------------------------------- range start: 1.3, RS, HS, DV-1

    /// The blockable inline. HS-9: it drops the result.
    pub async fn range_start_blockable(&self, range: &mut Range) {
        if self.has_notifiers(range.mm) {
            range.flags |= BLOCKABLE;
            self.range_start(*range).await;
        }
    }

    /// The non-blockable inline.
    pub async fn range_start_nonblock(&self, range: &mut Range) -> i64 {
        if !self.has_notifiers(range.mm) {
            return 0;
        }
        range.flags &= !BLOCKABLE;
        self.range_start(*range).await
    }

    async fn range_start(&self, range: Range) -> i64 {
        let counted = self.state().has_itree(range.mm);
        if counted {
            let refused = self.tree_start(range, "RS-5").await;
            if refused != 0 {
                return refused; // HS-1
            }
        }
        if self.state().list_is_empty(range.mm) {
            return 0; // HS-2
        }
        self.list_start(range, counted).await
    }

    async fn tree_start(&self, range: Range, rule_of_refusal: &'static str) -> i64 {
        let (hit, cur_seq) = {
            let mut state = self.state();
            state.s(range.mm).active = state.s(range.mm).active.wrapping_add(1); // RS-1
            let hit = state.intersecting(&range);
            if !hit.is_empty() {
                state.s(range.mm).seq |= 1;
            }
            (hit, state.s(range.mm).seq)
        };
        // RS-2, RS-6, RS-7, RS-8. RS-3: the tree does not change while these callbacks run.
        for subject in hit {
            let args = Args::Range { range, cur_seq };
            let op = Op::Invalidate;
            let agreed = self.driver.call(Call { op, subject, args }).await != 0;
            if !agreed && range.blockable() {
                self.warn(rule_of_refusal); // RS-5
            } else if !agreed {
                self.inv_end(range.mm); // RS-4
                return -EAGAIN;
            }
        }
        0
    }

    async fn list_start(&self, range: Range, counted: bool) -> i64 {
        let section = self.enter_section(); // HS-2: one for both loops
        let args = Args::Range { range, cur_seq: 0 };
        let mut result = 0;
        let starts = self.walk(range.mm, Op::Start, args, |ops, said| {
            if said != 0 {
                result = said; // HS-5, HS-6
                if range.blockable() || said != -EAGAIN {
                    self.warn("HS-5");
                }
                if ops.has(Op::End) {
                    self.warn("HS-5");
                }
            }
            false
        });
        starts.await;
        if result != 0 {
            if counted && !range.blockable() {
                self.inv_end(range.mm); // DV-1
            }
            self.walk(range.mm, Op::End, args, |_, _| false).await; // HS-7
        }
        self.leave_section(section);
        result
    }

    // ------------------------------------------------------------------------------------------------ range end: RE

    /// The inline.
    pub async fn range_end(&self, range: Range) {
        if !self.has_notifiers(range.mm) {
            return;
        }
        // DV-8 does not say when the report comes: here it is the last thing.
        let has_itree = self.state().has_itree(range.mm);
        let unpaired = has_itree && self.state().s(range.mm).active == 0;
        if has_itree && !unpaired {
            self.inv_end(range.mm); // RE-1: readers and removers go first
        }
        if !self.state().list_is_empty(range.mm) {
            let args = Args::Range { range, cur_seq: 0 };
            self.walk_in_section(range.mm, Op::End, args, |_, _| false)
                .await;
        }
        if unpaired {
            self.warn("DV-8"); // RE-5
        }
    }

    fn inv_end(&self, mm: usize) {
        let mut state = self.state();
        state.s(mm).active -= 1;
        if state.s(mm).active != 0 || !state.s(mm).odd() {
            return; // RE-2
        }
        state.s(mm).seq = state.s(mm).seq.wrapping_add(1); // RE-3; who sleeps on it sees it change
        for id in std::mem::take(&mut state.s(mm).deferred) {
            // RE-4: head first, so what was deferred last comes first
            if state.interval(id).in_tree == Some(true) {
                state.tree_remove(mm, id);
            } else {
                state.tree_insert(mm, id);
            }
        }
    }

    // ------------------------------------------------------------------------------------------- young and so on: YG

    /// YG-1.
    pub async fn clear_young(&self, op: Op, mm: usize, start: u64, end: u64) -> i64 {
        let mut result = 0;
        let or = |_, said| {
            result |= said;
            false
        };
        self.walk_in_section(mm, op, Args::Span { mm, start, end }, or)
            .await;
        result
    }

    /// YG-2.
    pub async fn test_young(&self, mm: usize, address: u64) -> i64 {
        let mut result = 0;
        let first = |_, said| {
            result = said;
            said != 0
        };
        let args = Args::Address { mm, address };
        self.walk_in_section(mm, Op::TestYoung, args, first).await;
        result
    }

    /// YG-3.
    pub async fn change_pte(&self, mm: usize, address: u64, pte: u64) {
        let args = Args::Pte { mm, address, pte };
        self.walk_in_section(mm, Op::ChangePte, args, |_, _| false)
            .await;
    }

    /// YG-3.
    pub async fn tlb(&self, mm: usize, start: u64, end: u64) {
        let args = Args::Span { mm, start, end };
        self.walk_in_section(mm, Op::Tlb, args, |_, _| false).await;
    }

    // --------------------------------------------------------------------------------------------- readers: RB, 1.3

    /// mmu_interval_read_begin.
    pub async fn read_begin(&self, id: usize) -> u64 {
        let (mm, seq) = {
            let interval = self.interval(id);
            (interval.mm.expect("RB-1: inserted"), interval.seq)
        };
        if self.state().s(mm).seq == seq {
            self.until(|state| state.seq(mm) != seq).await; // RB-2, RB-3
        }
        seq // RB-4
    }

    /// read_retry and check_retry: 1.3.
    pub fn retry(&self, id: usize, seq: u64) -> bool {
        self.interval(id).seq != seq
    }

    /// mmu_interval_set_seq: 1.3.
    pub fn set_seq(&self, id: usize, cur_seq: u64) {
        self.state().interval(id).seq = cur_seq;
    }

    // --------------------------------------------------------------------------------------------- interval insert: II

    /// `locked`: the caller holds mmap_lock.
    pub async fn insert(
        &self,
        id: usize,
        mm: usize,
        start: u64,
        length: u64,
        ops: Ops,
        locked: bool,
    ) -> i64 {
        if !self.state().has_itree(mm) {
            // II-1, II-3, II-11
            if locked {
                self.register_locked(None, mm).await;
            } else {
                self.register(None, mm).await;
            }
        }
        self.insert_registered(id, mm, start, length, ops)
    }

    fn insert_registered(&self, id: usize, mm: usize, start: u64, length: u64, ops: Ops) -> i64 {
        let mut state = self.state();
        let interval = state.interval(id); // II-4
        interval.mm = Some(mm);
        interval.ops = Some(ops);
        interval.start = start;
        interval.in_tree = Some(false);
        if length == 0 {
            return -EOVERFLOW;
        }
        interval.last = start.wrapping_add(length - 1); // II-6
        if start.checked_add(length - 1).is_none() {
            return -EOVERFLOW;
        }
        if state.mms[mm].users <= 0 {
            drop(state);
            self.warn("II-4");
            return -EINVAL;
        }
        state.mms[mm].count += 1; // II-5
        drop(state);
        self.place(id, mm);
        0 // II-9
    }

    /// II-7.
    fn place(&self, id: usize, mm: usize) {
        let mut state = self.state();
        let Subscriptions { seq, active, .. } = *state.s(mm);
        let odd = state.s(mm).odd();
        if active == 0 {
            state.interval(id).seq = seq.wrapping_sub(1);
            state.tree_insert(mm, id);
            if odd {
                state.warnings.push("II-7");
            }
        } else if !odd {
            state.s(mm).seq |= 1;
            state.interval(id).seq = seq | 1;
            state.tree_insert(mm, id);
        } else {
            state.interval(id).seq = seq;
            state.interval(id).was_deferred = true;
            state.s(mm).deferred.insert(0, id);
        }
    }

    // --------------------------------------------------------------------------------------------- interval remove: IR

    /// mmu_interval_notifier_remove.
    pub async fn remove(&self, id: usize) {
        let interval = self.interval(id);
        let mm = interval.mm.expect("IR-1: inserted");
        let odd = self.state().s(mm).odd();
        if odd && interval.in_tree != Some(true) {
            self.state().s(mm).deferred.retain(|item| *item != id); // IR-2
        } else if odd {
            // IR-3, IR-6
            let seq = {
                let mut state = self.state();
                state.interval(id).was_deferred = true;
                state.s(mm).deferred.insert(0, id);
                state.s(mm).seq
            };
            self.until(|state| state.seq(mm) != seq).await;
        } else {
            self.state().tree_remove(mm, id); // IR-4
        }
        self.mmdrop(mm).await; // IR-7
    }

    // ---------------------------------------------------------------------------------- mmap_lock: ML-5

    /// mmap_read_lock, mmap_write_lock.
    pub async fn lock(&self, mm: usize, write: bool) {
        if write {
            self.state().mms[mm].lock.waiting_writers += 1;
            self.until(|state| state.is_free(mm)).await;
            let lock = &mut self.state().mms[mm].lock;
            lock.waiting_writers -= 1;
            lock.writer = true;
        } else {
            self.until(|state| state.is_open_to_readers(mm)).await;
            self.state().mms[mm].lock.readers += 1;
        }
    }

    /// mmap_read_unlock, mmap_write_unlock.
    pub fn unlock(&self, mm: usize, write: bool) {
        let lock = &mut self.state().mms[mm].lock;
        if write {
            lock.writer = false;
        } else {
            lock.readers -= 1;
        }
    }

    // --------------------------------------------------------------------------------- register, get, put: RG, GP

    /// mmu_notifier_register. RG-8.
    pub async fn register(&self, sub: Option<(usize, Ops)>, mm: usize) -> i64 {
        self.lock(mm, true).await;
        let result = self.register_locked(sub, mm).await;
        self.unlock(mm, true);
        result
    }

    /// __mmu_notifier_register. RG-6: the ops are the caller's to set.
    pub async fn register_locked(&self, sub: Option<(usize, Ops)>, mm: usize) -> i64 {
        if self.state().mms[mm].users <= 0 {
            self.die("RG-1").await;
        }
        let mut state = self.state();
        if let Some((_, ops)) = sub {
            if ops.has(Op::Tlb) && (ops.has(Op::Start) || ops.has(Op::End)) {
                // RG-2
                if !std::mem::replace(&mut state.warned_once, true) {
                    state.warnings.push("RG-2");
                }
                return -EINVAL;
            }
        }
        state.mms[mm].subs.get_or_insert_with(Subscriptions::new); // RG-3
        match sub {
            None => state.s(mm).has_itree = true, // RG-5, ST-3
            Some((sub, ops)) => {
                state.mms[mm].count += 1;
                *state.sub(sub) = Sub {
                    ops,
                    mm,
                    users: 1,
                    next_when_unlinked: None,
                };
                state.s(mm).list.insert(0, sub);
            }
        }
        0
    }

    /// mmu_notifier_get: 1.3.
    pub async fn get(&self, ops: Ops, mm: usize) -> Result<usize, i64> {
        self.lock(mm, true).await;
        let found = self.get_locked(ops, mm).await;
        self.unlock(mm, true);
        found
    }

    /// mmu_notifier_get_locked.
    pub async fn get_locked(&self, ops: Ops, mm: usize) -> Result<usize, i64> {
        if let Some(found) = self.find(ops, mm) {
            return found;
        }
        let sub = self.driver.alloc(ops, mm).await?; // GP-3
        let error = self.register_locked(Some((sub, ops)), mm).await;
        if error != 0 {
            self.driver.free(sub);
            return Err(error);
        }
        Ok(sub) // GP-4
    }

    /// GP-1, GP-2.
    fn find(&self, ops: Ops, mm: usize) -> Option<Result<usize, i64>> {
        let mut state = self.state();
        let list = state.mms[mm].subs.as_ref()?.list.clone();
        let sub = list.into_iter().find(|sub| state.subs[*sub].ops == ops)?;
        let users = &mut state.sub(sub).users;
        if *users == u32::MAX {
            return Some(Err(-EOVERFLOW));
        }
        *users += 1;
        Some(Ok(sub))
    }

    /// What a test does to the public field.
    pub fn set_users(&self, sub: usize, users: u32) {
        self.state().sub(sub).users = users;
    }

    /// mmu_notifier_put. GP-5, GP-6.
    pub fn put(&self, sub: usize) {
        let mut state = self.state();
        let Sub { mm, users, .. } = *state.sub(sub);
        if users == 0 {
            state.warnings.push("GP-5");
            return;
        }
        state.sub(sub).users -= 1;
        if users > 1 {
            return;
        }
        state.unlink(mm, sub);
        state.tickets += 1;
        let owed = Owed {
            number: state.tickets,
            sub,
            before: state.sections.clone(),
        };
        state.owed.push(owed);
        drop(state);
        self.free_what_is_due();
    }

    // ----------------------------------------------------------------------------------------------- unregister: UN

    /// mmu_notifier_unregister.
    pub async fn unregister(&self, sub: usize, mm: usize) {
        if self.state().mms[mm].count <= 0 {
            self.die("UN-1").await;
        }
        let linked = self.state().s(mm).list.contains(&sub);
        if linked {
            // UN-2, else UN-3
            let section = self.enter_section();
            if self.state().sub(sub).ops.has(Op::Release) {
                let (op, subject, args) = (Op::Release, sub, Args::Mm { mm });
                self.driver.call(Call { op, subject, args }).await;
            }
            self.leave_section(section);
            self.state().unlink(mm, sub);
        }
        self.grace_period().await; // UN-4
        self.mmdrop(mm).await;
    }

    // ---------------------------------------------------------------------------------- life of an mm: ML, RL, DS

    /// mm_alloc. ML-1.
    pub fn mm_alloc(&self) -> usize {
        let mut state = self.state();
        state.mms.push(Mm {
            users: 1,
            count: 1,
            subs: None,
            lock: MmapLock::default(),
        });
        state.mms.len() - 1
    }

    /// ML-1.
    pub fn mmget(&self, mm: usize) {
        self.state().mms[mm].users += 1;
    }

    /// ML-1.
    pub fn mmget_not_zero(&self, mm: usize) -> bool {
        let users = &mut self.state().mms[mm].users;
        let some = *users != 0;
        *users += i64::from(some);
        some
    }

    /// ML-1.
    pub fn mmgrab(&self, mm: usize) {
        self.state().mms[mm].count += 1;
    }

    /// ML-2.
    pub async fn mmput(&self, mm: usize) {
        self.state().mms[mm].users -= 1;
        if self.counts(mm).0 == 0 {
            if self.has_notifiers(mm) {
                self.exit_release(mm).await; // RL-7
            }
            self.mmdrop(mm).await;
        }
    }

    /// ML-3.
    pub async fn mmdrop(&self, mm: usize) {
        self.drop_count(mm);
        if self.bug().is_some() {
            pending::<()>().await;
        }
    }

    fn drop_count(&self, mm: usize) {
        let mut state = self.state();
        state.mms[mm].count -= 1;
        if state.mms[mm].count == 0 && state.has_subs(mm) && !state.list_is_empty(mm) {
            state.bug = Some("DS-1");
        }
    }

    async fn exit_release(&self, mm: usize) {
        let has_itree = self.state().has_itree(mm);
        if has_itree {
            // RL-1
            let everything = Range {
                mm,
                start: 0,
                end: u64::MAX,
                flags: BLOCKABLE,
                event: EVENT_RELEASE,
                owner: 0,
            };
            self.tree_start(everything, "RL-1").await;
            self.inv_end(mm);
        }
        if self.state().list_is_empty(mm) {
            return; // RL-3
        }
        // RL-2
        let section = self.enter_section();
        self.walk(mm, Op::Release, Args::Mm { mm }, |_, _| false)
            .await;
        {
            // From the head: conformance/programs/srcu-passed needs the links that this order leaves.
            let mut state = self.state();
            while let Some(first) = state.s(mm).list.first().copied() {
                state.unlink(mm, first);
            }
        }
        self.leave_section(section);
        self.grace_period().await;
    }
}

/// What a sleeper may look at.
pub struct View<'a>(&'a State);

impl View<'_> {
    fn any_open(&self, sections: &[u64]) -> bool {
        sections
            .iter()
            .any(|section| self.0.sections.contains(section))
    }

    fn any_owed(&self, numbers: &[u64]) -> bool {
        self.0
            .owed
            .iter()
            .any(|owed| numbers.contains(&owed.number))
    }

    fn seq(&self, mm: usize) -> u64 {
        self.0.mms[mm].subs.as_ref().map_or(0, |s| s.seq)
    }

    fn is_free(&self, mm: usize) -> bool {
        let lock = &self.0.mms[mm].lock;
        !lock.writer && lock.readers == 0
    }

    fn is_open_to_readers(&self, mm: usize) -> bool {
        let lock = &self.0.mms[mm].lock;
        !lock.writer && lock.waiting_writers == 0
    }
}
