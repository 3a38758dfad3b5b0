//! What the worker has to run, in order. Guarded by the lock of the worker.
#![expect(unsafe_code, reason = "an intrusive queue")]

use core::mem::offset_of;

use crate::abi::types::callback_head;
use crate::srcu::Ticket;
use crate::sync::{Fifo, Linked, Thread};

// SAFETY: The word is the queue's, from `call` on until the head is called.
unsafe impl Linked for callback_head {
    fn link(head: *mut Self) -> *mut *mut Self {
        head.wrapping_byte_add(offset_of!(callback_head, next))
            .cast()
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    /// Waiting for a grace period, whose ticket is in `callback_head.func`.
    pub callbacks: Fifo<callback_head>,
    /// Waiting for the grace period `rcu_ticket` of the RCU domain; `callback_head.func` is to be called.
    pub rcu: Fifo<callback_head>,
    pub rcu_ticket: Ticket,
    /// As `rcu`, but later: waiting for one that has not begun.
    pub rcu_later: Fifo<callback_head>,
    /// Not waiting for anything; `callback_head.func` is to be called.
    pub work: Fifo<callback_head>,
    /// Callbacks with this ticket or an older one may run: their grace period is over.
    pub ripe: Ticket,
    /// Callbacks ever queued.
    pub queued: u64,
    /// Callbacks that are over.
    pub finished: u64,
    /// Somebody, normally the thread, is serving the queue.
    pub served: bool,
    /// A callback or work is running right now.
    pub running: bool,
    /// It is a callback.
    pub running_callback: bool,
    /// The process exits: the thread, idle, is to end.
    pub stop: bool,
    /// The thread that serves, if it is one of ours.
    pub thread: Option<Thread>,
}

/// Something to run.
pub(super) enum Item {
    Callback(*mut callback_head),
    Work(*mut callback_head),
}

/// The tickets of the oldest callback and of the newest.
pub(super) fn tickets(callbacks: &Fifo<callback_head>) -> Option<(Ticket, Ticket)> {
    let of = |head| {
        // SAFETY: Queued by `Worker::call`, which wrote the word; hence valid.
        Ticket(unsafe { ticket_word(head).read() })
    };
    let (first, last) = callbacks.ends()?;
    Some((of(first), of(last)))
}

impl Queue {
    pub(super) const EMPTY: Self = Self {
        callbacks: Fifo::EMPTY,
        rcu: Fifo::EMPTY,
        rcu_ticket: Ticket(0),
        rcu_later: Fifo::EMPTY,
        work: Fifo::EMPTY,
        ripe: Ticket(0),
        queued: 0,
        finished: 0,
        served: false,
        running: false,
        running_callback: false,
        stop: false,
        thread: None,
    };

    /// Nothing is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.work.is_empty() && self.callbacks.is_empty() && self.rcu.is_empty()
    }

    /// Is something queued that nobody serves?
    pub(super) fn is_stranded(&self) -> bool {
        !self.served && !self.is_empty()
    }

    /// Takes out what can run now.
    pub(super) fn next(&mut self) -> Option<Item> {
        if let Some(head) = self.work.pop() {
            return Some(Item::Work(head));
        }
        let (first, _) = tickets(&self.callbacks)?;
        let ripe = first <= self.ripe;
        ripe.then(|| self.callbacks.pop().map(Item::Callback))?
    }
}

/// The word of a queued head that holds its ticket: the core needs no function pointer there.
pub(super) fn ticket_word(head: *mut callback_head) -> *mut u64 {
    head.wrapping_byte_add(offset_of!(callback_head, func))
        .cast()
}
