//! The address space (floor 4): who exists and for how long, who subscribes, and which events reach them.
//!
//! Owns: the references of SPEC 3.14 (an mm owns its subscriptions and each subscription pins its mm: that circle stays
//! in this room), the registry of all mms, the process's own mm, `current`, and the worker's work.
//!
//! It composes: at the start and at the end of a range intervals come first, the chain second (HS-1, RE-1).
//!
//! Lock order: mmap_lock (rank 1), reverse-map lock (2), then one of the leaves: interval lock, chain lock, the grace
//! period's lock, the worker's lock, the registry's lock. No leaf is held while another is taken, except that a driver's domain
//! hands callbacks to the worker, that the worker asks the walks' domain whether they are due, and that fork takes all of them
//! in the order of `fork.rs`. No leaf is held while a callback, an op or a report handler runs.
//!
//! Arguments are raw pointers because this is what both the C face and an mm's intrusive structures have; NULL is
//! answered with DV-14, anything else is the caller's promise.
#![expect(
    unsafe_code,
    reason = "the ABI is made of raw pointers and intrusive structs"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "accesses to one live object"
)]

pub mod calls;
mod counted;
mod domains;
mod events;
mod fork;
mod intervals;
mod lifetime;
mod locks;
mod notifiers;
mod producers;
mod registry;
mod subscribed;
mod subscriptions;
mod task;
mod walk;
mod watched;
mod worker;

pub use crate::interval::Request;
pub use counted::{get_locked, put, synchronize};
pub use domains::{
    call_rcu, call_srcu, cleanup_srcu, free_rcu, rcu_read_lock, rcu_read_unlock, srcu_barrier,
    srcu_read_lock, srcu_read_unlock, synchronize_rcu, synchronize_srcu,
};
pub use events::{
    Started, arch_invalidate_secondary_tlbs, change_pte, clear_flush_young, clear_young,
    invalidate_range_end, invalidate_range_end_5_14, invalidate_range_end_of,
    invalidate_range_start, invalidate_range_start_5_14, invalidate_range_start_noting, release,
    test_young,
};
pub use fork::make as make_fork;
pub use intervals::{
    has_intervals, insert, insert_locked, interval_state, is_inserted, read_begin,
    read_begin_at_rest, remove,
};
pub use lifetime::{
    mm_alloc, mmdrop, mmget, mmget_not_zero, mmgrab, mmput, mmput_async, subscriptions_destroy,
};
pub use locks::{LockKind, assert_locked, assert_write_locked, rmap, semaphore};
pub use notifiers::{register, register_locked, unregister};
pub use producers::{clears, madvise, mmap, mprotect, mremap, munmap};
pub use registry::process_mm;
pub use subscribed::Subscribed;
pub use task::{current, get_task_mm, kthread_unuse_mm, kthread_use_mm};
pub use watched::{BLOCK_SHIFT, BLOCKS, MORE_BLOCKS, WATCHED, Watched};
#[cfg(loom)]
pub use worker::stop_worker;
pub use worker::{on_worker, rouse_worker, worker_bed};

use core::ffi::CStr;

use crate::report::{DV_14_ARGUMENT, Error, Result};

#[cold]
fn missing(function: &'static CStr) -> Error {
    DV_14_ARGUMENT.broken_by(function).into()
}

/// Refuses a NULL argument of `function`.
// SPEC: DV-14
#[inline]
pub fn argument<T>(pointer: *const T, function: &'static CStr) -> Result<()> {
    if pointer.is_null() {
        return Err(missing(function));
    }
    Ok(())
}
