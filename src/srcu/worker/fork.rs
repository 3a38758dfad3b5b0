//! fork holds the queue still.
//!
//! Where system calls are events, a callback inside free() may want the queue with malloc's locks held; so fork's own system call takes the
//! queue's lock, after malloc's (`mm::fork`). One case is left: another patcher has the site of libc's clone, and fork's handler takes the
//! lock first and waits for malloc's with it. So who may be inside free() ([`Worker::kick`], [`Worker::poke`]) does not wait for a fork that
//! holds the lock ([`Lock::lock_unless_forking`]): what it had to tell the worker, fork tells it (`told_fork`).
//!
//! [`Lock::lock_unless_forking`]: crate::sync::Lock::lock_unless_forking
#![expect(unsafe_code, reason = "a lock that spans functions")]

use super::queue::Queue;
use super::{Worker, serve};
use crate::abi::types::callback_head;
use crate::sync::{Fifo, LockGuard, Ordering};

impl Worker {
    /// The lock; None: a fork holds it, which will kick the worker.
    pub(super) fn lock_unless_forking(&self) -> Option<LockGuard<'_, Queue>> {
        loop {
            if let Some(queue) = self.queue.lock_unless_forking() {
                return Some(queue);
            }
            // ORDERING: Relaxed: ordered by the fence in `is_forking`.
            self.told_fork.store(1, Ordering::Relaxed);
            if self.queue.is_forking() {
                return None;
            }
        }
    }

    /// Before fork: holds the queue still. What runs is not waited for: it may want a lock that the forking thread holds.
    pub fn hold_for_fork(&self) {
        self.queue.acquire_for_fork();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    pub unsafe fn release_in_parent(&'static self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.queue.release_after_fork() };
        // ORDERING: Relaxed: ordered by the fence in `release_after_fork`.
        if self.told_fork.swap(0, Ordering::Relaxed) != 0 {
            self.kick();
        }
    }

    /// After fork, in the child: the worker does not exist, unless it is the thread that forked. What is owed stays owed, except
    /// callbacks that `drop_if` names; what was running on another thread will not end.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`.
    pub unsafe fn release_in_child(&self, drop_if: impl Fn(*mut callback_head) -> bool) {
        // SAFETY: Held since `hold_for_fork`; the child has one thread.
        let queue = unsafe { self.queue.data() };
        self.inbox.empty(queue);
        let mut kept = Fifo::EMPTY;
        while let Some(head) = queue.callbacks.pop() {
            if drop_if(head) {
                queue.finished += 1;
            } else {
                // SAFETY: Just taken out; still valid.
                unsafe { kept.push(head) };
            }
        }
        queue.callbacks = kept;
        if !serve::is_running() {
            queue.finished += u64::from(queue.running && queue.running_callback);
            queue.running = false;
            queue.served = false;
            self.inbox.fall_asleep(queue);
        }
        queue.thread = None;
        // ORDERING: Relaxed: the child has one thread.
        self.told_fork.store(0, Ordering::Relaxed);
        self.idle.forget_sleepers();
        self.done.forget_sleepers();
        // SAFETY: As above.
        unsafe { self.queue.release() };
    }
}
