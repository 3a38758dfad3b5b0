//! An interval notifier whose removal is known at run time only: what a face to a language without lifetimes stands on.

use core::mem::ManuallyDrop;
use core::ops::Deref;

use super::{Interval, IntervalNotifier, IntervalSubscription, Kind, Misuse, MmRef, Result, at};
use crate::mm as core_mm;
use crate::report::RB_1;
use crate::sync::{AtomicBool, Lock, Ordering};

/// An [`IntervalSubscription`] that is removed through a shared reference, while others may be using it. What the compiler refuses
/// there is an error here.
///
/// # Invariants
/// The node is there as long as this is, and so is the mm that it points to: its membership keeps that, and from before its end
/// `kept`. `removed` is set by who has removed it.
///
/// ```
/// # use mmu_notifier::api::{Interval, IntervalNotifier, LooseInterval, Mm, Range};
/// # struct Quiet;
/// # impl IntervalNotifier for Quiet {
/// #     fn invalidate(&self, _: &Interval, _: &Range<'_>, _: u64) -> bool { true }
/// # }
/// let mm = Mm::new()?;
/// let loose = LooseInterval::from(mm.insert(0, 0x1000, Quiet)?);
/// let seq = loose.read_begin()?;
/// loose.remove()?;
/// assert_eq!(loose.remove().unwrap_err().rule(), Some("DV-9"));
/// assert_eq!(loose.read_begin().unwrap_err().rule(), Some("RB-1"));
/// assert!(!loose.read_retry(seq), "its number is still there");
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
#[derive(Debug)]
pub struct LooseInterval<N: IntervalNotifier> {
    subscription: ManuallyDrop<IntervalSubscription<N>>,
    removed: AtomicBool,
    kept: Lock<Option<MmRef>>,
}

impl<N: IntervalNotifier> From<IntervalSubscription<N>> for LooseInterval<N> {
    fn from(subscription: IntervalSubscription<N>) -> Self {
        Self {
            subscription: ManuallyDrop::new(subscription),
            removed: AtomicBool::new(false),
            kept: Lock::new(None),
        }
    }
}

impl<N: IntervalNotifier> LooseInterval<N> {
    /// The notifier.
    pub fn notifier(&self) -> &N {
        self.subscription.notifier()
    }

    /// Was it removed?
    pub fn is_removed(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `remove`.
        self.removed.load(Ordering::Acquire)
    }

    /// As [`IntervalSubscription::remove`]. What is used of it meanwhile, on other threads or by its callback, goes on working.
    ///
    /// # Errors
    /// DV-7: it would wait for the callback that it is called from. DV-9: it was removed, or is being removed.
    // SPEC: IR-8 DV-9
    pub fn remove(&self) -> Result<()> {
        let mm = self.subscription.mm().grab();
        at(Kind::MMU_NOTIFIER_EXPLORE_REMOVE, self.subscription.raw());
        // SAFETY: The node and its mm are there; whether it is a member the core knows.
        unsafe { core_mm::remove(self.subscription.raw()) }?;
        *self.kept.lock() = Some(mm);
        // ORDERING: Release pairs with the Acquire in `is_removed`.
        self.removed.store(true, Ordering::Release);
        Ok(())
    }

    /// As [`Interval::read_begin`]; the number itself, for [`Interval::read_retry`].
    ///
    /// # Errors
    /// DV-7: it would wait for the callback that it is called from. RB-1: it was removed.
    pub fn read_begin(&self) -> Result<u64> {
        if self.is_removed() {
            let misuse = RB_1.broken_by(c"mmu_interval_read_begin");
            return Err(super::Error::Misuse(Misuse::from(misuse)));
        }
        self.subscription.read_begin().map(|section| section.seq())
    }

    /// As [`IntervalSubscription::remove_later`], if it was not removed before.
    pub fn remove_later(mut self) {
        if !self.is_removed() {
            // SAFETY: What is left of `self` is forgotten, and has nothing to drop: `kept` is None.
            let subscription = unsafe { ManuallyDrop::take(&mut self.subscription) };
            core::mem::forget(self);
            subscription.remove_later();
        }
    }
}

/// What may be done without being inserted. (Its `read_begin` would be waited for in vain: [`LooseInterval::read_begin`] is the one.)
impl<N: IntervalNotifier> Deref for LooseInterval<N> {
    type Target = Interval;
    fn deref(&self) -> &Interval {
        &self.subscription
    }
}

impl<N: IntervalNotifier> Drop for LooseInterval<N> {
    fn drop(&mut self) {
        // SAFETY: Not used any more.
        let subscription = unsafe { ManuallyDrop::take(&mut self.subscription) };
        if self.is_removed() {
            // SAFETY: So it was.
            unsafe { subscription.free_removed() };
        }
    }
}
