//! The two threads: what waits for them, and what they do.

use core::ffi::{CStr, c_void};
use core::ptr;

use super::range::INTERRUPTED;
use super::{Ops, Place, Range, STAGES, Stages, State};
use crate::mm;
use crate::report::{Error, Result};
use crate::sync::{
    self, Fifo, LockGuard, Thread, WaitQueue,
    hook::WaitReason::{
        MMU_NOTIFIER_WAIT_IDLE as IDLE, MMU_NOTIFIER_WAIT_RELEASE as WAIT_RELEASE,
        MMU_NOTIFIER_WAIT_REMOVE as WAIT_REMOVE,
    },
};
use crate::thread::{self, Callbacks, Frame, Kind};

/// The names of the stages that the threads run.
pub(super) const RELEASE: &CStr = c"release";
pub(super) const DONE: &CStr = c"done";
static RUN_RELEASE: Callbacks = Callbacks::new(Kind::Stage, RELEASE);
static RUN_DONE: Callbacks = Callbacks::new(Kind::Stage, DONE);

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Runs release stages.
    Release,
    /// Takes ranges out of the index, and says so.
    Remove,
}
const JOBS: [Job; 2] = [Job::Release, Job::Remove];

/// One of the threads.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) queue: Fifo<Range>,
    /// What it is doing.
    pub(super) current: *mut Range,
    /// Somebody, normally the thread, serves the queue.
    pub(super) is_served: bool,
    /// The process exits: the thread, idle, is to end.
    pub(super) stop: bool,
    pub(super) thread: Option<Thread>,
}

impl Server {
    pub(super) const IDLE: Self = Self {
        queue: Fifo::EMPTY,
        current: ptr::null_mut(),
        is_served: false,
        stop: false,
        thread: None,
    };

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.current.is_null()
    }
}

impl State {
    pub(super) fn server(&mut self, job: Job) -> &mut Server {
        match job {
            Job::Release => &mut self.releaser,
            Job::Remove => &mut self.remover,
        }
    }

    /// A job that is to be done and that nobody does.
    pub(super) fn stranded(&mut self) -> Option<Job> {
        JOBS.into_iter().find(|job| {
            let server = self.server(*job);
            !server.is_served && !server.queue.is_empty()
        })
    }
}

impl Stages {
    fn due(&self, job: Job) -> &WaitQueue {
        match job {
            Job::Release => &self.release_due,
            Job::Remove => &self.removal_due,
        }
    }

    /// Releases the lock, under which something was queued, and wakes who has to see to it: the thread, or whoever may stand in
    /// for it.
    pub(super) fn announce_due(&self, state: LockGuard<'_, State>, job: Job) {
        let (thread, others) = (
            self.due(job).announce(&state),
            self.removed.announce(&state),
        );
        drop(state);
        thread.go(IDLE);
        others.go(WAIT_REMOVE);
    }

    /// Starts the threads that do not run.
    ///
    /// # Errors
    /// EBUSY: inside an event; EAGAIN.
    pub(super) fn ensure_served(&self) -> Result<()> {
        for job in JOBS {
            let mut state = self.lock();
            if state.server(job).is_served {
                continue;
            }
            if thread::inside_event() {
                return Err(Error::Errno(libc::EBUSY));
            }
            state.server(job).is_served = true;
            drop(state);
            self.start(job)?;
        }
        Ok(())
    }

    /// Starts the thread for `job`, which counts as served.
    fn start(&self, job: Job) -> Result<()> {
        let argument = ptr::without_provenance_mut(job as usize);
        // SAFETY: The entry point takes what we pass.
        let thread = unsafe { sync::start(thread_main, argument) };
        let mut state = self.lock();
        let started = thread.is_some();
        state.server(job).thread = thread;
        if started {
            return Ok(());
        }
        self.stop_serving(state, job);
        Err(Error::Errno(libc::EAGAIN))
    }

    /// Nobody serves any more: those who wait for it see to themselves.
    fn stop_serving(&self, mut state: LockGuard<'_, State>, job: Job) {
        state.server(job).is_served = false;
        let wakes = (
            self.released.announce(&state),
            self.removed.announce(&state),
        );
        drop(state);
        wakes.0.go(WAIT_RELEASE);
        wakes.1.go(WAIT_REMOVE);
    }

    /// A thread's life.
    fn serve(&self, job: Job) {
        let mut state = self.lock();
        while !state.server(job).stop {
            state = match state.server(job).queue.pop() {
                Some(range) => self.run(state, job, range),
                None => self.due(job).wait(state, IDLE),
            };
        }
        state.server(job).stop = false;
        self.stop_serving(state, job);
    }

    /// Does one piece of a job that nobody serves.
    pub(super) fn stand_in<'a>(
        &'a self,
        mut state: LockGuard<'a, State>,
        job: Job,
    ) -> LockGuard<'a, State> {
        if let Some(range) = state.server(job).queue.pop() {
            state.server(job).is_served = true;
            state = self.run(state, job, range);
            self.stop_serving(state, job);
            state = self.lock();
        }
        state
    }

    fn run<'a>(
        &'a self,
        mut state: LockGuard<'a, State>,
        job: Job,
        range: *mut Range,
    ) -> LockGuard<'a, State> {
        state.server(job).current = range;
        // SAFETY: Just taken out of the queue: valid until this job is done.
        unsafe {
            match job {
                Job::Release => self.release(state, range),
                Job::Remove => self.remove(state, range),
            }
        }
        self.lock()
    }

    /// Runs the release stage of `range`, and hands it on.
    unsafe fn release(&self, state: LockGuard<'_, State>, range: *mut Range) {
        // SAFETY: The caller passes a range that was queued.
        unsafe {
            Place::Releasing.note(range);
            drop(state);
            // Events that wait are counted in: what would wait for their busy period is refused, as in their own callbacks.
            let is_waited_for = (*range).timeout_ms != 0;
            call(range, &RUN_RELEASE, is_waited_for, |ops| ops.release);
            let mut state = self.lock();
            let current = core::mem::replace(&mut state.releaser.current, ptr::null_mut());
            if !current.is_null() {
                Place::Released.note(range);
                state.remover.queue.push(range);
            }
            let released = self.released.announce(&state);
            self.announce_due(state, Job::Remove);
            released.go(WAIT_RELEASE);
        }
    }

    /// Takes `range` out of the index, and tells the driver that the library is done with it.
    unsafe fn remove(&self, state: LockGuard<'_, State>, range: *mut Range) {
        drop(state);
        // SAFETY: The caller passes a range that was queued.
        unsafe {
            let interval = &raw mut (*range).interval;
            let may_be_out = (*range).flags & INTERRUPTED != 0;
            if !may_be_out || mm::is_inserted(interval, (*interval).mm) {
                if let Err(Error::Misuse(misuse)) = mm::remove(interval) {
                    misuse.report();
                }
            }
            let state = self.lock();
            if state.remover.current.is_null() {
                return;
            }
            Place::Out.note(range);
            drop(state);
            call(range, &RUN_DONE, false, |ops| ops.done);
        }
        let mut state = self.lock();
        state.remover.current = ptr::null_mut();
        state.settle(range);
        self.removed.wake_all(state, WAIT_REMOVE);
    }

    /// At exit: ends the threads that are idle.
    pub(super) fn stop_if_idle(&self) {
        for job in JOBS {
            let mut state = self.lock();
            let server = state.server(job);
            let idle = server.is_idle();
            let Some(thread) = server.thread.take_if(|_| idle) else {
                continue;
            };
            server.stop = true;
            self.due(job).wake_all(state, IDLE);
            // SAFETY: Ours: a forked child has forgotten its parent's.
            unsafe { thread.join() };
        }
    }
}

/// Calls a stage of `range` inside a frame.
unsafe fn call(
    range: *mut Range,
    callbacks: &'static Callbacks,
    is_waited_for: bool,
    stage: impl Fn(&Ops) -> Option<unsafe extern "C" fn(*mut Range)>,
) {
    // SAFETY: The caller passes a range that the driver has given us.
    let (ops, mm) = unsafe { (&*(*range).ops, (*range).interval.mm) };
    if let Some(stage) = stage(ops) {
        let frame = Frame::new(callbacks, mm.cast(), is_waited_for);
        // SAFETY: The driver's function, for the driver's range.
        frame.run(|| unsafe { stage(range) });
    }
}

extern "C" fn thread_main(argument: *mut c_void) -> *mut c_void {
    let is_remover = argument.addr() == Job::Remove as usize;
    let (job, name) = if is_remover {
        (Job::Remove, c"mmu_remove")
    } else {
        (Job::Release, c"mmu_release")
    };
    // SAFETY: A static, NUL-terminated name.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    STAGES.serve(job);
    ptr::null_mut()
}
