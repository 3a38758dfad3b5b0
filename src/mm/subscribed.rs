//! The start and the end of a range, taken apart for the C face, so that what happens all the time is short.
//!
//! The plain case is an mm that never had an interval notifier, and a thread that is in no callback and in no read section. What
//! `events` does comes down to a walk of the chain then, and the walk's section and frame to two stores.

use core::ffi::c_int;
use core::ops::Deref;

use super::events;
use super::subscriptions::{self, Subscriptions};
use super::worker::WORKER;
use crate::abi::notifier::mmu_notifier_range;
use crate::chain::{FailedStart, Solo};
use crate::dispatch::Range;
use crate::interval::{NotStarted, Refusal};

/// A range of an mm that has subscriptions: what the start or the end of any other has to do is nothing, or a report.
#[derive(Clone, Copy, Debug)]
pub struct Subscribed<'a> {
    subscriptions: &'a Subscriptions,
    range: *mut mmu_notifier_range,
}

impl Subscribed<'_> {
    /// `range`, if it is one of these.
    ///
    /// # Safety
    /// `range` is NULL or valid as long as the result, its mm too, and every subscriber keeps the contract.
    // SPEC: HS-1
    #[inline(always)]
    pub unsafe fn new(range: *mut mmu_notifier_range) -> Option<Self> {
        if range.is_null() {
            return None;
        }
        // SAFETY: The caller's promise.
        let mm = unsafe { (*range).mm };
        if mm.is_null() {
            return None;
        }
        // SAFETY: As above.
        unsafe { subscriptions::of(mm) }.map(|subscriptions| Self {
            subscriptions,
            range,
        })
    }

    /// The producer's object.
    #[inline(always)]
    pub fn object(self) -> *mut mmu_notifier_range {
        self.range
    }

    #[inline(always)]
    fn range(self) -> Range {
        // SAFETY: Valid, says whoever made `self`.
        unsafe { Range::new(self.range) }
    }

    /// Has the mm had an interval notifier?
    #[inline(always)]
    pub fn has_intervals(self) -> bool {
        self.subscriptions.has_itree()
    }

    /// As [`events::invalidate_range_start`]; `has_intervals` was asked.
    ///
    /// # Errors
    /// As there, in registers.
    #[inline(always)]
    pub fn start(self) -> Result<c_int, Refusal> {
        // SAFETY: The caller of `new` keeps the contract.
        let started = unsafe { events::start(self.subscriptions, self.range(), true) }?;
        Ok(started.answer)
    }

    /// As [`Subscribed::start`], in the plain case; `has_intervals` was asked. None, with nothing done, if the thread is in anything.
    // SPEC: HS-7 HS-8 HS-9
    #[inline(always)]
    pub fn start_plain(self) -> Option<c_int> {
        let walk = Walk(Solo::enter()?);
        let failed = walk.invalidate_start(&self.subscriptions.chain, self.range());
        Some(failed.map_or(0, |failed| start_failed(*walk, failed, self.range())))
    }

    /// As [`events::invalidate_range_end`]; `has_intervals` was asked.
    ///
    /// # Errors
    /// As there, in registers.
    #[inline(always)]
    pub fn end(self) -> Result<(), NotStarted> {
        // SAFETY: The caller of `new` keeps the contract.
        unsafe { events::end(self.subscriptions, self.range(), false, true) }
    }

    /// As [`Subscribed::end`], in the plain case; `has_intervals` was asked. False, with nothing done, if the thread is in anything.
    // SPEC: RE-1
    #[inline(always)]
    #[must_use]
    pub fn end_plain(self) -> bool {
        let Some(walk) = Solo::enter().map(Walk) else {
            return false;
        };
        walk.invalidate_end(&self.subscriptions.chain, self.range());
        true
    }
}

/// Calls the starts behind the one that failed, then the ends of those who were told. Returns the last failure.
// SPEC: HS-5 HS-6 HS-7 DV-1
#[cold]
#[inline(never)]
fn start_failed(walk: Solo, failed: FailedStart, range: Range) -> c_int {
    // SAFETY: The mm was valid when its starts were called, and has had its subscriptions since.
    let subscriptions = unsafe { &*subscriptions::raw(range.mm()) };
    let section = walk.as_section(&subscriptions.chain, range.mm());
    let answer = section.invalidate_start_behind(failed, &range);
    events::undo(subscriptions, section, &range, false);
    answer
}

/// A [`Solo`] section, left when dropped.
#[derive(Debug)]
struct Walk(Solo);

impl Deref for Walk {
    type Target = Solo;
    #[inline(always)]
    fn deref(&self) -> &Solo {
        &self.0
    }
}

impl Drop for Walk {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0.leave() {
            WORKER.poke();
        }
    }
}
