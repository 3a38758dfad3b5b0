//! Fan-out: one pass over the list for each kind of event (SPEC 3.2, 3.3, 3.12).
//!
//! No lock is held while a callback runs; the read section keeps the notifiers alive.

use core::ffi::{CStr, c_int, c_ulong};

use super::{Chain, WALKS, is_linked, next_of, notifier_of, opaque};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::mmu_notifier;
use crate::abi::types::{hlist_node, pte_t};
use crate::dispatch::{self, NotifierOps, Range};
use crate::report::{HS_5_ANSWER, HS_5_END, HS_5_INFO, Rule};
use crate::srcu::Outermost;
use crate::sync::Ordering;
use crate::thread::{self, Bottom, Callbacks, Frame, Kind, Record};

/// A read section in which walks of one chain run. Whoever enters it leaves it, once. A copy is the same section, for who must
/// not have the original's address: it stays in registers then.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    chain: &'a Chain,
    mm: *mut mm_struct,
    thread: &'static Record,
    section: Outermost,
}

/// A section of a thread that is in no other and runs no callback, for ranges that the intervals do not count: then a section and its
/// frame are two words to store (DV-7). Whoever enters it leaves it, once.
#[derive(Clone, Copy, Debug)]
pub struct Solo {
    thread: &'static Record,
}

/// Where walks begin that are to meet the same notifiers.
#[derive(Clone, Copy, Debug)]
pub struct Place(*mut hlist_node);

const START: &CStr = c"invalidate_range_start";
const END: &CStr = c"invalidate_range_end";
const FUNCTION_OF_START: &CStr = c"mmu_notifier_invalidate_range_start";

/// What the frame of a walk says: the name of the op.
macro_rules! callbacks {
    ($op:expr) => {{
        static CALLBACKS: Callbacks = Callbacks::new(Kind::Chain, $op);
        &CALLBACKS
    }};
}

static STARTS: Callbacks = Callbacks::new(Kind::Chain, START);
static ENDS: Callbacks = Callbacks::new(Kind::Chain, END);

impl<'a> Section<'a> {
    /// Enters a read section for walks of `chain`, the list of `mm`.
    #[inline(always)]
    pub fn enter(chain: &'a Chain, mm: *mut mm_struct) -> Self {
        let thread = thread::current();
        Self {
            chain,
            mm,
            thread,
            section: WALKS.read_lock(thread),
        }
    }

    /// Leaves the read section, for good. Says whether a grace period waited for that.
    #[inline(always)]
    pub fn leave(&self) -> bool {
        WALKS.read_unlock(self.thread, self.section)
    }

    /// Leaves the read section in a child, where nobody waits for that.
    pub fn abandon(&self) {
        WALKS.abandon(self.thread, self.section);
    }

    /// One pass: calls `visit` with each notifier, until it answers false.
    // SPEC: HS-3 HS-11
    #[inline(always)]
    fn walk(
        &self,
        callbacks: &'static Callbacks,
        counted: bool,
        visit: impl FnMut(*mut mmu_notifier) -> bool,
    ) {
        self.walk_from(self.first(), callbacks, counted, visit);
    }

    /// The first notifier now.
    #[inline(always)]
    pub fn first(&self) -> Place {
        self.chain.first()
    }

    /// As `walk`, from a place that was taken in this section.
    #[inline(always)]
    fn walk_from(
        &self,
        first: Place,
        callbacks: &'static Callbacks,
        counted: bool,
        visit: impl FnMut(*mut mmu_notifier) -> bool,
    ) {
        let frame = Frame::new(callbacks, opaque(self.mm), counted);
        frame.run_on(self.thread, || visit_each(first, visit));
    }

    /// Calls every `invalidate_range_start`; returns the last failure, or 0.
    // SPEC: HS-4 HS-5 HS-6
    #[inline(always)]
    pub fn invalidate_start(&self, range: &Range, counted: bool) -> c_int {
        self.invalidate_start_from(self.first(), range, counted)
    }

    /// As [`Section::invalidate_start`], from a place that was taken in this section.
    #[inline(always)]
    pub fn invalidate_start_from(&self, first: Place, range: &Range, counted: bool) -> c_int {
        let frame = Frame::new(&STARTS, opaque(self.mm), counted);
        frame.run_on(self.thread, || match call_starts(first, *range) {
            None => 0,
            Some(failed) => call_starts_behind(failed, *range),
        })
    }

    /// Calls every `invalidate_range_start` behind one that failed; returns the last failure. The intervals do not count the range.
    // SPEC: HS-5 HS-6
    pub fn invalidate_start_behind(&self, failed: FailedStart, range: &Range) -> c_int {
        let frame = Frame::new(&STARTS, opaque(self.mm), false);
        frame.run_on(self.thread, || call_starts_behind(failed, *range))
    }

    /// Calls every `invalidate_range_end`.
    // SPEC: HS-7 RE-1
    #[inline(always)]
    pub fn invalidate_end(&self, range: &Range, counted: bool, only_end: bool) {
        let frame = Frame::new(&ENDS, opaque(self.mm), counted);
        frame.run_on(self.thread, || call_ends(self.first(), *range, only_end));
    }

    /// As [`Section::invalidate_end`], from a place that was taken in this section; of notifiers that are still linked.
    pub fn invalidate_end_from(&self, first: Place, range: &Range, counted: bool) {
        self.walk_from(first, &ENDS, counted, |subscription| {
            // SAFETY: The notifier is alive.
            unsafe {
                if is_linked(subscription) {
                    dispatch::range_end(subscription, *range, false);
                }
            }
            true
        });
    }

    /// Calls every `release`.
    // SPEC: RL-2
    pub fn release(&self) {
        self.walk(callbacks!(c"release"), false, |subscription| {
            let ops = ops_of(subscription);
            // SAFETY: The notifier is alive.
            unsafe { ops.release(subscription, self.mm) };
            true
        });
    }

    /// Calls `release` of one notifier that is linked.
    ///
    /// # Safety
    /// `subscription` is valid.
    // SPEC: UN-2
    pub unsafe fn release_one(&self, subscription: *mut mmu_notifier) {
        let frame = Frame::new(callbacks!(c"release"), opaque(self.mm), false);
        let ops = ops_of(subscription);
        // SAFETY: The caller's promise.
        frame.run_on(self.thread, || unsafe {
            ops.release(subscription, self.mm)
        });
    }

    /// The or of what every `clear_flush_young` of `[start, end)` says.
    // SPEC: YG-1
    pub fn clear_flush_young(&self, start: c_ulong, end: c_ulong) -> c_int {
        let mut young = 0;
        self.walk(callbacks!(c"clear_flush_young"), false, |subscription| {
            let ops = ops_of(subscription);
            // SAFETY: The notifier is alive.
            young |= unsafe { ops.clear_flush_young(subscription, self.mm, [start, end]) };
            true
        });
        young
    }

    /// The or of what every `clear_young` of `[start, end)` says.
    // SPEC: YG-1
    pub fn clear_young(&self, start: c_ulong, end: c_ulong) -> c_int {
        let mut young = 0;
        self.walk(callbacks!(c"clear_young"), false, |subscription| {
            let ops = ops_of(subscription);
            // SAFETY: The notifier is alive.
            young |= unsafe { ops.clear_young(subscription, self.mm, [start, end]) };
            true
        });
        young
    }

    /// The first answer of a `test_young` of `address` that is not 0.
    // SPEC: YG-2
    pub fn test_young(&self, address: c_ulong) -> c_int {
        let mut young = 0;
        self.walk(callbacks!(c"test_young"), false, |subscription| {
            let ops = ops_of(subscription);
            // SAFETY: The notifier is alive.
            young = unsafe { ops.test_young(subscription, self.mm, address) };
            young == 0
        });
        young
    }

    /// Calls every `change_pte`.
    // SPEC: YG-3
    pub fn change_pte(&self, address: c_ulong, pte: pte_t) {
        self.walk(callbacks!(c"change_pte"), false, |subscription| {
            let ops = ops_of(subscription);
            // SAFETY: The notifier is alive.
            unsafe { ops.change_pte(subscription, self.mm, address, pte) };
            true
        });
    }

    /// Calls every `arch_invalidate_secondary_tlbs` of `[start, end)`.
    // SPEC: YG-3
    pub fn arch_invalidate_secondary_tlbs(&self, start: c_ulong, end: c_ulong) {
        self.walk(
            callbacks!(c"arch_invalidate_secondary_tlbs"),
            false,
            |subscription| {
                let ops = ops_of(subscription);
                // SAFETY: The notifier is alive.
                unsafe { ops.invalidate_secondary(subscription, self.mm, [start, end]) };
                true
            },
        );
    }
}

impl Chain {
    /// The first notifier now. In a section.
    #[inline(always)]
    fn first(&self) -> Place {
        // ORDERING: Acquire pairs with the Release in `Held::add`.
        Place(self.first.load(Ordering::Acquire))
    }
}

impl Solo {
    /// Enters a read section, if the calling thread is at rest.
    #[inline(always)]
    pub fn enter() -> Option<Self> {
        let thread = thread::own()?;
        WALKS.is_at_rest(thread).then(|| {
            WALKS.read_lock_outermost(thread);
            Self { thread }
        })
    }

    /// Calls each `invalidate_range_start` of `chain` up to one that fails.
    // SPEC: HS-4 HS-6
    #[inline(always)]
    pub fn invalidate_start(self, chain: &Chain, range: Range) -> Option<FailedStart> {
        static BOTTOM: Bottom = Bottom::new(&STARTS);
        BOTTOM.run_on(self.thread, || call_starts(chain.first(), range))
    }

    /// Calls every `invalidate_range_end` of `chain`.
    // SPEC: HS-7 RE-1
    #[inline(always)]
    pub fn invalidate_end(self, chain: &Chain, range: Range) {
        static BOTTOM: Bottom = Bottom::new(&ENDS);
        BOTTOM.run_on(self.thread, || call_ends(chain.first(), range, false));
    }

    /// Leaves the read section, for good. Says whether a grace period waited for that.
    #[inline(always)]
    pub fn leave(self) -> bool {
        WALKS.read_unlock(self.thread, Outermost::YES)
    }

    /// The same section, for other walks of `chain`, the list of `mm`.
    pub fn as_section(self, chain: &Chain, mm: *mut mm_struct) -> Section<'_> {
        Section {
            chain,
            mm,
            thread: self.thread,
            section: Outermost::YES,
        }
    }
}

/// Calls `visit` with each notifier from `first` on, until it answers false.
// SPEC: HS-3 HS-11
#[inline(always)]
fn visit_each(first: Place, mut visit: impl FnMut(*mut mmu_notifier) -> bool) {
    let mut node = first.0;
    while !node.is_null() {
        if !visit(notifier_of(node)) {
            break;
        }
        node = behind(node);
    }
}

/// The node behind this one.
#[inline(always)]
fn behind(node: *mut hlist_node) -> *mut hlist_node {
    // ORDERING: Acquire pairs with the Releases in `Held::add` and `Held::unlink`.
    next_of(node).load(Ordering::Acquire)
}

/// A notifier whose `invalidate_range_start` has failed, in the present section.
#[derive(Clone, Copy, Debug)]
pub struct FailedStart {
    node: *mut hlist_node,
    answer: c_int,
}

/// Calls each `invalidate_range_start` from `first` on, up to one that fails.
// SPEC: HS-4 HS-6
#[inline(always)]
fn call_starts(first: Place, range: Range) -> Option<FailedStart> {
    let mut node = first.0;
    while !node.is_null() {
        // SAFETY: The notifier is alive.
        let answer = unsafe { dispatch::range_start(notifier_of(node), range) };
        if answer != 0 {
            return Some(FailedStart { node, answer });
        }
        node = behind(node);
    }
    None
}

/// Calls each `invalidate_range_start` behind one that failed; returns the last failure.
// SPEC: HS-4 HS-5 HS-6
#[cold]
#[inline(never)]
fn call_starts_behind(failed: FailedStart, range: Range) -> c_int {
    let FailedStart { node, mut answer } = failed;
    report_failed_start(notifier_of(node), answer, range.is_blockable());
    visit_each(Place(behind(node)), |subscription| {
        // SAFETY: The notifier is alive.
        let next = unsafe { dispatch::range_start(subscription, range) };
        if next != 0 {
            report_failed_start(subscription, next, range.is_blockable());
            answer = next;
        }
        true
    });
    answer
}

/// Calls every `invalidate_range_end` from `first` on.
// SPEC: HS-7 RE-1
#[inline(always)]
fn call_ends(first: Place, range: Range, only_end: bool) {
    visit_each(first, |subscription| {
        // SAFETY: The notifier is alive.
        unsafe { dispatch::range_end(subscription, range, only_end) };
        true
    });
}

/// The ops of a notifier that a walk is at.
fn ops_of(subscription: *mut mmu_notifier) -> NotifierOps {
    // SAFETY: The walk's section keeps it and its ops alive.
    unsafe { NotifierOps::of(subscription) }
}

/// A start op failed: a note, and warnings for what the contract forbids.
// SPEC: HS-5
#[cold]
fn report_failed_start(subscription: *mut mmu_notifier, answer: c_int, blockable: bool) {
    let ops = ops_of(subscription);
    let of = |rule: &'static Rule| {
        let misuse = rule.broken_by(FUNCTION_OF_START).inside(START);
        misuse.about(ops.start_address()).value(answer.into())
    };
    of(&HS_5_INFO).report();
    if blockable || answer != -libc::EAGAIN {
        of(&HS_5_ANSWER).report();
    }
    if ops.has_end() {
        of(&HS_5_END).report();
    }
}
