//! `<linux/mmu_notifier.h>`: the public structs of ABI group C (SPEC 1.5, 1.6, 2.3), kernels 6.6 to 6.9.

use core::ffi::{c_int, c_uint, c_ulong, c_void};

use super::layout;
use super::mm::mm_struct;
use super::types::{callback_head, hlist_node, interval_tree_node, pte_t};

/// Why a range of an address space changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mmu_notifier_event {
    /// The range is unmapped: munmap, the old range of mremap, exit.
    MMU_NOTIFY_UNMAP = 0,
    /// Page table entries are removed or replaced for any other reason.
    MMU_NOTIFY_CLEAR = 1,
    /// Permissions change for the whole range, as mprotect does.
    MMU_NOTIFY_PROTECTION_VMA = 2,
    /// Permissions change page by page.
    MMU_NOTIFY_PROTECTION_PAGE = 3,
    /// Soft-dirty tracking starts over.
    MMU_NOTIFY_SOFT_DIRTY = 4,
    /// The address space ends; made by the library for interval notifiers only (RL-1).
    MMU_NOTIFY_RELEASE = 5,
    /// Pages migrate to or from device memory; look at `owner`.
    MMU_NOTIFY_MIGRATE = 6,
    /// Pages become exclusive to a device; look at `owner`.
    MMU_NOTIFY_EXCLUSIVE = 7,
}

/// Flag of `mmu_notifier_range.flags`: callbacks may sleep.
pub const MMU_NOTIFIER_RANGE_BLOCKABLE: c_uint = 1;

/// A `enum mmu_notifier_event` as C stores it: any value may come in.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct event_t(pub c_uint);

impl From<mmu_notifier_event> for event_t {
    fn from(event: mmu_notifier_event) -> Self {
        Self(event as c_uint)
    }
}

/// A change of `[start, end)` of an address space.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mmu_notifier_range {
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
pub struct mmu_notifier_ops {
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

/// A subscriber to a whole address space.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier {
    /// Link of the mm's list.
    pub hlist: hlist_node,
    /// Callbacks; set by the caller before it registers.
    pub ops: *const mmu_notifier_ops,
    /// The address space; set by register.
    pub mm: *mut mm_struct,
    /// The library's, once the last put was made.
    pub rcu: callback_head,
    /// Gets (and the registration), less puts.
    pub users: c_uint,
}

/// Callbacks of a subscriber to an interval.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_interval_notifier_ops {
    /// The interval is touched by `range`. Takes the user lock, calls mmu_interval_set_seq() with `cur_seq`, and drops
    /// its copies. False refuses a non-blockable range.
    pub invalidate: Option<
        unsafe extern "C" fn(
            interval_sub: *mut mmu_interval_notifier,
            range: *const mmu_notifier_range,
            cur_seq: c_ulong,
        ) -> bool,
    >,
}

/// A subscriber to an interval of an address space.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_interval_notifier {
    /// The interval and its links.
    pub interval_tree: interval_tree_node,
    /// Callbacks; set by insert.
    pub ops: *const mmu_interval_notifier_ops,
    /// The address space; set by insert.
    pub mm: *mut mm_struct,
    /// Link of the deferred list.
    pub deferred_item: hlist_node,
    /// Sequence number of the last change of the interval; always odd (ST-7).
    pub invalidate_seq: c_ulong,
}

layout! {
    "struct mmu_notifier" mmu_notifier: size 56, align 8 { hlist @ 0, ops @ 16, mm @ 24, rcu @ 32, users @ 48 }
    "struct mmu_interval_notifier" mmu_interval_notifier: size 88, align 8 {
        interval_tree @ 0, ops @ 48, mm @ 56, deferred_item @ 64, invalidate_seq @ 80,
    }
    "struct mmu_interval_notifier_ops" mmu_interval_notifier_ops: size 8, align 8 { invalidate @ 0 }
    "struct mmu_notifier_range" mmu_notifier_range: size 40, align 8 {
        mm @ 0, start @ 8, end @ 16, flags @ 24, event @ 28, owner @ 32,
    }
    "struct mmu_notifier_ops" mmu_notifier_ops: size 80, align 8 {
        release @ 0, clear_flush_young @ 8, clear_young @ 16, test_young @ 24, change_pte @ 32,
        invalidate_range_start @ 40, invalidate_range_end @ 48, arch_invalidate_secondary_tlbs @ 56,
        alloc_notifier @ 64, free_notifier @ 72,
    }
    "enum mmu_notifier_event" event_t: size 4, align 4 {}
}
