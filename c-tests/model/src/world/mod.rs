// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the runner of a program knows of it: the guards ("SKIP why"), the bookkeeping, the format of the trace.
//!
//! The same for the model and for the library, and without any semantics of the contract. It mirrors
//! ../conformance/mnrun.c; `prep` and `fin` are what they are there: prep refuses an operation or books it, fin books its
//! result when no thread can run any more. In between the operation's thread makes the call ([`crate::model`],
//! [`crate::library`]), whose callbacks come in through [`World::enter`].
//!
//! Lines that begin with `  + ` are additions to mnrun's trace ([`crate::runner`]).

mod callbacks;
mod fin;
mod prep;

use std::sync::Arc;

use crate::contract::Range;
use crate::language::{Act, GATES, Line, MMS, OpSet, RANGES, SETS, SLOTS, THREADS, TOKENS};

/// Where an object is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnrun's names")]
pub enum Life {
    New,
    Live,
    Busy,
    Put,
    Dead,
}

/// m0, m1, ...
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "see mnrun.c, struct mmo")]
pub struct MmSlot {
    /// What the model or the library calls it.
    pub handle: usize,
    /// When it was made: handles are used again.
    pub born: usize,
    pub live: bool,
    pub users: u32,
    pub count: u32,
    pub registered: u32,
    pub active: u32,
    pub unlocked: u32,
    pub itree_on: bool,
    pub pending: u32,
    pub lockwait: u32,
    pub rlocked: u32,
    pub wlocked: u32,
    pub shown: Option<(i64, i64)>,
}

/// A struct mmu_notifier of the program's: `n3` registered it, or `a2` came from alloc_notifier.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see mnrun.c, struct nobj")]
pub struct ListObject {
    pub name: String,
    pub set: usize,
    pub m: usize,
    pub state: Life,
    pub users: u32,
    pub put_at: usize,
    pub freed: bool,
    pub reported: bool,
    pub shown: Option<(u32, bool)>,
}

/// A struct mmu_interval_notifier.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see mnrun.c, struct iobj")]
pub struct IntervalObject {
    pub slot: usize,
    pub set: usize,
    pub state: Life,
    pub m: Option<usize>,
    pub readers: u32,
    pub shown_seq: Option<u64>,
    pub shown_in_tree: Option<bool>,
}

/// r0, r1, ...
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "see mnrun.c, struct rng")]
pub struct RangeSlot {
    pub used: bool,
    pub mm_born: usize,
    pub active: bool,
    pub busy: bool,
    pub locked: bool,
    pub m: usize,
    pub thread: Option<usize>,
    pub range: Range,
}

/// k0, k1, ...
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "see mnrun.c, struct tok")]
pub struct Token {
    pub valid: bool,
    pub busy: bool,
    pub io: usize,
    pub seq: u64,
}

/// g0, g1, ...
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "see mnrun.c, struct gate")]
pub struct Gate {
    pub closed: bool,
    pub waiter: bool,
}

/// t0, t1, ...: what it does and what it holds.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "see mnrun.c, struct worker")]
pub struct Named {
    pub busy: bool,
    pub rl: Option<usize>,
    pub wl: Option<usize>,
    pub ranges: u32,
}

/// The fields of an interval after an insert (II-4, DV-10).
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct Fields {
    pub mm: Option<usize>,
    pub set: Option<usize>,
    pub start: u64,
    pub last: u64,
    pub empty: bool,
    pub seq: u64,
    pub item_untouched: bool,
}

/// What a call came back with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// A result or an error.
    pub ret: i64,
    /// A second result.
    pub value: u64,
    /// The object that get returned.
    pub object: Option<usize>,
    /// Of an insert.
    pub fields: Option<Fields>,
}

/// An operation in progress, or over.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see mnrun.c, struct op")]
pub struct Operation {
    pub line: Arc<Line>,
    pub m: Option<usize>,
    pub set: usize,
    pub object: usize,
    pub slot: usize,
    pub write: bool,
    pub has_lock: bool,
    pub lockwait: bool,
    pub numbers: [u64; 2],
    pub outcome: Option<Outcome>,
    pub blocked: bool,
    pub out: String,
}

/// What a callback has to do after it was announced.
#[derive(Clone, Copy, Debug)]
pub struct Entered {
    /// What it returns.
    pub ret: i64,
    /// The gate that it waits at, if that is closed.
    pub gate: Option<usize>,
    /// What it does then.
    pub act: Option<Act>,
    /// May invalidate call set_seq?
    pub sets_seq: bool,
}

/// See the module.
#[derive(Debug)]
#[expect(missing_docs, reason = "mnrun's slots")]
pub struct World {
    pub mms: Vec<MmSlot>,
    pub sets: Vec<Option<OpSet>>,
    pub isets: Vec<Option<OpSet>>,
    pub n: Vec<Option<usize>>,
    pub h: Vec<Option<usize>>,
    pub h_busy: Vec<bool>,
    pub i: Vec<Option<usize>>,
    pub ranges: Vec<RangeSlot>,
    pub tokens: Vec<Token>,
    pub gates: Vec<Gate>,
    pub threads: Vec<Named>,
    /// Every list subscriber there ever was.
    pub lists: Vec<ListObject>,
    /// Every interval there ever was.
    pub intervals: Vec<IntervalObject>,
    pub allocated: usize,
    /// Every operation there ever was; `[n]` of the trace is `operations[n - 1]`.
    pub operations: Vec<Operation>,
    /// Those in progress.
    pub pending: Vec<usize>,
    pub skipped: u32,
    pub blocked: u32,
    pub callbacks: u32,
    /// What no operation is to blame for.
    pub stray: String,
    /// Rules of WARNs since the last line.
    pub warnings: Vec<String>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            mms: vec![MmSlot::default(); MMS],
            sets: vec![None; SETS],
            isets: vec![None; SETS],
            n: vec![None; SLOTS],
            h: vec![None; SLOTS],
            h_busy: vec![false; SLOTS],
            i: vec![None; SLOTS],
            ranges: vec![RangeSlot::default(); RANGES],
            tokens: vec![Token::default(); TOKENS],
            gates: vec![Gate::default(); GATES],
            threads: vec![Named::default(); THREADS],
            lists: Vec::new(),
            intervals: Vec::new(),
            allocated: 0,
            operations: Vec::new(),
            pending: Vec::new(),
            skipped: 0,
            blocked: 0,
            callbacks: 0,
            stray: String::new(),
            warnings: Vec::new(),
        }
    }
}

/// `%#lx`
struct Hex(u64);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 {
            f.write_str("0")
        } else {
            write!(f, "{:#x}", self.0)
        }
    }
}

/// Why an operation is refused.
type Why = Result<(), &'static str>;

impl World {
    fn new_list(&mut self, name: String, set: usize, m: usize, state: Life) -> usize {
        self.lists.push(ListObject {
            name,
            set,
            m,
            state,
            users: 0,
            put_at: 0,
            freed: false,
            reported: false,
            shown: None,
        });
        self.lists.len() - 1
    }

    fn new_interval(&mut self, slot: usize, set: usize) -> usize {
        self.intervals.push(IntervalObject {
            slot,
            set,
            state: Life::Busy,
            m: None,
            readers: 0,
            shown_seq: None,
            shown_in_tree: None,
        });
        self.i[slot] = Some(self.intervals.len() - 1);
        self.intervals.len() - 1
    }

    /// The object in slot n, unless a callback has put it.
    pub fn n_of(&mut self, slot: usize) -> Option<usize> {
        let object = self.n[slot]?;
        if matches!(self.lists[object].state, Life::Put | Life::Dead) {
            self.n[slot] = None;
        }
        self.n[slot]
    }

    fn book_put(&mut self, object: usize, at: usize) {
        let n = &mut self.lists[object];
        n.users = n.users.saturating_sub(1);
        n.put_at = at;
        if n.users == 0 {
            n.state = Life::Put;
            self.mms[n.m].registered -= 1;
        }
    }

    fn book_insert(&mut self, object: usize, m: usize, ret: i64) {
        let io = &mut self.intervals[object];
        if ret == 0 {
            io.state = Life::Live;
            io.m = Some(m);
            io.shown_seq = None;
            self.mms[m].registered += 1;
        } else {
            io.state = Life::Dead;
            let slot = io.slot;
            if self.i[slot] == Some(object) {
                self.i[slot] = None;
            }
        }
    }

    fn mm_maybe_dead(&mut self, m: usize) {
        let slot = &mut self.mms[m];
        if slot.users == 0 && slot.count == 0 && slot.registered == 0 && slot.pending == 0 {
            slot.live = false;
        }
    }

    fn range_gone(&mut self, r: usize) {
        let RangeSlot {
            m, thread, locked, ..
        } = self.ranges[r];
        self.ranges[r].active = false;
        self.ranges[r].busy = false;
        self.mms[m].active -= 1;
        match thread {
            Some(thread) if locked => self.threads[thread].ranges -= 1,
            _ => self.mms[m].unlocked -= 1,
        }
    }
}
