//! A driver's own domain: `struct srcu_struct`. Independent of every other domain (docs/spec/HEADERS.md, lesson 4).
//!
//! Owns: a set of readers, and two lists of callbacks. `waiting` waits for the grace period `ticket`; `next` came later and
//! gets its grace period when `waiting` is done. Callbacks whose grace period is over go to the worker, which only runs
//! them: it never waits for a driver's readers, so domains cannot block each other through it.
//!
//! Invariants
//! * Zeroed memory is an idle domain.
//! * Callbacks of one domain run in the order of their `call`s: batch by batch, and the worker is first-in first-out.
//!
//! Lock order: `callbacks`, then the readers' lock. The worker's lock is taken with neither held.
#![expect(unsafe_code, reason = "an intrusive queue")]

use core::cell::UnsafeCell;
use core::ptr;

use super::worker::{Fifo, Worker};
use super::{Srcu, Ticket};
use crate::abi::types::callback_head;
use crate::sync::{AtomicBool, Lock, Ordering};

/// Open generations of a driver's domain; what does not fit waits a little longer.
const GENERATIONS: usize = 8;

/// `struct srcu_struct`.
#[repr(C)]
#[derive(Debug)]
pub struct srcu_struct {
    readers: Srcu<GENERATIONS>,
    callbacks: Lock<Callbacks>,
    _reserved: u64,
}

const _: () = assert!(size_of::<srcu_struct>() == 128 && align_of::<srcu_struct>() == 8);

#[derive(Debug)]
struct Callbacks {
    waiting: Fifo,
    ticket: Ticket,
    next: Fifo,
}

impl Default for srcu_struct {
    fn default() -> Self {
        Self::new()
    }
}

impl Callbacks {
    const fn new() -> Self {
        Self {
            waiting: Fifo::EMPTY,
            ticket: Ticket(0),
            next: Fifo::EMPTY,
        }
    }
}

impl srcu_struct {
    /// An idle domain.
    pub const fn new() -> Self {
        Self {
            readers: Srcu::new(),
            callbacks: Lock::new(Callbacks::new()),
            _reserved: 0,
        }
    }

    /// Enters a read section, which may sleep and nest. The cookie goes to `read_unlock`.
    pub fn read_lock(&self) -> usize {
        self.readers.read_lock()
    }

    /// Leaves the section that returned `cookie`. False if there is no such section.
    pub fn read_unlock<const N: usize>(&self, cookie: usize, worker: &'static Worker<N>) -> bool {
        match self.readers.try_read_unlock(cookie) {
            None => return false,
            Some(true) => self.hand_over(worker),
            Some(false) => {}
        }
        true
    }

    /// Waits for all sections that are open now.
    pub fn synchronize(&self) {
        self.readers.synchronize();
    }

    /// Has the worker call `head.func` after all sections that are open now. Never sleeps.
    ///
    /// # Safety
    /// `head` is in no queue and stays valid until its function is called; `head.func` is set.
    pub unsafe fn call<const N: usize>(
        &self,
        head: *mut callback_head,
        worker: &'static Worker<N>,
    ) {
        let mut callbacks = self.callbacks.lock();
        if callbacks.waiting.is_empty() {
            callbacks.ticket = self.readers.begin();
            // SAFETY: The caller's promise.
            unsafe { callbacks.waiting.push(head) };
        } else {
            // SAFETY: The caller's promise.
            unsafe { callbacks.next.push(head) };
        }
        drop(callbacks);
        self.hand_over(worker);
    }

    /// Waits until the callbacks of all earlier `call`s have returned: those run before one that is queued now.
    pub fn barrier<const N: usize>(&self, worker: &'static Worker<N>) {
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
        self.callbacks.lock().waiting.is_empty() && self.readers.is_idle()
    }

    /// Gives the worker all callbacks whose grace period is over.
    fn hand_over<const N: usize>(&self, worker: &'static Worker<N>) {
        loop {
            let mut callbacks = self.callbacks.lock();
            if callbacks.waiting.is_empty() || !self.readers.is_over(callbacks.ticket) {
                return;
            }
            let mut ready = core::mem::replace(&mut callbacks.waiting, Fifo::EMPTY);
            if !callbacks.next.is_empty() {
                callbacks.waiting = core::mem::replace(&mut callbacks.next, Fifo::EMPTY);
                callbacks.ticket = self.readers.begin();
            }
            drop(callbacks);
            while let Some(head) = ready.pop() {
                // SAFETY: Queued by `call`, just taken out.
                unsafe { worker.queue_work(head) };
            }
        }
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
    use crate::srcu::WorkerOps;
    use crate::sync::AtomicUsize;

    static WALKS: Srcu<4> = Srcu::new();
    static WORKER: Worker<4> = Worker::new(
        &WALKS,
        WorkerOps {
            begin: || (),
            call: |_| (),
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
        let walk = WALKS.read_lock();
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
        WALKS.read_unlock(walk);
    }
}
