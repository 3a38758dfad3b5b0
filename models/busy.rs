// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol (b): busy periods, and the collision-retry protocol of drivers (SPEC 3.0 to 3.7, 4.3, MO-1 to MO-4).

use std::cell::Cell;
use std::ffi::{c_ulong, c_void};
use std::mem::zeroed;
use std::ptr;
use std::rc::Rc;

use mmu_notifier::abi::mm::mm_struct;
use mmu_notifier::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE, mmu_interval_notifier, mmu_interval_notifier_ops,
    mmu_notifier_event::MMU_NOTIFY_CLEAR, mmu_notifier_range,
};
use mmu_notifier::dispatch::{REFERENCE, Range};
use mmu_notifier::interval::{Intervals, Request};
use mmu_notifier::sync::{AtomicU64, Lock, Ordering};
use mmu_notifier::thread::{self, Callbacks, Frame, Kind::Chain};

use crate::tools::{Memory, Model, join, shared, spawn, up_to};

pub const MODELS: &[Model] = &[
    up_to("busy::stale", stale, [Some(5), Some(7)]),
    up_to(
        "busy::stale_two_producers",
        stale_two_producers,
        [Some(2), Some(3)],
    ),
    up_to(
        "busy::stale_two_ranges",
        stale_two_ranges,
        [Some(3), Some(5)],
    ),
    up_to("busy::stale_insert", stale_insert, [Some(3), Some(5)]),
    up_to(
        "busy::stale_insert_beside",
        stale_insert_beside,
        [Some(3), Some(4)],
    ),
    up_to("busy::sleepers", sleepers, [Some(2), Some(3)]),
    up_to("busy::refused", refused, [Some(3), Some(4)]),
    up_to("busy::removed", removed, [Some(4), Some(6)]),
    up_to("busy::removed_inside", removed_inside, [Some(2), Some(3)]),
    up_to("busy::removed_two", removed_two, [Some(1), Some(2)]),
    up_to(
        "busy::deferred_insert_removed",
        deferred_insert_removed,
        [Some(2), Some(4)],
    ),
    up_to(
        "busy::deferred_against_start",
        deferred_against_start,
        [Some(3), Some(4)],
    ),
    up_to(
        "busy::deferred_remove_against_start",
        deferred_remove_against_start,
        [Some(2), Some(3)],
    ),
    up_to("busy::even_sleeper", even_sleeper, [Some(5), None]),
    up_to(
        "busy::even_sleeper_insert",
        even_sleeper_insert,
        [Some(4), Some(6)],
    ),
    up_to("busy::crowd", crowd, [Some(3), Some(5)]),
    up_to("busy::crowds", crowds, [Some(2), Some(3)]),
    up_to("busy::wrapped", wrapped, [Some(3), Some(4)]),
    up_to("busy::split", split, [Some(3), Some(4)]),
    up_to("busy::merge", merge, [Some(2), Some(3)]),
    up_to("busy::moved", moved, [Some(2), Some(3)]),
    up_to("busy::released", released, [Some(1), Some(2)]),
];

/// The address space, which this room never looks into.
const MM: *mut mm_struct = ptr::without_provenance_mut(4096);
const PAGE: u64 = 4096;

/// What the driver's device maps: `None`, or the page that it was given.
type Mapping = Lock<Option<u64>>;

/// A driver's object, which begins with its notifier.
#[repr(C)]
struct Driver {
    sub: mmu_interval_notifier,
    /// user_lock, and what it guards.
    mapping: Mapping,
    /// Used by each callback: freed by a change.
    life: Memory,
    /// What the driver stored before insert (MO-1).
    before: Memory,
    kind: Kind,
    /// Callbacks so far, and the number that the last one was given. (The threads of a model take turns.)
    calls: Cell<u32>,
    last: Cell<u64>,
}

/// What a driver's callback has to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// It refuses ranges that are not blockable.
    Refuses,
    /// It is deferred: no range of that busy period may call it (RS-7, II-8).
    Deferred,
}

static OPS: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(invalidate),
};

unsafe extern "C" fn invalidate(
    sub: *mut mmu_interval_notifier,
    range: *const mmu_notifier_range,
    seq: c_ulong,
) -> bool {
    // SAFETY: The notifier of a `Driver`; its memory tells whether it may be used.
    let driver = unsafe { &*sub.cast::<Driver>() };
    assert_eq!(driver.life.read(), 0, "IR-8: called after its end");
    assert_eq!(driver.before.read(), 1);
    // SAFETY: Valid during the call.
    if driver.kind == Kind::Refuses && unsafe { (*range).flags } & MMU_NOTIFIER_RANGE_BLOCKABLE == 0
    {
        return false;
    }
    assert_eq!(seq & 1, 1, "a callback's number is odd");
    driver.calls.set(driver.calls.get() + 1);
    driver.last.set(seq);
    let mut mapping = driver.mapping.lock();
    if driver.kind == Kind::Deferred {
        assert_ne!(
            driver.seq().load(Ordering::Relaxed),
            seq,
            "II-8: called in the period of its insert"
        );
    }
    // ORDERING: Relaxed: as mmu_interval_set_seq(), a plain store.
    driver.seq().store(seq, Ordering::Relaxed);
    *mapping = None;
    true
}

impl Driver {
    /// In memory that the model's execution keeps: addresses of notifiers are never used twice.
    fn new(kind: Kind) -> *mut Self {
        let driver = Box::into_raw(Box::new(Self {
            // SAFETY: A C struct: zeroes are values of all of its members.
            sub: unsafe { zeroed() },
            mapping: Lock::new(None),
            life: Memory::new(),
            before: Memory::new(),
            kind,
            calls: Cell::new(0),
            last: Cell::new(0),
        }));
        // SAFETY: Fresh.
        unsafe { &*driver }.before.write(1);
        driver
    }

    fn seq(&self) -> &AtomicU64 {
        // SAFETY: The field is a u64 of this object.
        unsafe { AtomicU64::from_ptr((&raw const self.sub.invalidate_seq).cast_mut()) }
    }
}

/// One address space: its intervals, and the page behind each address.
struct Space {
    intervals: Intervals,
    page: AtomicU64,
}

fn space() -> Rc<Space> {
    space_at(2)
}

/// An address space whose busy periods are counted from `number`. All threads have their records already.
fn space_at(number: u64) -> Rc<Space> {
    thread::seat(4);
    shared(Space {
        intervals: Intervals::starting_at(number),
        page: AtomicU64::new(1),
    })
}

fn range(start: u64, end: u64, flags: u32) -> mmu_notifier_range {
    mmu_notifier_range {
        mm: MM,
        start,
        end,
        flags,
        event: MMU_NOTIFY_CLEAR.into(),
        owner: ptr::null_mut(),
    }
}

impl Space {
    fn insert(&self, driver: *mut Driver, start: u64) {
        let request = Request {
            interval_sub: driver.cast(),
            mm: MM,
            ops: &raw const OPS,
            start,
            length: PAGE,
            abi: REFERENCE,
        };
        // SAFETY: The driver's object is valid until it was removed.
        unsafe { self.intervals.insert(&request, true) }.expect("inserted");
    }

    fn remove(&self, driver: *mut Driver) {
        // SAFETY: Inserted.
        unsafe { self.intervals.remove(driver.cast(), mm()) }.expect("removed");
        assert!(!self.intervals.contains(driver.cast()), "IR-6");
        // IR-8: no callback runs, and none will.
        // SAFETY: The memory is the driver's again.
        unsafe { &*driver }.life.write(1);
    }

    /// The start of a range. False: refused.
    fn open(&self, start: u64, end: u64, flags: u32) -> bool {
        let object = range(start, end, flags);
        // SAFETY: Valid during the call.
        let range = unsafe { Range::new(&raw const object) };
        // SAFETY: Inserted notifiers are valid.
        unsafe { self.intervals.start(range) }.is_ok()
    }

    /// A pair that changes the page of `[start, end)`. False: refused.
    // ORDERING: Relaxed: what orders the page is the protocol alone.
    fn change(&self, start: u64, end: u64, flags: u32) -> bool {
        if !self.open(start, end, flags) {
            return false;
        }
        self.page
            .store(self.page.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.close();
        true
    }

    fn close(&self) {
        self.intervals.end().expect("counted in");
    }

    /// Nothing is in flight: the number of the last busy period, made even.
    fn number(&self) -> u64 {
        let probe = Driver::new(Kind::Plain);
        self.insert(probe, 128 * PAGE);
        // SAFETY: Valid.
        let number = unsafe { &*probe }.seq().load(Ordering::Relaxed);
        self.remove(probe);
        number.wrapping_add(1)
    }

    /// One round of the driver's loop (SPEC 4.3).
    fn mirror(&self, driver: *mut Driver) {
        // SAFETY: Inserted.
        let seq = unsafe { self.intervals.read_begin(driver.cast(), mm()) }.expect("not inside");
        assert_eq!(seq & 1, 1, "ST-7");
        let page = self.page.load(Ordering::Relaxed);
        // SAFETY: Valid.
        let driver = unsafe { &*driver };
        let mut mapping = driver.mapping.lock();
        // ORDERING: Relaxed: as mmu_interval_read_retry(), under user_lock.
        if driver.seq().load(Ordering::Relaxed) == seq {
            *mapping = Some(page);
        }
    }

    /// Everybody is done: a mapping that is left is that of the page of now.
    fn fresh(&self, driver: *mut Driver) {
        // SAFETY: Valid.
        let mapping = unsafe { &*driver }.mapping.lock();
        let page = self.page.load(Ordering::Relaxed);
        assert!(
            mapping.is_none_or(|mapped| mapped == page),
            "a stale mapping was validated"
        );
    }

    /// Everybody is done: no range is counted, and the number is even, so that nobody sleeps.
    fn idle(&self) {
        assert!(self.intervals.end().is_err(), "active is not 0");
        let probe = Driver::new(Kind::Plain);
        self.insert(probe, 64 * PAGE);
        self.mirror(probe);
        assert!(self.change(64 * PAGE, 65 * PAGE, MMU_NOTIFIER_RANGE_BLOCKABLE));
        // SAFETY: Valid.
        let mapping = *unsafe { &*probe }.mapping.lock();
        assert_eq!(mapping, None, "a member is not called");
        self.mirror(probe);
        assert!(
            self.change(0, 65 * PAGE, BLOCKABLE),
            "what was removed is not called"
        );
        self.remove(probe);
        assert!(self.intervals.end().is_err());
    }
}

fn mm() -> *const c_void {
    MM.cast_const().cast()
}

const BLOCKABLE: u32 = MMU_NOTIFIER_RANGE_BLOCKABLE;

fn producer(space: &Rc<Space>, start: u64, end: u64) -> mmu_notifier::sync::model::Thread {
    let space = space.clone();
    spawn(move || {
        assert!(space.change(start, end, BLOCKABLE));
    })
}

/// MO-2, MO-3: one range, one reader.
fn stale() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producer = producer(&space, 0, PAGE);
    space.mirror(driver);
    join([producer]);
    space.fresh(driver);
    space.remove(driver);
    space.idle();
}

/// Two ranges of two threads: the busy period lasts until both are over (ST-6, RE-2).
fn stale_two_producers() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producers = [producer(&space, 0, PAGE), producer(&space, 0, PAGE)];
    space.mirror(driver);
    join(producers);
    space.fresh(driver);
}

/// Two ranges, one after the other, and a reader that goes on.
fn stale_two_ranges() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producer = spawn({
        let space = space.clone();
        move || {
            assert!(space.change(0, PAGE, BLOCKABLE));
            assert!(space.change(0, PAGE, BLOCKABLE));
        }
    });
    space.mirror(driver);
    space.mirror(driver);
    join([producer]);
    space.fresh(driver);
}

/// II-7: an insert in the middle of a range that would touch it, but did not see it. (If the range has to search again there
/// is a callback, which the core calls superfluous: II-8 says that there is none.)
fn stale_insert() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    let producer = producer(&space, 0, PAGE);
    space.insert(driver, 0);
    space.mirror(driver);
    join([producer]);
    space.fresh(driver);
    space.remove(driver);
    space.idle();
}

/// The same, where another notifier is touched, so that the insert may be deferred (II-7c).
fn stale_insert_beside() {
    let space = space();
    let (old, new) = (Driver::new(Kind::Plain), Driver::new(Kind::Plain));
    space.insert(old, 0);
    let producer = producer(&space, 0, 2 * PAGE);
    space.insert(new, PAGE);
    space.mirror(new);
    join([producer]);
    space.fresh(new);
    space.remove(new);
    space.remove(old);
    space.idle();
}

/// Two readers and a range: all who sleep are woken.
fn sleepers() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producer = producer(&space, 0, PAGE);
    let reader = spawn({
        let space = space.clone();
        move || space.mirror(driver)
    });
    space.mirror(driver);
    join([producer, reader]);
    space.fresh(driver);
}

/// RS-4: a range that a notifier refuses is counted out again, beside one that goes through.
fn refused() {
    let space = space();
    let driver = Driver::new(Kind::Refuses);
    space.insert(driver, 0);
    let producer = producer(&space, 0, PAGE);
    assert!(!space.change(0, PAGE, 0));
    space.mirror(driver);
    join([producer]);
    space.fresh(driver);
    space.idle();
}

/// IR-8: after remove has returned there is no callback; whoever slept in it was woken.
fn removed() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producer = producer(&space, 0, PAGE);
    space.remove(driver);
    join([producer]);
    // ST-5: the number turned odd if, and only if, somebody was called.
    // SAFETY: Valid.
    let called = unsafe { &*driver }.calls.get();
    assert_eq!(space.number(), 2 + 2 * u64::from(called), "ST-5");
    space.idle();
}

/// DV-7: a remove from an op of a range that is counted, and touches nothing, does not wait for it, though another thread's range
/// may freeze the index in the middle of the call.
fn removed_inside() {
    static OP: Callbacks = Callbacks::new(Chain, c"invalidate_range_start");
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producer = producer(&space, 0, PAGE);
    assert!(space.open(2 * PAGE, 3 * PAGE, BLOCKABLE));
    // SAFETY: Inserted.
    let remove = || unsafe { space.intervals.remove(driver.cast(), mm()) };
    let refused = Frame::new(&OP, mm(), true).run(remove).is_err();
    assert_eq!(space.intervals.contains(driver.cast()), refused);
    space.close();
    if refused {
        space.remove(driver);
    }
    join([producer]);
    space.idle();
}

/// Two removers in one busy period.
fn removed_two() {
    let space = space();
    let drivers = [Driver::new(Kind::Plain), Driver::new(Kind::Plain)];
    space.insert(drivers[0], 0);
    space.insert(drivers[1], 0);
    let producer = producer(&space, 0, PAGE);
    let remover = spawn({
        let space = space.clone();
        move || space.remove(drivers[1])
    });
    space.remove(drivers[0]);
    join([producer, remover]);
    space.idle();
}

/// IR-2: an insert that is still deferred is taken back without a wait.
fn deferred_insert_removed() {
    let space = space();
    let (old, new) = (Driver::new(Kind::Plain), Driver::new(Kind::Plain));
    space.insert(old, 0);
    let producer = producer(&space, 0, PAGE);
    space.insert(new, 0);
    space.remove(new);
    join([producer]);
    space.remove(old);
    space.idle();
}

/// A notifier is removed, and inserted anew elsewhere, between ranges of another thread.
fn moved() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producer = producer(&space, 0, PAGE);
    // SAFETY: Inserted.
    unsafe { space.intervals.remove(driver.cast(), mm()) }.expect("removed");
    space.insert(driver, 2 * PAGE);
    space.mirror(driver);
    join([producer]);
    space.remove(driver);
    space.idle();
}

/// RL-1: the end of the address space, beside a range and a remove.
fn released() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producer = producer(&space, 0, PAGE);
    let remover = spawn({
        let space = space.clone();
        move || space.remove(driver)
    });
    let everything = range(0, c_ulong::MAX, BLOCKABLE);
    // SAFETY: Valid until its end; inserted notifiers are valid.
    unsafe {
        let range = Range::new(&raw const everything);
        space.intervals.release(range).expect("no misuse");
    }
    join([producer, remover]);
    space.idle();
}

/// A start against the end of the busy period that puts a deferred notifier into the index: the range comes before the end, and
/// its reader sleeps on; or it comes after it, and calls (RE-3, RS-7).
fn deferred_against_start() {
    let space = space();
    let (old, new) = (Driver::new(Kind::Plain), Driver::new(Kind::Deferred));
    space.insert(old, 0);
    assert!(space.open(0, PAGE, BLOCKABLE));
    space.insert(new, PAGE);
    let producer = producer(&space, PAGE, 2 * PAGE);
    space.close();
    space.mirror(new);
    join([producer]);
    space.fresh(new);
    space.remove(new);
    space.remove(old);
    space.idle();
}

/// A start against the end of the busy period that takes a notifier out.
fn deferred_remove_against_start() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    assert!(space.open(0, PAGE, BLOCKABLE));
    let remover = spawn({
        let space = space.clone();
        move || space.remove(driver)
    });
    let producer = producer(&space, 0, PAGE);
    space.close();
    join([producer, remover]);
    space.idle();
}

/// A driver that has stored an even number sleeps until the number turns odd (RB-5): by a range that touches something.
fn even_sleeper() {
    let space = space();
    let (driver, touched) = (Driver::new(Kind::Plain), Driver::new(Kind::Plain));
    space.insert(driver, 0);
    space.insert(touched, PAGE);
    let reader = even_reader(&space, driver);
    assert!(space.open(PAGE, 2 * PAGE, BLOCKABLE));
    join([reader]);
    space.close();
    space.remove(touched);
    space.remove(driver);
    space.idle();
}

/// The same, by an insert beside a range (II-7b).
fn even_sleeper_insert() {
    let space = space();
    let (driver, new) = (Driver::new(Kind::Plain), Driver::new(Kind::Plain));
    space.insert(driver, 0);
    let reader = even_reader(&space, driver);
    assert!(space.open(8 * PAGE, 9 * PAGE, BLOCKABLE));
    space.insert(new, PAGE);
    join([reader]);
    space.close();
    space.remove(new);
    space.remove(driver);
    space.idle();
}

fn even_reader(space: &Rc<Space>, driver: *mut Driver) -> mmu_notifier::sync::model::Thread {
    let space = space.clone();
    // SAFETY: Valid.
    unsafe { &*driver }.seq().store(2, Ordering::Relaxed);
    spawn(move || {
        // SAFETY: Inserted.
        let seq = unsafe { space.intervals.read_begin(driver.cast(), mm()) }.expect("not inside");
        assert_eq!(seq, 2);
    })
}

/// RS-1: more ranges than the word has room for; the busy period lasts until all are over.
fn crowd() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    assert!(space.open(0, PAGE, BLOCKABLE));
    assert!(space.open(8 * PAGE, 9 * PAGE, BLOCKABLE));
    let producer = producer(&space, 0, PAGE);
    space.close();
    space.close();
    space.mirror(driver);
    join([producer]);
    space.fresh(driver);
    space.remove(driver);
    space.idle();
}

/// The same, where the crowd is counted by two threads.
fn crowds() {
    let space = space();
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    assert!(space.open(8 * PAGE, 9 * PAGE, BLOCKABLE));
    let producers = [0, 4 * PAGE].map(|start| producer(&space, start, start + PAGE));
    space.close();
    join(producers);
    space.remove(driver);
    space.idle();
}

/// ST-7: the part of the number that the word does not hold changes, against a reader and a range of the period before or after.
fn wrapped() {
    const BEFORE: u64 = (1 << 24) - 2;
    let space = space_at(BEFORE);
    let driver = Driver::new(Kind::Plain);
    space.insert(driver, 0);
    let producer = producer(&space, 0, PAGE);
    assert!(space.change(0, PAGE, BLOCKABLE));
    space.mirror(driver);
    join([producer]);
    space.fresh(driver);
    let number = space.number();
    assert!(number == BEFORE + 2 || number == BEFORE + 4, "{number:#x}");
    // SAFETY: Valid.
    assert_eq!(unsafe { &*driver }.last.get(), number - 1, "ST-6");
    space.remove(driver);
    space.idle();
}

/// A leaf of the index is split while a range is looked up: members are called, once.
fn split() {
    let space = space();
    let drivers = [(); 3].map(|()| Driver::new(Kind::Plain));
    space.insert(drivers[0], 0);
    space.insert(drivers[2], 2 * PAGE);
    let producer = producer(&space, 0, 3 * PAGE);
    space.insert(drivers[1], PAGE);
    join([producer]);
    for driver in [drivers[0], drivers[2]] {
        // SAFETY: Valid.
        assert_eq!(unsafe { &*driver }.calls.get(), 1, "RS-6");
    }
    for driver in drivers {
        space.remove(driver);
    }
    space.idle();
}

/// Two leaves are merged, and the tree loses its root, while a range is looked up.
fn merge() {
    let space = space();
    let drivers = [(); 3].map(|()| Driver::new(Kind::Plain));
    for (start, driver) in (0..).zip(drivers) {
        space.insert(driver, start * PAGE);
    }
    let producer = producer(&space, 2 * PAGE, 3 * PAGE);
    space.remove(drivers[0]);
    join([producer]);
    // SAFETY: Valid.
    assert_eq!(unsafe { &*drivers[2] }.calls.get(), 1, "RS-6");
    space.remove(drivers[1]);
    space.remove(drivers[2]);
    space.idle();
}
