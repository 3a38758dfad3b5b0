//! The library's one thread: runs callbacks after their grace period, and work that may not run where it was asked for.
//!
//! Started by the first thing that is owed, all signals blocked, asleep in a futex when there is nothing to run; it is started
//! again in the child of a fork when something is owed there. At exit it is stopped if it
//! is idle, so that leak checkers see nothing of it, and left alone if it is not.
//!
//! Invariants
//! * It never sleeps for a grace period alone: the reader that it waits for pokes it ([`Worker::poke`]), and so does whoever has
//!   work. So one domain's readers cannot hold up another domain's callbacks.
//! * Calls go into the inbox without a lock. Who serves looks there whenever nothing else can run, and goes to sleep by the same
//!   word ([`ASLEEP`]): who finds it asleep wakes it, and nobody else does. So in a burst one call at most wakes it.
//! * While the inbox says [`ASLEEP`], no callback is owed.
//! * Who wakes it does so under the lock, and it goes to sleep under the lock: no wake is lost.
//! * Callbacks run in the order in which they were queued, one at a time, outside all locks, each after the grace period
//!   that began when it was queued; so does work, which waits for nothing and goes first. Callbacks of the process's RCU domain
//!   wait for a grace period that all that have come meanwhile share, and are work then.
//! * `finished` counts callbacks that are over, whatever follows them included (GP-7's mmdrop).
//! * Where no thread can be created, `barrier` does the work on its caller's thread: nothing that is owed is lost. Whoever
//!   serves in a thread's place runs all work, which nobody may be waiting for, and hands on what came meanwhile.
//! * A callback of `live` may run inside malloc, where no thread can be started: what it queues first waits for the library's next call
//!   from elsewhere ([`Worker::start_if_stranded`]).
//! * fork holds the queue's lock, and waits for malloc's locks. Who may hold one of these (a call or a walk that ends inside free())
//!   does not wait for fork: what it had to tell the worker, fork tells it ([`Worker::kick`], [`Worker::poke`]).
//!
//! Lock order: the queue's lock, then the domain's.
#![expect(unsafe_code, reason = "an intrusive queue, and a thread without std")]

use core::cell::Cell;
use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

use super::{RCU, Srcu, Ticket};
use crate::abi::types::callback_head;
use crate::sync::{
    self, AtomicPtr, AtomicU32, AtomicU64, Fifo, Linked, Lock, LockGuard, Ordering, Thread,
    WaitQueue,
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
    /// May a thread be started here, which takes memory?
    pub may_start: fn() -> bool,
}

// SAFETY: The word is the queue's, from `call` on until the head is called.
unsafe impl Linked for callback_head {
    fn link(head: *mut Self) -> *mut *mut Self {
        head.wrapping_byte_add(offset_of!(callback_head, next))
            .cast()
    }
}

#[derive(Debug)]
struct Queue {
    /// Waiting for a grace period, whose ticket is in `callback_head.func`.
    callbacks: Fifo<callback_head>,
    /// Waiting for the grace period `rcu_ticket` of the RCU domain; `callback_head.func` is to be called.
    rcu: Fifo<callback_head>,
    rcu_ticket: Ticket,
    /// As `rcu`, but later: waiting for one that has not begun.
    rcu_later: Fifo<callback_head>,
    /// Not waiting for anything; `callback_head.func` is to be called.
    work: Fifo<callback_head>,
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
/// How often it lets others run before it looks whether more calls have come; and how often it does so at most.
const GATHER: (usize, usize) = (40, 4);

/// Something to run.
enum Item {
    Callback(*mut callback_head),
    Work(*mut callback_head),
}

thread_local! {
    /// Is this thread running a callback or work?
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// What calls have left, last first; linked through `callback_head.next`. In a cache line that the worker seldom touches.
#[repr(align(128))]
#[derive(Debug)]
struct Inbox(AtomicPtr<callback_head>);

/// Nothing is owed, the inbox is empty, and whoever puts something there has to wake the worker, or to start it.
const ASLEEP: *mut callback_head = ptr::without_provenance_mut(1);
/// The same, but something is queued: it waits for readers of the RCU domain, or no thread could be had.
const DOZING: *mut callback_head = ptr::without_provenance_mut(2);

fn is_asleep(inbox: *mut callback_head) -> bool {
    inbox == ASLEEP || inbox == DOZING
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

/// The tickets of the oldest callback and of the newest.
fn tickets(callbacks: &Fifo<callback_head>) -> Option<(Ticket, Ticket)> {
    let of = |head| {
        // SAFETY: Queued by `Worker::call`, which wrote the word; hence valid.
        Ticket(unsafe { ticket_word(head).read() })
    };
    let (first, last) = callbacks.ends()?;
    Some((of(first), of(last)))
}

impl Queue {
    const EMPTY: Self = Self {
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
    fn is_empty(&self) -> bool {
        self.work.is_empty() && self.callbacks.is_empty() && self.rcu.is_empty()
    }

    /// Is something queued that nobody serves?
    fn is_stranded(&self) -> bool {
        !self.served && !self.is_empty()
    }

    /// Takes out what can run now.
    fn next(&mut self) -> Option<Item> {
        if let Some(head) = self.work.pop() {
            return Some(Item::Work(head));
        }
        let (first, _) = tickets(&self.callbacks)?;
        let ripe = first <= self.ripe;
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
    pub const fn new(domain: &'static Srcu, rcu: &'static Srcu<RCU>, ops: WorkerOps) -> Self {
        Self {
            inbox: Inbox(AtomicPtr::new(ASLEEP)),
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
        // ORDERING: Relaxed: a guess, which the exchange checks.
        let mut last = self.inbox.0.load(Ordering::Relaxed);
        loop {
            let next = if is_asleep(last) {
                ptr::null_mut()
            } else {
                last
            };
            // SAFETY: The caller gives us `head`.
            unsafe { (*head).next = next };
            // ORDERING: Release pairs with the Acquire in `empty_inbox`; Relaxed: a failed one is tried again.
            let exchanged =
                self.inbox
                    .0
                    .compare_exchange(last, head, Ordering::Release, Ordering::Relaxed);
            match exchanged {
                Ok(_) => break,
                Err(other) => last = other,
            }
        }
        if is_asleep(last) {
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

    /// Moves what calls have left from the inbox to the queue. Says whether there was anything. The lock is held.
    fn empty_inbox(&self, queue: &mut Queue) -> bool {
        // ORDERING: Relaxed: only whether it is worth the exchange.
        let last = self.inbox.0.load(Ordering::Relaxed);
        if last.is_null() || is_asleep(last) {
            return false;
        }
        // ORDERING: Acquire pairs with the Release in `call`. What others have put there since comes along by its chain of
        // exchanges.
        let mut last = self.inbox.0.swap(ptr::null_mut(), Ordering::Acquire);
        let mut first = ptr::null_mut::<callback_head>();
        while !last.is_null() {
            // SAFETY: Left there by `call`, hence valid.
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

    fn is_inbox_empty(&self) -> bool {
        // ORDERING: Relaxed: a hint.
        self.inbox.0.load(Ordering::Relaxed).is_null()
    }

    /// From now on the next call wakes whoever serves. False if one has come already. The lock is held.
    fn has_inbox_asleep(&self, queue: &Queue) -> bool {
        let asleep = if queue.is_empty() { ASLEEP } else { DOZING };
        // ORDERING: Relaxed: the lock's holders and calls change it; the exchange checks the latter.
        let last = self.inbox.0.load(Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `owes_nothing`; Relaxed: nothing is read that a call has left.
        let exchange = || {
            self.inbox
                .0
                .compare_exchange(last, asleep, Ordering::Release, Ordering::Relaxed)
        };
        (last.is_null() || is_asleep(last)) && exchange().is_ok()
    }

    /// Is all over that was ever queued, as far as the caller can know of it?
    fn owes_nothing(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `has_inbox_asleep`: what callbacks did comes along.
        self.inbox.0.load(Ordering::Acquire) == ASLEEP
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

    /// The lock; None: a fork holds it, which will kick the worker.
    fn lock_unless_forking(&self) -> Option<LockGuard<'_, Queue>> {
        loop {
            if let Some(queue) = self.queue.lock_unless_forking() {
                return Some(queue);
            }
            // ORDERING: Relaxed: ordered by the fence in `is_forking`.
            self.told_fork.store(1, Ordering::Relaxed);
            if self.queue.is_forking() {
                return None;
            }
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
        if self.owes_nothing() {
            return None;
        }
        let mut queue = self.queue.lock();
        self.empty_inbox(&mut queue);
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
        while !self.has_inbox_asleep(&queue) {
            self.empty_inbox(&mut queue);
        }
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
            queue = match queue.next() {
                Some(item) => self.run(queue, item),
                None => {
                    if self.empty_inbox(&mut queue) {
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
            let last = self.inbox.0.load(Ordering::Relaxed);
            self.linger(rounds, seen, || true);
            if self.inbox.0.load(Ordering::Relaxed) == last {
                break;
            }
        }
        let mut queue = self.queue.lock();
        self.empty_inbox(&mut queue);
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
        if walks.is_none() && (!queue.callbacks.is_empty() || !self.has_inbox_asleep(queue)) {
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
        self.linger(LINGER, seen, || self.is_inbox_empty());
        let queue = self.queue.lock();
        // A barrier may have emptied the inbox meanwhile.
        if queue.is_empty() && !queue.stop && self.has_inbox_asleep(&queue) {
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

    /// Before fork: holds the queue still. What runs is not waited for: it may want a lock that the forking thread holds.
    pub fn hold_for_fork(&self) {
        self.queue.acquire_for_fork();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    pub unsafe fn release_in_parent(&'static self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.queue.release_after_fork() };
        // ORDERING: Relaxed: ordered by the fence in `release_after_fork`.
        if self.told_fork.swap(0, Ordering::Relaxed) != 0 {
            self.kick();
        }
    }

    /// After fork, in the child: the worker does not exist, unless it is the thread that forked. What is owed stays owed, except
    /// callbacks that `drop_if` names; what was running on another thread will not end.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`.
    pub unsafe fn release_in_child(&self, drop_if: impl Fn(*mut callback_head) -> bool) {
        // SAFETY: Held since `hold_for_fork`; the child has one thread.
        let queue = unsafe { self.queue.data() };
        self.empty_inbox(queue);
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
            self.has_inbox_asleep(queue);
        }
        queue.thread = None;
        // ORDERING: Relaxed: the child has one thread.
        self.told_fork.store(0, Ordering::Relaxed);
        self.idle.forget_sleepers();
        self.done.forget_sleepers();
        // SAFETY: As above.
        unsafe { self.queue.release() };
    }

    /// At exit: ends the thread if it is idle.
    pub fn stop_if_idle(&self) {
        let mut queue = self.queue.lock();
        self.empty_inbox(&mut queue);
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
