//! `<linux/mmu_notifier.h>`: the functions of SPEC 1.1 and 1.2 that read structs which kernels lay out differently, for the
//! layout of the reference. Their names are the kernel's.

use core::ffi::{c_int, c_ulong};

use ::mmu_notifier::abi::mm::mm_struct;
use ::mmu_notifier::abi::notifier::{
    mmu_interval_notifier, mmu_interval_notifier_ops, mmu_notifier, mmu_notifier_ops,
    mmu_notifier_range,
};
use ::mmu_notifier::dispatch::REFERENCE;
use ::mmu_notifier::mm as core_mm;
use ::mmu_notifier::mm::{Request, Subscribed};
use ::mmu_notifier::report::{Error, Result};

use crate::convert::IntoC;

/// Registers a notifier on an address space.
///
/// `subscription->ops` is set by the caller; the rest of the struct may be uninitialised. It stays the library's until
/// mmu_notifier_unregister() returns, or until its free_notifier is called after mmu_notifier_put().
/// The caller holds a user of `mm` and no lock of it: mmap_lock is taken for writing. May sleep. Not from a callback.
///
/// Returns 0, -ENOMEM, or -EINVAL: arch_invalidate_secondary_tlbs together with a range op (RG-2), or registered already
/// (DV-9). Rules: RG-1 to RG-10.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_register(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
) -> c_int {
    // SAFETY: The caller keeps the contract above.
    unsafe { core_mm::register(subscription, mm, REFERENCE) }.into_c()
}

/// As mmu_notifier_register(), with mmap_lock held for writing by the caller (otherwise a warning, RG-1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_register(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::register_locked(subscription, mm, REFERENCE) }.into_c()
}

/// The notifier of `mm` that has these `ops`, counted once more; if there is none, ops->alloc_notifier makes it and it is
/// registered. mmap_lock is held for writing by the caller. Give it back with mmu_notifier_put().
///
/// Returns the notifier or an ERR_PTR: -EOVERFLOW (UINT_MAX gets), -ENOMEM, -EINVAL, or what alloc_notifier returned.
/// Rules: GP-1 to GP-4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_get_locked(
    ops: *const mmu_notifier_ops,
    mm: *mut mm_struct,
) -> *mut mmu_notifier {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::get_locked(ops, mm, REFERENCE) }.into_c()
}

/// Inserts a notifier for `length` bytes from `start` (bytes; no alignment is needed; `start + length` may be 2^64).
///
/// The struct may be uninitialised; it is the library's until mmu_interval_notifier_remove() returns. The caller holds a
/// user of `mm`. Takes mmap_lock for writing if `mm` has had no interval notifier yet, so no lock of it may be held then.
///
/// Returns 0, -EOVERFLOW (`length` is 0 or too long), -ENOMEM, -EINVAL (no users, II-4; inserted already, DV-9). While a
/// change is under way the notifier becomes active at its end; mmu_interval_read_begin() waits for that. Rules: II-1 to
/// II-11.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_interval_notifier_insert(
    interval_sub: *mut mmu_interval_notifier,
    mm: *mut mm_struct,
    start: c_ulong,
    length: c_ulong,
    ops: *const mmu_interval_notifier_ops,
) -> c_int {
    let abi = REFERENCE;
    // SAFETY: The caller keeps the contract.
    unsafe {
        core_mm::insert(&Request {
            interval_sub,
            mm,
            start,
            length,
            ops,
            abi,
        })
    }
    .into_c()
}

/// As mmu_interval_notifier_insert(), with mmap_lock held for writing by the caller (otherwise a warning, II-1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_interval_notifier_insert_locked(
    interval_sub: *mut mmu_interval_notifier,
    mm: *mut mm_struct,
    start: c_ulong,
    length: c_ulong,
    ops: *const mmu_interval_notifier_ops,
) -> c_int {
    let abi = REFERENCE;
    // SAFETY: The caller keeps the contract.
    unsafe {
        core_mm::insert_locked(&Request {
            interval_sub,
            mm,
            start,
            length,
            ops,
            abi,
        })
    }
    .into_c()
}

/// Behind mmu_notifier_invalidate_range_start() and its _nonblock form, which set or clear the blockable flag first.
/// Returns 0, or a negative errno for which no end is owed if the range is not blockable. Rules: RS-1 to RS-9, HS-1 to
/// HS-11, DV-1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_invalidate_range_start(
    range: *mut mmu_notifier_range,
) -> c_int {
    // SAFETY: The caller keeps the contract.
    match unsafe { Subscribed::new(range) } {
        // SAFETY: As above.
        None => unsafe { start_other(range) },
        Some(range) if range.has_intervals() => start(range),
        Some(range) => start_plain(range),
    }
}

// Functions of their own, here and below, so that each saves just the registers that it needs.

#[cold]
#[inline(never)]
unsafe fn start_other(range: *mut mmu_notifier_range) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::invalidate_range_start(range) }.into_c()
}

#[inline(never)]
fn start(range: Subscribed<'_>) -> c_int {
    range.start().unwrap_or_else(fail)
}

#[inline(never)]
fn start_plain(range: Subscribed<'_>) -> c_int {
    // SAFETY: The range is as it was given to us.
    range
        .start_plain()
        .unwrap_or_else(|| unsafe { start_other(range.object()) })
}

/// Behind mmu_notifier_invalidate_range_end(). Rules: RE-1 to RE-7, DV-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_invalidate_range_end(range: *mut mmu_notifier_range) {
    // SAFETY: The caller keeps the contract.
    match unsafe { Subscribed::new(range) } {
        // SAFETY: As above.
        None => unsafe { end_other(range) },
        Some(range) if range.has_intervals() => end(range),
        Some(range) => end_plain(range),
    }
}

#[cold]
#[inline(never)]
unsafe fn end_other(range: *mut mmu_notifier_range) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::invalidate_range_end(range, false) }.into_c();
}

#[inline(never)]
fn end(range: Subscribed<'_>) {
    if let Err(error) = range.end() {
        fail(error);
    }
}

#[inline(never)]
fn end_plain(range: Subscribed<'_>) {
    if !range.end_plain() {
        // SAFETY: The range is as it was given to us.
        unsafe { end_other(range.object()) };
    }
}

/// What a function returns that failed in the middle of what happens all the time.
#[cold]
#[inline(never)]
fn fail<E: Into<Error>>(error: E) -> c_int {
    Result::<c_int>::Err(error.into()).into_c()
}
