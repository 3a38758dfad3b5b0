//! Interval notifiers: insert, remove, read_begin (SPEC 3.4, 3.6, 3.7). The references to the mm are taken here.

use core::ffi::{CStr, c_ulong};

use super::lifetime::{count, has_users, mmdrop, opaque};
use super::notifiers::{self, WORKER};
use super::watched::WATCHED;
use super::{argument, calls, locks, subscriptions};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{mmu_interval_notifier, mmu_interval_notifier_ops};
use crate::dispatch::{self, Abi};
use crate::interval::Insert;
use crate::report::{DV_9_REMOVE, II_1, II_FINISH, RB_1, Result};
use crate::sync::Ordering;

/// What an insert is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The notifier; its memory may hold anything.
    pub interval_sub: *mut mmu_interval_notifier,
    /// The address space.
    pub mm: *mut mm_struct,
    /// First byte.
    pub start: c_ulong,
    /// Length in bytes.
    pub length: c_ulong,
    /// The callbacks: a table of the layout `abi`.
    pub ops: *const mmu_interval_notifier_ops,
    /// The layout of the callbacks.
    pub abi: Abi,
}

/// Inserts a notifier. Takes mmap_lock for writing if the mm never had an interval.
///
/// # Errors
/// EOVERFLOW: the length is 0, or the end lies beyond 2^64; EINVAL (II-4, DV-9); ENOMEM; DV-14; RG-1.
///
/// # Safety
/// Pointers are NULL or valid; the notifier until it was removed; the caller owns a user of the mm.
// SPEC: II-1 II-3 II-11
pub unsafe fn insert(request: Request) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_interval_notifier_insert";
    argument(request.mm, FUNCTION)?;
    argument(request.ops, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe {
        // SPEC: 2.2
        if !dispatch::has_finish_for_start(request.ops, request.abi) {
            II_FINISH
                .broken_by(FUNCTION)
                .about(request.ops.cast())
                .report();
        }
        let mm = request.mm;
        let turn_on =
            || notifiers::with_mmap_lock(mm, FUNCTION, || notifiers::add_itree(mm, FUNCTION));
        insert_with(request, FUNCTION, turn_on)
    }
}

/// As [`insert`], with mmap_lock held for writing by the caller.
///
/// # Errors
/// As [`insert`].
///
/// # Safety
/// As [`insert`].
// SPEC: II-1
pub unsafe fn insert_locked(request: Request) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_interval_notifier_insert_locked";
    argument(request.mm, FUNCTION)?;
    argument(request.ops, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe {
        if !locks::is_write_locked(request.mm) {
            II_1.broken_by(FUNCTION).about(request.mm.cast()).report();
        }
        insert_with(request, FUNCTION, || {
            notifiers::add_itree(request.mm, FUNCTION)
        })
    }
}

/// `turn_on` registers the mm's interest in intervals, if it has none.
unsafe fn insert_with(
    request: Request,
    function: &'static CStr,
    turn_on: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let Request {
        interval_sub,
        mm,
        start,
        length,
        ops,
        abi,
    } = request;
    argument(interval_sub, function)?;
    // SAFETY: The caller of `insert` promises valid objects.
    unsafe {
        // SPEC: II-2 II-3
        if !subscriptions::of(mm).is_some_and(subscriptions::Subscriptions::has_itree) {
            turn_on()?;
        }
        // Published by now, if not before then by `turn_on`.
        let subscriptions = &*subscriptions::raw(mm);
        let mm_has_users = has_users(mm);
        // SPEC: II-5. Taken first: another thread may remove the notifier as soon as it is in.
        // ORDERING: Relaxed: the caller holds a reference.
        count(mm).fetch_add(1, Ordering::Relaxed);
        let new = Insert {
            sub: interval_sub,
            mm,
            ops,
            start,
            length,
            abi,
            mm_has_users,
        };
        let watched = watch(mm, start, length);
        let result = subscriptions.intervals.insert(&new);
        if result.is_ok() {
            calls::wait_after_insert(mm);
            if let Some(last) = watched {
                calls::tell_of_interval(|observer| observer.inserted, start, last);
                WORKER.start_if_stranded();
            }
        } else {
            if let Some(last) = watched {
                WATCHED.remove(start, last);
            }
            // ORDERING: Relaxed: not the last one; the caller still holds its own.
            count(mm).fetch_sub(1, Ordering::Relaxed);
        }
        result
    }
}

/// Has system calls look for intervals in what one is about to cover, if it is the process's own mm. Returns its last byte then.
fn watch(mm: *mut mm_struct, start: c_ulong, length: c_ulong) -> Option<c_ulong> {
    let last = length
        .checked_sub(1)
        .and_then(|length| start.checked_add(length));
    let last = last.filter(|_| calls::is_own(mm));
    if let Some(last) = last {
        WATCHED.add(start, last);
    }
    last
}

/// Is `interval_sub` inserted into `mm`? Reads nothing of it.
///
/// # Safety
/// `mm` is valid.
pub unsafe fn is_inserted(
    interval_sub: *const mmu_interval_notifier,
    mm: *const mm_struct,
) -> bool {
    // SAFETY: The caller's promise.
    unsafe { subscriptions::of(mm) }.is_some_and(|own| own.intervals.contains(interval_sub))
}

/// Removes `interval_sub`; sleeps while a busy period may still call it. Afterwards its memory is the caller's.
///
/// # Errors
/// DV-14; DV-9: it is not inserted, ignored; DV-7: the call would wait for the callback that makes it.
///
/// # Safety
/// `interval_sub` is NULL or valid, and so is its `mm`.
// SPEC: IR-1 IR-7 IR-8
pub unsafe fn remove(interval_sub: *mut mmu_interval_notifier) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_interval_notifier_remove";
    argument(interval_sub, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe {
        let mm = (*interval_sub).mm;
        argument(mm, FUNCTION)?;
        let own = subscriptions::of(mm);
        let inherits = !(*mm).inherited.is_null();
        if inherits && !own.is_some_and(|own| own.intervals.contains(interval_sub)) {
            // SPEC: DV-13
            // What the process's own mm had before a fork is forgotten already (`fork`).
            if subscriptions::end_inherited(mm, |_| true) {
                return Ok(());
            }
        }
        let Some(subscriptions) = own else {
            return Err(DV_9_REMOVE
                .broken_by(FUNCTION)
                .about(interval_sub.cast())
                .into());
        };
        let (start, last) = (
            (*interval_sub).interval_tree.start,
            (*interval_sub).interval_tree.last,
        );
        subscriptions.intervals.remove(interval_sub, opaque(mm))?;
        if calls::is_own(mm) {
            WATCHED.remove(start, last);
            calls::tell_of_interval(|observer| observer.removed, start, last);
            WORKER.start_if_stranded();
        }
        mmdrop(mm)
    }
}

/// As [`read_begin`], if the arguments are valid and no change is under way. None, with nothing done, if they may not be.
///
/// # Safety
/// As for [`read_begin`].
#[inline(always)]
pub unsafe fn read_begin_at_rest(interval_sub: *mut mmu_interval_notifier) -> Option<c_ulong> {
    if interval_sub.is_null() {
        return None;
    }
    // SAFETY: The caller's promise.
    unsafe {
        let mm = (*interval_sub).mm;
        if mm.is_null() {
            return None;
        }
        let own = subscriptions::of(mm)?;
        own.intervals.read_begin_at_rest(interval_sub).ok()
    }
}

/// Begins a collision-retry read of what `interval_sub` covers; sleeps while a change of it is under way. The number goes
/// to mmu_interval_read_retry().
///
/// # Errors
/// DV-14; RB-1: its mm never had an interval; DV-7: the call would wait for the callback that makes it.
///
/// # Safety
/// `interval_sub` is NULL or inserted.
// SPEC: RB-1 RB-6
pub unsafe fn read_begin(interval_sub: *mut mmu_interval_notifier) -> Result<c_ulong> {
    const FUNCTION: &CStr = c"mmu_interval_read_begin";
    argument(interval_sub, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe {
        let mm = (*interval_sub).mm;
        argument(mm, FUNCTION)?;
        let Some(subscriptions) = subscriptions::of(mm) else {
            return Err(RB_1.broken_by(FUNCTION).about(interval_sub.cast()).into());
        };
        subscriptions.intervals.read_begin(interval_sub, opaque(mm))
    }
}

/// Did the mm ever have an interval notifier? Then an insert takes no lock of the mm (II-11).
///
/// # Safety
/// `mm` is valid.
pub unsafe fn has_intervals(mm: *const mm_struct) -> bool {
    // SAFETY: The caller's promise.
    unsafe { subscriptions::of(mm) }.is_some_and(subscriptions::Subscriptions::has_itree)
}

/// The sequence number of an mm and its ranges in flight; those of a fresh one if it never had a subscriber (ST-1).
///
/// # Safety
/// `mm` is valid.
pub unsafe fn interval_state(mm: *const mm_struct) -> (u64, usize) {
    // SAFETY: The caller's promise.
    unsafe { subscriptions::of(mm) }.map_or((2, 0), |own| own.intervals.seq_and_active())
}
