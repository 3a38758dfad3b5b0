// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocols (c) and (d): an address space. Registration against a running pair (RG-9 under the locks of DV-2), the links of
//! the list against walks, put and unregister against the end (UN-6, RL-6, GP-7, MO-6).

use std::ffi::c_int;
use std::mem::zeroed;
use std::ptr;

use mmu_notifier::abi::mm::mm_struct;
use mmu_notifier::abi::notifier::{
    mmu_interval_notifier, mmu_interval_notifier_ops, mmu_notifier as Notifier,
    mmu_notifier_event::MMU_NOTIFY_CLEAR, mmu_notifier_ops, mmu_notifier_range,
};
use mmu_notifier::chain::{Chain, Section};
use mmu_notifier::dispatch::{REFERENCE, Range};
use mmu_notifier::mm::{self, Request, Subscribed};
use mmu_notifier::sync::model::Thread;
use mmu_notifier::sync::{AtomicU32, Ordering};
use mmu_notifier::thread;

use crate::tools::{Memory, Model, join, shared, spawn, up_to};

pub const MODELS: &[Model] = &[
    up_to("space::walk_against_add", walk_against_add, [Some(4), None]),
    up_to(
        "space::walk_against_unlink",
        walk_against_unlink,
        [Some(3), Some(4)],
    ),
    up_to(
        "space::register_against_pair",
        register_against_pair,
        [Some(2), Some(3)],
    ),
    up_to(
        "space::insert_against_pair_mmap_lock",
        insert_against_pair_mmap_lock,
        [Some(2), Some(3)],
    ),
    up_to(
        "space::insert_against_pair_rmap",
        insert_against_pair_rmap,
        [Some(2), Some(3)],
    ),
    up_to(
        "space::first_registrations",
        first_registrations,
        [Some(3), Some(4)],
    ),
    up_to(
        "space::unregister_against_pair",
        unregister_against_pair,
        [Some(3), Some(4)],
    ),
    up_to(
        "space::unregister_against_exit",
        unregister_against_exit,
        [Some(2), Some(4)],
    ),
    up_to(
        "space::exit_against_pair",
        exit_against_pair,
        [Some(3), Some(4)],
    ),
    up_to(
        "space::put_against_walk",
        put_against_walk,
        [Some(2), Some(3)],
    ),
    up_to(
        "space::put_against_exit",
        put_against_exit,
        [Some(2), Some(3)],
    ),
    up_to("space::two_puts", two_puts, [Some(2), Some(3)]),
];

/// A subscriber, which begins with its notifier. It is not given back to the heap: its memory tells whether it may be used.
#[repr(C)]
struct Subscriber {
    notifier: Notifier,
    /// Used by each callback: freed by a change.
    life: Memory,
    /// What was stored before it was registered (MO-1).
    before: Memory,
    /// Starts without their end.
    open: AtomicU32,
    frees: AtomicU32,
}

static OPS: mmu_notifier_ops = mmu_notifier_ops {
    release: Some(release),
    clear_flush_young: None,
    clear_young: None,
    test_young: None,
    change_pte: None,
    invalidate_range_start: Some(start),
    invalidate_range_end: Some(end),
    arch_invalidate_secondary_tlbs: None,
    alloc_notifier: None,
    free_notifier: Some(free),
};

fn subscriber<'a>(notifier: *mut Notifier) -> &'a Subscriber {
    // SAFETY: The notifier of a `Subscriber`, which is never given back.
    unsafe { &*notifier.cast::<Subscriber>() }
}

fn called<'a>(notifier: *mut Notifier) -> &'a Subscriber {
    let subscriber = subscriber(notifier);
    assert_eq!(subscriber.life.read(), 0, "called after its end");
    assert_eq!(subscriber.before.read(), 1, "MO-1");
    subscriber
}

unsafe extern "C" fn release(notifier: *mut Notifier, _mm: *mut mm_struct) {
    called(notifier);
}

unsafe extern "C" fn start(notifier: *mut Notifier, _range: *const mmu_notifier_range) -> c_int {
    called(notifier).open.fetch_add(1, Ordering::Relaxed);
    0
}

unsafe extern "C" fn end(notifier: *mut Notifier, _range: *const mmu_notifier_range) {
    let before = called(notifier).open.fetch_sub(1, Ordering::Relaxed);
    assert!(before > 0, "RG-9: an end without its start");
}

unsafe extern "C" fn free(notifier: *mut Notifier) {
    let subscriber = subscriber(notifier);
    subscriber.life.write(1);
    let before = subscriber.frees.fetch_add(1, Ordering::Relaxed);
    assert_eq!(before, 0, "freed twice");
}

impl Subscriber {
    fn make() -> *mut Notifier {
        let subscriber = Box::leak(Box::new(Self {
            // SAFETY: A C struct: zeroes are values of all of its members.
            notifier: unsafe { zeroed() },
            life: Memory::new(),
            before: Memory::new(),
            open: AtomicU32::new(0),
            frees: AtomicU32::new(0),
        }));
        subscriber.notifier.ops = &raw const OPS;
        subscriber.before.write(1);
        ptr::from_mut(subscriber).cast()
    }
}

/// An address space of which this thread holds a user and a reference.
/// All threads have their records already.
fn address_space() -> *mut mm_struct {
    thread::seat(4);
    let mm = mm::mm_alloc();
    // SAFETY: Fresh.
    unsafe { mm::mmgrab(mm) }.expect("valid");
    mm
}

/// The user is gone, and so is everything that pinned the address space, but this thread's reference. The worker ends.
fn finish(mm: *mut mm_struct) {
    mm::synchronize().expect("outside callbacks");
    // SAFETY: This thread's reference.
    let count = unsafe { &(*mm).mm_count.counter }.load(Ordering::Relaxed);
    assert_eq!(count, 1, "references that nobody has");
    // SAFETY: As above.
    unsafe { mm::mmdrop(mm) }.expect("the last one");
    mm::stop_worker();
}

fn put_user(mm: *mut mm_struct) {
    // SAFETY: This thread's user.
    unsafe { mm::mmput(mm) }.expect("outside callbacks");
}

fn register(notifier: *mut Notifier, mm: *mut mm_struct) {
    // SAFETY: Valid, and the address space has a user.
    unsafe { mm::register(notifier, mm, REFERENCE) }.expect("registered");
}

fn unregister(notifier: *mut Notifier, mm: *mut mm_struct) {
    // SAFETY: Registered.
    unsafe { mm::unregister(notifier, mm) }.expect("outside callbacks");
    // UN-6: no op runs, and none will.
    subscriber(notifier).life.write(1);
}

fn put(notifier: *mut Notifier) {
    // SAFETY: Registered, or got.
    unsafe { mm::put(notifier) }.expect("a user");
}

fn range_of(mm: *mut mm_struct) -> mmu_notifier_range {
    mmu_notifier_range {
        mm,
        start: 0,
        end: 4096,
        flags: 1,
        event: MMU_NOTIFY_CLEAR.into(),
        owner: ptr::null_mut(),
    }
}

/// As the C face: the plain case first.
unsafe fn start_range(range: *mut mmu_notifier_range) -> c_int {
    // SAFETY: The caller's range is valid.
    unsafe {
        let known = Subscribed::new(range).filter(|range| !range.has_intervals());
        match known.and_then(Subscribed::start_plain) {
            Some(answer) => answer,
            None => mm::invalidate_range_start(range).expect("no misuse"),
        }
    }
}

/// As the C face: the plain case first.
unsafe fn end_range(range: *mut mmu_notifier_range) {
    // SAFETY: The caller's range is valid.
    unsafe {
        let known = Subscribed::new(range).filter(|range| !range.has_intervals());
        if !known.is_some_and(Subscribed::end_plain) {
            mm::invalidate_range_end(range, false).expect("DV-8: a start without its end");
        }
    }
}

/// A pair, under one of the locks of DV-2.
fn pair(mm: *mut mm_struct, lock: mm::LockKind) {
    let mut range = range_of(mm);
    // SAFETY: Valid; the caller's user keeps the address space.
    unsafe {
        lock.read_lock(mm, c"pair").expect("valid");
        assert_eq!(start_range(&raw mut range), 0);
        end_range(&raw mut range);
        lock.read_unlock(mm, c"pair").expect("held");
    }
}

fn producer(mm: *mut mm_struct, lock: mm::LockKind) -> Thread {
    spawn(move || pair(mm, lock))
}

/// MO-1, HS-3: a walk of the bare list while a notifier is added.
fn walk_against_add() {
    let chain = shared(Chain::new());
    let old = Subscriber::make();
    let add = |chain: &Chain, notifier| {
        // SAFETY: Valid for ever, on no list.
        unsafe {
            mmu_notifier::dispatch::set_abi(notifier, REFERENCE);
            chain.lock().add(notifier);
        }
    };
    add(&chain, old);
    let walker = spawn({
        let chain = chain.clone();
        move || walk(&chain)
    });
    add(&chain, Subscriber::make());
    join([walker]);
}

fn walk(chain: &Chain) {
    let range = range_of(ptr::null_mut());
    let section = Section::enter(chain, ptr::null_mut());
    // SAFETY: Valid during the walk.
    section.invalidate_start(&unsafe { Range::new(&raw const range) }, false);
    section.leave();
}

/// HS-11, UN-4: two of three notifiers are unlinked while a walk may stand on either; it comes to the third all the same.
fn walk_against_unlink() {
    let chain = shared(Chain::new());
    let subscribers: [_; 3] = std::array::from_fn(|_| Subscriber::make());
    for notifier in subscribers {
        // SAFETY: Valid for ever, on no list.
        unsafe {
            mmu_notifier::dispatch::set_abi(notifier, REFERENCE);
            chain.lock().add(notifier);
        }
    }
    let walker = spawn({
        let chain = chain.clone();
        move || walk(&chain)
    });
    for notifier in [subscribers[1], subscribers[2]] {
        // SAFETY: Listed.
        unsafe { chain.lock().unlink(notifier) };
        mmu_notifier::chain::synchronize();
        subscriber(notifier).life.write(1);
    }
    join([walker]);
    walk(&chain);
    let open = subscriber(subscribers[0]).open.load(Ordering::Relaxed);
    assert_eq!(open, 2, "HS-11: the walk left out a notifier that stayed");
}

/// RG-9: who registers while a pair runs sees all of it or nothing.
fn register_against_pair() {
    let mm = address_space();
    let old = Subscriber::make();
    register(old, mm);
    let producers = [producer(mm, mm::semaphore()), producer(mm, mm::rmap())];
    let new = Subscriber::make();
    register(new, mm);
    join(producers);
    for notifier in [old, new] {
        assert_eq!(
            subscriber(notifier).open.load(Ordering::Relaxed),
            0,
            "a start without its end"
        );
        unregister(notifier, mm);
    }
    put_user(mm);
    finish(mm);
}

/// RG-9: the first insert turns intervals on while no pair runs; a pair that began before it ends as it began (RE-6).
fn insert_against_pair_mmap_lock() {
    insert_against_pair(mm::semaphore());
}

/// The same, for a pair under the other lock.
fn insert_against_pair_rmap() {
    insert_against_pair(mm::rmap());
}

fn insert_against_pair(lock: mm::LockKind) {
    static INTERVAL_OPS: mmu_interval_notifier_ops = {
        unsafe extern "C" fn invalidate(
            _sub: *mut mmu_interval_notifier,
            _range: *const mmu_notifier_range,
            _seq: u64,
        ) -> bool {
            true
        }
        mmu_interval_notifier_ops {
            invalidate: Some(invalidate),
        }
    };
    let mm = address_space();
    let old = Subscriber::make();
    register(old, mm);
    let producer = producer(mm, lock);
    // SAFETY: A C struct: zeroes are values of all of its members.
    let sub: *mut mmu_interval_notifier = Box::leak(Box::new(unsafe { zeroed() }));
    let request = Request {
        interval_sub: sub,
        mm,
        start: 0,
        length: 4096,
        ops: &raw const INTERVAL_OPS,
        abi: REFERENCE,
    };
    // SAFETY: Valid until removed.
    unsafe {
        mm::insert(&request).expect("inserted");
        mm::remove(sub).expect("removed");
    }
    join([producer]);
    unregister(old, mm);
    put_user(mm);
    finish(mm);
}

/// ST-1, ST-2: two first registrations publish one set of subscriptions.
fn first_registrations() {
    let mm = address_space();
    let subscribers = [Subscriber::make(), Subscriber::make()];
    let other = spawn(move || register(subscribers[1], mm));
    register(subscribers[0], mm);
    join([other]);
    pair(mm, mm::semaphore());
    for notifier in subscribers {
        unregister(notifier, mm);
    }
    put_user(mm);
    finish(mm);
}

/// UN-6: an unregister in the middle of a pair.
fn unregister_against_pair() {
    let mm = address_space();
    let notifier = Subscriber::make();
    register(notifier, mm);
    let producer = producer(mm, mm::semaphore());
    unregister(notifier, mm);
    join([producer]);
    put_user(mm);
    finish(mm);
}

/// UN-6, RL-6: an unregister against the end of the address space: release may run twice, but not after the return.
fn unregister_against_exit() {
    let mm = address_space();
    let notifier = Subscriber::make();
    register(notifier, mm);
    let other = spawn(move || unregister(notifier, mm));
    put_user(mm);
    join([other]);
    finish(mm);
}

/// RL-2, RL-5, MO-5: the end of the address space against a pair of somebody who holds a reference only (ML-4). When it has
/// returned, nothing is called any more, and what was called is over.
fn exit_against_pair() {
    let mm = address_space();
    let notifier = Subscriber::make();
    register(notifier, mm);
    let producer = producer(mm, mm::semaphore());
    put_user(mm);
    subscriber(notifier).life.write(1);
    join([producer]);
    unregister(notifier, mm);
    finish(mm);
}

/// GP-7: the last put against a walk.
fn put_against_walk() {
    let mm = address_space();
    let notifier = Subscriber::make();
    register(notifier, mm);
    let producer = producer(mm, mm::semaphore());
    put(notifier);
    join([producer]);
    mm::synchronize().expect("outside callbacks");
    assert_eq!(
        subscriber(notifier).frees.load(Ordering::Relaxed),
        1,
        "DV-5"
    );
    put_user(mm);
    finish(mm);
}

/// GP-9, RL-4: the last put against the end of the address space: one free, and each reference dropped once.
fn put_against_exit() {
    let mm = address_space();
    let notifier = Subscriber::make();
    register(notifier, mm);
    let other = spawn(move || put(notifier));
    put_user(mm);
    join([other]);
    mm::synchronize().expect("outside callbacks");
    assert_eq!(subscriber(notifier).frees.load(Ordering::Relaxed), 1);
    finish(mm);
}

/// MO-6: of two puts exactly one is the last.
fn two_puts() {
    let mm = address_space();
    let notifier = Subscriber::make();
    register(notifier, mm);
    // SAFETY: The address space has a user.
    let again = unsafe {
        mm::semaphore().write_lock(mm, c"get").expect("valid");
        let again = mm::get_locked(&raw const OPS, mm, REFERENCE).expect("found");
        mm::semaphore().write_unlock(mm, c"get").expect("held");
        again
    };
    assert_eq!(again, notifier);
    let other = spawn(move || put(notifier));
    put(notifier);
    join([other]);
    mm::synchronize().expect("outside callbacks");
    assert_eq!(subscriber(notifier).frees.load(Ordering::Relaxed), 1);
    put_user(mm);
    finish(mm);
}
