//! The library's one thread: runs callbacks after their grace period, and work that may not run where it was asked for.
//!
//! Started by the first thing that is owed, all signals blocked, detached, asleep in a futex when idle; it keeps its
//! hands still around fork and is started again in the child when something is owed there.
//!
//! Invariants
//! * Callbacks run in the order in which they were queued, one at a time, outside all locks, each after the grace period
//!   that began when it was queued.
//! * `finished` counts callbacks that are over, whatever follows them included (GP-7's mmdrop).
//! * Where no thread can be created, `barrier` does the work on its caller's thread: nothing that is owed is lost.
#![expect(unsafe_code, reason = "an intrusive queue, and a thread without std")]

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;

use super::{Srcu, Ticket};
use crate::abi::types::callback_head;
use crate::sync::{
    Lock, LockGuard, WaitQueue,
    hook::WaitReason::{MMU_NOTIFIER_WAIT_FREE as FREE, MMU_NOTIFIER_WAIT_IDLE as IDLE},
};

/// What floor 4 makes the worker do.
#[derive(Debug)]
pub struct WorkerOps {
    /// Runs on a fresh worker thread before anything else.
    pub begin: fn(),
    /// Called once for each head given to [`Worker::call`].
    pub call: unsafe fn(head: *mut callback_head),
    /// Called once for each head given to [`Worker::queue_work`].
    pub work: unsafe fn(head: *mut callback_head),
}

/// A first-in first-out queue, linked through `callback_head.next`.
#[derive(Debug)]
struct Fifo {
    first: *mut callback_head,
    last: *mut callback_head,
}

#[derive(Debug)]
struct Queue {
    /// Waiting for a grace period, whose ticket is in `callback_head.func`.
    callbacks: Fifo,
    /// Not waiting for anything.
    work: Fifo,
    /// Callbacks and work ever queued.
    queued: u64,
    /// Callbacks and work that are over.
    finished: u64,
    /// Somebody, normally the thread, is serving the queue.
    served: bool,
    /// A callback or work is running right now.
    running: bool,
    /// A fork is under way: nothing may start to run.
    paused: bool,
}

thread_local! {
    /// Is this thread running a callback or work?
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// The worker and its queue.
#[derive(Debug)]
pub struct Worker<const N: usize> {
    queue: Lock<Queue>,
    /// The worker sleeps here.
    idle: WaitQueue,
    /// Those who wait for `finished` or for `running` to change sleep here.
    done: WaitQueue,
    domain: &'static Srcu<N>,
    ops: WorkerOps,
}

impl Fifo {
    const EMPTY: Self = Self {
        first: ptr::null_mut(),
        last: ptr::null_mut(),
    };

    /// # Safety
    /// `head` is in no queue and stays valid until it is popped.
    unsafe fn push(&mut self, head: *mut callback_head) {
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

    fn pop(&mut self) -> *mut callback_head {
        let head = self.first;
        if !head.is_null() {
            // SAFETY: Queued, hence valid.
            self.first = unsafe { (*head).next };
        }
        head
    }
}

/// The word of a queued head that holds its ticket: the core needs no function pointer there.
fn ticket_word(head: *mut callback_head) -> *mut usize {
    head.cast::<u8>()
        .wrapping_add(core::mem::offset_of!(callback_head, func))
        .cast()
}

impl<const N: usize> Worker<N> {
    /// A worker that has not been started.
    pub const fn new(domain: &'static Srcu<N>, ops: WorkerOps) -> Self {
        let queue = Queue {
            callbacks: Fifo::EMPTY,
            work: Fifo::EMPTY,
            queued: 0,
            finished: 0,
            served: false,
            running: false,
            paused: false,
        };
        Self {
            queue: Lock::new(queue),
            idle: WaitQueue::new(),
            done: WaitQueue::new(),
            domain,
            ops,
        }
    }

    /// Has `ops.call` called with `head` after all readers that are inside now have left. Never sleeps.
    ///
    /// # Safety
    /// `head` is in no queue and stays valid until `ops.call` gets it.
    pub unsafe fn call(&'static self, head: *mut callback_head) {
        let ticket = self.domain.begin();
        // SAFETY: The caller gives us `head`; the word is a pointer's and takes a usize.
        unsafe { ticket_word(head).write(ticket.to_bits()) };
        // SAFETY: The caller's promise.
        self.enqueue(|queue| unsafe { queue.callbacks.push(head) });
    }

    /// Has `ops.work` called with `head`, on the worker's thread. Never sleeps.
    ///
    /// # Safety
    /// `head` is in no queue and stays valid until `ops.work` gets it.
    pub unsafe fn queue_work(&'static self, head: *mut callback_head) {
        // SAFETY: The caller's promise.
        self.enqueue(|queue| unsafe { queue.work.push(head) });
    }

    fn enqueue(&'static self, push: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        push(&mut queue);
        queue.queued += 1;
        let start = !queue.served;
        queue.served = true;
        drop(queue);
        self.idle.wake_all(IDLE);
        if start && !self.start_thread() {
            self.queue.lock().served = false;
        }
    }

    /// The number that [`Worker::barrier`] wants: everything queued so far.
    pub fn queued(&self) -> u64 {
        self.queue.lock().queued
    }

    /// Waits until everything that was queued when `queued()` returned `target` is over.
    pub fn barrier(&'static self, target: u64) {
        let mut queue = self.queue.lock();
        while queue.finished < target {
            if queue.served {
                queue = self.done.wait(queue, FREE);
            } else {
                queue.served = true;
                queue = self.serve(queue, |queue| queue.finished < target);
                queue.served = false;
            }
        }
    }

    /// Runs what is queued, in order, while `wanted`. Returns with the lock held.
    fn serve<'a>(
        &'a self,
        mut queue: LockGuard<'a, Queue>,
        wanted: impl Fn(&Queue) -> bool,
    ) -> LockGuard<'a, Queue> {
        while wanted(&queue) {
            if queue.paused || (queue.work.first.is_null() && queue.callbacks.first.is_null()) {
                queue = self.idle.wait(queue, IDLE);
            } else if !queue.work.first.is_null() {
                let head = queue.work.pop();
                queue = self.run(queue, self.ops.work, head);
            } else {
                queue = self.serve_callback(queue);
            }
        }
        queue
    }

    /// Waits for the grace period of the first callback, then runs it unless a fork came in between.
    fn serve_callback<'a>(&'a self, queue: LockGuard<'a, Queue>) -> LockGuard<'a, Queue> {
        // SAFETY: Queued, hence valid; `call` wrote the word.
        let ticket = Ticket::from_bits(unsafe { ticket_word(queue.callbacks.first).read() });
        drop(queue);
        self.domain.wait(ticket);
        let mut queue = self.queue.lock();
        if queue.paused {
            return queue;
        }
        let head = queue.callbacks.pop();
        self.run(queue, self.ops.call, head)
    }

    fn run<'a>(
        &'a self,
        mut queue: LockGuard<'a, Queue>,
        function: unsafe fn(*mut callback_head),
        head: *mut callback_head,
    ) -> LockGuard<'a, Queue> {
        queue.running = true;
        drop(queue);
        RUNNING.set(true);
        // SAFETY: `head` was queued for this function and has just been taken out.
        unsafe { function(head) };
        RUNNING.set(false);
        let mut queue = self.queue.lock();
        queue.running = false;
        queue.finished += 1;
        drop(queue);
        self.done.wake_all(FREE);
        self.queue.lock()
    }

    /// Before fork: waits until nothing runs, and holds the queue still. A callback that forks does not wait for itself.
    pub fn hold_for_fork(&self) {
        let mut queue = self.queue.lock();
        queue.paused = true;
        while queue.running && !RUNNING.get() {
            queue = self.done.wait(queue, FREE);
        }
        drop(queue);
        self.queue.acquire();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    pub unsafe fn release_in_parent(&self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.queue.data() }.paused = false;
        // SAFETY: As above.
        unsafe { self.queue.release() };
        self.idle.wake_all(IDLE);
    }

    /// After fork, in the child: the worker does not exist. What is owed stays owed, except callbacks that `drop_if`
    /// names.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`.
    pub unsafe fn release_in_child(&self, drop_if: impl Fn(*mut callback_head) -> bool) {
        // SAFETY: Held since `hold_for_fork`; the child has one thread.
        let queue = unsafe { self.queue.data() };
        let mut kept = Fifo::EMPTY;
        loop {
            let head = queue.callbacks.pop();
            if head.is_null() {
                break;
            }
            if drop_if(head) {
                queue.finished += 1;
            } else {
                // SAFETY: Just taken out; still valid.
                unsafe { kept.push(head) };
            }
        }
        queue.callbacks = kept;
        queue.served = false;
        queue.paused = false;
        self.idle.forget_sleepers();
        self.done.forget_sleepers();
        // SAFETY: As above.
        unsafe { self.queue.release() };
    }

    /// Creates the thread, with all signals blocked so that no handler of the program runs on it.
    fn start_thread(&'static self) -> bool {
        let mut all = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut old = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: Fills the set.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: Both sets are ours; the first is filled.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
        let mut thread: libc::pthread_t = 0;
        let argument = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: The entry point takes what we pass.
        let failed = unsafe {
            libc::pthread_create(&raw mut thread, ptr::null(), thread_main::<N>, argument)
        };
        // SAFETY: `old` was filled above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), ptr::null_mut()) };
        if failed != 0 {
            return false;
        }
        // SAFETY: The thread was just created and nobody joins it.
        unsafe { libc::pthread_detach(thread) };
        true
    }
}

extern "C" fn thread_main<const N: usize>(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `start_thread` passes a `&'static Worker<N>`.
    let worker = unsafe { &*argument.cast::<Worker<N>>() };
    (worker.ops.begin)();
    // SAFETY: A static, NUL-terminated name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"mmu_notifier".as_ptr()) };
    drop(worker.serve(worker.queue.lock(), |_| true));
    ptr::null_mut()
}
