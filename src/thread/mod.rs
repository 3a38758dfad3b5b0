//! What the calling thread is in the middle of (floor 0): callbacks, a read section, and ranges between their start and
//! their end.
//!
//! Owns: one [`Record`] for each thread that has come by (`records`): its read sections, its stack of frames, one per running
//! set of callbacks, linked through the stacks of the functions that run them; and a short count of ranges in flight.
//!
//! Invariants
//! * A thread finds its record through one word of thread-local storage, which has no destructor: so a section may be entered
//!   anywhere, inside malloc's locks and after the thread's destructors included. Nothing here allocates or locks.
//! * Frames and ranges are the thread's alone. Its sections are read by whoever waits for a grace period.
//!
//! Used for: grace periods, DV-7 (a call that would wait for itself) and DV-13 (what of an address space survives fork: what
//! the forking thread is in the middle of).
#![expect(unsafe_code, reason = "frames are linked through the stack")]

mod records;

pub use records::offsets;
#[cfg(loom)]
pub use records::seat;
pub use records::{
    Record, Section, WALKS, after_fork_in_child, attached, close_sections_of_the_dead,
    others_may_be_attached, own,
};

use core::cell::Cell;
use core::ffi::{CStr, c_void};
use core::marker::PhantomPinned;
use core::ptr;

use crate::sync::{AtomicU64, Ordering};

/// What kind of callbacks a frame runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A walk of a list of notifiers, in a read section.
    Chain,
    /// The interval notifiers of a range.
    Interval,
    /// A free_notifier after its grace period.
    Free,
    /// Other work of the worker: a driver's call_srcu callback, the end of an address space.
    Work,
    /// The second stage of a range (`live::stage`): its release, or its done.
    Stage,
}

/// What a frame runs.
#[derive(Debug)]
pub struct Callbacks {
    kind: Kind,
    op: &'static CStr,
}

impl Callbacks {
    /// Callbacks that are named `op`.
    pub const fn new(kind: Kind, op: &'static CStr) -> Self {
        Self { kind, op }
    }
}

/// A set of callbacks that the thread is running.
#[derive(Debug)]
pub struct Frame {
    outer: Cell<*const Frame>,
    mm: *const c_void,
    callbacks: &'static Callbacks,
    /// Is the range that the callbacks are about still counted in its address space (S.active)?
    counted: bool,
    _pin: PhantomPinned,
}

/// The calling thread's record.
#[inline]
pub fn current() -> &'static Record {
    records::current()
}

impl Frame {
    /// A frame for callbacks of `mm`, whose range is counted in S.active or not.
    #[inline]
    pub fn new(callbacks: &'static Callbacks, mm: *const c_void, counted: bool) -> Self {
        Self {
            outer: Cell::new(ptr::null()),
            mm,
            callbacks,
            counted,
            _pin: PhantomPinned,
        }
    }

    /// Runs `callbacks` inside this frame.
    pub fn run<T>(&self, callbacks: impl FnOnce() -> T) -> T {
        self.run_on(current(), callbacks)
    }

    /// As [`Frame::run`], for a caller who knows the thread.
    #[inline(always)]
    pub fn run_on<T>(&self, thread: &Record, callbacks: impl FnOnce() -> T) -> T {
        let outer = thread.top();
        self.outer.set(outer);
        thread.set_top(self);
        let leave = Leave(thread, outer);
        let result = callbacks();
        drop(leave);
        result
    }
}

/// A frame for callbacks that run in no other frame, and whose range S.active does not count: nothing in it depends on the thread,
/// so that all threads share it, and a push is one store.
#[derive(Debug)]
pub struct Bottom(Frame);

// SAFETY: Nothing in it ever changes.
unsafe impl Sync for Bottom {}

impl Bottom {
    /// A frame for `callbacks`.
    pub const fn new(callbacks: &'static Callbacks) -> Self {
        Self(Frame {
            outer: Cell::new(ptr::null()),
            mm: ptr::null(),
            callbacks,
            counted: false,
            _pin: PhantomPinned,
        })
    }

    /// Runs `callbacks` inside this frame, on a `thread` that is in none.
    #[inline(always)]
    pub fn run_on<T>(&'static self, thread: &Record, callbacks: impl FnOnce() -> T) -> T {
        thread.set_top(&self.0);
        let leave = Leave(thread, ptr::null());
        let result = callbacks();
        drop(leave);
        result
    }
}

/// Pops a frame, also when a callback unwinds.
struct Leave<'a>(&'a Record, *const Frame);

impl Drop for Leave<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.set_top(self.1);
    }
}

/// The op of the innermost frame that `select` accepts.
fn innermost(select: impl Fn(&Frame) -> bool) -> Option<&'static CStr> {
    let mut found = None;
    each_frame(|frame| {
        if found.is_none() && select(frame) {
            found = Some(frame.callbacks.op);
        }
    });
    found
}

fn each_frame(mut visit: impl FnMut(&Frame)) {
    let mut next = own().map_or(ptr::null(), Record::top);
    // SAFETY: A frame stays linked only while `run` borrows it, further down this very stack, or is static.
    while let Some(frame) = unsafe { next.as_ref() } {
        visit(frame);
        next = frame.outer.get();
    }
}

/// The callback, if any, for which a grace period begun by this thread would wait. Intervals of a system call are called inside the
/// walk of its pair.
// SPEC: DV-7
pub fn inside_section() -> Option<&'static CStr> {
    // ORDERING: Relaxed: the thread's own.
    let walks = own().is_some_and(|own| own.section(WALKS).number.load(Ordering::Relaxed) != 0);
    innermost(|frame| match frame.callbacks.kind {
        Kind::Chain | Kind::Free => true,
        Kind::Interval => walks,
        Kind::Work | Kind::Stage => false,
    })
}

/// The callback, if any, of `mm` whose range this thread is still counting in S.active.
// SPEC: DV-7
pub fn inside_range_of(mm: *const c_void) -> Option<&'static CStr> {
    innermost(|frame| frame.mm == mm && frame.counted)
}

/// The callback, if any, that this thread is running.
pub fn inside_callback() -> Option<&'static CStr> {
    innermost(|_| true)
}

/// Does this thread run a callback of a change or of an event, which may not change memory itself? Not: one that the worker runs.
pub fn inside_event() -> bool {
    innermost(|frame| matches!(frame.callbacks.kind, Kind::Chain | Kind::Interval)).is_some()
}

/// The callback of a second stage, if any, that this thread is running.
pub fn inside_stage() -> Option<&'static CStr> {
    innermost(|frame| frame.callbacks.kind == Kind::Stage)
}

/// The callback, if any, that this thread runs as the library's worker: a wait for the worker would be one for itself.
// SPEC: DV-7
pub fn inside_worker() -> Option<&'static CStr> {
    innermost(|frame| matches!(frame.callbacks.kind, Kind::Free | Kind::Work))
}

/// Ranges in flight on one address space, started by this thread: the owner's address above a count of 16 bits. No owner: 0.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flight(u64);

impl Flight {
    const COUNT: u64 = 0xffff;
    const NONE: Self = Self(0);

    /// Could be `count` ranges of `owner`, if a word has room for both.
    fn new(owner: *const c_void, count: u64) -> Option<Self> {
        let address = owner.addr() as u64;
        let fits = address >> 48 == 0 && count <= Self::COUNT;
        fits.then_some(Self(if count == 0 { 0 } else { address << 16 | count }))
    }

    fn is_of(self, owner: *const c_void) -> bool {
        self.0 != 0 && self.0 >> 16 == owner.addr() as u64
    }

    fn count(self) -> u64 {
        self.0 & Self::COUNT
    }
}

impl Record {
    /// Is this thread, the calling one, in no frame, and in no read section of this kind?
    #[inline(always)]
    pub fn is_at_rest(&self, kind: usize) -> bool {
        // ORDERING: Relaxed: the thread's own.
        let number = self.section(kind).number.load(Ordering::Relaxed);
        number | self.top().addr() as u64 == 0
    }

    /// This thread has started a range that `owner` counts.
    #[inline]
    pub fn range_started(&self, owner: *const c_void) {
        if let Some(one) = Flight::new(owner, 1).filter(|_| self.flies(Flight::NONE)) {
            self.fly(one);
        } else {
            self.change_flight(owner, &|count| count + 1);
        }
    }

    /// This thread has ended a range that `owner` counts; another thread may have started it.
    #[inline]
    pub fn range_ended(&self, owner: *const c_void) {
        if Flight::new(owner, 1).is_some_and(|one| self.flies(one)) {
            self.fly(Flight::NONE);
        } else {
            self.change_flight(owner, &|count| count.saturating_sub(1));
        }
    }

    /// Is `flight` all that this thread has in flight?
    #[inline]
    fn flies(&self, flight: Flight) -> bool {
        let [first, second, ..] = self.flights();
        // ORDERING: Relaxed: the thread's own.
        first.load(Ordering::Relaxed) == flight.0 && second.load(Ordering::Relaxed) == 0
    }

    /// `flight` is all that this thread has in flight from now on; before, there was one at most.
    #[inline]
    fn fly(&self, flight: Flight) {
        // ORDERING: Relaxed: the thread's own.
        self.flights()[0].store(flight.0, Ordering::Relaxed);
    }

    /// The words in use stand in front of those that are 0.
    #[cold]
    fn change_flight(&self, owner: *const c_void, change: &dyn Fn(u64) -> u64) {
        let flights = self.flights();
        // ORDERING: Relaxed, here and below: the thread's own.
        let load = |word: &AtomicU64| Flight(word.load(Ordering::Relaxed));
        let fits = |word: &&AtomicU64| load(word).0 == 0 || load(word).is_of(owner);
        let Some(word) = flights.iter().find(fits) else {
            return;
        };
        let Some(flight) = Flight::new(owner, change(load(word).count())) else {
            return;
        };
        word.store(flight.0, Ordering::Relaxed);
        let next_is_in_use = |pair: &&[AtomicU64]| load(&pair[0]).0 == 0 && load(&pair[1]).0 != 0;
        if flight.0 == 0 && load(&flights[1]).0 != 0 {
            while let Some([hole, next]) = flights.windows(2).find(next_is_in_use) {
                hole.store(load(next).0, Ordering::Relaxed);
                next.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// Ranges of `owner` that this thread has started and not ended.
pub fn ranges_in_flight(owner: *const c_void) -> u64 {
    let flights = own().map(Record::flights);
    // ORDERING: Relaxed: the thread's own.
    let mut flights = flights
        .into_iter()
        .flatten()
        .map(|word| Flight(word.load(Ordering::Relaxed)));
    flights
        .find(|flight| flight.is_of(owner))
        .map_or(0, Flight::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dv_7_frames_nest_and_name_the_innermost() {
        let (a, b) = (ptr::without_provenance(8), ptr::without_provenance(16));
        static START: Callbacks = Callbacks::new(Kind::Chain, c"invalidate_range_start");
        static INVALIDATE: Callbacks = Callbacks::new(Kind::Interval, c"invalidate");
        let outer = Frame::new(&START, a, true);
        let inner = Frame::new(&INVALIDATE, b, false);
        outer.run(|| {
            inner.run(|| {
                assert_eq!(inside_section(), Some(c"invalidate_range_start"));
                assert_eq!(inside_callback(), Some(c"invalidate"));
                assert_eq!(inside_range_of(a), Some(c"invalidate_range_start"));
                assert_eq!(inside_range_of(b), None);
            });
        });
        assert_eq!(inside_callback(), None);
    }

    #[test]
    fn dv_13_ranges_in_flight_are_counted_per_owner() {
        let owner = ptr::without_provenance(24);
        let thread = current();
        thread.range_started(owner);
        thread.range_started(owner);
        thread.range_ended(owner);
        assert_eq!(ranges_in_flight(owner), 1);
        let others: Vec<_> = (4..20).map(|n| ptr::without_provenance(n * 8)).collect();
        for other in &others {
            thread.range_started(*other);
        }
        thread.range_ended(owner);
        thread.range_ended(owner);
        assert_eq!(ranges_in_flight(owner), 0);
        let found = others.iter().filter(|other| ranges_in_flight(**other) == 1);
        assert_eq!(found.count(), 5, "as many as there is room for");
        for other in &others {
            thread.range_ended(*other);
            assert_eq!(ranges_in_flight(*other), 0);
        }
    }
}
