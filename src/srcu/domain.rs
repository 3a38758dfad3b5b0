//! A driver's own domain: `struct srcu_struct`. Independent of every other domain (docs/spec/HEADERS.md, lesson 4).
//!
//! Owns: a set of readers, and two lists of callbacks under the readers' lock. `waiting` waits for the grace period `ticket`;
//! `next` came later and gets its grace period when `waiting` is done. Callbacks whose grace period is over go to the worker,
//! which only runs them: it never waits for a driver's readers, so domains cannot block each other through it.
//!
//! Invariants
//! * Zeroed memory is an idle domain.
//! * Callbacks of one domain run in the order of their `call`s: they are handed over batch by batch, under the lock, and the
//!   worker is first-in first-out.
//! * A reader's exit does not touch the domain once its lock is released: by then it may be freed.
//!
//! Lock order: the domain's lock, then the worker's.
#![expect(unsafe_code, reason = "an intrusive queue")]

use core::cell::UnsafeCell;
use core::ptr;

use super::generations::{Generations, State, Ticket};
use super::worker::Worker;
use crate::abi::types::callback_head;
use crate::sync::{AtomicBool, Fifo, Ordering};

/// Open generations of a driver's domain; what does not fit waits a little longer.
const GENERATIONS: usize = if cfg!(loom) { 2 } else { 8 };

/// `struct srcu_struct`.
#[repr(C)]
#[derive(Debug)]
pub struct srcu_struct {
    domain: Generations<GENERATIONS, Callbacks>,
    _reserved: [u64; 2],
}

const _: () = assert!(cfg!(loom) || size_of::<srcu_struct>() == 128);
const _: () = assert!(align_of::<srcu_struct>() == 8);

#[derive(Debug)]
struct Callbacks {
    waiting: Fifo<callback_head>,
    ticket: Ticket,
    next: Fifo<callback_head>,
}

impl Default for srcu_struct {
    fn default() -> Self {
        Self::new()
    }
}

impl srcu_struct {
    /// An idle domain.
    pub const fn new() -> Self {
        let callbacks = Callbacks {
            waiting: Fifo::EMPTY,
            ticket: Ticket::FIRST,
            next: Fifo::EMPTY,
        };
        Self {
            domain: Generations::with(callbacks),
            _reserved: [0; 2],
        }
    }

    /// Enters a read section, which may sleep and nest. The cookie goes to `read_unlock`.
    pub fn read_lock(&self) -> usize {
        self.domain.read_lock()
    }

    /// Leaves the section that returned `cookie`. False if there is no such section.
    pub fn read_unlock(&self, cookie: usize, worker: &'static Worker) -> bool {
        let handed = self
            .domain
            .leave(cookie, |state, moved| moved && state.hand_over(worker));
        if handed == Some(true) {
            worker.kick();
        }
        handed.is_some()
    }

    /// Waits for all sections that are open now.
    pub fn synchronize(&self) {
        self.domain.synchronize();
    }

    /// Has the worker call `head.func` after all sections that are open now. Never sleeps.
    ///
    /// # Safety
    /// `head` is in no queue and stays valid until its function is called; `head.func` is set.
    pub unsafe fn call(&self, head: *mut callback_head, worker: &'static Worker) {
        let mut state = self.domain.state.lock();
        if state.extra.waiting.is_empty() {
            state.extra.ticket = state.close();
            // SAFETY: The caller's promise.
            unsafe { state.extra.waiting.push(head) };
        } else {
            // SAFETY: The caller's promise.
            unsafe { state.extra.next.push(head) };
        }
        let handed = state.hand_over(worker);
        drop(state);
        if handed {
            worker.kick();
        }
    }

    /// Waits until the callbacks of all earlier `call`s have returned: those run before one that is queued now.
    pub fn barrier(&self, worker: &'static Worker) {
        let last = Last {
            head: UnsafeCell::new(callback_head {
                next: ptr::null_mut(),
                func: Some(Last::run),
            }),
            ran: AtomicBool::new(false),
        };
        // SAFETY: `last` lives until its callback has run, which is waited for.
        unsafe { self.call(last.head.get(), worker) };
        // ORDERING: Acquire pairs with the Release in `Last::run`.
        worker.wait_for_work(|| last.ran.load(Ordering::Acquire));
    }

    /// Has the domain neither readers nor callbacks?
    pub fn is_idle(&self) -> bool {
        let state = self.domain.state.lock();
        state.extra.waiting.is_empty() && state.readers.iter().all(|readers| *readers == 0)
    }
}

impl State<GENERATIONS, Callbacks> {
    /// Gives the worker all callbacks whose grace period is over. Says whether there were any.
    fn hand_over(&mut self, worker: &'static Worker) -> bool {
        let mut handed = false;
        while !self.extra.waiting.is_empty() && self.is_over(self.extra.ticket) {
            handed = true;
            while let Some(head) = self.extra.waiting.pop() {
                // SAFETY: Queued by `call`, just taken out.
                unsafe { worker.push_work(head) };
            }
            self.extra.waiting = core::mem::replace(&mut self.extra.next, Fifo::EMPTY);
            self.extra.ticket = self.close();
        }
        handed
    }
}

/// The callback of a barrier, on its caller's stack.
#[repr(C)]
struct Last {
    head: UnsafeCell<callback_head>,
    ran: AtomicBool,
}

impl Last {
    unsafe extern "C" fn run(head: *mut callback_head) {
        // SAFETY: `barrier` queued the first member of a `Last`, which lives until `ran` is seen.
        let last = unsafe { &*head.cast::<Last>() };
        // ORDERING: Release pairs with the Acquire in `barrier`. After it, `last` may be gone.
        last.ran.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srcu::{Srcu, WorkerOps};
    use crate::sync::AtomicUsize;
    use crate::thread;

    static WALKS: Srcu = Srcu::new();
    static RCU: Srcu<{ crate::srcu::RCU }> = Srcu::new();
    static WORKER: Worker = Worker::new(
        &WALKS,
        &RCU,
        WorkerOps {
            begin: || (),
            call: |_| (),
            may_start: || true,
        },
    );
    static RAN: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" fn count(head: *mut callback_head) {
        // SAFETY: Made by the test for this call.
        drop(unsafe { Box::from_raw(head) });
        RAN.fetch_add(1, Ordering::Relaxed);
    }

    fn queue(domain: &srcu_struct) {
        let head = Box::new(callback_head {
            next: ptr::null_mut(),
            func: Some(count),
        });
        // SAFETY: Fresh, and freed by its callback.
        unsafe { domain.call(Box::into_raw(head), &WORKER) };
    }

    #[test]
    fn a_callback_waits_for_the_readers_of_its_own_domain_only() {
        static MINE: srcu_struct = srcu_struct::new();
        static OTHER: srcu_struct = srcu_struct::new();
        let walk = WALKS.read_lock(thread::current());
        let other = OTHER.read_lock();
        let mine = MINE.read_lock();
        queue(&MINE);
        queue(&MINE);
        assert!(!MINE.is_idle());
        assert!(MINE.read_unlock(mine, &WORKER));
        MINE.barrier(&WORKER);
        assert_eq!(RAN.load(Ordering::Relaxed), 2);
        assert!(MINE.is_idle() && !OTHER.is_idle());
        assert!(OTHER.read_unlock(other, &WORKER));
        assert!(
            !OTHER.read_unlock(other, &WORKER),
            "there is no such section"
        );
        WALKS.read_unlock(thread::current(), walk);
    }
}
