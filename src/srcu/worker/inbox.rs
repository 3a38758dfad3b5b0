//! The inbox of the worker: calls leave heads here without a lock.
//!
//! Invariants
//! * Who serves looks here whenever nothing else can run, and goes to sleep by the same word ([`ASLEEP`]): who finds it asleep wakes
//!   it, and nobody else does. So in a burst one call at most wakes it.
//! * While the word is [`ASLEEP`], no callback is owed.
#![expect(unsafe_code, reason = "a list through the heads")]

use core::ptr;

use super::queue::Queue;
use crate::abi::types::callback_head;
use crate::sync::{AtomicPtr, Ordering};

/// What calls have left, last first; linked through `callback_head.next`. In a cache line that the worker seldom touches.
#[repr(align(128))]
#[derive(Debug)]
pub(super) struct Inbox(AtomicPtr<callback_head>);

/// Nothing is owed, the inbox is empty, and whoever puts something there has to wake the worker, or to start it.
const ASLEEP: *mut callback_head = ptr::without_provenance_mut(1);
/// The same, but something is queued: it waits for readers of the RCU domain, or no thread could be had.
const DOZING: *mut callback_head = ptr::without_provenance_mut(2);

fn is_asleep(last: *mut callback_head) -> bool {
    last == ASLEEP || last == DOZING
}

impl Inbox {
    /// Nobody serves.
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ASLEEP))
    }

    /// Leaves `head`. True: the worker is to be woken.
    ///
    /// # Safety
    /// `head` is in no queue and stays valid until it was taken out.
    pub(super) unsafe fn put(&self, head: *mut callback_head) -> bool {
        // ORDERING: Relaxed: a guess, which the exchange checks.
        let mut last = self.0.load(Ordering::Relaxed);
        loop {
            let next = if is_asleep(last) {
                ptr::null_mut()
            } else {
                last
            };
            // SAFETY: The caller gives us `head`.
            unsafe { (*head).next = next };
            // ORDERING: Release pairs with the Acquire in `empty`; Relaxed: a failed one is tried again.
            let exchanged =
                self.0
                    .compare_exchange(last, head, Ordering::Release, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return is_asleep(last),
                Err(other) => last = other,
            }
        }
    }

    /// Moves what calls have left to the queue. Says whether there was anything. The lock is held.
    pub(super) fn empty(&self, queue: &mut Queue) -> bool {
        // ORDERING: Relaxed: only whether it is worth the exchange.
        let last = self.0.load(Ordering::Relaxed);
        if last.is_null() || is_asleep(last) {
            return false;
        }
        // ORDERING: Acquire pairs with the Release in `put`. What others have put there since comes along by its chain of
        // exchanges.
        let mut last = self.0.swap(ptr::null_mut(), Ordering::Acquire);
        let mut first = ptr::null_mut::<callback_head>();
        while !last.is_null() {
            // SAFETY: Left there by `put`, hence valid.
            let before = unsafe { core::mem::replace(&mut (*last).next, first) };
            (first, last) = (last, before);
        }
        while !first.is_null() {
            // SAFETY: As above; the queue takes the word.
            let next = unsafe { (*first).next };
            queue.queued += 1;
            // SAFETY: As above, and in no queue.
            unsafe { queue.callbacks.push(first) };
            first = next;
        }
        true
    }

    /// What was left last. A hint.
    pub(super) fn last(&self) -> *mut callback_head {
        // ORDERING: Relaxed: a hint.
        self.0.load(Ordering::Relaxed)
    }

    /// From now on the next call wakes whoever serves. False if one has come already. The lock is held.
    pub(super) fn fall_asleep(&self, queue: &Queue) -> bool {
        let asleep = if queue.is_empty() { ASLEEP } else { DOZING };
        // ORDERING: Relaxed: the lock's holders and calls change it; the exchange checks the latter.
        let last = self.0.load(Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `owes_nothing`; Relaxed: nothing is read that a call has left.
        let exchange = || {
            self.0
                .compare_exchange(last, asleep, Ordering::Release, Ordering::Relaxed)
        };
        (last.is_null() || is_asleep(last)) && exchange().is_ok()
    }

    /// Is all over that was ever queued, as far as the caller can know of it?
    pub(super) fn owes_nothing(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `fall_asleep`: what callbacks did comes along.
        self.0.load(Ordering::Acquire) == ASLEEP
    }
}
