//! The library's one thread: runs callbacks after their grace period, and work that may not run where it was asked for.
//!
//! Started by the first thing that is owed, all signals blocked, asleep in a futex when there is nothing to run; it is started
//! again in the child of a fork when something is owed there. At exit it is stopped if it is idle, so that leak checkers see nothing
//! of it, and left alone if it is not.
//!
//! Calls leave what they have in the `inbox`; whoever serves, normally the thread, moves it to the `queue` and runs it (`serve`). What
//! becomes of it at fork is in `fork`.
//!
//! Invariants
//! * It never sleeps for a grace period alone: the reader that it waits for pokes it ([`Worker::poke`]), and so does whoever has
//!   work. So one domain's readers cannot hold up another domain's callbacks.
//! * Who wakes it does so under the lock, and it goes to sleep under the lock: no wake is lost.
//! * Callbacks run in the order in which they were queued, one at a time, outside all locks, each after the grace period
//!   that began when it was queued; so does work, which waits for nothing and goes first. Callbacks of the process's RCU domain
//!   wait for a grace period that all that have come meanwhile share, and are work then.
//! * `finished` counts callbacks that are over, whatever follows them included (GP-7's mmdrop).
//! * Where no thread can be created, `barrier` does the work on its caller's thread: nothing that is owed is lost. Whoever
//!   serves in a thread's place runs all work, which nobody may be waiting for, and hands on what came meanwhile.
//! * A callback of `live` may run inside malloc, where no thread can be started: what it queues first waits for the library's next call
//!   from elsewhere ([`Worker::start_if_stranded`]).
//!
//! Lock order: the queue's lock, then the domain's.
#![expect(unsafe_code, reason = "an intrusive queue, and a thread without std")]

mod fork;
mod inbox;
mod queue;
mod serve;

use core::ffi::c_void;
use core::ptr;

use super::{RCU, Srcu};
use crate::abi::types::callback_head;
use crate::sync::{
    self, AtomicU32, AtomicU64, Lock, LockGuard, Ordering, Thread, WaitQueue,
    hook::WaitReason::{MMU_NOTIFIER_WAIT_FREE as FREE, MMU_NOTIFIER_WAIT_IDLE as IDLE},
};
use inbox::Inbox;
use queue::{Queue, ticket_word};

/// What floor 4 makes the worker do.
#[derive(Debug)]
pub struct WorkerOps {
    /// Runs on a fresh worker thread before anything else.
    pub begin: fn(),
    /// Called once for each head given to [`Worker::call`].
    pub call: unsafe fn(head: *mut callback_head),
    /// May a thread be started here, which takes memory?
    pub may_start: fn() -> bool,
}

/// The worker and its queue.
#[derive(Debug)]
pub struct Worker {
    inbox: Inbox,
    queue: Lock<Queue>,
    /// The worker sleeps here.
    idle: WaitQueue,
    /// Those who wait for `finished` or for `running` to change sleep here.
    done: WaitQueue,
    domain: &'static Srcu,
    rcu: &'static Srcu<RCU>,
    ops: WorkerOps,
    /// Counts, under the queue's lock, what the worker has to look at.
    arrivals: AtomicU64,
    /// Something was queued where no thread could be started.
    stranded: AtomicU32,
    /// The worker is to look round, and a fork that holds the lock is to tell it so.
    told_fork: AtomicU32,
}

impl Worker {
    /// A worker that has not been started.
    pub const fn new(domain: &'static Srcu, rcu: &'static Srcu<RCU>, ops: WorkerOps) -> Self {
        Self {
            inbox: Inbox::new(),
            queue: Lock::new(Queue::EMPTY),
            idle: WaitQueue::new(),
            done: WaitQueue::new(),
            domain,
            rcu,
            ops,
            arrivals: AtomicU64::new(0),
            stranded: AtomicU32::new(0),
            told_fork: AtomicU32::new(0),
        }
    }

    /// Has `ops.call` called with `head` after all readers that are inside now have left. Never sleeps.
    ///
    /// # Safety
    /// `head` is in no queue and stays valid until `ops.call` gets it.
    pub unsafe fn call(&'static self, head: *mut callback_head) {
        let ticket = self.domain.begin();
        // SAFETY: The caller gives us `head`; the word is a pointer's and takes a number of its size.
        unsafe { ticket_word(head).write(ticket.0) };
        // SAFETY: The caller's promise.
        if unsafe { self.inbox.put(head) } {
            self.kick();
        }
    }

    /// Has `head.func` called with `head` after all readers of the RCU domain that are inside now have left. Never sleeps.
    ///
    /// # Safety
    /// `head` is in no queue and stays valid until its function is called, and `func` is set.
    pub unsafe fn call_rcu(&'static self, head: *mut callback_head) {
        self.enqueue(|queue| {
            if queue.rcu.is_empty() {
                queue.rcu_ticket = self.rcu.begin();
                // SAFETY: The caller's promise.
                unsafe { queue.rcu.push(head) };
            } else {
                // SAFETY: As above.
                unsafe { queue.rcu_later.push(head) };
            }
        });
    }

    /// Has `head.func` called with `head` on the worker's thread, once [`Worker::kick`] is called. Never sleeps.
    ///
    /// # Safety
    /// `head` is in no queue, stays valid until its function is called, and `func` is set.
    pub unsafe fn push_work(&self, head: *mut callback_head) {
        // SAFETY: The caller's promise.
        unsafe { self.queue.lock().work.push(head) };
    }

    /// Something was pushed: wakes the worker, or starts it.
    pub fn kick(&'static self) {
        if let Some(queue) = self.lock_unless_forking() {
            self.look_round(queue);
        }
    }

    /// Starts the worker if something was queued in a callback of `live`, where that could not be done.
    #[inline]
    pub fn start_if_stranded(&'static self) {
        // ORDERING: Relaxed: a hint; what it is about is under the lock.
        if self.stranded.load(Ordering::Relaxed) != 0 && (self.ops.may_start)() {
            self.kick();
        }
    }

    /// Has the thread look round, and starts it if need be. False: there is no thread to be had.
    pub fn rouse(&'static self) -> bool {
        self.kick();
        self.queue.lock().served
    }

    /// The key of the queue on which the thread sleeps, and nobody else does.
    pub fn bed(&'static self) -> *const c_void {
        ptr::from_ref(&self.idle).cast()
    }

    fn enqueue(&'static self, push: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        push(&mut queue);
        self.look_round(queue);
    }

    /// There is something to look at: wakes the worker, or starts it.
    fn look_round<'a>(&'static self, mut queue: LockGuard<'a, Queue>) {
        self.announce_arrival();
        let start = !queue.served && (self.ops.may_start)();
        // ORDERING: Relaxed: a hint for who comes next; changed under the lock.
        let stranded = u32::from(!queue.served && !start);
        self.stranded.store(stranded, Ordering::Relaxed);
        queue.served |= start;
        self.idle.wake_all(queue, IDLE);
        if start {
            let thread = self.start_thread();
            let mut queue = self.queue.lock();
            let nobody = thread.is_none();
            queue.thread = thread;
            if nobody {
                drop(self.leave_to_others(queue));
            }
        }
    }

    /// Readers that were waited for have left the domain: a callback's grace period may be over.
    pub fn poke(&self) {
        // Under the lock: a worker that has just looked is asleep by now.
        if let Some(queue) = self.lock_unless_forking() {
            self.idle.wake_all(queue, IDLE);
        }
    }

    /// There is something for the worker to look at, or somebody who waits for it. The lock is held.
    fn announce_arrival(&self) {
        // ORDERING: Relaxed: changed under the lock; without it, a hint.
        let arrivals = self.arrivals.load(Ordering::Relaxed);
        // ORDERING: Relaxed: as above.
        self.arrivals.store(arrivals + 1, Ordering::Relaxed);
    }

    /// The number that [`Worker::barrier`] wants: everything that is owed so far. None: nothing is.
    pub fn queued(&self) -> Option<u64> {
        if self.inbox.owes_nothing() {
            return None;
        }
        let mut queue = self.queue.lock();
        self.inbox.empty(&mut queue);
        Some(queue.queued)
    }

    /// Waits until every callback that was queued when `queued()` returned `target` is over.
    pub fn barrier(&'static self, target: Option<u64>) {
        if let Some(target) = target {
            self.wait_until(|queue| queue.finished >= target);
        }
    }

    /// Waits until `is_done`; serves the queue where no thread does.
    fn wait_until(&'static self, is_done: impl Fn(&Queue) -> bool) {
        let wanted = |queue: &Queue| !is_done(queue) || !queue.work.is_empty();
        let mut queue = self.queue.lock();
        while !is_done(&queue) || queue.is_stranded() && wanted(&queue) {
            if queue.served {
                self.announce_arrival();
                queue = self.done.wait(queue, FREE);
            } else {
                queue.served = true;
                queue = self.serve(queue, wanted);
                queue = self.leave_to_others(queue);
            }
        }
        let stranded = queue.is_stranded();
        drop(queue);
        if stranded {
            // Queued while somebody served: a thread was not missed then, and may be had now.
            self.kick();
        }
    }

    /// Stops serving: whoever waits for something takes over.
    fn leave_to_others<'a>(&'a self, mut queue: LockGuard<'a, Queue>) -> LockGuard<'a, Queue> {
        while !self.inbox.fall_asleep(&queue) {
            self.inbox.empty(&mut queue);
        }
        queue.served = false;
        self.done.wake_all(queue, FREE);
        self.queue.lock()
    }

    /// Waits until work, which sets what `is_done` reads before it ends, has run.
    pub(super) fn wait_for_work(&'static self, is_done: impl Fn() -> bool) {
        self.wait_until(|_| is_done());
    }

    /// At exit: ends the thread if it is idle.
    pub fn stop_if_idle(&self) {
        let mut queue = self.queue.lock();
        self.inbox.empty(&mut queue);
        let idle = queue.is_empty() && !queue.running;
        let Some(thread) = queue.thread.take_if(|_| idle) else {
            return;
        };
        queue.stop = true;
        self.announce_arrival();
        self.idle.wake_all(queue, IDLE);
        // SAFETY: Ours: a forked child has forgotten its parent's.
        unsafe { thread.join() };
    }

    fn start_thread(&'static self) -> Option<Thread> {
        let argument = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: The entry point takes what we pass.
        unsafe { sync::start(thread_main, argument) }
    }
}

extern "C" fn thread_main(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `start_thread` passes a `&'static Worker`.
    let worker = unsafe { &*argument.cast::<Worker>() };
    // SAFETY: A static, NUL-terminated name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"mmu_notifier".as_ptr()) };
    worker.live();
    ptr::null_mut()
}
