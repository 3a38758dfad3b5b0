//! The session: the controller's half (begin, spawn, step, end), and the logical threads' half (schedule points, sleeps).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use core::any::Any;
use core::ffi::c_void;
use core::fmt;
use core::time::Duration;

use super::state::{
    Baton, Member, Op, Role, State, Status, hash, is_inside, role, set_role, state,
};
use super::trace::{Event, Run, Violation, What, awaited, operation};
use crate::mm;
use crate::report::{self, Misuse, mmu_notifier_report_kind};
use crate::sync::Arc;
use crate::sync::hook::WaitReason;
use crate::sync::point::{self, Kind, Scheduler};

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

/// The library's worker, which is there before all others.
pub(super) const WORKER: usize = 0;

static SCHEDULER: Scheduler = Scheduler {
    wait,
    wake,
    point: at_point,
    retire,
};

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

// -------------------------------------------------------------------------------------------- the logical threads' half

/// The life of a logical thread.
fn live(generation: u64, me: usize, body: impl FnOnce() -> Result<(), String>) {
    set_role(Role::Member(generation, me));
    let baton = Arc::clone(&state().members[me].baton);
    baton.take();
    let result = catch_unwind(AssertUnwindSafe(body));
    let result = result.unwrap_or_else(|panic| Err(panic_message(&*panic)));
    let mut state = state();
    if state.me() != Some(me) {
        return;
    }
    match result {
        Ok(()) => state.log(me, What::Finished),
        Err(message) => {
            state.log(me, What::Failed(message.clone()));
            let thread = state.members[me].name.clone();
            state.violate(Violation::Failed { thread, message });
        }
    }
    state.rest(me, Status::Finished);
    let controller = state.controller.clone();
    drop(state);
    controller.expect("a session has one").give();
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic".to_owned())
}

/// Hands the baton to the controller, and waits until it comes back. False: the session is over.
fn stop(me: usize, status: Status) -> bool {
    let in_walk = crate::thread::inside_section().is_some();
    let (controller, own, around, generation) = {
        let mut state = state();
        if matches!(state.members[me].status, Status::Lost) {
            let around = state.around;
            drop(state);
            sleep_for_ever(around);
        }
        state.rest(me, status);
        state.members[me].in_walk = in_walk;
        (
            state.controller.clone().expect("a session has one"),
            Arc::clone(&state.members[me].baton),
            state.around.filter(|_| state.worker != Some(me)),
            state.generation,
        )
    };
    controller.give();
    match around {
        Some(around) => around(&mut || own.take()),
        None => own.take(),
    }
    let state = state();
    state.active && state.generation == generation
}

fn sleep_for_ever(around: Option<Around>) -> ! {
    let mut sleep = || loop {
        thread::park();
    };
    match around {
        Some(around) => around(&mut sleep),
        None => sleep(),
    }
    unreachable!("it sleeps for ever")
}

/// What the calling thread is to the session. A thread that an earlier session gave up goes no further.
fn member() -> Option<usize> {
    if is_inside() {
        return None;
    }
    let Role::Member(_, number) = role() else {
        return None;
    };
    let state = state();
    let me = state.me();
    if me.is_none() && number != WORKER {
        let around = state.around;
        drop(state);
        sleep_for_ever(around);
    }
    me
}

/// The scheduler's `wait`.
fn wait(queue: *const c_void, reason: WaitReason) -> bool {
    // What the stages of a range wait for is done by threads of the library that are not ours.
    if is_inside() || reason == WaitReason::MMU_NOTIFIER_WAIT_RELEASE {
        return false;
    }
    let Some(me) = member().or_else(|| join_as_worker(queue, reason)) else {
        refuse_controller(reason);
        return false;
    };
    let mut state = state();
    state.log(me, What::Slept(reason));
    let spins = reason == WaitReason::MMU_NOTIFIER_WAIT_LOCK;
    if state.members[me].nonblock > 0 && !spins {
        let thread = state.members[me].name.clone();
        let what = format!("sleeps for {}", awaited(reason));
        state.violate(Violation::NonBlockable { thread, what });
    }
    drop(state);
    stop(me, Status::Asleep(queue.addr(), reason))
}

/// The library's worker, about to sleep for want of work, becomes a logical thread.
fn join_as_worker(queue: *const c_void, reason: WaitReason) -> Option<usize> {
    if reason != WaitReason::MMU_NOTIFIER_WAIT_IDLE || queue != mm::worker_bed() {
        return None;
    }
    let mut state = state();
    if !state.active || state.worker.is_some() {
        return None;
    }
    let me = state.add("worker", thread::current(), Status::Running);
    state.worker = Some(me);
    set_role(Role::Member(state.generation, me));
    Some(me)
}

/// What roused the worker may have found it asleep once more, as a logical thread already: that was not meant for it.
fn lay_down(state: &mut State) {
    let Some(worker) = state.worker else { return };
    if matches!(state.members[worker].status, Status::Woken) {
        let bed = mm::worker_bed().addr();
        state.members[worker].status = Status::Asleep(bed, WaitReason::MMU_NOTIFIER_WAIT_IDLE);
    }
}

fn role_is_current_controller() -> bool {
    matches!(role(), Role::Controller(generation) if generation == state().generation)
}

/// The controller must not sleep: nobody would ever wake it. There is no way to go on from here.
fn refuse_controller(reason: WaitReason) {
    if reason == WaitReason::MMU_NOTIFIER_WAIT_LOCK || !role_is_current_controller() {
        return;
    }
    eprintln!(
        "mmu_notifier: an invariant, or code between two steps of a scenario, would wait for {} for ever",
        awaited(reason)
    );
    std::process::abort();
}

/// The scheduler's `wake`.
fn wake(queue: *const c_void, reason: WaitReason) {
    if is_inside() {
        return;
    }
    let mut state = state();
    let sleeps = |status: Status| matches!(status, Status::Asleep(at, _) if at == queue.addr());
    let mut sleepers: Vec<_> = state
        .members
        .iter_mut()
        .filter(|member| sleeps(member.status))
        .collect();
    sleepers.sort_by_key(|member| member.since);
    let count = if reason == WaitReason::MMU_NOTIFIER_WAIT_LOCK {
        1
    } else {
        sleepers.len()
    };
    for sleeper in sleepers.into_iter().take(count) {
        sleeper.status = Status::Woken;
    }
}

/// The scheduler's `point`.
fn at_point(kind: Kind, address: *const c_void) {
    stop_at(kind, address.addr(), false);
}

/// A schedule point of the calling thread. False: it is no logical thread, or the wait for a lock was given up.
pub(super) fn stop_at(kind: Kind, address: usize, cancellable: bool) -> bool {
    let Some(me) = member() else { return false };
    if is_note(kind) {
        note_at(me, kind, address);
        return true;
    }
    if kind == Kind::MMU_NOTIFIER_EXPLORE_UNLOCK {
        note_at(me, kind, address);
    }
    let op = Op {
        kind,
        address,
        cancellable,
    };
    stop(me, Status::Ready(op));
    let mut state = state();
    let member = &mut state.members[me];
    match kind {
        Kind::MMU_NOTIFIER_EXPLORE_START => member.ranges += 1,
        Kind::MMU_NOTIFIER_EXPLORE_START_NONBLOCK => member.nonblock += 1,
        Kind::MMU_NOTIFIER_EXPLORE_END => member.ranges -= 1,
        _ => (),
    }
    !core::mem::take(&mut member.cancelled)
}

/// Is it no schedule point?
const fn is_note(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::MMU_NOTIFIER_EXPLORE_TAKEN
            | Kind::MMU_NOTIFIER_EXPLORE_NONBLOCK_DONE
            | Kind::MMU_NOTIFIER_EXPLORE_MIGHT_SLEEP
    )
}

fn note_at(me: usize, kind: Kind, address: usize) {
    let mut state = state();
    let object = state.object(kind, address);
    match kind {
        Kind::MMU_NOTIFIER_EXPLORE_TAKEN => {
            state.held.insert(address, Some(me));
            state.log(me, What::Noted(kind, object));
        }
        Kind::MMU_NOTIFIER_EXPLORE_UNLOCK => {
            state.held.remove(&address);
            state.log(me, What::Noted(kind, object));
        }
        Kind::MMU_NOTIFIER_EXPLORE_NONBLOCK_DONE => {
            let member = &mut state.members[me];
            member.nonblock = member.nonblock.saturating_sub(1);
            member.ranges += i64::from(address != 0);
        }
        _ if state.members[me].nonblock > 0 => {
            let thread = state.members[me].name.clone();
            let what = "may sleep".to_owned();
            state.violate(Violation::NonBlockable { thread, what });
        }
        _ => (),
    }
}

/// The process exits: the worker, if it stands here, is to end.
fn retire() {
    point::set_scheduler(None);
    let mut state = state();
    state.active = false;
    if let Some(worker) = state.worker {
        state.members[worker].baton.give();
    }
}

/// The library reports a broken rule.
fn observe(misuse: &Misuse) -> bool {
    let bad = misuse.kind() != mmu_notifier_report_kind::MMU_NOTIFIER_REPORT_INFO;
    let Some(me) = member().filter(|_| bad) else {
        return false;
    };
    let mut state = state();
    let thread = state.members[me].name.clone();
    // An address is another one in each run.
    let text = misuse.about(core::ptr::null()).to_string();
    state.log(me, What::Said(text.clone()));
    state.violate(Violation::Report { thread, text });
    if misuse.is_bug() {
        // Whoever reports it is about to end the process; the thread ends instead.
        state.members[me].status = Status::Lost;
        let (controller, around) = (state.controller.clone(), state.around);
        drop(state);
        controller.expect("a session has one").give();
        sleep_for_ever(around);
    }
    true
}

// ------------------------------------------------------------------------------------------------ for scenarios

/// A schedule point of the driver's own. Outside of a session, nothing.
pub fn point() {
    point::point(Kind::MMU_NOTIFIER_EXPLORE_POINT, core::ptr::null());
}

/// The calling thread spins: others are to go on. Outside of a session, nothing.
pub fn yield_now() {
    point::point(Kind::MMU_NOTIFIER_EXPLORE_YIELD, core::ptr::null());
}

/// Writes a remark into the trace. Outside of a session, nothing.
pub fn note(text: &str) {
    if let Some(me) = member() {
        state().log(me, What::Said(text.to_owned()));
    }
}

/// Is the calling thread a logical thread of a running session?
pub fn is_logical() -> bool {
    member().is_some()
}
