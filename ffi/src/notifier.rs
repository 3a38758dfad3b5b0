//! `<linux/mmu_notifier.h>`: the functions of SPEC 1.1 and 1.2 that are the same for every kernel's layout.

use core::ffi::{c_int, c_ulong};

use ::mmu_notifier::abi::mm::mm_struct;
use ::mmu_notifier::abi::notifier::{mmu_interval_notifier, mmu_notifier};
use ::mmu_notifier::abi::types::pte_t;
use ::mmu_notifier::mm as core_mm;

use crate::convert::IntoC;

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
/// Sleeps. Not from a callback of a notifier, nor from what runs on the library's worker (DV-7). Call it before the code of the ops goes away (dlclose). Rules: SY-1,
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
    match unsafe { core_mm::read_begin_at_rest(interval_sub) } {
        Some(seq) => seq,
        // SAFETY: As above.
        None => unsafe { read_begin_later(interval_sub) },
    }
}

// A function of its own, so that the other one needs no stack.
#[cold]
#[inline(never)]
unsafe fn read_begin_later(interval_sub: *mut mmu_interval_notifier) -> c_ulong {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::read_begin(interval_sub) }.into_c()
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
