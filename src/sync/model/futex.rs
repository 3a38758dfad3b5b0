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
    woken: Cell<bool>,
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
    let Some(sleepers) = sleepers(word.as_ptr().addr()) else {
        return;
    };
    sleepers.step();
    // Fails, and so changes nothing; a step like any other on the word. From here to `park`, nobody else runs.
    let _ = word.compare_exchange(!expected, !expected, Ordering::Relaxed, Ordering::Relaxed);
    if word.now() != u64::from(expected) {
        return;
    }
    let sleeper = Rc::new(Sleeper {
        thread: loom::thread::current(),
        woken: Cell::new(false),
    });
    sleepers.queue.borrow_mut().push_back(Rc::clone(&sleeper));
    while !sleeper.woken.get() {
        loom::thread::park();
    }
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
