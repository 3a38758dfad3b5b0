// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol (f): ranges with two stages (`src/live/stage`). An event queues the release of a range and waits for it; the
//! releaser runs it, the remover takes the range out of the index; a remove, another event or the end of the time comes between.

use std::ffi::c_ulong;
use std::mem::zeroed;
use std::ptr;

use mmu_notifier::abi::mm::mm_struct;
use mmu_notifier::abi::notifier::{mmu_notifier_event::MMU_NOTIFY_UNMAP, mmu_notifier_range};
use mmu_notifier::dispatch::REFERENCE;
use mmu_notifier::live::epoch::{Cause, count};
use mmu_notifier::live::stage::{
    self, Request, mmu_notifier_live_range as Range, mmu_notifier_live_range_ops as Ops,
};
use mmu_notifier::mm;
use mmu_notifier::sync::model::expire;
use mmu_notifier::sync::{AtomicU32, Ordering};
use mmu_notifier::thread;

use crate::tools::{Memory, Model, join, spawn, up_to};

pub const MODELS: &[Model] = &[
    up_to("stage::blocking", blocking, [Some(2), Some(3)]),
    up_to("stage::expiry", expiry, [Some(1), Some(2)]),
    up_to("stage::two_events", two_events, [Some(1), Some(2)]),
    up_to("stage::remove", remove_against_event, [Some(1), Some(2)]),
    up_to("stage::done_frees", done_frees, [Some(1), Some(2)]),
    up_to("stage::open_period", open_period, [Some(1), Some(2)]),
    up_to("stage::nested", nested, [Some(1), Some(2)]),
];

/// A driver's object, which begins with its range. `done` frees it if `is_freed` says so.
#[repr(C)]
struct Region {
    range: Range,
    /// Changed by the release stage: the device has let go.
    device: &'static Memory,
    released: &'static AtomicU32,
    done: &'static AtomicU32,
    is_freed: bool,
    /// What the release stage changes, in the same address space.
    changes: Option<c_ulong>,
}

unsafe extern "C" fn invalidate(
    range: *mut Range,
    _event: *const mmu_notifier_range,
    _seq: c_ulong,
) -> bool {
    // SAFETY: A valid region.
    assert_eq!(
        unsafe { (*range.cast::<Region>()).done.load(Ordering::Relaxed) },
        0,
        "called after done"
    );
    true
}

unsafe extern "C" fn release(range: *mut Range) {
    // SAFETY: A valid region.
    let region = unsafe { &*range.cast::<Region>() };
    region.device.write(1);
    let before = region.released.fetch_add(1, Ordering::Relaxed);
    assert_eq!(before, 0, "released twice");
    if let Some(start) = region.changes {
        pair(region.range.interval.mm, start);
    }
}

unsafe extern "C" fn done(range: *mut Range) {
    let region = range.cast::<Region>();
    // SAFETY: A valid region, the driver's from now on.
    unsafe {
        let (counter, is_freed) = ((*region).done, (*region).is_freed);
        if is_freed {
            drop(Box::from_raw(region));
        }
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

static OPS: Ops = Ops {
    invalidate: Some(invalidate),
    release: Some(release),
    done: Some(done),
};

const PAGE: c_ulong = 4096;

/// What is left of a region when it is freed.
#[derive(Clone, Copy)]
struct Seen {
    region: *mut Region,
    device: &'static Memory,
    released: &'static AtomicU32,
    done: &'static AtomicU32,
}

impl Seen {
    fn counts(self) -> (u32, u32) {
        // Ordered by whatever told that it is over.
        (
            self.released.load(Ordering::Relaxed),
            self.done.load(Ordering::Relaxed),
        )
    }
}

/// A region on the page at `start`, inserted.
fn insert(
    mm: *mut mm_struct,
    start: c_ulong,
    timeout_ms: u32,
    is_freed: bool,
    changes: Option<c_ulong>,
) -> Seen {
    let device = Box::leak(Box::new(Memory::new()));
    let [released, done] = [(); 2].map(|()| &*Box::leak(Box::new(AtomicU32::new(0))));
    let region = Box::into_raw(Box::new(Region {
        // SAFETY: A C struct: zeroes are values of all of its members.
        range: unsafe { zeroed() },
        device,
        released,
        done,
        is_freed,
        changes,
    }));
    let request = Request {
        range: region.cast(),
        mm,
        start,
        length: PAGE,
        ops: &raw const OPS,
        timeout_ms,
        abi: REFERENCE,
    };
    // SAFETY: Valid until it is done.
    unsafe { stage::insert(request) }.expect("inserted");
    Seen {
        region,
        device,
        released,
        done,
    }
}

fn remove(seen: Seen) -> bool {
    // SAFETY: Not freed by `done`.
    unsafe { stage::remove(seen.region.cast()) }.expect("outside callbacks")
}

fn free(seen: Seen) {
    // SAFETY: The library is done with it.
    drop(unsafe { Box::from_raw(seen.region) });
}

/// An address space; its threads have their records already.
fn address_space() -> *mut mm_struct {
    thread::seat(5);
    mm::mm_alloc()
}

/// Ends the threads of the library, then the address space.
fn finish(mm: *mut mm_struct) {
    stage::stop_threads();
    // SAFETY: This thread's user.
    unsafe { mm::mmput(mm) }.expect("outside callbacks");
}

fn event(mm: *mut mm_struct, start: c_ulong) -> mmu_notifier_range {
    mmu_notifier_range {
        mm,
        start,
        end: start + PAGE,
        flags: 1,
        event: MMU_NOTIFY_UNMAP.into(),
        owner: ptr::null_mut(),
    }
}

fn begin(range: &mut mmu_notifier_range) {
    // SAFETY: Valid; the model's user keeps the address space.
    let answer = unsafe { mm::invalidate_range_start(&raw mut *range) };
    assert_eq!(answer.expect("no misuse"), 0);
}

fn end(range: &mut mmu_notifier_range) {
    // SAFETY: As above.
    unsafe { mm::invalidate_range_end(&raw mut *range, false) }
        .expect("DV-8: a start without its end");
}

fn pair(mm: *mut mm_struct, start: c_ulong) {
    let mut range = event(mm, start);
    begin(&mut range);
    end(&mut range);
}

/// When the start has returned, the device has let go; when remove has returned, the range is the driver's.
fn blocking() {
    let mm = address_space();
    let a = insert(mm, 0, 1000, false, None);
    let mut range = event(mm, 0);
    begin(&mut range);
    assert_eq!(a.device.read(), 1, "the device still has it");
    end(&mut range);
    assert!(!remove(a));
    assert_eq!(a.counts(), (1, 1));
    free(a);
    finish(mm);
}

/// The time may be over at any moment: then the event goes on, and that is counted.
fn expiry() {
    let mm = address_space();
    let before = count(Cause::Timeout);
    let a = insert(mm, 0, 1, false, None);
    let clock = spawn(expire);
    let mut range = event(mm, 0);
    begin(&mut range);
    if count(Cause::Timeout) == before {
        assert_eq!(
            a.device.read(),
            1,
            "nobody has counted that the device still has it"
        );
    }
    end(&mut range);
    join([clock]);
    assert!(!remove(a));
    assert_eq!(a.counts(), (1, 1));
    free(a);
    finish(mm);
}

/// Both events find that the device has let go; the release runs once.
fn two_events() {
    let mm = address_space();
    let a = insert(mm, 0, 1000, false, None);
    let change = move || {
        let mut range = event(mm, 0);
        begin(&mut range);
        // The removal may be over before this event came: then the device let go before.
        assert_eq!(a.device.read(), 1, "the device still has it");
        end(&mut range);
    };
    let other = spawn(change);
    change();
    join([other]);
    assert!(!remove(a));
    assert_eq!(a.counts(), (1, 1));
    free(a);
    finish(mm);
}

/// A remove against an event: it is told which of them was first, and frees the range at once.
fn remove_against_event() {
    let mm = address_space();
    let a = insert(mm, 0, 0, false, None);
    let remover = spawn(move || {
        let is_own = remove(a);
        assert_eq!(a.counts(), if is_own { (0, 0) } else { (1, 1) });
        free(a);
    });
    pair(mm, 0);
    join([remover]);
    finish(mm);
}

/// `done` frees the range while another event may be about to use it.
fn done_frees() {
    let mm = address_space();
    let a = insert(mm, 0, 1000, true, None);
    let other = spawn(move || pair(mm, 0));
    pair(mm, 0);
    join([other]);
    finish(mm);
    assert_eq!(a.counts(), (1, 1));
}

/// While an event goes on, so that the range that it touched cannot be removed, another one waits for the release of another
/// range.
fn open_period() {
    let mm = address_space();
    let a = insert(mm, 0, 1000, false, None);
    let b = insert(mm, PAGE, 1000, false, None);
    let mut ranges = [event(mm, 0), event(mm, PAGE)];
    for (range, seen) in ranges.iter_mut().zip([a, b]) {
        begin(range);
        assert_eq!(seen.device.read(), 1, "the device still has it");
    }
    assert_eq!(
        a.done.load(Ordering::Relaxed),
        0,
        "done inside its busy period"
    );
    ranges.iter_mut().for_each(end);
    for seen in [a, b] {
        assert!(!remove(seen));
        assert_eq!(seen.counts(), (1, 1));
        free(seen);
    }
    finish(mm);
}

/// A release changes memory of another range: its own thread cannot wait for that one's release, and does not.
fn nested() {
    let mm = address_space();
    let before = count(Cause::Timeout);
    let b = insert(mm, PAGE, 1000, false, None);
    let a = insert(mm, 0, 1000, false, Some(PAGE));
    pair(mm, 0);
    for seen in [a, b] {
        assert!(!remove(seen));
        assert_eq!(seen.counts(), (1, 1));
        free(seen);
    }
    assert_eq!(count(Cause::Timeout), before + 1);
    finish(mm);
}
