// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol (a): grace periods, of the domain of walks (whose readers are threads, known by their records) and of drivers' own.
//! A freed object is never seen, and whoever waits for readers is woken by them.

use std::ptr;
use std::rc::Rc;

use mmu_notifier::abi::types::callback_head;
use mmu_notifier::srcu::{self, Outermost, Srcu, Worker, WorkerOps, srcu_struct};
use mmu_notifier::sync::model::{Global, Thread, may_end};
use mmu_notifier::sync::{AtomicU32, AtomicU64, Ordering, yield_now};
use mmu_notifier::thread;

use crate::tools::{Memory, Model, exhaustive, join, shared, spawn, up_to};

pub const MODELS: &[Model] = &[
    up_to("grace::freed", freed::<Srcu>, [Some(4), Some(6)]),
    up_to("grace::again", again::<Srcu>, [Some(3), Some(4)]),
    up_to("grace::nested", nested::<Srcu>, [Some(3), Some(4)]),
    up_to(
        "grace::two_readers",
        two_readers::<Srcu>,
        [Some(2), Some(3)],
    ),
    up_to(
        "grace::two_updaters",
        two_updaters::<Srcu>,
        [Some(2), Some(3)],
    ),
    up_to("grace::ticket", ticket, [Some(4), Some(5)]),
    up_to("grace::found_over", found_over, [Some(3), Some(5)]),
    up_to("grace::newcomer", newcomer, [Some(4), Some(6)]),
    up_to("grace::newcomers", newcomers, [Some(2), Some(3)]),
    up_to("grace::heir", heir, [Some(2), Some(3)]),
    up_to("grace::heirs", heirs, [Some(3), None]),
    exhaustive("grace::left_open", left_open),
    up_to("own::freed", freed::<srcu_struct>, [Some(5), Some(7)]),
    up_to("own::nested", nested::<srcu_struct>, [Some(4), Some(5)]),
    up_to(
        "own::two_readers",
        two_readers::<srcu_struct>,
        [Some(3), Some(4)],
    ),
    up_to(
        "own::two_updaters",
        two_updaters::<srcu_struct>,
        [Some(3), Some(4)],
    ),
    exhaustive("own::domain_freed", domain_freed),
    up_to(
        "own::generations_run_out",
        generations_run_out,
        [Some(2), Some(3)],
    ),
    up_to("own::call", own_call, [Some(2), Some(3)]),
    up_to("own::barrier", barrier, [Some(1), Some(2)]),
    up_to("worker::call", call, [Some(2), Some(4)]),
    up_to("worker::call_twice", call_twice, [Some(1), Some(2)]),
    up_to("worker::out_of_order", out_of_order, [Some(1), Some(2)]),
    up_to("worker::owes_nothing", owes_nothing, [Some(3), Some(4)]),
    up_to("worker::call_rcu", call_rcu, [Some(2), Some(3)]),
    up_to("worker::unasked", unasked, [Some(1), Some(2)]),
];

/// What both kinds of domains can do.
trait Domain: Default + 'static {
    type Section;
    fn enter(&self) -> Self::Section;
    fn leave(&self, section: Self::Section);
    fn wait(&self);
}

/// One in an execution: a record knows one section.
impl Domain for Srcu {
    type Section = Outermost;

    fn enter(&self) -> Outermost {
        self.read_lock(thread::current())
    }

    fn leave(&self, section: Outermost) {
        self.read_unlock(thread::current(), section);
    }

    fn wait(&self) {
        self.synchronize();
    }
}

impl Domain for srcu_struct {
    type Section = usize;

    fn enter(&self) -> usize {
        self.read_lock()
    }

    fn leave(&self, section: usize) {
        assert!(self.read_unlock(section, &WORKER));
    }

    fn wait(&self) {
        self.synchronize();
    }
}

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

struct Place<D> {
    domain: D,
    object: Object,
}

/// A domain and an object. `threads` of the execution have been readers for long.
fn place<D: Domain>(threads: usize) -> Rc<Place<D>> {
    thread::seat(threads);
    shared(Place {
        domain: D::default(),
        object: Object::new(),
    })
}

impl<D: Domain> Place<D> {
    fn section(&self) {
        let section = self.domain.enter();
        self.object.look();
        self.domain.leave(section);
    }

    fn update(&self) {
        self.object.unlist();
        self.domain.wait();
        self.object.free();
    }
}

fn reader<D: Domain>(place: &Rc<Place<D>>) -> Thread {
    let place = place.clone();
    spawn(move || place.section())
}

/// DV-6, MO-5: a reader, and an updater that waits for it.
fn freed<D: Domain>() {
    let place = place::<D>(2);
    let reader = reader(&place);
    place.update();
    join([reader]);
}

/// MO-5: a reader that comes again at once: what it did in its first section comes before the end of the grace period, too.
fn again<D: Domain>() {
    let place = place::<D>(2);
    let reader = spawn({
        let place = place.clone();
        move || {
            place.section();
            place.section();
        }
    });
    place.update();
    join([reader]);
}

/// Sections nest: the end of an inner one ends nothing, nor does a grace period that begins between.
fn nested<D: Domain>() {
    let place = place::<D>(2);
    let reader = spawn({
        let place = place.clone();
        move || {
            let outer = place.domain.enter();
            place.object.look();
            place.section();
            place.object.look();
            place.domain.leave(outer);
        }
    });
    place.update();
    join([reader]);
}

/// Two readers of different numbers: the later one must not hide the earlier one.
fn two_readers<D: Domain>() {
    let place = place::<D>(3);
    let readers = [reader(&place), reader(&place)];
    place.domain.wait();
    place.update();
    join(readers);
}

/// Two grace periods at once: each waits for its own readers, both are woken, and one may use what the other found out.
fn two_updaters<D: Domain>() {
    let place = place::<D>(3);
    let other = shared(Object::new());
    let reader = spawn({
        let (place, other) = (place.clone(), other.clone());
        move || {
            let section = place.domain.enter();
            place.object.look();
            other.look();
            place.domain.leave(section);
        }
    });
    let updater = spawn({
        let (place, other) = (place.clone(), other.clone());
        move || {
            other.unlist();
            place.domain.wait();
            other.free();
        }
    });
    place.update();
    join([reader, updater]);
}

/// A grace period that is begun, looked at, and waited for in steps.
fn ticket() {
    let place = place::<Srcu>(2);
    let reader = reader(&place);
    place.object.unlist();
    let ticket = place.domain.begin();
    if !place.domain.is_over(ticket) {
        place.domain.wait(ticket);
    }
    place.object.free();
    join([reader]);
    assert!(place.domain.is_over(ticket));
}

/// A grace period that another thread has found to be over: what readers did before that comes before this thread's free.
fn found_over() {
    let place = place::<Srcu>(2);
    let other = spawn({
        let place = place.clone();
        move || {
            place.section();
            let ticket = place.domain.begin();
            place.domain.is_over(ticket);
        }
    });
    place.object.unlist();
    let ticket = place.domain.begin();
    if place.domain.is_over(ticket) {
        place.object.free();
    }
    join([other]);
}

/// A thread that was never seen before enters a section while the only known thread waits for readers, of which it knows none.
fn newcomer() {
    let place = place::<Srcu>(1);
    let reader = reader(&place);
    place.section();
    place.update();
    join([reader]);
}

/// Two such threads, and an updater that is none of the known ones either.
fn newcomers() {
    let place = place::<Srcu>(0);
    let readers = [reader(&place), reader(&place)];
    place.update();
    join(readers);
}

/// A thread that ends leaves its record to another.
fn heir() {
    let place = place::<Srcu>(0);
    let first = spawn({
        let place = place.clone();
        move || {
            may_end();
            place.section();
        }
    });
    let second = reader(&place);
    place.update();
    join([first, second]);
}

/// Of two that want the record of a dead thread, one gets it.
fn heirs() {
    let place = place::<Srcu>(0);
    let first = spawn({
        let place = place.clone();
        move || {
            may_end();
            place.section();
        }
    });
    join([first]);
    let records = shared([const { AtomicU64::new(0) }; 2]);
    let heir = |number: usize| {
        let records = records.clone();
        spawn(move || {
            let own = ptr::from_ref(thread::current()).addr() as u64;
            records[number].store(own, Ordering::Relaxed);
        })
    };
    join([heir(0), heir(1)]);
    let [a, b] = [0, 1].map(|number| records[number].load(Ordering::Relaxed));
    assert_ne!(a, b, "two threads with one record");
}

/// A section that its thread left open keeps grace periods waiting, whoever comes.
fn left_open() {
    let place = place::<Srcu>(0);
    let first = spawn({
        let place = place.clone();
        move || {
            may_end();
            let _open = place.domain.enter();
        }
    });
    join([first]);
    let ticket = place.domain.begin();
    join([reader(&place)]);
    assert!(!place.domain.is_over(ticket), "a section was forgotten");
}

/// A grace period is wanted while an older one lasts and no generation is free: it begins as soon as one is.
fn generations_run_out() {
    let place = place::<srcu_struct>(0);
    let section = place.domain.enter();
    let first = spawn({
        let place = place.clone();
        move || place.domain.wait()
    });
    let reader = reader(&place);
    let updater = spawn({
        let place = place.clone();
        move || place.update()
    });
    place.object.look();
    place.domain.leave(section);
    join([first, reader, updater]);
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
            assert!(domain.read_unlock(cookie, &WORKER));
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

static WALKS: Global<Srcu> = Global::new(Srcu::new);
static RCU: Global<Srcu<{ srcu::RCU }>> = Global::new(Srcu::new);
static WORKER: Global<Worker> = Global::new(|| {
    Worker::new(
        &WALKS,
        &RCU,
        WorkerOps {
            begin: || (),
            call: free_owed,
            may_start: || true,
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
    let thread = thread::current();
    let section = WALKS.read_lock(thread);
    object.look();
    if WALKS.read_unlock(thread, section) {
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
    thread::seat(3);
    let owed = Owed::new(None);
    let reader = spawn(move || {
        // SAFETY: Freed after this thread was joined.
        walk(unsafe { &(*owed).object });
    });
    call_once(owed);
    WORKER.barrier(WORKER.queued());
    join([reader]);
    finish(&[owed]);
}

/// Two threads queue; each call is made.
fn call_twice() {
    thread::seat(3);
    let owed = [Owed::new(None), Owed::new(None)];
    let other = spawn(move || call_once(owed[1]));
    // SAFETY: Freed after `finish`.
    walk(unsafe { &(*owed[1]).object });
    call_once(owed[0]);
    join([other]);
    finish(&owed);
}

/// Two threads queue, and nobody waits for the worker: each call is made all the same.
fn unasked() {
    thread::seat(3);
    let owed = [Owed::new(None), Owed::new(None)];
    let other = spawn(move || call_once(owed[1]));
    call_once(owed[0]);
    join([other]);
    // SAFETY: Freed after `finish`.
    let frees = |owed: *mut Owed| unsafe { &(*owed).frees }.load(Ordering::Relaxed);
    while owed.iter().any(|owed| frees(*owed) == 0) {
        yield_now();
    }
    finish(&owed);
}

/// Two threads queue, and the one with the older ticket may come later: each call is made when its own readers have left.
fn out_of_order() {
    thread::seat(4);
    let owed = [Owed::new(None), Owed::new(None)];
    let other = spawn(move || call_once(owed[1]));
    let reader = spawn(move || {
        // SAFETY: Freed after this thread was joined.
        walk(unsafe { &(*owed[0]).object });
    });
    call_once(owed[0]);
    join([other, reader]);
    finish(&owed);
}

/// DV-5: who learns, without a lock, that nothing is owed sees what the callback did.
fn owes_nothing() {
    thread::seat(2);
    let owed = Owed::new(None);
    call_once(owed);
    WORKER.barrier(WORKER.queued());
    // SAFETY: Freed by `finish`.
    unsafe { &(*owed).object }.memory.read();
    finish(&[owed]);
}

/// A section of the process's RCU domain, with another one inside; its end tells the worker.
fn rcu_walk(object: &Object) {
    let thread = thread::current();
    RCU.read_lock_counted(thread);
    RCU.read_lock_counted(thread);
    assert_eq!(RCU.read_unlock_counted(thread), Some(false));
    object.look();
    if RCU.read_unlock_counted(thread) == Some(true) {
        WORKER.poke();
    }
}

/// call_rcu: what is queued runs after the readers of the RCU domain of that moment, whatever the walks do.
fn call_rcu() {
    thread::seat(3);
    let owed = Owed::new(Some(free_owed_work));
    let reader = spawn(move || {
        // SAFETY: Freed after this thread was joined.
        rcu_walk(unsafe { &(*owed).object });
    });
    // SAFETY: Lives until its callback has run, and the worker has stopped.
    unsafe {
        (*owed).object.unlist();
        WORKER.call_rcu(owed.cast());
    }
    join([reader]);
    // SAFETY: As above.
    while unsafe { &(*owed).frees }.load(Ordering::Relaxed) == 0 {
        yield_now();
    }
    stop();
    // SAFETY: Nobody uses it any more.
    drop(unsafe { Box::from_raw(owed) });
}

/// call_srcu: a driver's own domain hands its callbacks to the worker when its readers have left.
fn own_call() {
    let domain = shared(srcu_struct::new());
    let owed = Owed::new(Some(free_owed_work));
    let reader = spawn({
        let domain = domain.clone();
        move || {
            let cookie = domain.read_lock();
            // SAFETY: Freed after this thread was joined.
            unsafe { &(*owed).object }.look();
            assert!(domain.read_unlock(cookie, &WORKER));
        }
    });
    // SAFETY: Lives until the barrier has returned.
    unsafe {
        (*owed).object.unlist();
        domain.call(owed.cast(), &WORKER);
    }
    domain.barrier(&WORKER);
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
            domains[0].barrier(&WORKER);
            assert!(domains[1].read_unlock(cookie, &WORKER));
        }
    });
    domains[1].barrier(&WORKER);
    join([other]);
    stop();
}
