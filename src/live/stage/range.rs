//! A range with two stages, as drivers see it, and where it stands.

use core::ffi::{c_uint, c_ulong, c_void};

use crate::abi::notifier::{mmu_interval_notifier, mmu_notifier_range};
use crate::abi::versions::mmu_interval_notifier_finish;
use crate::sync::{AtomicU32, Linked, Ordering};

/// The stages of a range. All are called without a lock of the library.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_live_range_ops {
    /// The invalidate stage: memory of the range is about to change, and the calling thread will change it. Stops the device
    /// and marks the range as stale, under the driver's lock, with mmu_interval_set_seq(&range->interval, seq).
    ///
    /// Must not allocate or free, nor take a lock that is held while anybody does. Returns true; false refuses a
    /// non-blockable `event`, in which it must not sleep. May be called again until `done`.
    pub invalidate: Option<
        unsafe extern "C" fn(
            range: *mut mmu_notifier_live_range,
            event: *const mmu_notifier_range,
            seq: c_ulong,
        ) -> bool,
    >,
    /// The release stage: called once, on a thread of the library, after the first `invalidate` has returned. May allocate, free,
    /// unmap, lock, and insert or remove other ranges. Must not wait for the thread that changes the memory.
    pub release: Option<unsafe extern "C" fn(range: *mut mmu_notifier_live_range)>,
    /// May be NULL. Called once after `release`, on a thread of the library, which uses the range no longer: it may be freed or
    /// inserted again. May do what `release` may.
    pub done: Option<unsafe extern "C" fn(range: *mut mmu_notifier_live_range)>,
}

/// A range of memory whose changes are told in two stages.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_live_range {
    /// Where the range is, and its sequence number: for mmu_interval_read_begin() and mmu_interval_set_seq(), and
    /// read by mmu_notifier_live_range_retry(). Not for mmu_interval_notifier_remove().
    pub interval: mmu_interval_notifier,
    /// The stages; set by insert.
    pub ops: *const mmu_notifier_live_range_ops,
    /// The library's.
    pub next: *mut mmu_notifier_live_range,
    /// The library's.
    pub finish: [*mut c_void; 2],
    /// The library's: a time of CLOCK_MONOTONIC.
    pub deadline: [c_ulong; 2],
    /// The library's: how long a thread that changes the memory waits for `release`, in milliseconds.
    pub timeout_ms: c_uint,
    /// The library's: where the range stands.
    pub place: c_uint,
    /// The library's: the layout of the event that `invalidate` takes.
    pub abi: c_uint,
    /// The library's.
    pub flags: c_uint,
    /// An event has touched the range, which is used up: see mmu_notifier_live_range_retry().
    pub changed: c_uint,
}
pub(super) use mmu_notifier_live_range as Range;
pub(super) use mmu_notifier_live_range_ops as Ops;

/// `finish` is in use by an event, whose deadline is in `deadline`.
pub(super) const FINISHING: c_uint = 1;
/// A fork interrupted the removal: it may have been made.
pub(super) const INTERRUPTED: c_uint = 2;
/// The rest of `flags`: how many forks lie between the first process and the one that noted the place.
const FORKS: c_uint = !(FINISHING | INTERRUPTED);
const ONE_FORK: c_uint = 4;

static FORKED: AtomicU32 = AtomicU32::new(0);

/// In the child of a fork.
pub(super) fn count_fork() {
    // ORDERING: Relaxed: the child has one thread.
    FORKED.fetch_add(ONE_FORK, Ordering::Relaxed);
}

fn forks() -> c_uint {
    // ORDERING: Relaxed: changes only where there is one thread.
    FORKED.load(Ordering::Relaxed)
}

/// Where a range stands. What memory holds that was never inserted, is `Out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Place {
    /// The driver's.
    Out,
    /// Inserted, and no event has touched it.
    In,
    /// A remove has taken it, before any event did.
    Taken,
    /// Touched: its release is owed.
    Touched,
    /// Its release is running.
    Releasing,
    /// Released; still in the index, and to be removed.
    Released,
    /// In the child of a fork: was on its way out in the parent. Never noted.
    Forgotten,
}

impl Place {
    /// Where `range` stands. The lock is held.
    ///
    /// # Safety
    /// `range` is valid.
    pub(super) unsafe fn of(range: *const Range) -> Self {
        // SAFETY: The caller's promise.
        let (place, flags) = unsafe { (Self::noted(range), (*range).flags) };
        match place {
            Self::In | Self::Out => place,
            _ if flags & FORKS == forks() => place,
            _ => Self::Forgotten,
        }
    }

    /// Where `range` stood when that was last noted, perhaps before a fork.
    ///
    /// # Safety
    /// `range` is valid.
    pub(super) unsafe fn noted(range: *const Range) -> Self {
        // SAFETY: The caller's promise.
        let number = unsafe { (*range).place };
        [
            Self::In,
            Self::Taken,
            Self::Touched,
            Self::Releasing,
            Self::Released,
        ]
        .into_iter()
        .find(|place| *place as c_uint == number)
        .unwrap_or(Self::Out)
    }

    /// Notes it in `range`. The lock is held, or nobody else has the range.
    ///
    /// # Safety
    /// `range` is valid.
    pub(super) unsafe fn note(self, range: *mut Range) {
        // SAFETY: The caller's promise.
        unsafe {
            (*range).flags = (*range).flags & !FORKS | forks();
            (*range).place = self as c_uint;
        }
    }

    /// Is a release to come, or under way?
    pub(super) fn is_owed(self) -> bool {
        matches!(self, Self::Touched | Self::Releasing)
    }
}

/// The word pair of a range that the walk of an event queues (SPEC 2.2).
pub(super) fn finish_of(range: *mut Range) -> *mut mmu_interval_notifier_finish {
    const {
        assert!(size_of::<mmu_interval_notifier_finish>() == size_of::<[*mut c_void; 2]>());
        assert!(align_of::<mmu_interval_notifier_finish>() == align_of::<[*mut c_void; 2]>());
    };
    range
        .wrapping_byte_add(core::mem::offset_of!(Range, finish))
        .cast()
}

/// The range that an interval notifier is part of.
pub(super) fn range_of(interval: *mut mmu_interval_notifier) -> *mut Range {
    const { assert!(core::mem::offset_of!(Range, interval) == 0) };
    interval.cast()
}

// SAFETY: The word is the library's.
unsafe impl Linked for Range {
    fn link(range: *mut Self) -> *mut *mut Self {
        range
            .wrapping_byte_add(core::mem::offset_of!(Range, next))
            .cast()
    }
}
