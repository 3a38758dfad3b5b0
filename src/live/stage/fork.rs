//! fork and exit.
//!
//! The child of a fork has no interval notifiers on the process's own mm (DV-13), so no range of it either: no stage of one is
//! called there, and whoever removes one gets it back. Ranges on other mms come along; what a thread was doing to one is lost half-way.
//! The child has neither thread: the next insert starts them.

use core::ptr;

use super::range::INTERRUPTED;
use super::server::{DONE, Job, RELEASE};
use super::{Fifo, Place, Range, STAGES, Stages};
use crate::mm;
use crate::thread;

/// Runs when the library is loaded, or the program that contains it.
#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = {
    extern "C" fn register() {
        // SAFETY: The handlers take no arguments and never unwind. Without memory for three pointers at load time there is
        // no program to speak of.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    }
    register
};

/// Runs when the process exits.
#[used]
#[unsafe(link_section = ".fini_array")]
static FINISH: extern "C" fn() = {
    extern "C" fn finish() {
        STAGES.stop_if_idle();
    }
    finish
};

extern "C" fn prepare() {
    STAGES.state.acquire();
}

extern "C" fn parent() {
    // SAFETY: Held since `prepare`, by this thread.
    unsafe { STAGES.state.release() };
}

extern "C" fn child() {
    // SAFETY: Held since `prepare`, by this thread's image in the parent; there is one thread.
    unsafe {
        STAGES.forget_threads();
        STAGES.state.release();
    }
}

impl Stages {
    /// # Safety
    /// The lock is held, in the child of a fork.
    unsafe fn forget_threads(&self) {
        let own = thread::inside_stage();
        // SAFETY: The caller's promise; what is queued is valid.
        unsafe {
            let state = self.state.data();
            for (job, stage) in [(Job::Release, RELEASE), (Job::Remove, DONE)] {
                let server = state.server(job);
                server.is_served = own == Some(stage);
                server.thread = None;
                server.queue = without_own(&mut server.queue);
            }
            let lost = keep(own == Some(RELEASE), &mut state.releaser.current);
            if let Some(range) = lost {
                Place::Released.note(range);
                state.remover.queue.push(range);
            }
            let lost = keep(own == Some(DONE), &mut state.remover.current);
            if let Some(range) = lost.filter(|range| Place::of(*range) != Place::Out) {
                (*range).flags |= INTERRUPTED;
                state.remover.queue.push(range);
            }
            state.waiting = ptr::null();
        }
        self.release_due.forget_sleepers();
        self.removal_due.forget_sleepers();
        self.released.forget_sleepers();
        self.removed.forget_sleepers();
    }
}

/// Is it a range of the process's own mm?
unsafe fn is_own(range: *const Range) -> bool {
    // SAFETY: The caller passes a valid range.
    unsafe { (*range).interval.mm == mm::process_mm() }
}

/// A queue without the ranges of the process's own mm, which are forgotten.
unsafe fn without_own(queue: &mut Fifo) -> Fifo {
    let mut kept = Fifo::EMPTY;
    while let Some(range) = queue.pop() {
        // SAFETY: Queued, hence valid.
        unsafe {
            if is_own(range) {
                Place::Forgotten.note(range);
            } else {
                kept.push(range);
            }
        }
    }
    kept
}

/// What a thread was doing, `current`, is over, unless the thread is the one that `is_here`. Returns the range if somebody
/// has to go on with it.
unsafe fn keep(is_here: bool, current: &mut *mut Range) -> Option<*mut Range> {
    let range = *current;
    if range.is_null() {
        return None;
    }
    // SAFETY: The caller passes what a thread was working on, hence a valid range.
    let is_own = unsafe { is_own(range) };
    if is_own {
        // SAFETY: As above.
        unsafe { Place::Forgotten.note(range) };
    }
    if is_own || !is_here {
        *current = ptr::null_mut();
    }
    (!is_own && !is_here).then_some(range)
}
