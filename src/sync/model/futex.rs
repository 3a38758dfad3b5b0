//! The futex of the model: compare and sleep in one step, against wake.
//!
//! Order between a wake and what the sleeper does next: the kernel's locks give it to a thread that did sleep, and so does
//! loom's unpark. A thread that finds another value, and so does not sleep, has none from here, in the kernel as in the model.

use core::cell::{Cell, RefCell};
use core::sync::atomic::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;

use super::super::AtomicU32;
use super::{atomic, with};

/// Those who sleep on one address.
pub(super) struct Sleepers {
    /// Waits and wakes of one address are operations of this object, so that loom tries their orders.
    order: loom::sync::atomic::AtomicU64,
    queue: RefCell<VecDeque<Rc<Sleeper>>>,
}

struct Sleeper {
    thread: loom::thread::Thread,
    /// Ends its sleep when the time is over.
    timed: bool,
    woken: Cell<bool>,
    expired: Cell<bool>,
}

/// The moment at which [`expire`] is called, if it is: time passes when a model says so.
#[derive(Clone, Copy, Debug)]
pub struct Deadline;

impl Deadline {
    /// As the real one.
    pub fn after(_milliseconds: u32) -> Self {
        Self
    }

    /// As the real one.
    pub fn to_words(self) -> [u64; 2] {
        [0; 2]
    }

    /// As the real one.
    pub fn from_words(_words: [u64; 2]) -> Self {
        Self
    }
}

/// The time of an execution.
#[derive(Default)]
pub(super) struct Clock {
    /// Looking at the clock is an operation of this object, so that loom tries the orders.
    order: Option<Rc<loom::sync::atomic::AtomicU64>>,
    is_over: bool,
}

/// A step of the clock: another thread may come first.
fn tick() {
    let known = with(|execution| execution.clock.order.clone()).flatten();
    let order = known.unwrap_or_else(|| {
        let fresh = Rc::new(atomic::anonymous().expect("inside a model"));
        with(|execution| execution.clock.order = Some(Rc::clone(&fresh)));
        fresh
    });
    let _ = order.compare_exchange(u64::MAX, u64::MAX, Ordering::Relaxed, Ordering::Relaxed);
}

fn time_is_over() -> bool {
    with(|execution| execution.clock.is_over).unwrap_or(false)
}

/// Every deadline has passed.
pub fn expire() {
    tick();
    let queues = with(|execution| {
        execution.clock.is_over = true;
        execution.sleepers.values().cloned().collect::<Vec<_>>()
    });
    for sleepers in queues.into_iter().flatten() {
        let queue = sleepers.queue.take();
        let (timed, others): (VecDeque<_>, _) =
            queue.into_iter().partition(|sleeper| sleeper.timed);
        sleepers.queue.replace(others);
        for sleeper in timed {
            sleeper.expired.set(true);
            sleeper.woken.set(true);
            sleeper.thread.unpark();
        }
    }
}

fn sleepers(address: usize) -> Option<Rc<Sleepers>> {
    if let Some(known) = with(|execution| execution.sleepers.get(&address).cloned())? {
        return Some(known);
    }
    let fresh = Rc::new(Sleepers {
        order: atomic::anonymous()?,
        queue: RefCell::default(),
    });
    with(|execution| execution.sleepers.insert(address, Rc::clone(&fresh)));
    Some(fresh)
}

impl Sleepers {
    /// Another thread may come first. Fails to change anything, hence orders no memory.
    fn step(&self) {
        let (order, never) = (Ordering::Relaxed, u64::MAX);
        let _ = self.order.compare_exchange(never, never, order, order);
    }
}

/// Sleeps while `word` holds `expected`.
pub(in crate::sync) fn wait(word: &AtomicU32, expected: u32) {
    sleep(word, expected, false);
}

/// As [`wait`], but no longer than until the time is over. Says whether it is.
pub(in crate::sync) fn wait_until(word: &AtomicU32, expected: u32, _deadline: &Deadline) -> bool {
    tick();
    sleep(word, expected, true)
}

fn sleep(word: &AtomicU32, expected: u32, timed: bool) -> bool {
    let Some(sleepers) = sleepers(word.as_ptr().addr()) else {
        return false;
    };
    sleepers.step();
    // Fails, and so changes nothing; a step like any other on the word. From here to `park`, nobody else runs.
    let _ = word.compare_exchange(!expected, !expected, Ordering::Relaxed, Ordering::Relaxed);
    if timed && time_is_over() {
        return true;
    }
    if word.now() != u64::from(expected) {
        return false;
    }
    let sleeper = Rc::new(Sleeper {
        thread: loom::thread::current(),
        timed,
        woken: Cell::new(false),
        expired: Cell::new(false),
    });
    sleepers.queue.borrow_mut().push_back(Rc::clone(&sleeper));
    while !sleeper.woken.get() {
        loom::thread::park();
    }
    sleeper.expired.get()
}

/// Wakes up to `count` sleepers of `word`, which may be gone.
pub(in crate::sync) fn wake(word: *const u32, count: i32) {
    let Some(sleepers) = sleepers(word.addr()) else {
        return;
    };
    sleepers.step();
    for _ in 0..count {
        let Some(sleeper) = sleepers.queue.borrow_mut().pop_front() else {
            break;
        };
        sleeper.woken.set(true);
        sleeper.thread.unpark();
    }
}
