//! An interval notifier whose insertion and removal are known at run time only: what a face to a language without lifetimes stands
//! on.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;

use super::interval::{insert_node, new_node};
use super::{
    Interval, IntervalNotifier, IntervalSubscription, Kind, Misuse, Mm, MmRef, Result, at,
};
use crate::mm as core_mm;
use crate::report::{DV_9_INSERT, DV_9_REMOVE, RB_1};
use crate::sync::{AtomicU32, Lock, Ordering};

/// An interval notifier that is inserted and removed through a shared reference, once, while others may be using it: what is used
/// of it outside that time is an error here, where with an [`IntervalSubscription`] it does not compile.
///
/// # Invariants
/// The node is there as long as this is, and so is the mm of a node that was inserted: its membership keeps that, and from before
/// its end `kept`. `state` never says more than the core does.
///
/// ```
/// # use mmu_notifier::api::{Interval, IntervalNotifier, LooseInterval, Mm, Range};
/// # struct Quiet;
/// # impl IntervalNotifier for Quiet {
/// #     fn invalidate(&self, _: &Interval, _: &Range<'_>, _: u64) -> bool { true }
/// # }
/// let mm = Mm::new()?;
/// let loose = LooseInterval::new(Quiet);
/// assert_eq!(loose.read_begin().unwrap_err().rule(), Some("RB-1"));
/// loose.insert(&mm, 0, 0x1000)?;
/// assert_eq!(loose.insert(&mm, 0, 0x1000).unwrap_err().rule(), Some("DV-9"));
/// let seq = loose.read_begin()?;
/// loose.remove()?;
/// assert_eq!(loose.remove().unwrap_err().rule(), Some("DV-9"));
/// assert_eq!(loose.read_begin().unwrap_err().rule(), Some("RB-1"));
/// assert!(!loose.read_retry(seq), "its number is still there");
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
pub struct LooseInterval<N: IntervalNotifier> {
    node: ManuallyDrop<IntervalSubscription<N>>,
    state: AtomicU32,
    kept: Lock<Option<MmRef>>,
}

/// Not inserted yet.
const FRESH: u32 = 0;
/// A thread is inserting it: callbacks may come already.
const INSERTING: u32 = 1;
const INSERTED: u32 = 2;
const REMOVED: u32 = 3;

impl<N: IntervalNotifier> LooseInterval<N> {
    /// One that is not inserted yet.
    pub fn new(notifier: N) -> Self {
        Self {
            node: ManuallyDrop::new(new_node(notifier)),
            state: AtomicU32::new(FRESH),
            kept: Lock::new(None),
        }
    }

    fn is(&self, state: u32) -> bool {
        // ORDERING: Acquire pairs with the Release in `becomes`.
        self.state.load(Ordering::Acquire) == state
    }

    fn becomes(&self, state: u32) {
        // ORDERING: Release pairs with the Acquire in `is`: whoever sees it inserted sees what the insertion stored.
        self.state.store(state, Ordering::Release);
    }

    /// The notifier.
    pub fn notifier(&self) -> &N {
        self.node.notifier()
    }

    /// As [`Mm::insert`].
    ///
    /// # Errors
    /// Those of [`Mm::insert`]. DV-9: it was inserted before.
    // SPEC: DV-9
    pub fn insert(&self, mm: &Mm, start: u64, length: u64) -> Result<()> {
        // ORDERING: Acquire on success pairs with `becomes`; Relaxed on failure: nothing follows.
        let claim =
            self.state
                .compare_exchange(FRESH, INSERTING, Ordering::Acquire, Ordering::Relaxed);
        if claim.is_err() {
            let misuse = DV_9_INSERT.broken_by(c"mmu_interval_notifier_insert");
            return Err(super::Error::Misuse(Misuse::from(misuse)));
        }
        let result = insert_node(mm, &self.node, start, length);
        self.becomes(if result.is_ok() { INSERTED } else { FRESH });
        result
    }

    /// As [`IntervalSubscription::remove`]. What is used of it meanwhile, on other threads or by its callback, goes on working.
    ///
    /// # Errors
    /// DV-7: it would wait for the callback that it is called from. DV-9: it is not inserted, or is being removed.
    // SPEC: IR-8 DV-9
    pub fn remove(&self) -> Result<()> {
        at(Kind::MMU_NOTIFIER_EXPLORE_REMOVE, self.node.raw());
        if !self.is(INSERTED) {
            let misuse = DV_9_REMOVE.broken_by(c"mmu_interval_notifier_remove");
            return Err(super::Error::Misuse(Misuse::from(misuse)));
        }
        let mm = self.node.mm().grab();
        // SAFETY: Inserted once: the node and its mm are there, and whether it still is a member the core knows.
        unsafe { core_mm::remove(self.node.raw()) }?;
        *self.kept.lock() = Some(mm);
        self.becomes(REMOVED);
        Ok(())
    }

    /// As [`Interval::read_begin`]; the number itself, for [`Interval::read_retry`].
    ///
    /// # Errors
    /// DV-7: it would wait for the callback that it is called from. RB-1: it is not inserted.
    pub fn read_begin(&self) -> Result<u64> {
        if !self.is(INSERTED) {
            let misuse = RB_1.broken_by(c"mmu_interval_read_begin");
            return Err(super::Error::Misuse(Misuse::from(misuse)));
        }
        self.node.read_begin().map(|section| section.seq())
    }

    /// As [`Interval::set_seq`].
    pub fn set_seq(&self, cur_seq: u64) {
        self.node.set_seq(cur_seq);
    }

    /// As [`Interval::read_retry`].
    pub fn read_retry(&self, seq: u64) -> bool {
        self.node.read_retry(seq)
    }

    /// As [`Interval::check_retry`].
    pub fn check_retry(&self, seq: u64) -> bool {
        self.node.check_retry(seq)
    }

    /// As [`Interval::seq`].
    pub fn seq(&self) -> u64 {
        self.node.seq()
    }

    /// As [`IntervalSubscription::remove_later`], if it is inserted.
    pub fn remove_later(mut self) {
        if self.is(INSERTED) {
            // SAFETY: What is left of `self` is forgotten, and has nothing to drop: `kept` is None.
            let subscription = unsafe { ManuallyDrop::take(&mut self.node) };
            core::mem::forget(self);
            subscription.remove_later();
        }
    }
}

impl<N: IntervalNotifier> Drop for LooseInterval<N> {
    fn drop(&mut self) {
        let inserted = self.is(INSERTED);
        // SAFETY: Not used any more.
        let subscription = unsafe { ManuallyDrop::take(&mut self.node) };
        if inserted {
            drop(subscription);
        } else {
            // SAFETY: So it is: nobody else has a reference to this.
            unsafe { subscription.free_uninserted() };
        }
    }
}

impl<N: IntervalNotifier> fmt::Debug for LooseInterval<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval: &Interval = self.node.deref();
        f.debug_struct("LooseInterval")
            .field("inserted", &self.is(INSERTED))
            .field("seq", &interval.seq())
            .finish()
    }
}
