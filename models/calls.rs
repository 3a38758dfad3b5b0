// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol (e): the process's own system calls against who subscribes (DV-2, `mm::calls`). What is about to go is never mapped in
//! silence, an end has its start, and callbacks that insert wait for nobody who waits for them.

use std::ffi::{c_int, c_ulong};
use std::mem::zeroed;
use std::ptr;
use std::rc::Rc;

use mmu_notifier::abi::mm::mm_struct;
use mmu_notifier::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE, mmu_interval_notifier, mmu_interval_notifier_ops,
    mmu_notifier as Notifier, mmu_notifier_event::MMU_NOTIFY_UNMAP, mmu_notifier_ops,
    mmu_notifier_range,
};
use mmu_notifier::dispatch::REFERENCE;
use mmu_notifier::mm::calls::{self, Call, MODEL_MM};
use mmu_notifier::mm::{self, Request};
use mmu_notifier::sync::model::{Thread, expire, may_end};
use mmu_notifier::sync::{AtomicU32, AtomicU64, Lock, Ordering};
use mmu_notifier::thread;

use crate::tools::{Model, join, shared, spawn, up_to};

pub const MODELS: &[Model] = &[
    up_to("calls::insert", insert, [Some(2), Some(3)]),
    up_to(
        "calls::insert_deferred",
        insert_deferred,
        [Some(2), Some(3)],
    ),
    up_to("calls::insert_beside", insert_beside, [Some(1), Some(2)]),
    up_to(
        "calls::insert_mapped_late",
        insert_mapped_late,
        [Some(1), Some(2)],
    ),
    up_to("calls::register", register, [Some(2), Some(3)]),
    up_to(
        "calls::register_in_pair",
        register_in_pair,
        [Some(2), Some(3)],
    ),
    up_to(
        "calls::inserts_of_callbacks",
        inserts_of_callbacks,
        [Some(1), Some(2)],
    ),
    up_to("calls::disabled", disabled, [Some(3), Some(4)]),
    up_to("calls::cancelled", cancelled, [Some(3), Some(4)]),
];

pub const PAGE: u64 = 4096;

/// A page as the kernel knows it: 1 if it is gone. Each look and each change is one step, as under the kernel's lock.
#[derive(Default)]
struct Page(AtomicU32);

impl Page {
    fn is_here(&self) -> bool {
        self.0.fetch_add(0, Ordering::AcqRel) == 0
    }

    fn take_away(&self) {
        self.0.store(1, Ordering::Release);
        self.0.fetch_add(0, Ordering::AcqRel);
    }
}

/// The address space in the place of the process's own, with events of system calls enabled.
pub fn live(threads: usize) -> *mut mm_struct {
    thread::seat(threads);
    let mm = mm::mm_alloc();
    MODEL_MM.store(mm, Ordering::Relaxed);
    calls::prepare().expect("memory");
    calls::enable();
    mm
}

pub fn range_of(mm: *mut mm_struct, page: u64) -> mmu_notifier_range {
    mmu_notifier_range {
        mm,
        start: page * PAGE,
        end: (page + 1) * PAGE,
        flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
        event: MMU_NOTIFY_UNMAP.into(),
        owner: ptr::null_mut(),
    }
}

/// The system call: what `live::events::hook` does.
fn unmap(mm: *mut mm_struct, number: u64, page: &Page) {
    let call = Call::enter(0);
    let ranges = [range_of(mm, number)];
    if !calls::is_enabled() || !call.is_watched(ranges[0].start, ranges[0].end) {
        page.take_away();
        call.leave();
        return;
    }
    // SAFETY: The subscribers of this file.
    unsafe {
        let pair = call.announce(|| &ranges).expect("subscriptions");
        page.take_away();
        pair.end();
    }
}

/// A system call that takes away the pages 1 and 2, the latter if `look` says so: as `live::events::hook`, with two looks.
fn unmap_both(mm: *mut mm_struct, pages: [&Page; 2], look: impl Fn() -> usize) {
    let call = Call::enter(0);
    let ranges = [range_of(mm, 1), range_of(mm, 2)];
    let watched = |range: &mmu_notifier_range| call.is_watched(range.start, range.end);
    let take_away = || pages.iter().for_each(|page| page.take_away());
    if !ranges[..look()].iter().any(watched) {
        take_away();
        call.leave();
        return;
    }
    // SAFETY: The subscribers of this file.
    unsafe {
        let pair = call.announce(|| &ranges[..look()]).expect("subscriptions");
        take_away();
        pair.end();
    }
}

/// A driver of one page.
#[repr(C)]
pub struct Driver {
    sub: mmu_interval_notifier,
    pub number: u64,
    page: Page,
    /// user_lock, and whether the device maps the page.
    mapped: Lock<bool>,
    /// What its callback inserts.
    inner: *mut mmu_interval_notifier,
}

static OPS: mmu_interval_notifier_ops = mmu_interval_notifier_ops {
    invalidate: Some(invalidate),
};

unsafe extern "C" fn invalidate(
    sub: *mut mmu_interval_notifier,
    range: *const mmu_notifier_range,
    seq: c_ulong,
) -> bool {
    // SAFETY: The notifier of a `Driver`, which is never given back; the range is valid during the call.
    let (driver, mm) = unsafe { (&*sub.cast::<Driver>(), (*range).mm) };
    if !driver.inner.is_null() {
        insert_sub(driver.inner, mm, driver.number);
    }
    let mut mapped = driver.mapped.lock();
    driver.seq().store(seq, Ordering::Relaxed);
    *mapped = false;
    true
}

impl Driver {
    pub fn make(number: u64) -> &'static Self {
        Box::leak(Box::new(Self {
            // SAFETY: A C struct: zeroes are values of all of its members.
            sub: unsafe { zeroed() },
            number,
            page: Page::default(),
            mapped: Lock::new(false),
            inner: ptr::null_mut(),
        }))
    }

    /// One whose callback inserts another notifier.
    fn making_another(number: u64) -> &'static Self {
        // SAFETY: As above.
        let inner = Box::leak(Box::new(unsafe { zeroed() }));
        Box::leak(Box::new(Self {
            // SAFETY: As above.
            sub: unsafe { zeroed() },
            number,
            page: Page::default(),
            mapped: Lock::new(false),
            inner,
        }))
    }

    pub fn sub(&self) -> *mut mmu_interval_notifier {
        (&raw const self.sub).cast_mut()
    }

    fn seq(&self) -> &AtomicU64 {
        // SAFETY: Lives for ever; as large as an atomic.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.sub()).invalidate_seq) }
    }

    pub fn insert(&self, mm: *mut mm_struct) {
        insert_sub(self.sub(), mm, self.number);
    }

    /// SPEC 4.3: maps the page if it is here.
    fn map(&self) {
        loop {
            // SAFETY: Inserted.
            let seq = unsafe { mm::read_begin(self.sub()) }.expect("outside callbacks");
            let here = self.page.is_here();
            let mut mapped = self.mapped.lock();
            if self.seq().load(Ordering::Relaxed) == seq {
                *mapped = here;
                return;
            }
        }
    }

    /// The device maps nothing that is gone.
    fn check(&self) {
        let stale = *self.mapped.lock() && !self.page.is_here();
        assert!(!stale, "a page went in silence");
    }
}

pub fn insert_sub(sub: *mut mmu_interval_notifier, mm: *mut mm_struct, number: u64) {
    let request = Request {
        interval_sub: sub,
        mm,
        start: number * PAGE,
        length: PAGE,
        ops: &raw const OPS,
        abi: REFERENCE,
    };
    // SAFETY: Never given back; the address space has a user.
    unsafe { mm::insert(&request) }.expect("inserted");
}

fn unmapper(mm: *mut mm_struct, driver: &'static Driver) -> Thread {
    spawn(move || unmap(mm, driver.number, &driver.page))
}

/// A page is inserted and mapped while a call takes it away that has looked before, or looks after.
fn insert() {
    let mm = live(2);
    let driver = Driver::make(1);
    let call = unmapper(mm, driver);
    driver.insert(mm);
    driver.map();
    join([call]);
    driver.check();
}

/// As `insert`, while a busy period defers the insert: the index does not show it when the call looks.
fn insert_deferred() {
    let mm = live(2);
    let (driver, other) = (Driver::make(1), Driver::make(2));
    other.insert(mm);
    let mut range = range_of(mm, 2);
    // SAFETY: The subscribers of this file.
    unsafe { mm::invalidate_range_start(&raw mut range) }.expect("no misuse");
    driver.insert(mm);
    let call = unmapper(mm, driver);
    // SAFETY: As above.
    unsafe { mm::invalidate_range_end(&raw mut range, false) }.expect("started");
    driver.map();
    join([call]);
    driver.check();
}

/// A call changes two ranges, as mremap does. The second one is inserted and mapped after the call has found the first watched.
fn insert_beside() {
    let mm = live(2);
    let (first, second) = (Driver::make(1), Driver::make(2));
    first.insert(mm);
    let call = spawn(move || unmap_both(mm, [&first.page, &second.page], || 2));
    second.insert(mm);
    second.map();
    join([call]);
    second.check();
}

/// As `insert_beside`, with a second mapping of a file that is cut: made, inserted and mapped after the call has found the first.
fn insert_mapped_late() {
    let mm = live(2);
    let (first, second) = (Driver::make(1), Driver::make(2));
    first.insert(mm);
    // As each mapping of the kernel, made and found under its lock.
    let mapped: &AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    let look = || 1 + mapped.fetch_add(0, Ordering::AcqRel) as usize;
    let driver = spawn(move || {
        mapped.fetch_add(1, Ordering::AcqRel);
        second.insert(mm);
        second.map();
    });
    unmap_both(mm, [&first.page, &second.page], look);
    join([driver]);
    second.check();
}

/// A notifier of the whole mm.
#[repr(C)]
struct Listener {
    notifier: Notifier,
    starts: AtomicU32,
    ends: AtomicU32,
}

static LISTENER_OPS: mmu_notifier_ops = mmu_notifier_ops {
    release: None,
    clear_flush_young: None,
    clear_young: None,
    test_young: None,
    change_pte: None,
    invalidate_range_start: Some(start),
    invalidate_range_end: Some(end),
    arch_invalidate_secondary_tlbs: None,
    alloc_notifier: None,
    free_notifier: None,
};

unsafe extern "C" fn start(notifier: *mut Notifier, _: *const mmu_notifier_range) -> c_int {
    // SAFETY: The notifier of a `Listener`, which is never given back.
    unsafe { &*notifier.cast::<Listener>() }
        .starts
        .fetch_add(1, Ordering::Relaxed);
    0
}

unsafe extern "C" fn end(notifier: *mut Notifier, _: *const mmu_notifier_range) {
    // SAFETY: As above.
    let listener = unsafe { &*notifier.cast::<Listener>() };
    let before = listener.ends.fetch_add(1, Ordering::Relaxed);
    let starts = listener.starts.load(Ordering::Relaxed);
    assert!(before < starts, "RG-9: an end without its start");
}

impl Listener {
    fn registered(mm: *mut mm_struct) -> &'static Self {
        let listener = Box::leak(Box::new(Self {
            // SAFETY: A C struct: zeroes are values of all of its members.
            notifier: unsafe { zeroed() },
            starts: AtomicU32::new(0),
            ends: AtomicU32::new(0),
        }));
        listener.notifier.ops = &raw const LISTENER_OPS;
        // SAFETY: Never given back; the address space has a user.
        unsafe { mm::register(&raw mut listener.notifier, mm, REFERENCE) }.expect("registered");
        listener
    }

    fn starts(&self) -> u32 {
        self.starts.load(Ordering::Relaxed)
    }
}

fn page_unmapper(mm: *mut mm_struct, page: &Rc<Page>) -> Thread {
    let page = page.clone();
    spawn(move || unmap(mm, 1, &page))
}

/// Who registers and still finds the page is told of what takes it away; and of both ends, or of neither.
fn register() {
    let mm = live(2);
    let page = shared(Page::default());
    let call = page_unmapper(mm, &page);
    let listener = Listener::registered(mm);
    let here = page.is_here();
    join([call]);
    assert!(!here || listener.starts() == 1, "a page went in silence");
    assert_eq!(listener.starts(), listener.ends.load(Ordering::Relaxed));
}

/// As `register`, while somebody else is told: the call is in a pair, or about to begin one.
fn register_in_pair() {
    let mm = live(2);
    let page = shared(Page::default());
    let old = Listener::registered(mm);
    let call = page_unmapper(mm, &page);
    let listener = Listener::registered(mm);
    let here = page.is_here();
    join([call]);
    assert!(!here || listener.starts() == 1, "a page went in silence");
    assert_eq!(listener.starts(), listener.ends.load(Ordering::Relaxed));
    assert_eq!(old.starts(), 1);
}

/// Callbacks of two calls insert: neither waits for the other.
fn inserts_of_callbacks() {
    let mm = live(2);
    let drivers = [Driver::making_another(1), Driver::making_another(2)];
    drivers.iter().for_each(|driver| driver.insert(mm));
    let call = unmapper(mm, drivers[0]);
    unmap(mm, 2, &drivers[1].page);
    join([call]);
    assert_eq!(calls::unwaited(), 0, "an insert that could not wait");
}

/// A thread has ended in the middle of a call: who inserts finds out after a while. (Time that has passed has passed for all waits: so
/// nobody else may be inside.)
fn cancelled() {
    let mm = live(1);
    let driver = Driver::make(1);
    let dead = spawn(|| {
        may_end();
        let _left = Call::enter(0);
    });
    join([dead]);
    expire();
    driver.insert(mm);
    let call = unmapper(mm, driver);
    driver.map();
    join([call]);
    driver.check();
}

/// After disable() no callback runs.
fn disabled() {
    let mm = live(2);
    let page = shared(Page::default());
    let listener = Listener::registered(mm);
    let call = page_unmapper(mm, &page);
    calls::stop();
    calls::drain();
    let before = (listener.starts(), listener.ends.load(Ordering::Relaxed));
    assert_eq!(before.0, before.1);
    join([call]);
    let after = (listener.starts(), listener.ends.load(Ordering::Relaxed));
    assert_eq!(before, after, "a callback after disable");
}
