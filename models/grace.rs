// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol (a): grace periods. A freed object is never seen, and whoever waits for readers is woken by them.

use std::ptr;
use std::rc::Rc;

use mmu_notifier::abi::types::callback_head;
use mmu_notifier::srcu::{Srcu, Worker, WorkerOps, srcu_struct};
use mmu_notifier::sync::model::Global;
use mmu_notifier::sync::{AtomicU32, Ordering};

use crate::tools::{Memory, Model, exhaustive, join, shared, spawn, up_to};

pub const MODELS: &[Model] = &[
    up_to("grace::freed", freed, [Some(5), Some(7)]),
    up_to("grace::nested", nested, [Some(4), Some(5)]),
    up_to("grace::two_readers", two_readers, [Some(3), Some(4)]),
    up_to("grace::two_updaters", two_updaters, [Some(3), Some(4)]),
    up_to("grace::ticket", ticket, [Some(4), Some(6)]),
    exhaustive("grace::domain_freed", domain_freed),
    up_to(
        "grace::generations_run_out",
        generations_run_out,
        [Some(3), Some(4)],
    ),
    up_to("grace::call", call, [Some(3), Some(4)]),
    up_to("grace::call_twice", call_twice, [Some(1), Some(2)]),
    up_to("grace::own_domain", own_domain, [Some(2), Some(3)]),
    up_to("grace::barrier", barrier, [Some(1), Some(2)]),
];

/// Generations of a model's domain: few, so that they run out.
const N: usize = 2;
type Domain = Srcu<N>;

/// An object that readers find while it is listed. It is freed by a change of its memory.
struct Object {
    listed: AtomicU32,
    memory: Memory,
}

impl Object {
    fn new() -> Self {
        Self {
            listed: AtomicU32::new(1),
            memory: Memory::new(),
        }
    }

    /// What a reader does inside its section.
    // ORDERING: Relaxed: the grace period is all the order there is.
    fn look(&self) {
        if self.listed.load(Ordering::Relaxed) == 1 {
            self.memory.read();
        }
    }

    fn unlist(&self) {
        self.listed.store(0, Ordering::Relaxed);
    }

    fn free(&self) {
        self.memory.write(1);
    }
}

fn domain() -> Rc<(Domain, Object)> {
    shared((Domain::new(), Object::new()))
}

fn section(place: &(Domain, Object)) {
    let cookie = place.0.read_lock();
    place.1.look();
    place.0.read_unlock(cookie);
}

fn reader(place: &Rc<(Domain, Object)>) -> mmu_notifier::sync::model::Thread {
    let place = place.clone();
    spawn(move || section(&place))
}

/// DV-6, MO-5: a reader, and an updater that waits for it.
fn freed() {
    let place = domain();
    let reader = reader(&place);
    place.1.unlist();
    place.0.synchronize();
    place.1.free();
    join([reader]);
}

/// Sections nest: the end of an inner one ends nothing, nor does a grace period that begins between.
fn nested() {
    let place = domain();
    let reader = spawn({
        let place = place.clone();
        move || {
            let outer = place.0.read_lock();
            place.1.look();
            section(&place);
            place.1.look();
            place.0.read_unlock(outer);
            section(&place);
        }
    });
    place.1.unlist();
    place.0.synchronize();
    place.1.free();
    join([reader]);
}

/// Two readers in different generations: the later one must not hide the earlier one.
fn two_readers() {
    let place = domain();
    let readers = [reader(&place), reader(&place)];
    place.0.synchronize();
    place.1.unlist();
    place.0.synchronize();
    place.1.free();
    join(readers);
}

/// A grace period is wanted while an older one lasts and no generation is free: it begins as soon as one is.
fn generations_run_out() {
    let place = domain();
    let cookie = place.0.read_lock();
    let first = place.0.begin();
    let reader = reader(&place);
    let updater = spawn({
        let place = place.clone();
        move || {
            place.1.unlist();
            place.0.synchronize();
            place.1.free();
        }
    });
    place.1.look();
    place.0.read_unlock(cookie);
    join([reader, updater]);
    assert!(place.0.is_over(first));
}

/// Two grace periods at once: each waits for its own readers, and both are woken.
fn two_updaters() {
    let place = domain();
    let other = shared(Object::new());
    let reader = spawn({
        let (place, other) = (place.clone(), other.clone());
        move || {
            let cookie = place.0.read_lock();
            place.1.look();
            other.look();
            place.0.read_unlock(cookie);
        }
    });
    let updater = spawn({
        let (place, other) = (place.clone(), other.clone());
        move || {
            other.unlist();
            place.0.synchronize();
            other.free();
        }
    });
    place.1.unlist();
    place.0.synchronize();
    place.1.free();
    join([reader, updater]);
}

/// A grace period that is begun, looked at, and waited for in steps.
fn ticket() {
    let place = domain();
    let reader = reader(&place);
    place.1.unlist();
    let ticket = place.0.begin();
    if !place.0.is_over(ticket) {
        place.0.wait(ticket);
    }
    place.1.free();
    join([reader]);
    assert!(place.0.is_idle());
}

/// Whoever waited for the last reader may free the domain: the reader's exit does not touch it any more.
fn domain_freed() {
    let inside = shared(AtomicU32::new(0));
    let place = Box::into_raw(Box::new(srcu_struct::new()));
    let reader = spawn({
        let inside = inside.clone();
        move || {
            // SAFETY: Freed when this section is over.
            let domain = unsafe { &*place };
            let cookie = domain.read_lock();
            inside.store(1, Ordering::Release);
            assert!(domain.read_unlock(cookie, &*WORKER));
        }
    });
    if inside.load(Ordering::Acquire) == 1 {
        // SAFETY: Not freed yet.
        unsafe { &*place }.synchronize();
        // SAFETY: The last reader has left.
        drop(unsafe { Box::from_raw(place) });
    }
    join([reader]);
}

static WALKS: Global<Domain> = Global::new(Domain::new);
static WORKER: Global<Worker<N>> = Global::new(|| {
    Worker::new(
        &WALKS,
        WorkerOps {
            begin: || (),
            call: free_owed,
        },
    )
});

/// An object that the worker frees.
#[repr(C)]
struct Owed {
    head: callback_head,
    object: Object,
    frees: AtomicU32,
}

impl Owed {
    fn new(func: Option<unsafe extern "C" fn(*mut callback_head)>) -> *mut Self {
        let next = ptr::null_mut();
        Box::into_raw(Box::new(Self {
            head: callback_head { next, func },
            object: Object::new(),
            frees: AtomicU32::new(0),
        }))
    }
}

unsafe fn free_owed(head: *mut callback_head) {
    // SAFETY: The head of an `Owed`.
    let owed = unsafe { &*head.cast::<Owed>() };
    owed.object.free();
    owed.frees.fetch_add(1, Ordering::Relaxed);
}

unsafe extern "C" fn free_owed_work(head: *mut callback_head) {
    // SAFETY: As there.
    unsafe { free_owed(head) };
}

/// A section of the worker's domain; its end tells the worker.
fn walk(object: &Object) {
    let cookie = WALKS.read_lock();
    object.look();
    if WALKS.read_unlock(cookie) {
        WORKER.poke();
    }
}

fn call_once(owed: *mut Owed) {
    // SAFETY: Lives until `finish`.
    unsafe {
        (*owed).object.unlist();
        WORKER.call(owed.cast());
    }
}

/// What is owed has been done once, and the worker can be stopped.
fn finish(owed: &[*mut Owed]) {
    WORKER.barrier(WORKER.queued());
    for owed in owed {
        // SAFETY: Nobody uses it any more.
        let owed = unsafe { Box::from_raw(*owed) };
        assert_eq!(owed.frees.load(Ordering::Relaxed), 1);
    }
    WORKER.stop_if_idle();
}

/// GP-7, DV-5: what is queued runs after the readers of that moment, once, and a barrier waits for it.
fn call() {
    let owed = Owed::new(None);
    let reader = spawn(move || {
        // SAFETY: Freed after this thread was joined.
        walk(unsafe { &(*owed).object });
    });
    call_once(owed);
    join([reader]);
    finish(&[owed]);
}

/// Two threads queue; each call is made.
fn call_twice() {
    let owed = [Owed::new(None), Owed::new(None)];
    let other = spawn(move || call_once(owed[1]));
    // SAFETY: Freed after `finish`.
    walk(unsafe { &(*owed[1]).object });
    call_once(owed[0]);
    join([other]);
    finish(&owed);
}

/// call_srcu: a driver's own domain hands its callbacks to the worker when its readers have left.
fn own_domain() {
    let domain = shared(srcu_struct::new());
    let owed = Owed::new(Some(free_owed_work));
    let reader = spawn({
        let domain = domain.clone();
        move || {
            let cookie = domain.read_lock();
            // SAFETY: Freed after this thread was joined.
            unsafe { &(*owed).object }.look();
            assert!(domain.read_unlock(cookie, &*WORKER));
        }
    });
    // SAFETY: Lives until the barrier has returned.
    unsafe {
        (*owed).object.unlist();
        domain.call(owed.cast(), &*WORKER);
    }
    domain.barrier(&*WORKER);
    // SAFETY: Its callback has returned.
    assert_eq!(unsafe { &(*owed).frees }.load(Ordering::Relaxed), 1);
    join([reader]);
    assert!(domain.is_idle());
    stop();
    // SAFETY: Nobody uses it any more.
    drop(unsafe { Box::from_raw(owed) });
}

/// A barrier's callback has returned, but the worker may not have noted it: it stops when it has.
fn stop() {
    // A callback of the worker's own comes last.
    let last = Owed::new(None);
    call_once(last);
    finish(&[last]);
}

/// Two barriers of two domains at once: one does not wait for the other's readers, and both end.
fn barrier() {
    let domains = shared([srcu_struct::new(), srcu_struct::new()]);
    let other = spawn({
        let domains = domains.clone();
        move || {
            let cookie = domains[1].read_lock();
            domains[0].barrier(&*WORKER);
            assert!(domains[1].read_unlock(cookie, &*WORKER));
        }
    });
    domains[1].barrier(&*WORKER);
    join([other]);
    stop();
}
