//! What the calling thread is in the middle of (floor 0): callbacks, and ranges between their start and their end.
//!
//! Owns: a stack of frames, one per running set of callbacks, linked through the stacks of the functions that run
//! them; and a short count of ranges in flight. Both are the thread's alone: no lock, no allocation, no destructor.
//!
//! Used for: DV-7 (a call that would wait for itself) and DV-13 (what of an address space survives fork: what the
//! forking thread is in the middle of).
#![expect(unsafe_code, reason = "frames are linked through the stack")]

use core::cell::Cell;
use core::ffi::{CStr, c_void};
use core::marker::PhantomPinned;
use core::ptr;

/// What kind of callbacks a frame runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A walk of a list of notifiers, in the read section with this cookie.
    Chain(usize),
    /// The interval notifiers of a range.
    Interval,
    /// A free_notifier after its grace period.
    Free,
    /// Other work of the worker: a driver's call_srcu callback, the end of an address space.
    Work,
}

/// A set of callbacks that the thread is running.
#[derive(Debug)]
pub struct Frame {
    outer: Cell<*const Frame>,
    kind: Kind,
    mm: *const c_void,
    op: Cell<&'static CStr>,
    /// Is the range that the callbacks are about still counted in its address space (S.active)?
    counted: Cell<bool>,
    _pin: PhantomPinned,
}

/// Ranges in flight on one address space, started by this thread.
#[derive(Clone, Copy)]
struct Flight {
    owner: *const c_void,
    count: usize,
}

/// Address spaces on which one thread can have ranges in flight and find them again after fork.
const FLIGHTS: usize = 8;
const NO_FLIGHT: Flight = Flight {
    owner: ptr::null(),
    count: 0,
};

thread_local! {
    static TOP: Cell<*const Frame> = const { Cell::new(ptr::null()) };
    static RANGES: [Cell<Flight>; FLIGHTS] = const { [const { Cell::new(NO_FLIGHT) }; FLIGHTS] };
}

impl Frame {
    /// A frame for callbacks of `mm`, the first of which is named `op`.
    pub fn new(kind: Kind, mm: *const c_void, op: &'static CStr) -> Self {
        Self {
            outer: Cell::new(ptr::null()),
            kind,
            mm,
            op: Cell::new(op),
            counted: Cell::new(false),
            _pin: PhantomPinned,
        }
    }

    /// Runs `callbacks` inside this frame.
    pub fn run<T>(&self, callbacks: impl FnOnce() -> T) -> T {
        self.outer.set(TOP.get());
        TOP.set(self);
        let leave = Leave(self);
        let result = callbacks();
        drop(leave);
        result
    }

    /// The callbacks that follow are `op`, and their range is counted in S.active or not.
    pub fn now(&self, op: &'static CStr, counted: bool) {
        self.op.set(op);
        self.counted.set(counted);
    }
}

/// Pops a frame, also when a callback unwinds.
struct Leave<'a>(&'a Frame);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        TOP.set(self.0.outer.get());
    }
}

/// The op of the innermost frame that `select` accepts.
fn innermost(select: impl Fn(&Frame) -> bool) -> Option<&'static CStr> {
    let mut found = None;
    each_frame(|frame| {
        if found.is_none() && select(frame) {
            found = Some(frame.op.get());
        }
    });
    found
}

fn each_frame(mut visit: impl FnMut(&Frame)) {
    let mut next = TOP.get();
    // SAFETY: A frame stays linked only while `run` borrows it, further down this very stack.
    while let Some(frame) = unsafe { next.as_ref() } {
        visit(frame);
        next = frame.outer.get();
    }
}

/// The callback, if any, for which a grace period begun by this thread would wait.
// SPEC: DV-7
pub fn inside_section() -> Option<&'static CStr> {
    innermost(|frame| matches!(frame.kind, Kind::Chain(_) | Kind::Free))
}

/// The callback, if any, of `mm` whose range this thread is still counting in S.active.
// SPEC: DV-7
pub fn inside_range_of(mm: *const c_void) -> Option<&'static CStr> {
    innermost(|frame| frame.mm == mm && frame.counted.get())
}

/// The callback, if any, that this thread is running.
pub fn inside_callback() -> Option<&'static CStr> {
    innermost(|_| true)
}

/// The callback, if any, that this thread runs as the library's worker: a wait for the worker would be one for itself.
// SPEC: DV-7
pub fn inside_worker() -> Option<&'static CStr> {
    innermost(|frame| matches!(frame.kind, Kind::Free | Kind::Work))
}

/// Visits the cookies of the read sections that this thread is in.
pub fn each_section(mut visit: impl FnMut(usize)) {
    each_frame(|frame| {
        if let Kind::Chain(cookie) = frame.kind {
            visit(cookie);
        }
    });
}

/// This thread has started a range that `owner` counts.
pub fn range_started(owner: *const c_void) {
    change_flight(owner, |count| count + 1);
}

/// This thread has ended a range that `owner` counts; another thread may have started it.
pub fn range_ended(owner: *const c_void) {
    change_flight(owner, |count| count.saturating_sub(1));
}

/// Ranges of `owner` that this thread has started and not ended.
pub fn ranges_in_flight(owner: *const c_void) -> usize {
    RANGES.with(|ranges| {
        ranges
            .iter()
            .find(|flight| flight.get().owner == owner)
            .map_or(0, |flight| flight.get().count)
    })
}

fn change_flight(owner: *const c_void, change: impl Fn(usize) -> usize) {
    RANGES.with(|ranges| {
        let find = |owner| ranges.iter().find(|flight| flight.get().owner == owner);
        let Some(flight) = find(owner).or_else(|| find(ptr::null())) else {
            return;
        };
        let old = flight.get();
        let count = change(if old.owner.is_null() { 0 } else { old.count });
        flight.set(if count == 0 {
            NO_FLIGHT
        } else {
            Flight { owner, count }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dv_7_frames_nest_and_name_the_innermost() {
        let (a, b) = (ptr::without_provenance(8), ptr::without_provenance(16));
        let outer = Frame::new(Kind::Chain(3), a, c"invalidate_range_start");
        outer.now(c"invalidate_range_start", true);
        let inner = Frame::new(Kind::Interval, b, c"invalidate");
        outer.run(|| {
            inner.run(|| {
                assert_eq!(inside_section(), Some(c"invalidate_range_start"));
                assert_eq!(inside_callback(), Some(c"invalidate"));
                assert_eq!(inside_range_of(a), Some(c"invalidate_range_start"));
                assert_eq!(inside_range_of(b), None);
                let mut cookies = Vec::new();
                each_section(|cookie| cookies.push(cookie));
                assert_eq!(cookies, [3]);
            });
        });
        assert_eq!(inside_callback(), None);
    }

    #[test]
    fn dv_13_ranges_in_flight_are_counted_per_owner() {
        let owner = ptr::without_provenance(24);
        range_started(owner);
        range_started(owner);
        range_ended(owner);
        assert_eq!(ranges_in_flight(owner), 1);
        range_ended(owner);
        range_ended(owner);
        assert_eq!(ranges_in_flight(owner), 0);
    }
}
