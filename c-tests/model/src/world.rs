// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the runner of a program knows of it: the guards ("SKIP why"), the bookkeeping, the format of the trace.
//!
//! The same for the model and for the library, and without any semantics of the contract. It mirrors
//! ../conformance/mnrun.c; `prep` and `fin` are what they are there: prep refuses an operation or books it, fin books its
//! result when no thread can run any more. In between the operation's thread makes the call ([`crate::model`],
//! [`crate::library`]), whose callbacks come in through [`World::enter`].
//!
//! Lines that begin with `  + ` are additions to mnrun's trace ([`crate::runner`]).

use std::fmt::Write as _;
use std::sync::Arc;

use crate::contract::{Args, Call, Op, Range};
use crate::language::{
    Act, Bad, GATES, Line, MMS, OpSet, RANGES, SETS, SLOTS, THREADS, TOKENS, Verb, index, number,
};

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

macro_rules! refuse {
    ($why:literal if $condition:expr) => {
        if $condition {
            return Err($why);
        }
    };
}

// ------------------------------------------------------------------------------------------------------- callbacks

impl World {
    /// A line into the output of the operation on whose thread it happened.
    pub fn emit(&mut self, at: Option<usize>, line: std::fmt::Arguments<'_>) {
        let out = match at {
            Some(at) => &mut self.operations[at].out,
            None => &mut self.stray,
        };
        writeln!(out, "{line}").expect("memory");
    }

    fn mm_name(&self, handle: usize) -> String {
        let of = |slot: &&MmSlot| slot.handle == handle;
        let mut slots = self.mms.iter().enumerate().filter(|(_, slot)| of(slot));
        let live = self
            .mms
            .iter()
            .rposition(|slot| slot.live && slot.handle == handle);
        match live.or_else(|| slots.next().map(|(m, _)| m)) {
            Some(m) => format!("m{m}"),
            None => "m?".to_owned(),
        }
    }

    fn range_text(&self, range: &Range) -> String {
        let mm = self.mm_name(range.mm);
        let Range {
            start,
            end,
            flags,
            event,
            owner,
            ..
        } = *range;
        let (start, end, owner, flags) = (Hex(start), Hex(end), Hex(owner), Hex(flags.into()));
        format!("{mm} [{start},{end}) ev={event} fl={flags} ow={owner}")
    }

    /// A callback begins, on the thread of an operation.
    pub fn enter(&mut self, at: Option<usize>, call: &Call) -> Entered {
        self.callbacks += 1;
        if call.op == Op::Invalidate {
            return self.enter_interval(at, call);
        }
        let Some(n) = self.lists.get(call.subject).cloned() else {
            self.emit(at, format_args!("  !!! callback of an unknown subscriber"));
            return Entered {
                ret: 0,
                gate: None,
                act: None,
                sets_seq: false,
            };
        };
        if n.state == Life::Dead {
            self.emit(at, format_args!("  !!! callback on dead {}", n.name));
        }
        let (ret, blockable) = self.list_answer(n.set, call);
        let text = self.list_text(&n.name, call, ret);
        self.emit(at, format_args!("{text}"));
        let set = self.sets[n.set].as_ref().expect("defined");
        Entered {
            ret,
            gate: set.gate[call.op as usize].filter(|_| blockable),
            act: set.act[call.op as usize],
            sets_seq: false,
        }
    }

    /// What the callback returns, and may it sleep?
    fn list_answer(&mut self, set: usize, call: &Call) -> (i64, bool) {
        let set = self.sets[set].as_mut().expect("defined");
        let blockable = match &call.args {
            Args::Range { range, .. } => range.blockable(),
            _ => true,
        };
        let ret = match call.op {
            Op::Start if blockable => set.blockable_returns.next(0),
            Op::Start | Op::ClearFlushYoung | Op::ClearYoung | Op::TestYoung => {
                set.returns[call.op as usize].next(0)
            }
            _ => 0,
        };
        (i64::from(i32::try_from(ret).unwrap_or(0)), blockable)
    }

    fn list_text(&self, name: &str, call: &Call, ret: i64) -> String {
        let what = match call.op {
            Op::Release => "release",
            Op::ClearFlushYoung => "clear_flush_young",
            Op::ClearYoung => "clear_young",
            Op::TestYoung => "test_young",
            Op::ChangePte => "change_pte",
            Op::Start => "start",
            Op::End => "end",
            _ => "tlb",
        };
        let args = match &call.args {
            Args::Mm { mm } => self.mm_name(*mm),
            Args::Span { mm, start, end } => {
                format!("{} [{},{})", self.mm_name(*mm), Hex(*start), Hex(*end))
            }
            Args::Address { mm, address } => format!("{} {}", self.mm_name(*mm), Hex(*address)),
            Args::Pte { mm, address, pte } => {
                format!("{} {} pte={}", self.mm_name(*mm), Hex(*address), Hex(*pte))
            }
            Args::Range { range, .. } => self.range_text(range),
        };
        let answers = matches!(
            call.op,
            Op::Start | Op::ClearFlushYoung | Op::ClearYoung | Op::TestYoung
        );
        match answers {
            true => format!("  cb {name}.{what} {args} -> {ret}"),
            false => format!("  cb {name}.{what} {args}"),
        }
    }

    fn enter_interval(&mut self, at: Option<usize>, call: &Call) -> Entered {
        let (Some(io), Args::Range { range, cur_seq }) =
            (self.intervals.get(call.subject).cloned(), call.args)
        else {
            self.emit(at, format_args!("  !!! callback of an unknown interval"));
            return Entered {
                ret: 1,
                gate: None,
                act: None,
                sets_seq: false,
            };
        };
        if io.state == Life::Dead {
            self.emit(at, format_args!("  !!! callback on removed i{}", io.slot));
        }
        let blockable = range.blockable();
        let set = self.isets[io.set].as_mut().expect("defined");
        let returns = match blockable {
            true => &mut set.blockable_returns,
            false => &mut set.returns[Op::Invalidate as usize],
        };
        let ret = i64::from(returns.next(1) != 0);
        let entered = Entered {
            ret,
            gate: set.gate[Op::Invalidate as usize].filter(|_| blockable),
            act: set.act[Op::Invalidate as usize],
            sets_seq: if ret != 0 {
                set.sets_seq
            } else {
                set.sets_seq_on_false
            },
        };
        let range = self.range_text(&range);
        self.emit(
            at,
            format_args!("  cb i{}.inv {range} seq={cur_seq} -> {ret}", io.slot),
        );
        entered
    }

    /// Has the callback to wait at this gate? If so it is its waiter.
    pub fn waits_at(&mut self, at: Option<usize>, gate: Option<usize>) -> Option<usize> {
        let gate = gate.filter(|gate| self.gates[*gate].closed)?;
        if self.gates[gate].waiter {
            self.emit(at, format_args!("    gate {gate} taken"));
            return None;
        }
        self.gates[gate].waiter = true;
        Some(gate)
    }

    /// May the callback put its subscriber? Then that is booked.
    pub fn act_put(&mut self, at: Option<usize>, call: &Call) -> bool {
        let n = (call.op != Op::Invalidate).then(|| &self.lists[call.subject]);
        let may = n.is_some_and(|n| {
            let has_free = self.sets[n.set]
                .as_ref()
                .is_some_and(|set| set.ops.has(Op::Free));
            n.state == Life::Live && n.users >= 1 && (n.users > 1 || has_free)
        });
        if may {
            self.book_put(call.subject, self.operations.len());
        } else {
            self.emit(at, format_args!("    act put SKIP"));
        }
        may
    }

    /// The mm of a callback's act: its subscriber's, or that of the operation.
    pub fn mm_of_act(&self, at: Option<usize>, call: &Call) -> Option<usize> {
        match call.op {
            Op::Invalidate => self.intervals[call.subject]
                .m
                .or_else(|| self.operations[at?].m),
            _ => Some(self.lists[call.subject].m),
        }
    }

    /// May the callback insert an interval? Then: the object.
    pub fn act_insert(
        &mut self,
        at: Option<usize>,
        m: Option<usize>,
        i: usize,
        p: usize,
    ) -> Option<usize> {
        let may = |m: usize| {
            let slot = &self.mms[m];
            self.isets[p].is_some() && slot.itree_on && slot.users >= 1 && self.i[i].is_none()
        };
        if !m.is_some_and(may) {
            self.emit(at, format_args!("    act iins i{i} SKIP"));
            return None;
        }
        Some(self.new_interval(i, p))
    }

    /// The insert came back.
    pub fn acted_insert(&mut self, at: Option<usize>, m: usize, object: usize, ret: i64) {
        let slot = self.intervals[object].slot;
        self.emit(at, format_args!("    act iins i{slot} = {ret}"));
        self.book_insert(object, m, ret);
    }

    /// alloc_notifier, on the thread of a get: the new object, or its error.
    pub fn alloc(&mut self, at: Option<usize>, mm: usize) -> Result<(usize, Option<usize>), i64> {
        let Some(at) = at else {
            self.emit(
                None,
                format_args!("  !!! alloc_notifier outside mmu_notifier_get"),
            );
            return Err(-12);
        };
        self.callbacks += 1;
        let set = self.operations[at].set;
        let m = self.operations[at].m.unwrap_or(0);
        let opset = self.sets[set].as_mut().expect("defined");
        let gate = opset.gate[Op::Alloc as usize];
        let error = opset.returns[Op::Alloc as usize].next(0);
        let mm = self.mm_name(mm);
        if error != 0 {
            self.emit(Some(at), format_args!("  cb alloc {mm} -> {error}"));
            return Err(error);
        }
        let name = format!("a{}", self.allocated);
        self.allocated += 1;
        self.emit(Some(at), format_args!("  cb alloc {mm} -> {name}"));
        Ok((self.new_list(name, set, m, Life::New), gate))
    }

    /// free_notifier.
    pub fn free(&mut self, at: Option<usize>, object: usize) {
        let Some(n) = self.lists.get_mut(object) else {
            self.emit(at, format_args!("  !!! free of an unknown subscriber"));
            return;
        };
        let (was, name) = (n.state, n.name.clone());
        let again = n.freed;
        n.freed = true;
        n.state = Life::Dead;
        match was {
            _ if again => self.emit(at, format_args!("  !!! second free of {name}")),
            Life::Dead => self.emit(at, format_args!("  !!! second free of {name}")),
            Life::New => self.emit(at, format_args!("  cb {name}.free")),
            Life::Put => (),
            _ => self.emit(
                at,
                format_args!("  !!! free of {name}, which is still in use"),
            ),
        }
    }
}

// ---------------------------------------------------------------------------------------------------- bookkeeping

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

// ----------------------------------------------------------------------------------------------------------- prep

impl World {
    /// Books an operation, which is then the last of `operations`; or refuses it.
    ///
    /// # Errors
    /// mnrun would not read it.
    pub fn prep(&mut self, line: Line) -> Result<Why, Bad> {
        let mut op = Operation {
            m: None,
            set: 0,
            object: 0,
            slot: 0,
            write: false,
            has_lock: false,
            lockwait: false,
            numbers: [0; 2],
            outcome: None,
            blocked: false,
            out: String::new(),
            line: Arc::new(line),
        };
        let busy = op
            .line
            .thread
            .is_some_and(|thread| self.threads[thread].busy);
        let why = if busy {
            Err("thread busy")
        } else if matches!(op.line.verb, Verb::Ops | Verb::Iops) {
            self.prep_ops(&mut op)?
        } else {
            self.prep_operation(&mut op)
        };
        if why.is_ok() && !op.line.verb.is_local() {
            self.book_operation(&op);
        }
        self.operations.push(op);
        Ok(why)
    }

    fn book_operation(&mut self, op: &Operation) {
        if let Some(m) = op.m {
            self.mms[m].pending += 1;
            self.mms[m].lockwait += u32::from(op.lockwait);
        }
        if let Some(thread) = op.line.thread {
            self.threads[thread].busy = true;
        }
    }

    fn prep_operation(&mut self, op: &mut Operation) -> Why {
        match op.line.verb {
            Verb::Ops | Verb::Iops | Verb::Sync => Ok(()),
            Verb::Open | Verb::Close => self.prep_gate(op),
            Verb::Mm => self.prep_mm(op),
            Verb::Mmget => self.prep_mmget(op),
            Verb::Mmput => self.prep_mmput(op),
            Verb::Mmdrop => self.prep_mmdrop(op),
            Verb::MmgetNz | Verb::Mmgrab | Verb::Has | Verb::Counts => self.take_m(op, 0, true),
            Verb::Cfy | Verb::Cy | Verb::Tlb | Verb::Ty | Verb::Cpte => self.prep_event(op),
            Verb::Lock => self.prep_lock(op),
            Verb::Unlock => self.prep_unlock(op),
            Verb::Reg | Verb::RegLocked => self.prep_reg(op),
            Verb::Unreg => self.prep_unreg(op),
            Verb::Nput => self.prep_nput(op),
            Verb::Get | Verb::GetLocked => self.prep_get(op),
            Verb::Put => self.prep_put(op),
            Verb::Getmax => self.prep_getmax(op),
            Verb::Iins | Verb::IinsLocked => self.prep_iins(op),
            Verb::Irem => self.prep_irem(op),
            Verb::Rb => self.prep_rb(op),
            Verb::Rr | Verb::Cr => self.prep_retry(op),
            Verb::Start | Verb::StartNb => self.prep_start(op),
            Verb::End => self.prep_end(op),
        }
    }

    fn take_m(&self, op: &mut Operation, arg: usize, explicit_reference: bool) -> Why {
        let m = index(&op.line.args[arg], 'm', MMS).ok_or("syntax")?;
        op.m = Some(m);
        let slot = &self.mms[m];
        refuse!("no mm" if !slot.live);
        refuse!("no reference" if explicit_reference && slot.users == 0 && slot.count == 0);
        Ok(())
    }

    fn take_set(&self, op: &mut Operation, arg: usize, interval: bool) -> Why {
        let (prefix, sets) = if interval {
            ('p', &self.isets)
        } else {
            ('o', &self.sets)
        };
        op.set = index(&op.line.args[arg], prefix, SETS).ok_or("no ops")?;
        refuse!("no ops" if sets[op.set].is_none());
        Ok(())
    }

    fn take_slot(op: &mut Operation, prefix: char) -> Why {
        op.slot = index(&op.line.args[0], prefix, SLOTS).ok_or("syntax")?;
        Ok(())
    }

    fn mm(&self, op: &Operation) -> &MmSlot {
        &self.mms[op.m.expect("taken")]
    }

    fn named(&self, op: &Operation) -> Option<&Named> {
        op.line.thread.map(|thread| &self.threads[thread])
    }

    fn holds(&self, op: &Operation) -> bool {
        self.named(op)
            .is_some_and(|thread| op.m.is_some() && (thread.rl == op.m || thread.wl == op.m))
    }

    /// May this operation, which may want mmap_lock, run now?
    fn want_lock(&self, op: &mut Operation, owner_ok: bool) -> Why {
        if owner_ok && self.named(op).is_some_and(|thread| thread.wl == op.m) {
            op.has_lock = true;
            return Ok(());
        }
        refuse!("self-deadlock" if self.holds(op));
        refuse!("another waiter" if self.mm(op).lockwait > 0);
        op.lockwait = true;
        Ok(())
    }

    /// A change that must stay out of every start..end.
    fn structural(&self, op: &Operation) -> Why {
        if op.line.forced {
            return Ok(());
        }
        refuse!("range in flight" if self.mm(op).unlocked > 0);
        let own = self.named(op).is_some_and(|thread| thread.ranges > 0);
        refuse!("own range in flight" if self.mm(op).active > 0 && own);
        Ok(())
    }

    fn prep_ops(&mut self, op: &mut Operation) -> Result<Why, Bad> {
        let interval = op.line.verb == Verb::Iops;
        let (prefix, sets) = if interval {
            ('p', &mut self.isets)
        } else {
            ('o', &mut self.sets)
        };
        let Some(id) = index(&op.line.args[0], prefix, SETS) else {
            return Ok(Err("syntax"));
        };
        if sets[id].is_some() {
            return Ok(Err("defined"));
        }
        sets[id] = Some(OpSet::parse(id, interval, &op.line.args[1..])?);
        op.set = id;
        Ok(Ok(()))
    }

    fn prep_gate(&mut self, op: &mut Operation) -> Why {
        op.slot = index(&op.line.args[0], 'g', GATES).ok_or("syntax")?;
        self.gates[op.slot].closed = op.line.verb == Verb::Close;
        Ok(())
    }

    fn prep_mm(&mut self, op: &mut Operation) -> Why {
        let m = index(&op.line.args[0], 'm', MMS).ok_or("syntax")?;
        op.m = Some(m);
        refuse!("exists" if self.mms[m].live || self.mms[m].pending > 0);
        Ok(())
    }

    fn prep_mmget(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 0, false)?;
        refuse!("users 0" if self.mm(op).users == 0);
        Ok(())
    }

    fn prep_mmput(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 0, false)?;
        let m = self.mm(op);
        refuse!("users 0" if m.users == 0);
        refuse!("locked" if m.users == 1 && m.lockwait + m.rlocked + m.wlocked > 0);
        refuse!("in use" if m.users == 1 && m.count == 0 && m.active + m.pending > 0);
        self.mms[op.m.unwrap_or(0)].users -= 1;
        Ok(())
    }

    fn prep_mmdrop(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 0, false)?;
        let m = self.mm(op);
        refuse!("count 0" if m.count == 0);
        refuse!("in use" if m.count == 1 && m.users == 0 && m.active + m.pending > 0);
        self.mms[op.m.unwrap_or(0)].count -= 1;
        Ok(())
    }

    fn prep_event(&mut self, op: &mut Operation) -> Why {
        op.numbers[0] = number(&op.line.args[1]);
        op.numbers[1] = op.line.args.get(2).map_or(0, |arg| number(arg));
        self.take_m(op, 0, true)
    }

    fn prep_lock(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 1, true)?;
        refuse!("unnamed thread" if op.line.thread.is_none());
        refuse!("users 0" if self.mm(op).users == 0);
        let holds_one = self
            .named(op)
            .is_some_and(|thread| thread.rl.or(thread.wl).is_some());
        refuse!("holds one" if holds_one);
        op.write = op.line.args[0].starts_with('w');
        self.want_lock(op, false)
    }

    fn prep_unlock(&mut self, op: &mut Operation) -> Why {
        self.take_m(op, 0, true)?;
        refuse!("not held" if !self.holds(op));
        refuse!("range in flight" if self.named(op).is_some_and(|thread| thread.ranges > 0));
        op.write = self.named(op).is_some_and(|thread| thread.wl == op.m);
        Ok(())
    }

    fn prep_reg(&mut self, op: &mut Operation) -> Why {
        let syntax = Self::take_slot(op, 'n');
        self.take_m(op, 1, false)?;
        self.take_set(op, 2, false)?;
        syntax?;
        refuse!("registered" if self.n_of(op.slot).is_some());
        refuse!("users 0" if self.mm(op).users == 0 && !op.line.forced);
        self.structural(op)?;
        self.want_lock(op, op.line.verb.is_locked_form())?;
        op.object = self.new_list(
            format!("n{}", op.slot),
            op.set,
            op.m.unwrap_or(0),
            Life::Busy,
        );
        self.n[op.slot] = Some(op.object);
        Ok(())
    }

    fn take_n(&mut self, op: &mut Operation) -> Why {
        let slot = Self::take_slot(op, 'n').map(|()| op.slot);
        op.object = slot
            .ok()
            .and_then(|slot| self.n_of(slot))
            .ok_or("not registered")?;
        let n = &self.lists[op.object];
        refuse!("busy" if n.state != Life::Live);
        op.m = Some(n.m);
        op.set = n.set;
        Ok(())
    }

    fn prep_unreg(&mut self, op: &mut Operation) -> Why {
        self.take_n(op)?;
        refuse!("gets outstanding" if self.lists[op.object].users != 1);
        self.lists[op.object].state = Life::Busy;
        Ok(())
    }

    fn has(&self, set: usize, op: Op) -> bool {
        self.sets[set].as_ref().is_some_and(|set| set.ops.has(op))
    }

    fn prep_nput(&mut self, op: &mut Operation) -> Why {
        self.take_n(op)?;
        refuse!("gets outstanding" if self.lists[op.object].users != 1);
        refuse!("no free_notifier" if !self.has(op.set, Op::Free));
        self.book_put(op.object, self.operations.len() + 1);
        Ok(())
    }

    fn prep_get(&mut self, op: &mut Operation) -> Why {
        let syntax = Self::take_slot(op, 'h');
        self.take_m(op, 1, false)?;
        self.take_set(op, 2, false)?;
        syntax?;
        refuse!("in use" if self.h[op.slot].is_some() || self.h_busy[op.slot]);
        refuse!("no alloc_notifier" if !self.has(op.set, Op::Alloc) || !self.has(op.set, Op::Free));
        refuse!("users 0" if self.mm(op).users == 0);
        let busy = |n: &ListObject| n.state == Life::Busy && Some(n.m) == op.m && n.set == op.set;
        refuse!("busy" if self.lists.iter().any(busy));
        self.structural(op)?;
        self.want_lock(op, op.line.verb.is_locked_form())?;
        self.h_busy[op.slot] = true;
        Ok(())
    }

    fn prep_put(&mut self, op: &mut Operation) -> Why {
        let slot = Self::take_slot(op, 'h').map(|()| op.slot);
        op.object = slot.ok().and_then(|slot| self.h[slot]).ok_or("no handle")?;
        let n = &self.lists[op.object];
        if matches!(n.state, Life::Put | Life::Dead) {
            self.h[op.slot] = None; // a callback has put it
            return Err("gone");
        }
        refuse!("busy" if n.state != Life::Live);
        op.m = Some(n.m);
        op.set = n.set;
        self.h[op.slot] = None;
        self.book_put(op.object, self.operations.len() + 1);
        Ok(())
    }

    fn prep_getmax(&mut self, op: &mut Operation) -> Why {
        let slot = Self::take_slot(op, 'h').map(|()| op.slot);
        op.object = slot.ok().and_then(|slot| self.h[slot]).ok_or("no handle")?;
        let n = &self.lists[op.object];
        refuse!("no handle" if n.state != Life::Live);
        op.m = Some(n.m);
        op.set = n.set;
        refuse!("users 0" if self.mm(op).users == 0);
        let same = |(object, other): (usize, &ListObject)| {
            object != op.object
                && (other.m, other.set) == (n.m, n.set)
                && matches!(other.state, Life::Live | Life::Busy)
        };
        refuse!("ambiguous" if self.lists.iter().enumerate().any(same));
        let m = self.mm(op);
        refuse!("locked" if m.rlocked + m.wlocked + m.lockwait > 0);
        self.want_lock(op, false)
    }

    fn prep_iins(&mut self, op: &mut Operation) -> Why {
        let locked = op.line.verb.is_locked_form();
        let syntax = Self::take_slot(op, 'i');
        self.take_m(op, 1, true)?;
        self.take_set(op, 4, true)?;
        syntax?;
        refuse!("inserted" if self.i[op.slot].is_some());
        let m = self.mm(op);
        let on = m.itree_on;
        refuse!("users 0" if m.users == 0 && !(op.line.forced && on && !locked));
        if !on {
            self.structural(op)?;
        }
        if locked || !on {
            self.want_lock(op, locked)?;
        }
        op.numbers = [number(&op.line.args[2]), number(&op.line.args[3])];
        op.object = self.new_interval(op.slot, op.set);
        Ok(())
    }

    fn take_i(&mut self, op: &mut Operation, arg: usize) -> Why {
        let slot = index(&op.line.args[arg], 'i', SLOTS);
        op.object = slot.and_then(|slot| self.i[slot]).ok_or("not inserted")?;
        let io = &self.intervals[op.object];
        refuse!("busy" if io.state != Life::Live);
        op.m = io.m;
        Ok(())
    }

    fn prep_irem(&mut self, op: &mut Operation) -> Why {
        self.take_i(op, 0)?;
        refuse!("reader inside" if self.intervals[op.object].readers > 0);
        self.intervals[op.object].state = Life::Busy;
        Ok(())
    }

    fn prep_rb(&mut self, op: &mut Operation) -> Why {
        let slot = index(&op.line.args[0], 'k', TOKENS);
        self.take_i(op, 1)?;
        op.slot = slot.ok_or("syntax")?;
        let token = &mut self.tokens[op.slot];
        refuse!("token busy" if token.busy);
        *token = Token {
            valid: false,
            busy: true,
            io: op.object,
            seq: 0,
        };
        self.intervals[op.object].readers += 1;
        Ok(())
    }

    fn prep_retry(&mut self, op: &mut Operation) -> Why {
        let slot = index(&op.line.args[0], 'k', TOKENS).ok_or("no token")?;
        let Token {
            valid,
            busy,
            io,
            seq,
        } = self.tokens[slot];
        refuse!("no token" if !valid || busy);
        let object = &self.intervals[io];
        refuse!("removed" if !matches!(object.state, Life::Live | Life::Busy));
        op.m = object.m;
        op.object = io;
        op.numbers[0] = seq;
        Ok(())
    }

    /// A refusal that would leak a range in the reference (HS-10): mnrun keeps out of it.
    fn may_refuse(&self, m: Option<usize>) -> bool {
        self.lists.iter().any(|n| {
            let set = self.sets[n.set].as_ref().expect("defined");
            let there = Some(n.m) == m && !matches!(n.state, Life::Put | Life::Dead);
            there && set.ops.has(Op::Start) && !set.returns[Op::Start as usize].values.is_empty()
        })
    }

    fn prep_start(&mut self, op: &mut Operation) -> Why {
        let r = index(&op.line.args[0], 'r', RANGES);
        self.take_m(op, 1, true)?;
        op.slot = r.ok_or("syntax")?;
        let (holds, m) = (self.holds(op), self.mm(op));
        refuse!("active" if self.ranges[op.slot].active || self.ranges[op.slot].busy);
        refuse!("registration in progress" if !holds && m.lockwait > 0 && !op.line.forced);
        let guarded = op.line.verb == Verb::StartNb && !op.line.forced && m.itree_on;
        refuse!("would leak" if guarded && self.may_refuse(op.m));
        self.book_start(op, holds);
        Ok(())
    }

    fn book_start(&mut self, op: &Operation, locked: bool) {
        let m = op.m.expect("taken");
        self.mms[m].active += 1;
        match op.line.thread {
            Some(thread) if locked => self.threads[thread].ranges += 1,
            _ => self.mms[m].unlocked += 1,
        }
        let number = |arg: usize| number(&op.line.args[arg]);
        let owned = op.line.args[6] != "-";
        self.ranges[op.slot] = RangeSlot {
            used: true,
            mm_born: self.mms[m].born,
            active: false,
            busy: true,
            locked,
            m,
            thread: op.line.thread,
            range: Range {
                mm: self.mms[m].handle,
                start: number(2),
                end: number(3),
                event: number(4) as i32,
                flags: number(5) as u32,
                owner: if owned { number(6) } else { 0 },
            },
        };
    }

    fn prep_end(&mut self, op: &mut Operation) -> Why {
        let r = index(&op.line.args[0], 'r', RANGES).ok_or("not active")?;
        op.slot = r;
        if op.line.forced && !self.ranges[r].active {
            return self.prep_end_again(op);
        }
        let range = &mut self.ranges[r];
        refuse!("not active" if !range.active);
        refuse!("busy" if range.busy);
        refuse!("not the locking thread" if range.locked && range.thread != op.line.thread);
        range.busy = true;
        op.m = Some(range.m);
        Ok(())
    }

    /// `end!` of a range that has ended, on an mm where nothing else happens (DV-8). mnrun refuses it: "not active".
    fn prep_end_again(&mut self, op: &mut Operation) -> Why {
        let range = &self.ranges[op.slot];
        refuse!("not active" if !range.used || range.busy);
        let m = &self.mms[range.m];
        let there = m.live && m.born == range.mm_born && m.users + m.count > 0;
        refuse!("not active" if !there || m.active + m.pending > 0);
        op.m = Some(range.m);
        self.ranges[op.slot].busy = true;
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------------------------ fin

impl World {
    /// Books the result of an operation that is over, and returns its text.
    pub fn fin(&mut self, at: usize) -> String {
        let op = self.operations[at].clone();
        let outcome = op.outcome.expect("over");
        let text = self.fin_operation(at, &op, &outcome);
        if let Some(m) = op.m {
            self.mms[m].pending -= 1;
            self.mms[m].lockwait -= u32::from(op.lockwait);
            self.mm_maybe_dead(m);
        }
        if let Some(thread) = op.line.thread {
            self.threads[thread].busy = false;
        }
        text
    }

    fn fin_operation(&mut self, at: usize, op: &Operation, outcome: &Outcome) -> String {
        let m = op.m.unwrap_or(0);
        match op.line.verb {
            Verb::Mm => {
                let handle = usize::try_from(outcome.value).unwrap_or(0);
                self.mms[m] = MmSlot {
                    handle,
                    born: at,
                    live: true,
                    users: 1,
                    pending: 1,
                    ..MmSlot::default()
                };
            }
            Verb::Mmget => self.mms[m].users += 1,
            Verb::Mmgrab => self.mms[m].count += 1,
            Verb::MmgetNz => {
                self.mms[m].users += u32::from(outcome.ret != 0);
                return outcome.ret.to_string();
            }
            Verb::Counts if !op.blocked => {
                return format!("users={} count={}", outcome.ret, outcome.value);
            }
            Verb::Lock => self.fin_lock(op, m),
            Verb::Unlock => self.fin_unlock(op, m),
            Verb::Reg | Verb::RegLocked => return self.fin_reg(at, op, outcome),
            Verb::Unreg => self.fin_unreg(op, m),
            Verb::Get | Verb::GetLocked => return self.fin_get(op, outcome),
            Verb::Getmax => return self.fin_getmax(op, outcome),
            Verb::Sync => self.fin_sync(at),
            Verb::Iins | Verb::IinsLocked => return self.fin_iins(at, op, outcome),
            Verb::Irem => self.fin_irem(op, m),
            Verb::Rb => return self.fin_rb(op, outcome),
            Verb::Start | Verb::StartNb => return self.fin_start(op, outcome),
            Verb::End if self.ranges[op.slot].active => self.range_gone(op.slot),
            Verb::End => self.ranges[op.slot].busy = false,
            Verb::Cfy | Verb::Cy | Verb::Ty | Verb::Has | Verb::Rr | Verb::Cr => {
                return outcome.ret.to_string();
            }
            _ => (),
        }
        "ok".to_owned()
    }

    fn fin_lock(&mut self, op: &Operation, m: usize) {
        let thread = &mut self.threads[op.line.thread.expect("prep")];
        if op.write {
            thread.wl = op.m;
            self.mms[m].wlocked += 1;
        } else {
            thread.rl = op.m;
            self.mms[m].rlocked += 1;
        }
    }

    fn fin_unlock(&mut self, op: &Operation, m: usize) {
        let thread = &mut self.threads[op.line.thread.expect("prep")];
        if op.write {
            thread.wl = None;
            self.mms[m].wlocked -= 1;
        } else {
            thread.rl = None;
            self.mms[m].rlocked -= 1;
        }
    }

    fn fin_reg(&mut self, at: usize, op: &Operation, outcome: &Outcome) -> String {
        if outcome.ret != 0 {
            self.lists[op.object].state = Life::Dead;
            self.n[op.slot] = None;
        } else {
            self.lists[op.object].state = Life::Live;
            self.lists[op.object].users = 1;
            self.mms[op.m.unwrap_or(0)].registered += 1;
            if outcome.value == 0 {
                self.emit(
                    Some(at),
                    format_args!("  !!! n{}.mm or .ops is not set", op.slot),
                );
            }
        }
        outcome.ret.to_string()
    }

    fn fin_unreg(&mut self, op: &Operation, m: usize) {
        self.lists[op.object].state = Life::Dead;
        self.n[op.slot] = None;
        self.mms[m].registered -= 1;
    }

    fn fin_get(&mut self, op: &Operation, outcome: &Outcome) -> String {
        self.h_busy[op.slot] = false;
        let Some(object) = outcome.object else {
            return outcome.ret.to_string();
        };
        let Some(n) = self.lists.get_mut(object) else {
            return "!!! unknown notifier".to_owned();
        };
        if n.state == Life::New {
            n.state = Life::Live;
            self.mms[op.m.unwrap_or(0)].registered += 1;
        }
        n.users += 1;
        self.h[op.slot] = Some(object);
        let unset = if outcome.value == 0 {
            " !!! mm or ops is not set"
        } else {
            ""
        };
        format!("{}{unset}", self.lists[object].name)
    }

    fn fin_getmax(&mut self, op: &Operation, outcome: &Outcome) -> String {
        let changed = if outcome.value == 0 {
            " !!! users changed"
        } else {
            ""
        };
        let name = outcome.object.map(|object| self.lists[object].name.clone());
        let result = match name {
            Some(name) if outcome.object == Some(op.object) => name,
            Some(_) => "1".to_owned(),
            None => outcome.ret.to_string(),
        };
        format!("{result}{changed}")
    }

    fn fin_sync(&mut self, at: usize) {
        for object in 0..self.lists.len() {
            let n = &mut self.lists[object];
            if n.users > 0 || n.put_at == 0 || n.put_at > at || n.reported {
                continue;
            }
            n.reported = n.freed;
            let what = if n.freed { "freed" } else { "NOT FREED" };
            let name = n.name.clone();
            self.emit(Some(at), format_args!("  {what} {name}"));
        }
    }

    fn fin_iins(&mut self, at: usize, op: &Operation, outcome: &Outcome) -> String {
        let m = op.m.unwrap_or(0);
        self.mms[m].itree_on = true;
        self.book_insert(op.object, m, outcome.ret);
        let fields = outcome.fields.expect("an insert");
        let named = |mm: Option<usize>| mm.map_or("-".to_owned(), |mm| self.mm_name(mm));
        let (mm, item) = (
            named(fields.mm),
            if fields.item_untouched {
                "untouched"
            } else {
                "written"
            },
        );
        let ops = fields.set.map_or("-".to_owned(), |set| format!("p{set}"));
        let text = format!(
            "  + i{} mm={mm} ops={ops} start={} last={} {} seq={} item {item}",
            op.slot,
            Hex(fields.start),
            Hex(fields.last),
            if fields.empty { "empty" } else { "in tree" },
            Hex(fields.seq),
        );
        self.emit(Some(at), format_args!("{text}"));
        if outcome.ret != 0 {
            return outcome.ret.to_string();
        }
        format!("0 [{},{}]", Hex(fields.start), Hex(fields.last))
    }

    fn fin_irem(&mut self, op: &Operation, m: usize) {
        self.intervals[op.object].state = Life::Dead;
        self.mms[m].registered -= 1;
        let slot = self.intervals[op.object].slot;
        self.i[slot] = None;
    }

    fn fin_rb(&mut self, op: &Operation, outcome: &Outcome) -> String {
        let token = &mut self.tokens[op.slot];
        token.busy = false;
        token.valid = true;
        token.seq = outcome.value;
        self.intervals[op.object].readers -= 1;
        outcome.value.to_string()
    }

    fn fin_start(&mut self, op: &Operation, outcome: &Outcome) -> String {
        let flags = u32::try_from(outcome.value).unwrap_or(u32::MAX);
        self.ranges[op.slot].range.flags = flags;
        self.ranges[op.slot].busy = false;
        if outcome.ret != 0 {
            self.range_gone(op.slot);
        } else {
            self.ranges[op.slot].active = true;
        }
        format!("{} fl={}", outcome.ret, Hex(flags.into()))
    }
}
