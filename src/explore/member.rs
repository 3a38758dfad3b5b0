//! The logical threads of a session: their life, and what they meet in the library (schedule points, sleeps, reports).
//!
//! A logical thread runs while it has the baton. Where it stops it gives the baton to the controller (`session`), and waits until it
//! comes back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use core::any::Any;
use core::ffi::c_void;

use super::session::Around;
use super::state::{Op, Role, Status, is_inside, role, set_role, state};
use super::trace::{Violation, What, awaited};
use crate::mm;
use crate::report::{Misuse, mmu_notifier_report_kind};
use crate::sync::Arc;
use crate::sync::hook::WaitReason;
use crate::sync::point::{self, Kind, Scheduler};

/// The library's worker, which is there before all others.
pub(super) const WORKER: usize = 0;

pub(super) static SCHEDULER: Scheduler = Scheduler {
    wait,
    wake,
    point: at_point,
    retire,
};

/// The life of a logical thread.
pub(super) fn live(generation: u64, me: usize, body: impl FnOnce() -> Result<(), String>) {
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
pub(super) fn observe(misuse: &Misuse) -> bool {
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
