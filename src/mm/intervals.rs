//! Interval notifiers: insert, remove, read_begin (SPEC 3.4, 3.6, 3.7). The references to the mm are taken here.

use core::ffi::{CStr, c_ulong};

use super::lifetime::{count, has_users, mmdrop, opaque};
use super::notifiers;
use super::watched::WATCHED;
use super::worker::WORKER;
use super::{argument, calls, locks, subscriptions};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::mmu_interval_notifier;
use crate::dispatch;
use crate::interval::Request;
use crate::report::{DV_9_REMOVE, Error, II_1, II_FINISH, RB_1, Result};
use crate::sync::Ordering;

const INSERT: &CStr = c"mmu_interval_notifier_insert";
const INSERT_LOCKED: &CStr = c"mmu_interval_notifier_insert_locked";
const REMOVE: &CStr = c"mmu_interval_notifier_remove";

/// Inserts a notifier. Takes mmap_lock for writing if the mm never had an interval.
///
/// # Errors
/// EOVERFLOW: the length is 0, or the end lies beyond 2^64; EINVAL (II-4, DV-9); ENOMEM; DV-14; RG-1.
///
/// # Safety
/// Pointers are NULL or valid; the notifier until it was removed; the caller owns a user of the mm.
// SPEC: II-1 II-3 II-11
#[inline(always)]
pub unsafe fn insert(request: &Request) -> Result<()> {
    arguments(request, INSERT)?;
    // SAFETY: The caller's promise.
    unsafe {
        // SPEC: 2.2
        if !dispatch::has_finish_for_start(request.ops, request.abi) {
            II_FINISH
                .broken_by(INSERT)
                .about(request.ops.cast())
                .report();
        }
        insert_into(request, turn_on)
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
pub unsafe fn insert_locked(request: &Request) -> Result<()> {
    let mm = request.mm;
    arguments(request, INSERT_LOCKED)?;
    // SAFETY: The caller's promise.
    unsafe {
        if !locks::is_write_locked(mm) {
            II_1.broken_by(INSERT_LOCKED).about(mm.cast()).report();
        }
        insert_into(request, turn_on_locked)
    }
}

/// Refuses what is NULL of `request`.
#[inline]
fn arguments(request: &Request, function: &'static CStr) -> Result<()> {
    argument(request.mm, function)?;
    argument(request.ops, function)?;
    argument(request.interval_sub, function)
}

/// Has ranges of `mm` look at its intervals from now on.
#[cold]
unsafe fn turn_on(mm: *mut mm_struct) -> Result<()> {
    // SAFETY: The caller passes a valid mm.
    let turn_on = || unsafe { notifiers::add_itree(mm, INSERT) };
    // SAFETY: As above.
    unsafe { notifiers::with_mmap_lock(mm, INSERT, turn_on) }
}

/// As [`turn_on`], with mmap_lock held.
#[cold]
unsafe fn turn_on_locked(mm: *mut mm_struct) -> Result<()> {
    // SAFETY: The caller passes a valid mm.
    unsafe { notifiers::add_itree(mm, INSERT_LOCKED) }
}

/// `turn_on` has ranges of the mm look at its intervals, if it has had none.
#[inline(always)]
unsafe fn insert_into(
    request: &Request,
    turn_on: unsafe fn(*mut mm_struct) -> Result<()>,
) -> Result<()> {
    let mm = request.mm;
    // SAFETY: The caller of `insert` promises valid objects.
    unsafe {
        // SPEC: II-2 II-3
        let subscriptions = match subscriptions::of(mm) {
            Some(known) if known.has_itree() => known,
            _ => {
                turn_on(mm)?;
                &*subscriptions::raw(mm)
            }
        };
        let mm_has_users = has_users(mm);
        // SPEC: II-5. Taken first: another thread may remove the notifier as soon as it is in.
        // ORDERING: Relaxed: the caller holds a reference.
        count(mm).fetch_add(1, Ordering::Relaxed);
        let is_own = calls::is_own(mm);
        if is_own {
            watch(request);
        }
        let result = subscriptions.intervals.insert(request, mm_has_users);
        if result.is_err() {
            // ORDERING: Relaxed: not the last one; the caller still holds its own.
            count(mm).fetch_sub(1, Ordering::Relaxed);
        }
        if is_own {
            watched(request, result.is_ok());
        }
        result
    }
}

/// Before an insert into the process's own mm: has system calls look for intervals in what one is about to cover.
#[cold]
fn watch(request: &Request) {
    if let Some(last) = last(request) {
        WATCHED.add(request.start, last);
    }
}

/// After it: undoes that, or waits for and tells of what is inserted.
#[cold]
fn watched(request: &Request, inserted: bool) {
    if inserted {
        calls::wait_after_insert(request.mm);
    }
    let Some(last) = last(request) else {
        return;
    };
    if inserted {
        calls::tell_of_interval(|observer| observer.inserted, request.start, last);
        WORKER.start_if_stranded();
    } else {
        WATCHED.remove(request.start, last);
    }
}

/// The last byte, of what is not too long.
fn last(request: &Request) -> Option<c_ulong> {
    let more = request.length.checked_sub(1)?;
    request.start.checked_add(more)
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
#[inline(always)]
pub unsafe fn remove(interval_sub: *mut mmu_interval_notifier) -> Result<()> {
    argument(interval_sub, REMOVE)?;
    // SAFETY: The caller's promise.
    unsafe {
        let mm = (*interval_sub).mm;
        argument(mm, REMOVE)?;
        let own = subscriptions::of(mm);
        if !(*mm).inherited.is_null() && was_inherited(interval_sub, mm) {
            return Ok(());
        }
        let Some(subscriptions) = own else {
            return Err(not_inserted(interval_sub));
        };
        // No reference: other threads may give the interval another leaf meanwhile.
        let start = (*interval_sub).interval_tree.start;
        let last = (*interval_sub).interval_tree.last;
        subscriptions.intervals.remove(interval_sub, opaque(mm))?;
        if calls::is_own(mm) {
            unwatch(start, last);
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

#[cold]
fn not_inserted(interval_sub: *const mmu_interval_notifier) -> Error {
    let misuse = DV_9_REMOVE.broken_by(REMOVE);
    misuse.about(interval_sub.cast()).into()
}

/// Did the process's own mm have `interval_sub` before a fork, which is forgotten already (`fork`)?
///
/// # Safety
/// `mm` is valid.
// SPEC: DV-13
#[cold]
unsafe fn was_inherited(interval_sub: *const mmu_interval_notifier, mm: *const mm_struct) -> bool {
    // SAFETY: The caller's promise.
    unsafe { !is_inserted(interval_sub, mm) && subscriptions::end_inherited(mm, |_| true) }
}

/// After a remove from the process's own mm.
#[cold]
fn unwatch(start: c_ulong, last: c_ulong) {
    WATCHED.remove(start, last);
    calls::tell_of_interval(|observer| observer.removed, start, last);
    WORKER.start_if_stranded();
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
#[inline]
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
