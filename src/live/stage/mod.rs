//! Ranges with two stages, for drivers that may not do all of their work in the thread that unmaps.
//!
//! Owns: the ranges whose release is owed, those that are to be removed, and the two threads that see to it.
//!
//! A range is an interval notifier that is good for one change. The first event that touches it runs its invalidate stage in the
//! thread that makes the change, and queues it. The *releaser*, a thread of the library, runs its release stage. Then the *remover*,
//! the other thread, takes it out of the index, and tells the driver by `done`. An event may wait, after all
//! notifiers were told (`invalidate_finish`, SPEC 2.2), until the release has returned: the device has let go of the memory when
//! munmap returns. If that takes longer than the driver allows, the event goes on, and the epoch rises.
//!
//! Who waits for whom, and why that ends
//! * Events wait for releases: with a time-out, and never on the releaser's own thread.
//! * The releaser waits for nothing but the release that it runs.
//! * The remover waits for the ends of busy periods, so for events. That is why it is a thread of its own: a releaser that
//!   waited for a busy period, in which an event waits for the releaser, would have both wait.
//! * [`remove`] waits for both threads; so it may not be called from a callback of an event (DV-7), and from a stage it
//!   never waits: there it hands over, and `done` tells the end.
//! * In the release stage of a range that is waited for, a wait for the end of a busy period would be one for that event: it is
//!   reported instead (DV-7), by the same look at the thread's frames as in any callback.
//!
//! Invariants
//! * What a range's words hold is guarded by one lock, a leaf, which events take as well. Nothing is allocated, called or waited for
//!   under it. Queues are linked through the ranges.
//! * Only the step from `In` to `Touched` queues a release, and a remove's from `In` to `Taken` prevents it: so a release runs
//!   once or never, and who removes a range is told which.
//! * An event uses a range only while it is counted in, and a range leaves the index only when no event is: so
//!   after the removal nobody waits for the range's release any more, and it may be freed.
//! * Threads are started by insert and never inside an event, all signals blocked. Where none serves (in the child of a fork, until
//!   the next insert there; at exit), events do not wait, and [`remove`] does what it would wait for.
//!
//! Lock order: a leaf.
#![expect(
    unsafe_code,
    reason = "the ABI is made of raw pointers and intrusive structs"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "accesses to one live range"
)]

mod event;
mod fork;
mod range;
mod server;

pub use range::{mmu_notifier_live_range, mmu_notifier_live_range_ops};

use core::cell::Cell;
use core::ffi::{CStr, c_uint, c_ulong, c_void};
use core::ptr;

use crate::abi::mm::mm_struct;
use crate::dispatch::Abi;
use crate::mm;
use crate::report::{DV_7, DV_9_REMOVE, Error, Result};
use crate::sync::{
    self, Lock, LockGuard, WaitQueue, hook::WaitReason::MMU_NOTIFIER_WAIT_REMOVE as REMOVE,
};
use crate::thread;
use range::{Ops, Place, Range};
use server::{Job, Server};

/// What an insert is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The range; its memory may hold anything.
    pub range: *mut mmu_notifier_live_range,
    /// The address space.
    pub mm: *mut mm_struct,
    /// First byte.
    pub start: c_ulong,
    /// Length in bytes.
    pub length: c_ulong,
    /// The stages.
    pub ops: *const mmu_notifier_live_range_ops,
    /// How long a thread that changes the memory waits for the release stage, in milliseconds. 0: not at all.
    pub timeout_ms: c_uint,
    /// The layout of the event that the invalidate stage takes.
    pub abi: Abi,
}

sync::global! {
    static STAGES: Stages = Stages::new();
}

/// All ranges that are on their way out.
#[derive(Debug)]
struct Stages {
    state: Lock<State>,
    /// The releaser sleeps here.
    release_due: WaitQueue,
    /// The remover sleeps here.
    removal_due: WaitQueue,
    /// Events sleep here until a release has returned.
    released: WaitQueue,
    /// Those who wait in `remove` sleep here.
    removed: WaitQueue,
}

#[derive(Debug)]
struct State {
    releaser: Server,
    remover: Server,
    /// The calls of `remove` that sleep, linked through their stacks.
    waiting: *const Waiting,
}

/// A call of `remove` that waits until the library is done with a range.
#[derive(Debug)]
struct Waiting {
    range: *const Range,
    is_over: Cell<bool>,
    next: Cell<*const Waiting>,
}

impl Stages {
    const fn new() -> Self {
        Self {
            state: Lock::new(State::IDLE),
            release_due: WaitQueue::new(),
            removal_due: WaitQueue::new(),
            released: WaitQueue::new(),
            removed: WaitQueue::new(),
        }
    }

    fn lock(&self) -> LockGuard<'_, State> {
        self.state.lock()
    }

    /// Sleeps until the library is done with `range`, which is on its way out; does what nobody else does.
    unsafe fn wait_until_out<'a>(
        &'a self,
        mut state: LockGuard<'a, State>,
        range: *const Range,
    ) -> LockGuard<'a, State> {
        let own = Waiting {
            range,
            is_over: Cell::new(false),
            next: Cell::new(state.waiting),
        };
        state.waiting = &raw const own;
        while !own.is_over.get() {
            state = match state.stranded() {
                Some(job) => self.stand_in(state, job),
                None => self.removed.wait(state, REMOVE),
            };
        }
        state
    }
}

impl State {
    const IDLE: Self = Self {
        releaser: Server::IDLE,
        remover: Server::IDLE,
        waiting: ptr::null(),
    };

    /// Tells those who wait for `range` that the library is done with it.
    fn settle(&mut self, range: *const Range) {
        let (mut next, mut left) = (self.waiting, ptr::null());
        // SAFETY: Calls that wait are linked until they are told, and the lock, which is held, keeps them from going on.
        while let Some(waiting) = unsafe { next.as_ref() } {
            next = waiting.next.get();
            if waiting.range == range {
                waiting.is_over.set(true);
            } else {
                waiting.next.set(left);
                left = waiting;
            }
        }
        self.waiting = left;
    }
}

/// Inserts a range. Starts the library's two threads if they do not run.
///
/// # Errors
/// As `mm::insert`; EBUSY: threads would have to be started inside an event; EAGAIN: they cannot be started.
///
/// # Safety
/// Pointers are NULL or valid; the range and its ops until the library is done with it; the caller owns a user of the mm.
pub unsafe fn insert(request: Request) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_notifier_live_range_insert";
    let Request { range, mm, ops, .. } = request;
    mm::argument(range, FUNCTION)?;
    mm::argument(mm, FUNCTION)?;
    mm::argument(ops, FUNCTION)?;
    // SAFETY: The caller's promise.
    let (invalidate, release) = unsafe { ((*ops).invalidate, (*ops).release) };
    mm::argument(
        invalidate.map_or(ptr::null(), |op| op as *const c_void),
        FUNCTION,
    )?;
    mm::argument(
        release.map_or(ptr::null(), |op| op as *const c_void),
        FUNCTION,
    )?;
    STAGES.ensure_served()?;
    let interval = mm::Request {
        interval_sub: range.cast(),
        mm,
        start: request.start,
        length: request.length,
        ops: event::OPS.cast(),
        abi: event::ABI,
    };
    // SAFETY: The caller's promise.
    unsafe {
        if mm::is_inserted(range.cast(), mm) {
            // Refused (DV-9), and nothing of it is touched.
            return mm::insert(&interval);
        }
        (*range).ops = ops;
        (*range).timeout_ms = request.timeout_ms;
        (*range).abi = request.abi.number().into();
        (*range).flags = 0;
        (*range).changed = 0;
        Place::In.note(range);
        let result = mm::insert(&interval);
        if result.is_err() {
            Place::Out.note(range);
        }
        result
    }
}

/// Ends a range. True: no event has touched it, no stage was called but perhaps `invalidate`, and it is the caller's again.
/// False: an event was faster; `release` has run, and `done` has returned; or, if this is called from a stage, will have.
///
/// # Errors
/// DV-14; DV-7: from a callback of an event of the same address space; DV-9: another call is removing it.
///
/// # Safety
/// `range` is NULL or valid, and was inserted.
pub unsafe fn remove(range: *mut mmu_notifier_live_range) -> Result<bool> {
    const FUNCTION: &CStr = c"mmu_notifier_live_range_remove";
    mm::argument(range, FUNCTION)?;
    let inside_stage = thread::inside_stage().is_some();
    // SAFETY: The caller's promise.
    let mm = unsafe { (*range).interval.mm };
    if let Some(op) = thread::inside_range_of(mm.cast()).filter(|_| !inside_stage) {
        return Err(DV_7.broken_by(FUNCTION).inside(op).into());
    }
    let mut state = STAGES.lock();
    // SAFETY: As above.
    let place = unsafe { state.adopt(range) };
    match place {
        Place::In if inside_stage => {
            // SAFETY: As above; nobody else has taken it.
            unsafe {
                Place::Taken.note(range);
                state.remover.queue.push(range);
            }
            STAGES.announce_due(state, Job::Remove);
            Ok(false)
        }
        Place::In => {
            // SAFETY: As above.
            unsafe { Place::Taken.note(range) };
            drop(state);
            // SAFETY: As above.
            let result = unsafe { mm::remove(range.cast()) };
            let state = STAGES.lock();
            // SAFETY: As above.
            unsafe { Place::Out.note(range) };
            drop(state);
            result.map(|()| true)
        }
        Place::Taken => Err(Error::from(
            DV_9_REMOVE.broken_by(FUNCTION).about(range.cast()),
        )),
        Place::Forgotten => {
            drop(state);
            // SAFETY: As above.
            unsafe {
                Place::Out.note(range);
                if mm::is_inserted(range.cast(), mm) {
                    mm::remove(range.cast())?;
                }
            }
            Ok(true)
        }
        Place::Out if state.remover.current != range => Ok(false),
        _ if inside_stage => Ok(false),
        _ => {
            // SAFETY: As above.
            drop(unsafe { STAGES.wait_until_out(state, range) });
            Ok(false)
        }
    }
}

/// Ends the threads, once they are idle: a model has none left when it ends.
#[cfg(loom)]
pub fn stop_threads() {
    let mut state = STAGES.lock();
    while !(state.releaser.is_idle() && state.remover.is_idle()) {
        state = STAGES.removed.wait(state, REMOVE);
    }
    drop(state);
    STAGES.stop_if_idle();
}
