//! `<mmu_notifier/stage.h>`: ranges with two stages.

use core::ffi::{c_int, c_uint, c_ulong};

use mmu_notifier::abi::mm::mm_struct;
use mmu_notifier::dispatch::{Abi, REFERENCE};
use mmu_notifier::live::stage::{
    self, Request, mmu_notifier_live_range, mmu_notifier_live_range_ops,
};

use crate::convert::IntoC;

/// Watches `length` bytes of `mm` from `start` on, for one change. The struct may be uninitialised; it and `ops` are the
/// library's until mmu_notifier_live_range_remove() returns true, or `done` is called. The caller holds a user of `mm`
/// (`current->mm` has one). For kernels before 6.3, the event of `invalidate` is theirs.
///
/// `timeout_ms`: how long a thread that changes the memory waits, before it does so, until `release` has returned, in
/// milliseconds; 0: it does not wait. When the time is over it goes on, and mmu_notifier_live_epoch() rises. A range that is
/// waited for refuses non-blockable changes (-EAGAIN for who makes them).
///
/// An insert during other changes takes effect at their end, as with any interval notifier. So, after the insert:
/// mmu_interval_read_begin(&range->interval), which waits for that; then map the memory; then, under the lock that
/// `invalidate` takes, mmu_notifier_live_range_retry(). If that is true, the memory has changed since the insert, and
/// `release` runs or has run.
///
/// Starts the library's threads if they do not run. May be called from a stage; not with a lock held that `invalidate`
/// takes, nor inside an event. Returns 0, or what mmu_interval_notifier_insert() returns; -EAGAIN: no thread could be
/// started; -EBUSY: one would have to be, inside an event. Rules: II-1 to II-11, DV-14.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_range_insert(
    range: *mut mmu_notifier_live_range,
    mm: *mut mm_struct,
    start: c_ulong,
    length: c_ulong,
    ops: *const mmu_notifier_live_range_ops,
    timeout_ms: c_uint,
) -> c_int {
    let abi = REFERENCE.number().into();
    // SAFETY: The caller keeps the contract.
    unsafe { mmu_notifier_abi_live_range_insert(range, mm, start, length, ops, timeout_ms, abi) }
}

/// mmu_notifier_live_range_insert() for an `invalidate` whose event has the layout `abi`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_abi_live_range_insert(
    range: *mut mmu_notifier_live_range,
    mm: *mut mm_struct,
    start: c_ulong,
    length: c_ulong,
    ops: *const mmu_notifier_live_range_ops,
    timeout_ms: c_uint,
    abi: c_uint,
) -> c_int {
    let abi = Abi::from_number(u8::try_from(abi).unwrap_or(0));
    let request = Request {
        range,
        mm,
        start,
        length,
        ops,
        timeout_ms,
        abi,
    };
    // SAFETY: The caller keeps the contract.
    unsafe { stage::insert(request) }.into_c()
}

/// Ends a range. True: no change has touched it, neither `release` nor `done` is called, and the struct is the caller's.
/// False: a change was faster; `release` has run and `done` has returned, if there is one. The range must stay valid until
/// this returns: a driver whose `done` frees holds a reference.
///
/// Sleeps. Not from `invalidate` or another callback of an event of the same address space (DV-7). From `release` and
/// `done`, where it never sleeps, it always returns false, and `done` of the range is still to come. Rules: IR-1 to IR-9,
/// DV-7, DV-9, DV-14.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_range_remove(
    range: *mut mmu_notifier_live_range,
) -> bool {
    // SAFETY: The caller keeps the contract.
    unsafe { stage::remove(range) }.into_c()
}
