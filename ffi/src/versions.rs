//! The functions of `reference.rs` for any kernel's layout: the headers call them when they are compiled for another kernel
//! (`MMU_NOTIFIER_KERNEL`). `abi` is one of `enum mmu_notifier_abi`.

use core::ffi::{c_int, c_uint, c_ulong, c_void};

use ::mmu_notifier::abi::mm::mm_struct;
use ::mmu_notifier::abi::notifier::{mmu_interval_notifier, mmu_notifier};
use ::mmu_notifier::abi::versions::mmu_notifier_abi::MMU_NOTIFIER_ABI_5_14;
use ::mmu_notifier::dispatch::Abi;
use ::mmu_notifier::mm as core_mm;
use ::mmu_notifier::mm::Request;

use crate::convert::IntoC;

fn layout(abi: c_uint) -> Abi {
    Abi::from_number(u8::try_from(abi).unwrap_or(0))
}

/// mmu_notifier_register() for ops of the layout `abi`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_abi_register(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    abi: c_uint,
) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::register(subscription, mm, layout(abi)) }.into_c()
}

/// __mmu_notifier_register() for ops of the layout `abi`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_abi_register_locked(
    subscription: *mut mmu_notifier,
    mm: *mut mm_struct,
    abi: c_uint,
) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::register_locked(subscription, mm, layout(abi)) }.into_c()
}

/// mmu_notifier_get_locked() for ops of the layout `abi`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_abi_get_locked(
    ops: *const c_void,
    mm: *mut mm_struct,
    abi: c_uint,
) -> *mut mmu_notifier {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::get_locked(ops.cast(), mm, layout(abi)) }.into_c()
}

/// mmu_interval_notifier_insert() for ops of the layout `abi`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_abi_insert(
    interval_sub: *mut mmu_interval_notifier,
    mm: *mut mm_struct,
    start: c_ulong,
    length: c_ulong,
    ops: *const c_void,
    abi: c_uint,
) -> c_int {
    let (ops, abi) = (ops.cast(), layout(abi));
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

/// mmu_interval_notifier_insert_locked() for ops of the layout `abi`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_abi_insert_locked(
    interval_sub: *mut mmu_interval_notifier,
    mm: *mut mm_struct,
    start: c_ulong,
    length: c_ulong,
    ops: *const c_void,
    abi: c_uint,
) -> c_int {
    let (ops, abi) = (ops.cast(), layout(abi));
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

/// __mmu_notifier_invalidate_range_start() for a range of the layout `abi`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_abi_range_start(range: *mut c_void, abi: c_uint) -> c_int {
    if layout(abi) == MMU_NOTIFIER_ABI_5_14 {
        // SAFETY: The caller keeps the contract.
        return unsafe { core_mm::invalidate_range_start_5_14(range.cast()) }.into_c();
    }
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::invalidate_range_start(range.cast()) }.into_c()
}

/// __mmu_notifier_invalidate_range_end() for a range of the layout `abi`. With `only_end`, subscribers of kernels before
/// 6.6 are not called for their secondary TLBs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_abi_range_end(
    range: *mut c_void,
    abi: c_uint,
    only_end: bool,
) {
    if layout(abi) == MMU_NOTIFIER_ABI_5_14 {
        // SAFETY: The caller keeps the contract.
        unsafe { core_mm::invalidate_range_end_5_14(range.cast(), only_end) }.into_c();
        return;
    }
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::invalidate_range_end(range.cast(), only_end) }.into_c();
}
