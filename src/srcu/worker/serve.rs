//! What whoever serves the queue does: runs what can run, finds out what may, and sleeps when there is nothing.
#![expect(unsafe_code, reason = "calls what was queued")]

use core::cell::Cell;
use core::ptr;

use super::Worker;
use super::queue::{Item, Queue, tickets};
use crate::abi::types::callback_head;
use crate::srcu::Ticket;
use crate::sync::{
    LockGuard, Ordering,
    hook::{
        self,
        WaitReason::{
            MMU_NOTIFIER_WAIT_FREE as FREE, MMU_NOTIFIER_WAIT_GRACE_PERIOD as GRACE_PERIOD,
            MMU_NOTIFIER_WAIT_IDLE as IDLE,
        },
    },
    yield_now,
};
use crate::thread::{Callbacks, Frame, Kind};

/// How often an idle worker looks again before it sleeps: some tens of microseconds.
const LINGER: usize = 100;
/// How often it lets others run before it looks whether more calls have come; and how often it does so at most.
const GATHER: (usize, usize) = (40, 4);

thread_local! {
    /// Is this thread running a callback or work?
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

static WORK: Callbacks = Callbacks::new(Kind::Work, c"work of the library's worker");

/// Calls `head.func`, inside a frame: a wait for the worker from there would be one for itself (DV-7).
unsafe fn run_work(head: *mut callback_head) {
    // SAFETY: The caller passes a head that was queued as work.
    let function = unsafe { (*head).func };
    if let Some(function) = function {
        let frame = Frame::new(&WORK, ptr::null(), false);
        // SAFETY: The function was given to be called with `head`.
        frame.run(|| unsafe { function(head) });
    }
}

/// Is this thread running a callback or work?
pub(super) fn is_running() -> bool {
    RUNNING.get()
}

impl Worker {
    /// The thread's life.
    pub(super) fn live(&self) {
        (self.ops.begin)();
        let mut queue = self.serve(self.queue.lock(), |queue| !queue.stop);
        queue.stop = false;
        drop(self.leave_to_others(queue));
    }

    /// Runs what is queued, in order, while `wanted`. Returns with the lock held.
    pub(super) fn serve<'a>(
        &'a self,
        mut queue: LockGuard<'a, Queue>,
        wanted: impl Fn(&Queue) -> bool,
    ) -> LockGuard<'a, Queue> {
        while wanted(&queue) {
            queue = match queue.next() {
                Some(item) => self.run(queue, item),
                None => {
                    if self.inbox.empty(&mut queue) {
                        queue = self.gather(queue);
                    }
                    if queue.is_empty() {
                        self.rest(queue)
                    } else {
                        self.ripen(queue)
                    }
                }
            };
        }
        queue
    }

    /// Calls have come: waits a moment, as long as more come. One grace period then serves them all; it interrupts who calls.
    fn gather<'a>(&'a self, queue: LockGuard<'a, Queue>) -> LockGuard<'a, Queue> {
        if cfg!(loom) {
            return queue;
        }
        // ORDERING: Relaxed, here and below: hints.
        let seen = self.arrivals.load(Ordering::Relaxed);
        drop(queue);
        let (rounds, looks) = GATHER;
        for _ in 0..looks {
            let last = self.inbox.last();
            self.linger(rounds, seen, || true);
            if self.inbox.last() == last {
                break;
            }
        }
        let mut queue = self.queue.lock();
        self.inbox.empty(&mut queue);
        queue
    }

    /// Lets others run, `rounds` times, unless something is announced, while `waits`. Not where a test watches who is awake.
    fn linger(&self, rounds: usize, seen: u64, waits: impl Fn() -> bool) {
        let rounds = if cfg!(loom) || hook::is_installed() {
            0
        } else {
            rounds
        };
        for _ in 0..rounds {
            // ORDERING: Relaxed: a hint; what it is about is read under the lock.
            if self.arrivals.load(Ordering::Relaxed) != seen || !waits() {
                break;
            }
            yield_now();
        }
    }

    /// Callbacks are owed: finds out which of them may run, or sleeps until one may.
    fn ripen<'a>(&'a self, queue: LockGuard<'a, Queue>) -> LockGuard<'a, Queue> {
        let walks = tickets(&queue.callbacks);
        let rcu = (!queue.rcu.is_empty()).then_some(queue.rcu_ticket);
        // Without the lock: a grace period has a system call to make.
        drop(queue);
        // The newest need not have the youngest ticket: tickets are drawn before the place in the queue.
        let over = walks.and_then(|(first, last)| {
            let tickets = [last.max(first), first];
            tickets
                .into_iter()
                .find(|ticket| self.domain.is_over(*ticket))
        });
        let rcu_over = rcu.is_some_and(|ticket| self.rcu.is_over(ticket));
        let mut queue = self.queue.lock();
        if let Some(ticket) = over {
            queue.ripe = queue.ripe.max(ticket);
        }
        if rcu_over {
            self.end_rcu(&mut queue);
        }
        let runs = over.is_some() || rcu_over || !queue.work.is_empty() || queue.stop;
        if runs || !self.sleeps_until_poked(&queue, walks.map(|(first, _)| first), rcu) {
            return queue;
        }
        self.idle.wait(queue, GRACE_PERIOD)
    }

    /// The grace period of the RCU domain's callbacks is over: they are work; those that came later get one of their own.
    fn end_rcu(&self, queue: &mut Queue) {
        let Queue { rcu, work, .. } = queue;
        work.append(rcu);
        let Queue { rcu, rcu_later, .. } = queue;
        rcu.append(rcu_later);
        if !queue.rcu.is_empty() {
            queue.rcu_ticket = self.rcu.begin();
        }
    }

    /// Will someone wake the worker when there is something to do for it: the readers that these tickets wait for, and whoever
    /// comes with something new? What waits for walks behind the first ticket is no news. The lock is held.
    fn sleeps_until_poked(
        &self,
        queue: &Queue,
        walks: Option<Ticket>,
        rcu: Option<Ticket>,
    ) -> bool {
        if walks.is_none() && (!queue.callbacks.is_empty() || !self.inbox.fall_asleep(queue)) {
            return false;
        }
        if rcu.is_none() && !queue.rcu.is_empty() {
            return false;
        }
        let walks_over = walks.is_some_and(|ticket| self.domain.is_over_or_watched(ticket));
        let rcu_over = rcu.is_some_and(|ticket| self.rcu.is_over_or_watched(ticket));
        !walks_over && !rcu_over
    }

    /// There is nothing to do: stays awake for a moment, so that a burst of puts wakes it once, then sleeps.
    fn rest<'a>(&'a self, queue: LockGuard<'a, Queue>) -> LockGuard<'a, Queue> {
        // ORDERING: Relaxed: a hint; what it is about is read under the lock.
        let seen = self.arrivals.load(Ordering::Relaxed);
        drop(queue);
        self.linger(LINGER, seen, || self.inbox.last().is_null());
        let queue = self.queue.lock();
        // A barrier may have emptied the inbox meanwhile.
        if queue.is_empty() && !queue.stop && self.inbox.fall_asleep(&queue) {
            self.idle.wait(queue, IDLE)
        } else {
            queue
        }
    }

    fn run<'a>(&'a self, mut queue: LockGuard<'a, Queue>, item: Item) -> LockGuard<'a, Queue> {
        let is_callback = matches!(item, Item::Callback(_));
        queue.running = true;
        queue.running_callback = is_callback;
        drop(queue);
        RUNNING.set(true);
        match item {
            // SAFETY: Queued by `call` for this function, and just taken out.
            Item::Callback(head) => unsafe { (self.ops.call)(head) },
            // SAFETY: Queued by `push_work`, `call_rcu` or a domain, and just taken out.
            Item::Work(head) => unsafe { run_work(head) },
        }
        RUNNING.set(false);
        let mut queue = self.queue.lock();
        queue.running = false;
        queue.finished += u64::from(is_callback);
        self.done.wake_all(queue, FREE);
        self.queue.lock()
    }
}
