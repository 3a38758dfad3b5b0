//! `struct mm_struct` and `struct task_struct`: the library's own (SPEC 1.6: a source-level drop-in only).

use core::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

use super::layout;
use super::types::{atomic_t, callback_head};
use crate::sync::rw_semaphore;

/// Links of the registry of all live mms. Private.
#[repr(C)]
#[derive(Debug)]
pub struct mm_links {
    /// Next mm, or NULL.
    pub next: *mut mm_struct,
    /// Previous mm, or NULL.
    pub prev: *mut mm_struct,
}

/// Architecture state that two drivers look at.
#[repr(C)]
#[derive(Debug)]
pub struct mm_context_t {
    /// An identifier that no other live mm has.
    pub id: c_ulonglong,
}

/// An address space.
#[repr(C)]
#[derive(Debug)]
pub struct mm_struct {
    /// Users of the address space; the last mmput() ends it (ML-2).
    pub mm_users: atomic_t,
    /// References to this struct; the last mmdrop() frees it (ML-3).
    pub mm_count: atomic_t,
    /// Rank 1: taken before every other lock of the mm.
    pub mmap_lock: rw_semaphore,
    /// NULL until the first registration (ST-1).
    pub notifier_subscriptions: *mut mmu_notifier_subscriptions,
    /// For drivers that hand it to their device; the library never reads it.
    pub pgd: *mut c_void,
    /// Architecture state.
    pub context: mm_context_t,
    /// For drivers of shared virtual addressing: the mm's process address space id. The library never reads it. In a new mm
    /// it is all ones, which stands for none.
    pub pasid: c_uint,
    /// Private: rank 2, the reverse-map lock (DV-2).
    pub rmap_lock: rw_semaphore,
    /// Private: the process's own mm keeps here what it had before a fork (DV-13).
    pub inherited: *mut mmu_notifier_subscriptions,
    /// Private: what the worker gets when the last mmput_async() could not end the mm itself.
    pub async_work: callback_head,
    /// Private: registry of all mms.
    pub links: mm_links,
}

/// The subscriptions of an address space: opaque.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_subscriptions {
    _opaque: [u8; 0],
}

/// A thread, as far as drivers look at it.
#[repr(C)]
#[derive(Debug)]
pub struct task_struct {
    /// The thread's address space; readable and assignable, NULL on the library's worker.
    pub mm: *mut mm_struct,
    /// The thread that the process started with.
    pub group_leader: *mut task_struct,
    /// Thread id.
    pub pid: c_int,
    /// Process id.
    pub tgid: c_int,
    /// Name, NUL-terminated.
    pub comm: [c_char; 16],
    /// As personality(2) says.
    pub personality: c_uint,
}

layout! {
    "struct rw_semaphore" rw_semaphore: size 32, align 8 {}
    "struct mm_struct" mm_struct: size 144, align 8 {
        mm_users @ 0, mm_count @ 4, mmap_lock @ 8, notifier_subscriptions @ 40, pgd @ 48, context @ 56,
        pasid @ 64,
    }
    "struct task_struct" task_struct: size 48, align 8 {
        mm @ 0, group_leader @ 8, pid @ 16, tgid @ 20, comm @ 24, personality @ 40,
    }
}
