//! fork and exit. In fork, the child gets a process mm without subscriptions; other mms come along as memory (DV-13).
//!
//! Three phases. Before: every lock of the library is taken, outermost first. A callback that the worker runs is not
//! waited for: it may want a lock that the forking thread holds. In the child it is lost half-way, like any thread.
//! In the parent: everything is released, nothing has changed. In the child: the same, but what other threads were in the
//! middle of is over: their sleeps, their sections, their ranges, their locks.
//!
//! malloc's locks come before the library's: an event inside free() takes the library's with malloc's held. But libc takes malloc's
//! when the handlers of fork have run. So where system calls are events, the library's are taken by fork's own system call
//! ([`make`]), which comes after both; elsewhere nothing is an event inside free(), and the handler takes them. (The case between, events
//! without fork's system call among them, is `srcu::worker`'s: see its `fork`.) No lock of the library is held over an allocation or a
//! free.
//!
//! The handlers are registered when the library is loaded, before the program can register its own: so handlers of the
//! program run while the library still works, or works again.
//!
//! Lock order: the worker, the registry, then for each mm its two semaphores and its interval lock, then the
//! hull of what is watched, the domains of walks, of the process's RCU, of calls and pairs, the report handler.

use core::cell::Cell;

use super::calls::{self, CALLS, PAIRS};
use super::domains::RCU;
use super::registry::{self, process_mm};
use super::subscriptions::{self, Subscriptions};
use super::watched::WATCHED;
use super::worker::WORKER;
use super::{counted, notifiers, task};
use crate::abi::mm::{mm_struct, mmu_notifier_subscriptions};
use crate::chain::WALKS;
use crate::report;
use crate::sync::point;
use crate::thread;

/// Runs when the library is loaded, or the program that contains it.
#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = {
    extern "C" fn register() {
        // SAFETY: The handlers take no arguments and never unwind. Without memory for three pointers at load time there is
        // no program to speak of.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    }
    register
};

/// Runs when the process exits.
#[used]
#[unsafe(link_section = ".fini_array")]
static FINISH: extern "C" fn() = {
    extern "C" fn finish() {
        point::retire();
        WORKER.stop_if_idle();
    }
    finish
};

/// Who takes the locks for the fork() that a thread is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Its handler.
    Handler,
    /// Its system call, which is still to come.
    Call,
    /// Its system call, which has taken them.
    Taken,
}

thread_local! {
    static HOLDER: Cell<Holder> = const { Cell::new(Holder::Handler) };
}

/// Makes a system call that forks, if it does not return 0 in the parent. Inside fork(), no other thread is half-way through a change
/// of what the child goes on with.
pub fn make(call: impl FnOnce() -> isize) -> isize {
    if HOLDER.get() != Holder::Call {
        return call();
    }
    hold_all();
    HOLDER.set(Holder::Taken);
    let result = call();
    if result != 0 {
        HOLDER.set(Holder::Call);
        // SAFETY: Held since `hold_all`, by this thread. The child has its handler for it.
        unsafe { release_all_in_parent() };
    }
    result
}

extern "C" fn prepare() {
    if calls::fork_begins() {
        HOLDER.set(Holder::Call);
    } else {
        hold_all();
    }
}

fn hold_all() {
    WORKER.hold_for_fork();
    registry::hold_for_fork();
    // SAFETY: The list is held.
    unsafe { registry::each(|mm| hold(mm)) };
    WATCHED.hold_for_fork();
    WALKS.hold_for_fork();
    RCU.hold_for_fork();
    CALLS.hold_for_fork();
    PAIRS.hold_for_fork();
    report::hold_for_fork();
}

extern "C" fn parent() {
    if take_holder() == Holder::Handler {
        // SAFETY: Held since `prepare`, by this thread.
        unsafe { release_all_in_parent() };
    }
    calls::tell(|observer| observer.fork_ended);
}

/// Who was to take the locks for the fork() that ends.
fn take_holder() -> Holder {
    let holder = HOLDER.get();
    HOLDER.set(Holder::Handler);
    holder
}

/// # Safety
/// This thread called `hold_all`.
unsafe fn release_all_in_parent() {
    // SAFETY: The caller's promise.
    unsafe {
        report::release_after_fork();
        PAIRS.release_in_parent();
        CALLS.release_in_parent();
        RCU.release_in_parent();
        WALKS.release_in_parent();
        WATCHED.release_in_parent();
        registry::each(|mm| release_in_parent(mm));
        registry::release_after_fork();
        WORKER.release_in_parent();
    }
}

extern "C" fn child() {
    point::set_scheduler(None);
    if take_holder() == Holder::Call {
        // Somebody has patched libc within the last microseconds, and the call did not come by.
        hold_all();
    }
    // SAFETY: All of it is held, by this thread or its image in the parent; there is one thread.
    unsafe {
        report::release_after_fork();
        thread::after_fork_in_child();
        PAIRS.release_in_child();
        CALLS.release_in_child();
        RCU.release_in_child();
        WALKS.release_in_child();
        WATCHED.release_in_child();
        registry::each(|mm| release_in_child(mm));
        renew_process_mm();
        notifiers::after_fork_in_child();
        registry::release_after_fork();
        WORKER.release_in_child(|head| (*counted::notifier_of_rcu(head)).mm == process_mm());
    }
    task::after_fork_in_child();
    calls::tell(|observer| observer.fork_ended_in_child);
}

unsafe fn hold(mm: *mut mm_struct) {
    // SAFETY: A listed mm is valid.
    unsafe {
        (*mm).mmap_lock.hold_for_fork();
        (*mm).rmap_lock.hold_for_fork();
        each_subscriptions(mm, |subscriptions| {
            if !is_abandoned(mm, subscriptions) {
                subscriptions.intervals.hold_for_fork();
            }
        });
    }
}

/// Are these intervals the process's own mm's? Their lock is not held: an event inside free() may take it with malloc's locks
/// held, and fork takes malloc's locks after its handlers have run. The child does not go by what the lock guards.
unsafe fn is_abandoned(mm: *mut mm_struct, subscriptions: &Subscriptions) -> bool {
    // SAFETY: The caller passes a listed mm.
    let own = unsafe { subscriptions::raw(mm) };
    mm == process_mm() && core::ptr::eq(own, subscriptions)
}

unsafe fn release_in_parent(mm: *mut mm_struct) {
    // SAFETY: Held since `hold`.
    unsafe {
        each_subscriptions(mm, |subscriptions| {
            if !is_abandoned(mm, subscriptions) {
                subscriptions.intervals.release_in_parent();
            }
        });
        (*mm).rmap_lock.release_in_parent();
        (*mm).mmap_lock.release_in_parent();
    }
}

unsafe fn release_in_child(mm: *mut mm_struct) {
    // SAFETY: Held since `prepare`.
    unsafe {
        each_subscriptions(mm, |subscriptions| {
            subscriptions.chain.repair_in_child();
            if is_abandoned(mm, subscriptions) {
                subscriptions.intervals.abandon_in_child();
            } else {
                subscriptions.intervals.release_in_child();
            }
        });
        (*mm).rmap_lock.release_in_child();
        (*mm).mmap_lock.release_in_child();
    }
}

/// Visits what an mm has, and what it inherited.
unsafe fn each_subscriptions(mm: *mut mm_struct, visit: impl Fn(&Subscriptions)) {
    // SAFETY: The caller passes a listed mm.
    unsafe {
        if let Some(own) = subscriptions::of(mm) {
            visit(own);
        }
        let mut inherited = (*mm).inherited.cast::<Subscriptions>();
        while let Some(subscriptions) = inherited.as_ref() {
            visit(subscriptions);
            inherited = subscriptions.inherited_earlier;
        }
    }
}

/// The child's process mm starts as a new one does. What it had is kept aside: this thread may be in the middle of a walk
/// of it, and exit handlers will end registrations that only the parent has (DV-13), and drop references and users: these
/// counts stay.
unsafe fn renew_process_mm() {
    let mm = process_mm();
    // SAFETY: Valid always; there is one thread.
    unsafe {
        let old = subscriptions::raw(mm);
        if !old.is_null() {
            (*old).inherited_earlier = (*mm).inherited.cast();
            (*mm).inherited = old.cast::<mmu_notifier_subscriptions>();
            subscriptions::publish(mm, core::ptr::null_mut());
        }
    }
}
