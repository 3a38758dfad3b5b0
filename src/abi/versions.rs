//! The structs that other kernels lay out or type differently from 6.6 (SPEC 2): each is named after the first kernel that
//! has it, and a C program sees it under the kernel's own name.
//!
//! | kernels | range | ops | interval ops |
//! |---|---|---|---|
//! | 5.14 to 6.2 | `mmu_notifier_range_5_14` | `mmu_notifier_ops_5_14` | `mmu_interval_notifier_ops_5_14` |
//! | 6.3 to 6.5 | `mmu_notifier_range` | `mmu_notifier_ops_6_3` | `mmu_interval_notifier_ops` |
//! | 6.6 to 6.9 | `mmu_notifier_range` | `mmu_notifier_ops` | `mmu_interval_notifier_ops` |
//! | 6.10 to 7.0 | `mmu_notifier_range` | `mmu_notifier_ops_6_10` | `mmu_interval_notifier_ops` |
//! | 7.1 | `mmu_notifier_range` | `mmu_notifier_ops_7_1` | `mmu_interval_notifier_ops_7_1` |

use core::ffi::{c_int, c_uint, c_ulong, c_void};

use super::layout;
use super::mm::mm_struct;
use super::notifier::{event_t, mmu_interval_notifier, mmu_notifier, mmu_notifier_range};
use super::types::{llist_node, pte_t};

/// A kernel's binary interface, by the first kernel that has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mmu_notifier_abi {
    /// Linux 5.14 to 6.2.
    MMU_NOTIFIER_ABI_5_14 = 1,
    /// Linux 6.3 to 6.5.
    MMU_NOTIFIER_ABI_6_3 = 2,
    /// Linux 6.6 to 6.9: the reference.
    MMU_NOTIFIER_ABI_6_6 = 3,
    /// Linux 6.10 to 7.0.
    MMU_NOTIFIER_ABI_6_10 = 4,
    /// Linux 7.1 and newer.
    MMU_NOTIFIER_ABI_7_1 = 5,
}

/// `struct vm_area_struct`: opaque; the library only passes it on.
#[repr(C)]
#[derive(Debug)]
pub struct vm_area_struct {
    _opaque: [u8; 0],
}

/// A change of `[start, end)` of an address space.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_range_5_14 {
    /// The mapping concerned, as the producer gave it, or NULL.
    pub vma: *mut vm_area_struct,
    /// The address space.
    pub mm: *mut mm_struct,
    /// First byte.
    pub start: c_ulong,
    /// One past the last byte.
    pub end: c_ulong,
    /// `MMU_NOTIFIER_RANGE_BLOCKABLE` or 0; set by the start call.
    pub flags: c_uint,
    /// Why.
    pub event: event_t,
    /// Who makes the change, for MIGRATE and EXCLUSIVE; indeterminate after a plain range_init.
    pub owner: *mut c_void,
}

/// Callbacks of a subscriber to a whole address space. A NULL member is skipped.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_ops_5_14 {
    /// The address space ends, or the subscriber is being unregistered. May sleep; may run twice (RL-6).
    pub release: Option<unsafe extern "C" fn(subscription: *mut mmu_notifier, mm: *mut mm_struct)>,
    /// Tests and clears the accessed state of `[start, end)` and flushes it. Must not sleep.
    pub clear_flush_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ) -> c_int,
    >,
    /// Tests and clears the accessed state of `[start, end)`. Must not sleep.
    pub clear_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ) -> c_int,
    >,
    /// Tests the accessed state of the page at `address`. Must not sleep.
    pub test_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            address: c_ulong,
        ) -> c_int,
    >,
    /// The entry of `address` is replaced by `pte`, inside a start/end pair. Must not sleep.
    pub change_pte: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            address: c_ulong,
            pte: pte_t,
        ),
    >,
    /// The range is about to change. 0, or -EAGAIN for a non-blockable range.
    pub invalidate_range_start: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            range: *const mmu_notifier_range_5_14,
        ) -> c_int,
    >,
    /// The range has changed.
    pub invalidate_range_end: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            range: *const mmu_notifier_range_5_14,
        ),
    >,
    /// A TLB that shares the CPU's page table must drop `[start, end)`. Called at the end of every range, too. Must not sleep.
    pub invalidate_range: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ),
    >,
    /// Allocates the subscriber that mmu_notifier_get() registers; an ERR_PTR on failure.
    pub alloc_notifier: Option<unsafe extern "C" fn(mm: *mut mm_struct) -> *mut mmu_notifier>,
    /// Frees a subscriber after its last mmu_notifier_put(). Must not sleep.
    pub free_notifier: Option<unsafe extern "C" fn(subscription: *mut mmu_notifier)>,
}

/// Callbacks of a subscriber to a whole address space. A NULL member is skipped.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_ops_6_3 {
    /// The address space ends, or the subscriber is being unregistered. May sleep; may run twice (RL-6).
    pub release: Option<unsafe extern "C" fn(subscription: *mut mmu_notifier, mm: *mut mm_struct)>,
    /// Tests and clears the accessed state of `[start, end)` and flushes it. Must not sleep.
    pub clear_flush_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ) -> c_int,
    >,
    /// Tests and clears the accessed state of `[start, end)`. Must not sleep.
    pub clear_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ) -> c_int,
    >,
    /// Tests the accessed state of the page at `address`. Must not sleep.
    pub test_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            address: c_ulong,
        ) -> c_int,
    >,
    /// The entry of `address` is replaced by `pte`, inside a start/end pair. Must not sleep.
    pub change_pte: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            address: c_ulong,
            pte: pte_t,
        ),
    >,
    /// The range is about to change. 0, or -EAGAIN for a non-blockable range.
    pub invalidate_range_start: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            range: *const mmu_notifier_range,
        ) -> c_int,
    >,
    /// The range has changed.
    pub invalidate_range_end: Option<
        unsafe extern "C" fn(subscription: *mut mmu_notifier, range: *const mmu_notifier_range),
    >,
    /// A TLB that shares the CPU's page table must drop `[start, end)`. Called at the end of every range, too. Must not sleep.
    pub invalidate_range: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ),
    >,
    /// Allocates the subscriber that mmu_notifier_get() registers; an ERR_PTR on failure.
    pub alloc_notifier: Option<unsafe extern "C" fn(mm: *mut mm_struct) -> *mut mmu_notifier>,
    /// Frees a subscriber after its last mmu_notifier_put(). Must not sleep.
    pub free_notifier: Option<unsafe extern "C" fn(subscription: *mut mmu_notifier)>,
}

/// Callbacks of a subscriber to a whole address space. A NULL member is skipped.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_ops_6_10 {
    /// The address space ends, or the subscriber is being unregistered. May sleep; may run twice (RL-6).
    pub release: Option<unsafe extern "C" fn(subscription: *mut mmu_notifier, mm: *mut mm_struct)>,
    /// Tests and clears the accessed state of `[start, end)` and flushes it. Must not sleep.
    pub clear_flush_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ) -> c_int,
    >,
    /// Tests and clears the accessed state of `[start, end)`. Must not sleep.
    pub clear_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ) -> c_int,
    >,
    /// Tests the accessed state of the page at `address`. Must not sleep.
    pub test_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            address: c_ulong,
        ) -> c_int,
    >,
    /// The range is about to change. 0, or -EAGAIN for a non-blockable range.
    pub invalidate_range_start: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            range: *const mmu_notifier_range,
        ) -> c_int,
    >,
    /// The range has changed.
    pub invalidate_range_end: Option<
        unsafe extern "C" fn(subscription: *mut mmu_notifier, range: *const mmu_notifier_range),
    >,
    /// A TLB that shares the CPU's page table must drop `[start, end)`. Must not sleep.
    pub arch_invalidate_secondary_tlbs: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ),
    >,
    /// Allocates the subscriber that mmu_notifier_get() registers; an ERR_PTR on failure.
    pub alloc_notifier: Option<unsafe extern "C" fn(mm: *mut mm_struct) -> *mut mmu_notifier>,
    /// Frees a subscriber after its last mmu_notifier_put(). Must not sleep.
    pub free_notifier: Option<unsafe extern "C" fn(subscription: *mut mmu_notifier)>,
}

/// Callbacks of a subscriber to a whole address space. A NULL member is skipped.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_ops_7_1 {
    /// The address space ends, or the subscriber is being unregistered. May sleep; may run twice (RL-6).
    pub release: Option<unsafe extern "C" fn(subscription: *mut mmu_notifier, mm: *mut mm_struct)>,
    /// Tests and clears the accessed state of `[start, end)` and flushes it. Must not sleep.
    pub clear_flush_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ) -> bool,
    >,
    /// Tests and clears the accessed state of `[start, end)`. Must not sleep.
    pub clear_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ) -> bool,
    >,
    /// Tests the accessed state of the page at `address`. Must not sleep.
    pub test_young: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            address: c_ulong,
        ) -> bool,
    >,
    /// The range is about to change. 0, or -EAGAIN for a non-blockable range.
    pub invalidate_range_start: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            range: *const mmu_notifier_range,
        ) -> c_int,
    >,
    /// The range has changed.
    pub invalidate_range_end: Option<
        unsafe extern "C" fn(subscription: *mut mmu_notifier, range: *const mmu_notifier_range),
    >,
    /// A TLB that shares the CPU's page table must drop `[start, end)`. Must not sleep.
    pub arch_invalidate_secondary_tlbs: Option<
        unsafe extern "C" fn(
            subscription: *mut mmu_notifier,
            mm: *mut mm_struct,
            start: c_ulong,
            end: c_ulong,
        ),
    >,
    /// Allocates the subscriber that mmu_notifier_get() registers; an ERR_PTR on failure.
    pub alloc_notifier: Option<unsafe extern "C" fn(mm: *mut mm_struct) -> *mut mmu_notifier>,
    /// Frees a subscriber after its last mmu_notifier_put(). Must not sleep.
    pub free_notifier: Option<unsafe extern "C" fn(subscription: *mut mmu_notifier)>,
}

/// Callbacks of a subscriber to an interval.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_interval_notifier_ops_5_14 {
    /// The interval is touched by `range`. Takes the user lock, calls mmu_interval_set_seq() with `cur_seq`, and drops
    /// its copies. False refuses a non-blockable range.
    pub invalidate: Option<
        unsafe extern "C" fn(
            interval_sub: *mut mmu_interval_notifier,
            range: *const mmu_notifier_range_5_14,
            cur_seq: c_ulong,
        ) -> bool,
    >,
}

/// What `invalidate_start` leaves to be done once every start of the range has run.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_interval_notifier_finish {
    /// The library's: a queue.
    pub link: llist_node,
    /// The notifier; set by the library.
    pub notifier: *mut mmu_interval_notifier,
}

/// Callbacks of a subscriber to an interval.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_interval_notifier_ops_7_1 {
    /// The interval is touched by `range`. Takes the user lock, calls mmu_interval_set_seq() with `cur_seq`, and drops
    /// its copies. False refuses a non-blockable range.
    pub invalidate: Option<
        unsafe extern "C" fn(
            interval_sub: *mut mmu_interval_notifier,
            range: *const mmu_notifier_range,
            cur_seq: c_ulong,
        ) -> bool,
    >,
    /// Called instead of `invalidate`, if set: begins, and may leave the rest to `invalidate_finish` by storing into
    /// `finish`, which is NULL on entry.
    pub invalidate_start: Option<
        unsafe extern "C" fn(
            interval_sub: *mut mmu_interval_notifier,
            range: *const mmu_notifier_range,
            cur_seq: c_ulong,
            finish: *mut *mut mmu_interval_notifier_finish,
        ) -> bool,
    >,
    /// Ends what `invalidate_start` began. Called in the order of the starts, after the last of them.
    pub invalidate_finish: Option<unsafe extern "C" fn(finish: *mut mmu_interval_notifier_finish)>,
}

layout! {
    "struct mmu_notifier_range" mmu_notifier_range_5_14: size 48, align 8 {
        vma @ 0, mm @ 8, start @ 16, end @ 24, flags @ 32, event @ 36, owner @ 40,
    }
    "struct mmu_notifier_ops" mmu_notifier_ops_5_14: size 80, align 8 {
        release @ 0, clear_flush_young @ 8, clear_young @ 16, test_young @ 24, change_pte @ 32,
        invalidate_range_start @ 40, invalidate_range_end @ 48, invalidate_range @ 56, alloc_notifier @ 64,
        free_notifier @ 72,
    }
    "struct mmu_interval_notifier_ops" mmu_interval_notifier_ops_5_14: size 8, align 8 { invalidate @ 0 }
    "struct mmu_notifier_ops" mmu_notifier_ops_6_3: size 80, align 8 {
        release @ 0, clear_flush_young @ 8, clear_young @ 16, test_young @ 24, change_pte @ 32,
        invalidate_range_start @ 40, invalidate_range_end @ 48, invalidate_range @ 56, alloc_notifier @ 64,
        free_notifier @ 72,
    }
    "struct mmu_notifier_ops" mmu_notifier_ops_6_10: size 72, align 8 {
        release @ 0, clear_flush_young @ 8, clear_young @ 16, test_young @ 24, invalidate_range_start @ 32,
        invalidate_range_end @ 40, arch_invalidate_secondary_tlbs @ 48, alloc_notifier @ 56, free_notifier @ 64,
    }
    "struct mmu_notifier_ops" mmu_notifier_ops_7_1: size 72, align 8 {
        release @ 0, clear_flush_young @ 8, clear_young @ 16, test_young @ 24, invalidate_range_start @ 32,
        invalidate_range_end @ 40, arch_invalidate_secondary_tlbs @ 48, alloc_notifier @ 56, free_notifier @ 64,
    }
    "struct mmu_interval_notifier_ops" mmu_interval_notifier_ops_7_1: size 24, align 8 {
        invalidate @ 0, invalidate_start @ 8, invalidate_finish @ 16,
    }
    "struct mmu_interval_notifier_finish" mmu_interval_notifier_finish: size 16, align 8 { link @ 0, notifier @ 8 }
}
