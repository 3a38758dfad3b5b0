//! fork and exit.
//!
//! The child of a fork has no interval notifiers on the process's own mm (DV-13), so no range of it either: no stage of one is
//! called there, and whoever removes one gets it back. Ranges on other mms come along; what a thread was doing to one is lost half-way,
//! and whoever removes it sees to the rest. The child has neither thread: the next insert starts them.
//!
//! fork does not hold the lock: an event inside free() takes it with malloc's locks held, and fork takes malloc's locks after
//! its handlers have run. So the child cannot go by what the lock guards, and does not: it begins anew.

use super::range::{self, INTERRUPTED};
use super::server::{DONE, RELEASE};
use super::{Place, Range, STAGES, Stages, State};
use crate::mm;
use crate::thread;

/// Runs when the library is loaded, or the program that contains it.
#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = {
    extern "C" fn register() {
        // SAFETY: The handlers take no arguments and never unwind. Without memory for three pointers at load time there is
        // no program to speak of.
        unsafe { libc::pthread_atfork(None, None, Some(child)) };
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

extern "C" fn child() {
    // SAFETY: The child has one thread.
    unsafe { STAGES.begin_anew() };
}

impl Stages {
    /// Forgets what the parent's threads were doing, whose queues may be half-way through a change.
    ///
    /// # Safety
    /// No other thread runs: the child of a fork.
    // SPEC: DV-13
    unsafe fn begin_anew(&self) {
        range::count_fork();
        let own = thread::inside_stage();
        // SAFETY: The caller's promise.
        unsafe {
            self.state.seize();
            let state = self.state.data();
            *state = State::IDLE;
            // A stage of the parent that forks goes on here, and its thread with it.
            state.releaser.is_served = own == Some(RELEASE);
            state.remover.is_served = own == Some(DONE);
            self.state.release();
        }
        self.release_due.forget_sleepers();
        self.removal_due.forget_sleepers();
        self.released.forget_sleepers();
        self.removed.forget_sleepers();
    }
}

impl State {
    /// Where `range` stands. What the parent of a fork owed to a range of another mm is owed here from now on.
    ///
    /// # Safety
    /// `range` is valid, and somebody removes it. The lock is held.
    // SPEC: DV-13
    pub(super) unsafe fn adopt(&mut self, range: *mut Range) -> Place {
        // SAFETY: The caller's promise.
        unsafe {
            let place = Place::of(range);
            if place != Place::Forgotten || (*range).interval.mm == mm::process_mm() {
                return place;
            }
            match Place::noted(range) {
                Place::Touched => {
                    Place::Touched.note(range);
                    self.releaser.queue.push(range);
                    Place::Touched
                }
                Place::Releasing | Place::Released => {
                    (*range).flags |= INTERRUPTED;
                    Place::Released.note(range);
                    self.remover.queue.push(range);
                    Place::Released
                }
                _ => place,
            }
        }
    }
}
