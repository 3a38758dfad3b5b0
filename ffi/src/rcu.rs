//! `<linux/srcu.h>`, and what `<linux/rcupdate.h>` stands on: grace periods for drivers.

use core::ffi::{c_int, c_void};

use mmu_notifier::abi::types::callback_head;
use mmu_notifier::mm as core_mm;
use mmu_notifier::srcu::srcu_struct;

use crate::convert::IntoC;

/// Makes a domain usable; zeroed memory is one already. Returns 0. Domains are independent of each other and of the one
/// that the notifiers use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn init_srcu_struct(domain: *mut srcu_struct) -> c_int {
    let valid = core_mm::argument(domain, c"init_srcu_struct");
    if valid.is_ok() {
        // SAFETY: The caller gives the memory.
        unsafe { domain.write(srcu_struct::new()) };
    }
    valid.into_c()
}

/// Ends a domain; its memory is the caller's afterwards. A warning if it still has readers or callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cleanup_srcu_struct(domain: *mut srcu_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::cleanup_srcu(domain) }.into_c();
}

/// Enters a read section, which may sleep and nest. srcu_read_unlock() takes what this returns. Callable from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srcu_read_lock(domain: *mut srcu_struct) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::srcu_read_lock(domain) }.into_c()
}

/// Leaves the read section for which srcu_read_lock() returned `index`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srcu_read_unlock(domain: *mut srcu_struct, index: c_int) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::srcu_read_unlock(domain, index) }.into_c();
}

/// Waits until all read sections that are open now are over. Sleeps; not inside one of them. Callable from callbacks of
/// notifiers, whose domain is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synchronize_srcu(domain: *mut srcu_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::synchronize_srcu(domain) }.into_c();
}

/// Calls `function(head)`, on the library's worker, once all read sections that are open now are over. Never sleeps. The
/// function must not sleep.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn call_srcu(
    domain: *mut srcu_struct,
    head: *mut callback_head,
    function: Option<unsafe extern "C" fn(head: *mut callback_head)>,
) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::call_srcu(domain, head, function) }.into_c();
}

/// Waits until the functions of all earlier call_srcu() on this domain have returned. Sleeps; not from such a function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn srcu_barrier(domain: *mut srcu_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::srcu_barrier(domain) }.into_c();
}

/// Behind rcu_read_lock(): a read section of the process's own domain, which may sleep and nest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_rcu_read_lock() {
    core_mm::rcu_read_lock();
}

/// Behind rcu_read_unlock().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_rcu_read_unlock() {
    core_mm::rcu_read_unlock().into_c();
}

/// Behind synchronize_rcu(): waits until all sections of rcu_read_lock() that are open now are over. Not inside one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_synchronize_rcu() {
    core_mm::synchronize_rcu().into_c();
}

/// Behind call_rcu(). Never sleeps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_call_rcu(
    head: *mut callback_head,
    function: Option<unsafe extern "C" fn(head: *mut callback_head)>,
) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::call_rcu(head, function) }.into_c();
}

/// Behind kfree_rcu(): calls `function(object)` after a grace period of rcu_read_lock(). Never sleeps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_free_rcu(
    object: *mut c_void,
    function: unsafe extern "C" fn(object: *mut c_void),
) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::free_rcu(object, function) }.into_c();
}
