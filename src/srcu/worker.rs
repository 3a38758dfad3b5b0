//! The library's one thread: runs callbacks after their grace period, and work that may not run where it was asked for.
//!
//! Started by the first thing that is owed, all signals blocked, asleep in a futex when there is nothing to run; it is started
//! again in the child of a fork when something is owed there. At exit it is stopped if it
//! is idle, so that leak checkers see nothing of it, and left alone if it is not.
//!
//! Invariants
//! * It never sleeps for a grace period alone: the reader that it waits for pokes it ([`Worker::poke`]), and so does whoever has
//!   work. So one domain's readers cannot hold up another domain's callbacks.
//! * Who wakes it does so under the lock, and it goes to sleep under the lock: no wake is lost. In a burst it is awake.
//! * Callbacks run in the order in which they were queued, one at a time, outside all locks, each after the grace period
//!   that began when it was queued; so does work, which waits for nothing and goes first.
//! * `finished` counts callbacks that are over, whatever follows them included (GP-7's mmdrop).
//! * Where no thread can be created, `barrier` does the work on its caller's thread: nothing that is owed is lost. Whoever
//!   serves in a thread's place runs all work, which nobody may be waiting for, and hands on what came meanwhile.
//!
//! Lock order: the queue's lock, then the domain's.
#![expect(unsafe_code, reason = "an intrusive queue, and a thread without std")]

use core::cell::Cell;
use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

use super::{Srcu, Ticket};
use crate::abi::types::callback_head;
use crate::sync::{
    self, AtomicU64, Lock, LockGuard, Ordering, Thread, WaitQueue,
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

/// What floor 4 makes the worker do.
#[derive(Debug)]
pub struct WorkerOps {
    /// Runs on a fresh worker thread before anything else.
    pub begin: fn(),
    /// Called once for each head given to [`Worker::call`].
    pub call: unsafe fn(head: *mut callback_head),
}

/// A first-in first-out queue, linked through `callback_head.next`. Zeroed memory is an empty one.
#[derive(Debug)]
pub(super) struct Fifo {
    first: *mut callback_head,
    last: *mut callback_head,
}

#[derive(Debug)]
struct Queue {
    /// Waiting for a grace period, whose ticket is in `callback_head.func`.
    callbacks: Fifo,
    /// Not waiting for anything; `callback_head.func` is to be called.
    work: Fifo,
    /// Callbacks with this ticket or an older one may run: their grace period is over.
    ripe: Ticket,
    /// Callbacks ever queued.
    queued: u64,
    /// Callbacks that are over.
    finished: u64,
    /// Somebody, normally the thread, is serving the queue.
    served: bool,
    /// A callback or work is running right now.
    running: bool,
    /// It is a callback.
    running_callback: bool,
    /// The process exits: the thread, idle, is to end.
    stop: bool,
    /// The thread that serves, if it is one of ours.
    thread: Option<Thread>,
}

/// How often an idle worker looks again before it sleeps: some tens of microseconds.
const LINGER: usize = 100;

/// Something to run.
enum Item {
    Callback(*mut callback_head),
    Work(*mut callback_head),
}

thread_local! {
    /// Is this thread running a callback or work?
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// The worker and its queue.
#[derive(Debug)]
pub struct Worker {
    queue: Lock<Queue>,
    /// The worker sleeps here.
    idle: WaitQueue,
    /// Those who wait for `finished` or for `running` to change sleep here.
    done: WaitQueue,
    domain: &'static Srcu,
    ops: WorkerOps,
    /// Counts, under the queue's lock, what the worker has to look at.
    arrivals: AtomicU64,
}

impl Fifo {
    pub(super) const EMPTY: Self = Self {
        first: ptr::null_mut(),
        last: ptr::null_mut(),
    };

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// # Safety
    /// `head` is in no queue and stays valid until it is popped.
    pub(super) unsafe fn push(&mut self, head: *mut callback_head) {
        // SAFETY: The caller gives us `head`.
        unsafe { (*head).next = ptr::null_mut() };
        if self.first.is_null() {
            self.first = head;
        } else {
            // SAFETY: `last` is queued, hence valid.
            unsafe { (*self.last).next = head };
        }
        self.last = head;
    }

    pub(super) fn pop(&mut self) -> Option<*mut callback_head> {
        let head = self.first;
        if head.is_null() {
            return None;
        }
        // SAFETY: Queued, hence valid.
        self.first = unsafe { (*head).next };
        Some(head)
    }

    /// The tickets of the oldest callback and of the newest.
    fn tickets(&self) -> Option<(Ticket, Ticket)> {
        let of = |head| {
            // SAFETY: Queued by `Worker::call`, which wrote the word; hence valid.
            Ticket(unsafe { ticket_word(head).read() })
        };
        (!self.is_empty()).then(|| (of(self.first), of(self.last)))
    }

    fn first_ticket(&self) -> Option<Ticket> {
        self.tickets().map(|(first, _)| first)
    }
}

impl Queue {
    const EMPTY: Self = Self {
        callbacks: Fifo::EMPTY,
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

    /// Is something queued that nobody serves?
    fn is_stranded(&self) -> bool {
        !(self.served || self.work.is_empty() && self.callbacks.is_empty())
    }

    /// Takes out what can run now.
    fn next(&mut self) -> Option<Item> {
        if let Some(head) = self.work.pop() {
            return Some(Item::Work(head));
        }
        let ripe = self.callbacks.first_ticket()? <= self.ripe;
        ripe.then(|| self.callbacks.pop().map(Item::Callback))?
    }
}

/// The word of a queued head that holds its ticket: the core needs no function pointer there.
fn ticket_word(head: *mut callback_head) -> *mut u64 {
    head.wrapping_byte_add(offset_of!(callback_head, func))
        .cast()
}

impl Worker {
    /// A worker that has not been started.
    pub const fn new(domain: &'static Srcu, ops: WorkerOps) -> Self {
        Self {
            queue: Lock::new(Queue::EMPTY),
            idle: WaitQueue::new(),
            done: WaitQueue::new(),
            domain,
            ops,
            arrivals: AtomicU64::new(0),
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
        self.enqueue(|queue| {
            queue.queued += 1;
            // SAFETY: The caller's promise.
            unsafe { queue.callbacks.push(head) };
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
        self.enqueue(|_| ());
    }

    /// Has the thread look round, and starts it if need be. False: there is no thread to be had.
    pub fn rouse(&'static self) -> bool {
        self.kick();
        self.queue.lock().served
    }

    fn enqueue(&'static self, push: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        push(&mut queue);
        self.announce_arrival();
        let start = !queue.served;
        queue.served = true;
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
        self.idle.wake_all(self.queue.lock(), IDLE);
    }

    /// There is something new for the worker to look at. The lock is held.
    fn announce_arrival(&self) {
        // ORDERING: Relaxed: changed under the lock; without it, a hint.
        let arrivals = self.arrivals.load(Ordering::Relaxed);
        // ORDERING: Relaxed: as above.
        self.arrivals.store(arrivals + 1, Ordering::Relaxed);
    }

    /// The number that [`Worker::barrier`] wants: everything that is owed so far.
    pub fn queued(&self) -> u64 {
        self.queue.lock().queued
    }

    /// Waits until every callback that was queued when `queued()` returned `target` is over.
    pub fn barrier(&'static self, target: u64) {
        self.wait_until(|queue| queue.finished >= target);
    }

    /// Waits until `is_done`; serves the queue where no thread does.
    fn wait_until(&'static self, is_done: impl Fn(&Queue) -> bool) {
        let wanted = |queue: &Queue| !is_done(queue) || !queue.work.is_empty();
        let mut queue = self.queue.lock();
        while !is_done(&queue) || queue.is_stranded() && wanted(&queue) {
            if queue.served {
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
        queue.served = false;
        self.done.wake_all(queue, FREE);
        self.queue.lock()
    }

    /// Waits until work, which sets what `is_done` reads before it ends, has run.
    pub(super) fn wait_for_work(&'static self, is_done: impl Fn() -> bool) {
        self.wait_until(|_| is_done());
    }

    /// Runs what is queued, in order, while `wanted`. Returns with the lock held.
    fn serve<'a>(
        &'a self,
        mut queue: LockGuard<'a, Queue>,
        wanted: impl Fn(&Queue) -> bool,
    ) -> LockGuard<'a, Queue> {
        while wanted(&queue) {
            queue = match (queue.next(), queue.callbacks.tickets()) {
                (Some(item), _) => self.run(queue, item),
                (None, Some((first, last))) => self.ripen(queue, first, last),
                (None, None) => self.rest(queue),
            };
        }
        queue
    }

    /// Nothing can run, but callbacks are owed: finds out which of them may run, or sleeps until one may.
    fn ripen<'a>(
        &'a self,
        queue: LockGuard<'a, Queue>,
        first: Ticket,
        last: Ticket,
    ) -> LockGuard<'a, Queue> {
        // Without the lock: a grace period has a system call to make.
        drop(queue);
        // The newest need not have the youngest ticket: tickets are drawn before the lock is taken.
        let over = [last.max(first), first]
            .into_iter()
            .find(|ticket| self.domain.is_over(*ticket));
        let mut queue = self.queue.lock();
        if let Some(ticket) = over {
            queue.ripe = queue.ripe.max(ticket);
        } else if queue.work.is_empty() && !queue.stop && !self.domain.is_over_or_watched(first) {
            return self.idle.wait(queue, GRACE_PERIOD);
        }
        queue
    }

    /// There is nothing to do: stays awake for a moment, so that a burst of puts wakes it once, then sleeps.
    fn rest<'a>(&'a self, queue: LockGuard<'a, Queue>) -> LockGuard<'a, Queue> {
        // ORDERING: Relaxed: a hint; what it is about is read under the lock.
        let seen = self.arrivals.load(Ordering::Relaxed);
        drop(queue);
        let lingers = if cfg!(loom) || hook::is_installed() {
            0
        } else {
            LINGER
        };
        for _ in 0..lingers {
            // ORDERING: Relaxed: as above.
            if self.arrivals.load(Ordering::Relaxed) != seen {
                break;
            }
            yield_now();
        }
        let queue = self.queue.lock();
        // ORDERING: Relaxed: changed under the lock.
        if self.arrivals.load(Ordering::Relaxed) == seen {
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
            // SAFETY: Queued by `queue_work`, and just taken out.
            Item::Work(head) => unsafe { run_work(head) },
        }
        RUNNING.set(false);
        let mut queue = self.queue.lock();
        queue.running = false;
        queue.finished += u64::from(is_callback);
        self.done.wake_all(queue, FREE);
        self.queue.lock()
    }

    /// Before fork: holds the queue still. What runs is not waited for: it may want a lock that the forking thread holds.
    pub fn hold_for_fork(&self) {
        self.queue.acquire();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    pub unsafe fn release_in_parent(&self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.queue.release() };
    }

    /// After fork, in the child: the worker does not exist, unless it is the thread that forked. What is owed stays owed, except
    /// callbacks that `drop_if` names; what was running on another thread will not end.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`.
    pub unsafe fn release_in_child(&self, drop_if: impl Fn(*mut callback_head) -> bool) {
        // SAFETY: Held since `hold_for_fork`; the child has one thread.
        let queue = unsafe { self.queue.data() };
        let mut kept = Fifo::EMPTY;
        while let Some(head) = queue.callbacks.pop() {
            if drop_if(head) {
                queue.finished += 1;
            } else {
                // SAFETY: Just taken out; still valid.
                unsafe { kept.push(head) };
            }
        }
        queue.callbacks = kept;
        if !RUNNING.get() {
            queue.finished += u64::from(queue.running && queue.running_callback);
            queue.running = false;
            queue.served = false;
        }
        queue.thread = None;
        self.idle.forget_sleepers();
        self.done.forget_sleepers();
        // SAFETY: As above.
        unsafe { self.queue.release() };
    }

    /// At exit: ends the thread if it is idle.
    pub fn stop_if_idle(&self) {
        let mut queue = self.queue.lock();
        let idle = queue.work.is_empty() && queue.callbacks.is_empty() && !queue.running;
        let Some(thread) = queue.thread.take_if(|_| idle) else {
            return;
        };
        queue.stop = true;
        self.announce_arrival();
        self.idle.wake_all(queue, IDLE);
        // SAFETY: Ours: a forked child has forgotten its parent's.
        unsafe { thread.join() };
    }

    /// The thread's life.
    fn live(&self) {
        (self.ops.begin)();
        let mut queue = self.serve(self.queue.lock(), |queue| !queue.stop);
        queue.stop = false;
        drop(self.leave_to_others(queue));
    }

    fn start_thread(&'static self) -> Option<Thread> {
        let argument = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: The entry point takes what we pass.
        unsafe { sync::start(thread_main, argument) }
    }
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

extern "C" fn thread_main(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `start_thread` passes a `&'static Worker`.
    let worker = unsafe { &*argument.cast::<Worker>() };
    // SAFETY: A static, NUL-terminated name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"mmu_notifier".as_ptr()) };
    worker.live();
    ptr::null_mut()
}
