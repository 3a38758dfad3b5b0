//! The session, as its controller has it: begin, spawn, step, end. What its threads do is `member`.

use std::thread;

use core::fmt;
use core::time::Duration;

use super::member::{SCHEDULER, live, observe};
use super::state::{Baton, Member, Role, State, Status, hash, set_role, state};
use super::trace::{Event, Run, Violation, What, operation};
use crate::mm;
use crate::report;
use crate::sync::Arc;
use crate::sync::hook::WaitReason;
use crate::sync::point::{self, Kind};

/// Calls its argument, which waits: a language's runtime lets others run meanwhile (Python: without the GIL).
pub type Around = fn(wait: &mut (dyn FnMut() + Send));

/// How a session is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a step may take before its thread counts as blocked outside. Wall time.
    pub patience: Duration,
    /// Wraps every wait of a logical thread for the baton.
    pub around: Option<Around>,
    /// How often a thread may be interrupted although it could go on; `None`: as often as there are steps.
    pub preemptions: Option<u32>,
    /// After so many schedules the search gives up.
    pub max_schedules: Option<u64>,
    /// A run of more steps is taken for one that never ends.
    pub max_steps: usize,
    /// So many schedules are tried to find a shorter one that is as wrong as the first.
    pub shorten: u64,
}

impl Default for Options {
    /// 10 s, two preemptions, no limit on schedules, 10,000 steps, 500 tries to shorten.
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
            around: None,
            preemptions: Some(2),
            max_schedules: None,
            max_steps: 10_000,
            shorten: 500,
        }
    }
}

/// Why no session can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Another one runs: there is one at a time in a process.
    Busy,
    /// The library's worker has no thread, or does not come to rest: something outside keeps it.
    Worker,
    /// A thread of an earlier session sleeps for ever in a walk; every grace period of this process waits for it.
    Poisoned,
    /// The scenario's own setup failed, with what it said.
    Setup(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "another scenario is running in this process",
            Self::Worker => "the library's worker does not come to rest: threads outside of the scenario use the library",
            Self::Poisoned => {
                "a thread of an earlier scenario sleeps for ever inside a callback: grace periods of this process never end"
            }
            Self::Setup(message) => message,
        })
    }
}

impl core::error::Error for StartError {}

/// The one session of the process. Steps its logical threads; ends when it is dropped.
#[derive(Debug)]
pub struct Session {
    options: Options,
    baton: Arc<Baton>,
    generation: u64,
    last: Option<usize>,
    schedule: Vec<usize>,
    preemptions: u32,
}

impl Session {
    /// Begins a session, whose controller is the calling thread.
    ///
    /// # Errors
    /// Another session runs, the library's worker has no rest, or an earlier session has left a walk open.
    pub fn begin(options: Options) -> Result<Self, StartError> {
        let baton = Baton::new(thread::current());
        let generation = {
            let mut state = state();
            if state.active {
                return Err(StartError::Busy);
            }
            if state.poisoned {
                return Err(StartError::Poisoned);
            }
            state.reset(Arc::clone(&baton), options.around);
            state.generation
        };
        set_role(Role::Controller(generation));
        report::set_observer(Some(observe));
        point::set_scheduler(Some(&SCHEDULER));
        let session = Self {
            options,
            baton,
            generation,
            last: None,
            schedule: Vec::new(),
            preemptions: 0,
        };
        // It gives the baton to the controller when it is about to sleep.
        let rested = mm::rouse_worker() && session.baton.take_within(options.patience);
        let mut state = state();
        state.events.clear();
        lay_down(&mut state);
        drop(state);
        rested.then_some(session).ok_or(StartError::Worker)
    }

    /// A new logical thread, which runs `body` when it is stepped. `name` need not be unique, but should.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub fn spawn(
        &self,
        name: &str,
        body: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> std::io::Result<usize> {
        let generation = self.generation;
        // The thread finds itself in the state: it has to wait until it is there.
        let mut state = state();
        let me = state.members.len();
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || live(generation, me, body))?;
        state.add(name, handle.thread().clone(), Status::New);
        state.members[me].handle = Some(handle);
        Ok(me)
    }

    /// Who can run.
    pub fn runnable(&self) -> Vec<usize> {
        let state = state();
        let all = 0..state.members.len();
        all.filter(|thread| state.is_enabled(*thread)).collect()
    }

    /// Has the thread said that it only spins?
    pub(super) fn yields(&self, thread: usize) -> bool {
        let status = state().members[thread].status;
        matches!(status, Status::Ready(op) if op.kind == Kind::MMU_NOTIFIER_EXPLORE_YIELD)
    }

    /// Is every logical thread over, and the worker at rest?
    pub fn is_over(&self) -> bool {
        let state = state();
        (0..state.members.len()).all(|thread| state.is_done(thread))
    }

    /// The number of the thread of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        let state = state();
        state.members.iter().position(|member| member.name == name)
    }

    /// What the thread is doing: "ready: lock table", "waits for ...", "over".
    pub fn describe(&self, thread: usize) -> String {
        let mut state = state();
        match state.members[thread].status {
            Status::New => "new".to_owned(),
            Status::Finished => "over".to_owned(),
            Status::Lost => "blocked outside".to_owned(),
            Status::Ready(op) if state.is_enabled(thread) => {
                let object = state.object(op.kind, op.address);
                let name = object.map_or(String::new(), |object| {
                    format!(" {}", state.objects[object])
                });
                format!("ready: {}{name}", operation(op.kind))
            }
            Status::Woken | Status::Running => "ready: woken".to_owned(),
            Status::Ready(_) | Status::Asleep(..) => {
                let waits = state.waits();
                let own = format!("{} ", state.members[thread].name);
                let found = waits.iter().find_map(|wait| wait.strip_prefix(&own));
                found.unwrap_or("waits").to_owned()
            }
        }
    }

    /// Has the thread run to its next schedule point, its next sleep or its end.
    ///
    /// # Errors
    /// It cannot run; nothing happened.
    pub fn step(&mut self, thread: usize) -> Result<(), Violation> {
        self.adopt();
        let baton = {
            let mut state = state();
            let known = thread < state.members.len();
            if !known || !state.is_enabled(thread) {
                let name = state.members.get(thread).map_or("?", |member| &member.name);
                return Err(Violation::NotRunnable {
                    step: self.schedule.len(),
                    thread: name.to_owned(),
                });
            }
            self.count(&state, thread);
            state.step = self.schedule.len() - 1;
            begin_step(&mut state, thread);
            Arc::clone(&state.members[thread].baton)
        };
        baton.give();
        if !self.baton.take_within(self.options.patience) {
            self.lose(thread);
        }
        Ok(())
    }

    /// The calling thread becomes the controller, if it is not.
    fn adopt(&mut self) {
        if self.baton.is_mine() {
            return;
        }
        self.baton = Baton::new(thread::current());
        state().controller = Some(Arc::clone(&self.baton));
        set_role(Role::Controller(self.generation));
    }

    fn count(&mut self, state: &State, thread: usize) {
        let interrupted = |last: usize| {
            let yields = matches!(state.members[last].status, Status::Ready(op) if op.kind == Kind::MMU_NOTIFIER_EXPLORE_YIELD);
            last != thread && state.is_enabled(last) && !yields
        };
        self.preemptions += u32::from(self.last.is_some_and(interrupted));
        self.last = Some(thread);
        self.schedule.push(thread);
    }

    /// The thread did not come back in time.
    fn lose(&self, thread: usize) {
        let mut state = state();
        if !matches!(state.members[thread].status, Status::Running) {
            // It came back this very moment.
            drop(state);
            self.baton.take();
            return;
        }
        state.members[thread].status = Status::Lost;
        let violation = Violation::Outside {
            thread: state.members[thread].name.clone(),
            patience: self.options.patience,
        };
        state.violate(violation);
    }

    /// What was wrong so far.
    pub fn violation(&self) -> Option<Violation> {
        state().violation.clone()
    }

    /// Something is wrong. The first one counts.
    pub fn violate(&self, violation: Violation) {
        state().violate(violation);
    }

    /// Nobody can run: notes what is wrong about that, if anything is.
    pub fn check_end(&self) {
        let mut state = state();
        let all = 0..state.members.len();
        if !all.clone().all(|thread| state.is_done(thread)) {
            let waits = state.waits();
            state.violate(Violation::Deadlock(waits));
        } else if state
            .members
            .iter()
            .map(|member| member.ranges)
            .sum::<i64>()
            > 0
        {
            let starter = all
                .max_by_key(|thread| state.members[*thread].ranges)
                .unwrap_or(0);
            let thread = state.members[starter].name.clone();
            state.violate(Violation::Unended { thread });
        }
    }

    /// Stands for where every thread is, and how it got there.
    pub fn position(&self) -> u64 {
        let state = state();
        let all = 0..state.members.len();
        let places: Vec<_> = all
            .map(|thread| (state.members[thread].path, state.is_enabled(thread)))
            .collect();
        hash(&(places, self.last))
    }

    /// Lets everybody run on to the end as well as may be, when nothing of that counts any more. False: some sleep for ever.
    pub fn drain(&mut self) -> bool {
        for _ in 0..self.options.max_steps {
            let next = self
                .runnable()
                .first()
                .copied()
                .or_else(|| self.cancel_one());
            let Some(next) = next else { break };
            if self.step(next).is_err() {
                break;
            }
        }
        self.is_over()
    }

    /// Gives up the wait of one thread for a lock.
    fn cancel_one(&self) -> Option<usize> {
        let mut state = state();
        let waits = |member: &Member| {
            matches!(member.status, Status::Ready(op) if op.cancellable) && !member.cancelled
        };
        let found = state.members.iter().position(waits)?;
        state.members[found].cancelled = true;
        Some(found)
    }

    /// Ends the session and says what happened in it.
    pub fn finish(mut self) -> Run {
        let mut state = state();
        let events = core::mem::take(&mut state.events);
        let run = self.run_of(&state, events);
        drop(state);
        let leaked = !self.drain() || has_open_range();
        Run { leaked, ..run }
    }

    /// What has happened so far.
    pub fn so_far(&self) -> Run {
        let state = state();
        self.run_of(&state, state.events.clone())
    }

    fn run_of(&self, state: &State, events: Vec<Event>) -> Run {
        let name = |thread: usize| state.members[thread].name.clone();
        Run {
            threads: (0..state.members.len()).map(name).collect(),
            objects: state.objects.clone(),
            schedule: self.schedule.iter().copied().map(name).collect(),
            events,
            violation: state.violation.clone(),
            preemptions: self.preemptions,
            leaked: false,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_over() {
            self.drain();
        }
        point::set_scheduler(None);
        report::set_observer(None);
        let mut state = state();
        state.active = false;
        state.poisoned |= state.has_open_walk();
        let handles: Vec<_> = state
            .members
            .iter_mut()
            .filter(|member| matches!(member.status, Status::Finished))
            .filter_map(|member| member.handle.take())
            .collect();
        let worker = state
            .worker
            .map(|worker| Arc::clone(&state.members[worker].baton));
        drop(state);
        set_role(Role::Outsider);
        // It sleeps by itself from now on.
        if let Some(worker) = worker {
            worker.give();
        }
        for handle in handles {
            let _ = handle.join();
        }
    }
}

/// Was a range started that nobody has ended?
fn has_open_range() -> bool {
    let ranges = |member: &Member| member.ranges;
    state().members.iter().map(ranges).sum::<i64>() > 0
}

/// The thread goes on: what that means for locks and for the trace.
fn begin_step(state: &mut State, thread: usize) {
    let what = match state.members[thread].status {
        Status::New => What::Began,
        Status::Ready(op) => {
            let object = state.object(op.kind, op.address);
            if op.kind == Kind::MMU_NOTIFIER_EXPLORE_LOCK && !state.members[thread].cancelled {
                state.held.insert(op.address, Some(thread));
            }
            What::Did(op.kind, object)
        }
        _ => What::Woke,
    };
    state.log(thread, what);
    state.members[thread].status = Status::Running;
    state.running = Some(thread);
}

/// What roused the worker may have found it asleep once more, as a logical thread already: that was not meant for it.
fn lay_down(state: &mut State) {
    let Some(worker) = state.worker else { return };
    if matches!(state.members[worker].status, Status::Woken) {
        let bed = mm::worker_bed().addr();
        state.members[worker].status = Status::Asleep(bed, WaitReason::MMU_NOTIFIER_WAIT_IDLE);
    }
}
