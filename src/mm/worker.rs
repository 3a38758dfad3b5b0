//! The library's worker, and what floor 4 gives it to do.

use core::ffi::c_void;

use super::counted::free_work;
use super::domains::RCU;
use super::{calls, task};
use crate::abi::types::callback_head;
use crate::chain::WALKS;
use crate::srcu::{Worker, WorkerOps};

crate::sync::global! {
    /// Runs what puts owe, and the ends of address spaces that mmput_async() could not run itself.
    pub(super) static WORKER: Worker = Worker::new(
        &WALKS,
        &RCU,
        WorkerOps {
            begin: task::begin_worker,
            call: free_work,
            may_start: || !calls::is_inside(),
        },
    );
}

/// Has `work.func` called with `work` on the library's worker, after what was queued before.
///
/// # Safety
/// `work` is the library's until its function is called, which may be done on another thread.
pub unsafe fn on_worker(work: *mut callback_head) {
    // SAFETY: The caller's promise.
    unsafe { WORKER.push_work(work) };
    WORKER.kick();
}

/// Has the library's worker look round, and starts it if need be. False: there is no thread to be had.
pub fn rouse_worker() -> bool {
    WORKER.rouse()
}

/// What the library's worker, and nobody else, sleeps on: a key, as the wait hook gets it.
pub fn worker_bed() -> *const c_void {
    WORKER.bed()
}

/// Ends the worker, which is idle: a model has no thread left when it ends.
#[cfg(loom)]
pub fn stop_worker() {
    WORKER.stop_if_idle();
}
