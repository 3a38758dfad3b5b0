// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logical threads are real threads that hand each other a baton: one of them runs at a time.
//!
//! Who is blocked is learnt from the library's wait hook, never from time: a thread that is about to sleep in the library
//! passes the baton on, a wake makes its sleepers runnable, and a woken thread waits for the baton before it goes on. The
//! runnable thread whose operation has the lowest number is next; the library's own worker comes last. Short locks inside
//! the library (MMU_NOTIFIER_WAIT_LOCK) are not looked at: their holders do not sleep.
//!
//! Thread 0 is the program's runner. It makes calls that are not expected to block itself, and gets the baton back in
//! [`settle`], when nobody else can run. When nobody can run and thread 0 sleeps in a call, [`set_stuck`]'s function is told.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// MMU_NOTIFIER_WAIT_LOCK.
const SHORT_LOCK: i32 = 0;
const NOBODY: usize = usize::MAX;
/// The library's worker runs when no operation can.
const LAST: usize = usize::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Has nothing to do.
    Idle,
    /// Has the baton, or is a thread of the library's that has not slept yet.
    Running,
    /// Waits for the baton.
    Runnable,
    /// Sleeps in the library, on a queue.
    Asleep(usize),
    /// Waits at a gate, in a callback.
    AtGate(usize),
    /// Thread 0: wants the baton when nobody can run.
    Settling,
}

#[derive(Debug)]
struct Thread {
    state: State,
    order: usize,
    handle: thread::Thread,
}

static THREADS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());
static HOLDER: AtomicUsize = AtomicUsize::new(NOBODY);
static STUCK: OnceLock<fn()> = OnceLock::new();
/// The process exits: the library stops its worker, which nobody may hold up.
static OVER: AtomicBool = AtomicBool::new(false);

thread_local! {
    static ME: Cell<usize> = const { Cell::new(NOBODY) };
}

type Guard = MutexGuard<'static, Vec<Thread>>;

fn threads() -> Guard {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who is told when nobody can run and thread 0 sleeps in a call. It runs on the thread that noticed.
pub fn set_stuck(function: fn()) {
    let _ = STUCK.set(function);
}

/// Makes the calling thread one that takes part. The first one has the baton.
pub fn join() -> usize {
    if ME.get() != NOBODY {
        return ME.get();
    }
    let mut all = threads();
    let me = all.len();
    all.push(Thread {
        state: State::Running,
        order: LAST,
        handle: thread::current(),
    });
    if me == 0 {
        // ORDERING: SeqCst: simple; pairs with the load in `take`.
        HOLDER.store(0, Ordering::SeqCst);
    }
    ME.set(me);
    me
}

/// How many threads take part?
pub fn count() -> usize {
    threads().len()
}

/// The runnable thread of the lowest order, when every thread is where it will stay.
fn next_runnable(mut all: Guard, me: usize) -> (Guard, Option<usize>) {
    loop {
        let runnable = all
            .iter()
            .enumerate()
            .filter(|(_, thread)| thread.state == State::Runnable);
        let next = runnable
            .min_by_key(|(_, thread)| thread.order)
            .map(|(number, _)| number);
        // A thread of the library's that has joined just now is about to sleep, or to wait for the baton.
        let arriving = all
            .iter()
            .enumerate()
            .any(|(number, thread)| number != me && thread.state == State::Running);
        if next.is_some() || !arriving {
            return (all, next);
        }
        drop(all);
        thread::yield_now();
        all = threads();
    }
}

/// The next thread that can run gets the baton from the caller.
fn pass(all: Guard, me: usize) {
    let (mut all, next) = next_runnable(all, me);
    let next = next.or((all[0].state == State::Settling).then_some(0));
    let Some(next) = next else {
        // ORDERING: SeqCst: as in `join`.
        HOLDER.store(NOBODY, Ordering::SeqCst);
        STUCK.get().expect("set before the first call")();
        return;
    };
    all[next].state = State::Running;
    let handle = all[next].handle.clone();
    drop(all);
    // ORDERING: SeqCst: as in `join`.
    HOLDER.store(next, Ordering::SeqCst);
    handle.unpark();
}

/// From now on nobody waits for the baton in a hook.
pub extern "C" fn retire() {
    // ORDERING: SeqCst: pairs with the load in `is_over`.
    OVER.store(true, Ordering::SeqCst);
}

fn is_over(reason: i32) -> bool {
    // ORDERING: SeqCst: pairs with the store in `retire`.
    reason == SHORT_LOCK || OVER.load(Ordering::SeqCst)
}

/// Sleeps until the caller has the baton.
fn take(me: usize) {
    // ORDERING: SeqCst: pairs with the stores in `pass` and `join`.
    while HOLDER.load(Ordering::SeqCst) != me {
        thread::park();
    }
}

/// The calling thread has done its work: the baton goes on, and comes back when the thread has more.
pub fn rest() {
    let me = join();
    let mut all = threads();
    all[me].state = State::Idle;
    pass(all, me);
    take(me);
}

/// A new thread waits for its first work.
pub fn wait_for_work() {
    let me = join();
    threads()[me].state = State::Idle;
    take(me);
}

/// Thread `number`, which rests, has work: that of operation `order`.
pub fn give_work(number: usize, order: usize) {
    let mut all = threads();
    all[number].state = State::Runnable;
    all[number].order = order;
}

/// Is the thread without work?
pub fn is_idle(number: usize) -> bool {
    threads()[number].state == State::Idle
}

/// The calling thread works for this operation.
pub fn set_order(order: usize) {
    let me = join();
    threads()[me].order = order;
}

/// Thread 0: returns when nobody else can run.
pub fn settle() {
    let me = join();
    let (mut all, next) = next_runnable(threads(), me);
    if next.is_none() {
        return;
    }
    all[me].state = State::Settling;
    pass(all, me);
    take(me);
}

/// In a callback: waits at a closed gate.
pub fn wait_at_gate(gate: usize) {
    let me = join();
    let mut all = threads();
    all[me].state = State::AtGate(gate);
    pass(all, me);
    take(me);
}

/// Whoever waits at the gate can run.
pub fn open_gate(gate: usize) {
    wake_all(State::AtGate(gate));
}

fn wake_all(state: State) {
    for thread in threads().iter_mut() {
        if thread.state == state {
            thread.state = State::Runnable;
        }
    }
}

/// The library's hook: the calling thread is about to sleep.
pub fn wait_begin(queue: usize, reason: i32) {
    if is_over(reason) {
        return;
    }
    let me = join();
    let mut all = threads();
    all[me].state = State::Asleep(queue);
    // ORDERING: SeqCst: as in `take`.
    if HOLDER.load(Ordering::SeqCst) == me {
        pass(all, me);
    }
}

/// The library's hook: the calling thread was woken.
pub fn wait_end(reason: i32) {
    if is_over(reason) {
        return;
    }
    let me = join();
    {
        let mut all = threads();
        if matches!(all[me].state, State::Asleep(_)) {
            all[me].state = State::Runnable;
        } else if HOLDER.load(Ordering::SeqCst) != me {
            all[me].state = State::Runnable; // joined just now
        }
    }
    take(me);
}

/// The library's hook: whoever sleeps on the queue wakes.
pub fn wake(queue: usize, reason: i32) {
    if !is_over(reason) {
        wake_all(State::Asleep(queue));
    }
}
