//! The interval notifiers of one mm (floor 3): busy periods, sequence numbers, deferral, read_begin.
//!
//! Owns: the state word (SPEC's S.seq and S.active, `word`), the index, the deferred list, the sleepers, and who is a member.
//!
//! The protocol. A range counts itself in `active` at its start and out at its end. If it touches a member it also makes
//! `seq` odd. The states (SPEC 3.0):
//!
//! | state | `active` | `seq` | index |
//! |---|---|---|---|
//! | idle | 0 | even | may change |
//! | partially excluded | > 0 | even | may change; an insert makes `seq` odd and is in the index (II-7b) |
//! | fully excluded | > 0 | odd | frozen: inserts and removes go to the deferred list (II-7c, IR-3) |
//!
//! The last end of a fully excluded period makes `seq` even, applies the deferred list, newest first (RE-4), and wakes
//! the sleepers. So a busy period with a touched member moves `seq` by 2, and all of its ranges share one odd number.
//!
//! Without a lock: starts that find the index at rest, ends that have nothing to apply and nobody to wake, and read_begin that
//! does not collide. Each is one step of the word, and that step is where it happens:
//! * A start searches the index of some version first. If it found nothing, it counts itself in by an addition, and is done
//!   if no change was completed between (`changes` in the word): an insert that was under way counts as later, finds the range
//!   in `active`, and makes `seq` odd (II-7b). If it found something, its step also makes `seq` odd, and fails if anything has
//!   changed or is about to: so `seq` turns odd only for an interval that is in the index, which is frozen from that step on.
//! * A range that was counted in while changes were completed, and does not know of them, searches again under the lock. It may
//!   then call an interval that was inserted after it was counted: such a callback is superfluous, and harmless.
//! * The last end makes `seq` even by the same step that counts it out.
//!
//! With the lock: inserts, removes, everything that sleeps or wakes, and starts and ends that were told to (by `ATTENTION`, or
//! because the index changes under them).
//!
//! Invariants
//! * Flags of the word and the index change under the lock only, except that a step which makes `seq` odd is a start's.
//! * While `seq` is odd the index does not change, but for the end of the period itself (`ENDING`). Callbacks walk it freely.
//! * `ATTENTION` is set while something is deferred or somebody sleeps.
//! * `base`, the upper part of `seq`, changes only by an end under the lock whose step left `ENDING`, so that no start reads it.
//!
//! Memory order: steps of the word are AcqRel. MO-2: a step is atomic, and read_begin loads the notifier's number before the
//! word, both with Acquire: if the number is a callback's, that callback came after its range's step (Release fence in `start`),
//! so the word read here is of that period or later. MO-3: the last end releases, and whoever reads what it left acquires. A
//! driver's mmu_interval_set_seq() is a plain store that only user_lock orders.
//!
//! Lock order: the lock is a leaf, and nothing is allocated under it; the sleepers' wake comes after it.
#![expect(unsafe_code, reason = "intrusive nodes and callbacks of C")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "accesses to one live notifier"
)]

mod bucket;
mod deferred;
mod members;
mod membership;
mod ranges;
mod word;

pub use membership::Request;
pub use ranges::{NotStarted, Refusal};

use core::mem::offset_of;
use core::ptr;

use crate::abi::notifier::mmu_interval_notifier as Sub;
use crate::abi::types::interval_tree_node;
use crate::index::{Index, Nodes};
use crate::sync::{
    AtomicU64, Lock, Ordering, WaitQueue,
    hook::WaitReason::{
        MMU_NOTIFIER_WAIT_READ_BEGIN as READ_BEGIN, MMU_NOTIFIER_WAIT_REMOVE as REMOVE,
    },
};
use crate::thread;
use deferred::Deferred;
use members::Members;
use word::{ATTENTION, CHANGING, ENDING, FLAGS, ODD, SPILLED, Word};

/// The interval notifiers of one mm.
#[derive(Debug)]
pub struct Intervals {
    /// Stepped by every range. The index has a cache line of its own, which ranges only read.
    word: AtomicU64,
    /// The part of the sequence number that the word does not hold.
    base: AtomicU64,
    index: Index,
    state: Lock<State>,
    /// read_begin sleeps here until the sequence number is another one.
    readers: WaitQueue,
    /// remove sleeps here until the deferred list was applied.
    removers: WaitQueue,
}

// SPEC: ST-4
#[derive(Debug)]
struct State {
    /// Ranges in flight that the word does not count.
    spilled: usize,
    deferred: Deferred,
    nodes: Nodes,
    members: Members,
}

impl State {
    /// Nobody is a member.
    fn new() -> Self {
        Self {
            spilled: 0,
            deferred: Deferred::EMPTY,
            nodes: Nodes::new(),
            members: Members::new(),
        }
    }
}

impl Default for Intervals {
    fn default() -> Self {
        Self::new()
    }
}

impl Intervals {
    /// No members, no ranges.
    // SPEC: ST-1
    pub fn new() -> Self {
        Self::starting_at(2)
    }

    /// As [`Intervals::new`], with another even sequence number: for tests of what happens when it wraps.
    pub fn starting_at(seq: u64) -> Self {
        Self {
            word: AtomicU64::new(Word::idle(seq).0),
            base: AtomicU64::new(Word::base(seq)),
            index: Index::new(),
            state: Lock::new(State::new()),
            readers: WaitQueue::new(),
            removers: WaitQueue::new(),
        }
    }

    /// A key for what threads remember of this object.
    fn key(&self) -> *const core::ffi::c_void {
        ptr::from_ref(self).cast()
    }

    fn word(&self) -> Word {
        // ORDERING: Acquire pairs with the Release half of every step.
        Word(self.word.load(Ordering::Acquire))
    }

    /// Steps the word from `old` to `new`, unless another thread was faster.
    fn try_step(&self, old: Word, new: Word) -> bool {
        // ORDERING: AcqRel pairs with every other step; Relaxed: a failed one is tried again from a fresh word.
        self.word
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Steps the word to what `next` makes of it. Returns what it was.
    fn step(&self, next: impl Fn(Word) -> Word) -> Word {
        loop {
            let old = self.word();
            if self.try_step(old, next(old)) {
                return old;
            }
        }
    }

    /// The sequence number, and how many ranges are in flight: S.seq and S.active at one moment.
    pub fn seq_and_active(&self) -> (u64, usize) {
        let state = self.state.lock();
        let word = self.word();
        (self.seq(word), word.active() + state.spilled)
    }

    /// The whole sequence number of a word. The lock is held, or a range of the caller is counted in an odd period.
    fn seq(&self, word: Word) -> u64 {
        // ORDERING: Relaxed: it cannot change, and the word that it belongs to was acquired.
        self.base.load(Ordering::Relaxed) | word.seq()
    }

    /// Before fork: holds the state still, but for ranges of threads that do not exist in the child.
    pub fn hold_for_fork(&self) {
        self.state.acquire();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    pub unsafe fn release_in_parent(&self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.state.release() };
    }

    /// After fork, in the child: as in the parent, but the ranges of other threads are over, and so is the busy period
    /// unless the forking thread has a range of its own in flight.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`.
    // SPEC: DV-13
    pub unsafe fn release_in_child(&self) {
        // SAFETY: Held since `hold_for_fork`; the child has one thread.
        let state = unsafe { self.state.data() };
        let old = self.word();
        if old.is_active() {
            let counted = old.active() + state.spilled;
            let own = usize::try_from(thread::ranges_in_flight(self.key())).unwrap_or(counted);
            state.spilled = 0;
            let left = old.without(SPILLED).with_active(own.min(counted));
            self.step(|_| left);
            if !left.is_active() && left.is_odd() {
                self.end_period(state, left, left);
            }
        }
        self.readers.forget_sleepers();
        self.removers.forget_sleepers();
        // SAFETY: As above.
        unsafe { self.state.release() };
    }

    /// In the child of a fork that did not hold the state: forgets all members, for the state may be half-way through a change. Only
    /// ranges that the forking thread has in flight are left to be ended.
    ///
    /// # Safety
    /// No other thread runs, and no range begins on this object any more.
    // SPEC: DV-13
    pub unsafe fn abandon_in_child(&self) {
        // SAFETY: The caller's promise.
        unsafe { self.state.seize() };
        // SAFETY: Held now. What was there is left as it is, not dropped.
        unsafe { ptr::write(self.state.data(), State::new()) };
        let own = usize::try_from(thread::ranges_in_flight(self.key())).unwrap_or(0);
        self.step(|old| {
            let counted = if old.has(SPILLED) { own } else { old.active() };
            let left = old.without(FLAGS).with_active(own.min(counted));
            if left.is_active() || !left.is_odd() {
                left
            } else {
                left.next_seq()
            }
        });
        self.readers.forget_sleepers();
        self.removers.forget_sleepers();
        // SAFETY: Held since `seize`.
        unsafe { self.state.release() };
    }

    /// Ends a busy period: from `old`, which is odd, to `left`, the same without ranges, made even; and applies what was
    /// deferred. False, with nothing done, if the word is not `old` any more. The lock is held.
    // SPEC: RE-2 RE-3 RE-4
    fn end_period(&self, state: &mut State, old: Word, left: Word) -> bool {
        let even = left.next_seq().without(ATTENTION);
        if state.deferred.is_empty() && !old.is_last_seq() {
            return self.try_step(old, even);
        }
        if !self.try_step(old, even.with(ENDING)) {
            return false;
        }
        if old.is_last_seq() {
            let next = self.seq(old).wrapping_add(1);
            // ORDERING: Relaxed: published by the step below, and nobody reads it before.
            self.base.store(Word::base(next), Ordering::Relaxed);
        }
        self.index.begin_change();
        // SAFETY: Inside a change; deferred notifiers are members, hence valid.
        unsafe { state.apply_deferred(&self.index) };
        self.step(Word::changed);
        self.index.end_change();
        true
    }
}

/// The node of the index in `sub`.
fn node_of(sub: *mut Sub) -> *mut interval_tree_node {
    const { assert!(offset_of!(Sub, interval_tree) == 0) };
    sub.cast()
}

/// The notifier that a node of the index is part of.
fn sub_of_node(node: *mut interval_tree_node) -> *mut Sub {
    node.cast()
}

/// The sequence number of `sub`, as an atomic: drivers store it without a lock of ours.
///
/// # Safety
/// `sub` is valid while the result is used.
unsafe fn seq_of<'a>(sub: *mut Sub) -> &'a AtomicU64 {
    // SAFETY: The caller's promise; the field has the size and alignment of an AtomicU64.
    unsafe { AtomicU64::from_ptr(&raw mut (*sub).invalidate_seq) }
}

#[cfg(test)]
mod tests;
