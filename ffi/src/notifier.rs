//! `<linux/mmu_notifier.h>`: the notifiers' functions (SPEC 1.1 and 1.2).

use core::ffi::{c_int, c_ulong};

use ::mmu_notifier::abi::mm::mm_struct;
use ::mmu_notifier::abi::notifier::{
    mmu_interval_notifier, mmu_interval_notifier_ops, mmu_notifier, mmu_notifier_ops,
    mmu_notifier_range,
};
use ::mmu_notifier::abi::types::pte_t;
use ::mmu_notifier::mm as core_mm;

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
    unsafe { core_mm::register(subscription, mm) }.into_c()
}

/// As mmu_notifier_register(), with mmap_lock held for writing by the caller (otherwise a warning, RG-1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_register(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::register_locked(subscription, mm) }.into_c()
}

/// Ends a registration: calls ops->release unless the end of the address space did, waits until every callback of every
/// notifier that is running now is over, and drops the reference to `mm`. Afterwards the memory is the caller's.
///
/// Sleeps. Not from a callback of a notifier (DV-7), nor under a lock that a callback takes. Rules: UN-1 to UN-7.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_unregister(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::unregister(subscription, mm) }.into_c();
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
    unsafe { core_mm::get_locked(ops, mm) }.into_c()
}

/// Gives back a get, or the registration. The last one stops the callbacks and has ops->free_notifier called, on another
/// thread, once all callbacks of now are over; then the reference to the address space is dropped.
///
/// Never sleeps; legal from every callback. Never calls ops->release. Rules: GP-5 to GP-10.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_put(subscription: *mut mmu_notifier) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::put(subscription) }.into_c();
}

/// Waits until every free_notifier that mmu_notifier_put() owes now has returned and its reference to the address space
/// was dropped, and until every callback of a notifier that is running now, on any address space, is over.
///
/// Sleeps. Not from a callback of a notifier (DV-7). Call it before the code of the ops goes away (dlclose). Rules: SY-1,
/// DV-5.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_synchronize() {
    core_mm::synchronize().into_c();
}

/// Begins a read of what the interval covers; the number goes to mmu_interval_read_retry(), under the lock that the
/// invalidate callback takes, after the pages were looked at.
///
/// Sleeps until no change of the interval is under way. Not from a callback (DV-7), nor under that lock. Always odd.
/// Rules: RB-1 to RB-6, MO-2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_interval_read_begin(
    interval_sub: *mut mmu_interval_notifier,
) -> c_ulong {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::read_begin(interval_sub) }.into_c()
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
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::insert(interval_sub, mm, start, length, ops) }.into_c()
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
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::insert_locked(interval_sub, mm, start, length, ops) }.into_c()
}

/// Removes a notifier and drops its reference to the address space. Afterwards no callback of it runs and its memory is
/// the caller's.
///
/// Sleeps while a change that may concern the interval is under way. Not from a callback of the same address space (DV-7),
/// nor under a lock that a callback takes. Rules: IR-1 to IR-10.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_interval_notifier_remove(interval_sub: *mut mmu_interval_notifier) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::remove(interval_sub) }.into_c();
}

/// Behind mmu_notifier_release(). Rules: RL-1 to RL-7.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_release(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::release(mm) }.into_c();
}

/// Behind mmu_notifier_clear_flush_young(), on bytes `[start, end)`. Rules: YG-1, YG-4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_clear_flush_young(
    mm: *mut mm_struct,
    start: c_ulong,
    end: c_ulong,
) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::clear_flush_young(mm, start, end) }.into_c()
}

/// Behind mmu_notifier_clear_young(), on bytes `[start, end)`. Rules: YG-1, YG-4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_clear_young(
    mm: *mut mm_struct,
    start: c_ulong,
    end: c_ulong,
) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::clear_young(mm, start, end) }.into_c()
}

/// Behind mmu_notifier_test_young(). Rules: YG-2, YG-4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_test_young(mm: *mut mm_struct, address: c_ulong) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::test_young(mm, address) }.into_c()
}

/// Behind mmu_notifier_change_pte(). Rules: YG-3, YG-4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_change_pte(
    mm: *mut mm_struct,
    address: c_ulong,
    pte: pte_t,
) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::change_pte(mm, address, pte) }.into_c();
}

/// Behind mmu_notifier_invalidate_range_start() and its _nonblock form, which set or clear the blockable flag first.
/// Returns 0, or a negative errno for which no end is owed if the range is not blockable. Rules: RS-1 to RS-9, HS-1 to
/// HS-11, DV-1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_invalidate_range_start(
    range: *mut mmu_notifier_range,
) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::invalidate_range_start(range) }.into_c()
}

/// Behind mmu_notifier_invalidate_range_end(). Rules: RE-1 to RE-7, DV-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_invalidate_range_end(range: *mut mmu_notifier_range) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::invalidate_range_end(range) }.into_c();
}

/// Behind mmu_notifier_arch_invalidate_secondary_tlbs(), on bytes `[start, end)`. Rules: YG-3, YG-4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_arch_invalidate_secondary_tlbs(
    mm: *mut mm_struct,
    start: c_ulong,
    end: c_ulong,
) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::arch_invalidate_secondary_tlbs(mm, start, end) }.into_c();
}

/// Behind mmu_notifier_subscriptions_destroy(), which mmdrop() calls by itself. Rules: DS-1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __mmu_notifier_subscriptions_destroy(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::subscriptions_destroy(mm) }.into_c();
}
