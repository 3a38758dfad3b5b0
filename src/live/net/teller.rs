//! The thread that tells subscribers what the monitor has heard. The change has been made then, or is being made, and the call that
//! made it has gone on: callbacks may take as long as they want, and nobody waits for them.
#![expect(unsafe_code, reason = "callbacks, and a thread")]

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;

use super::NET;
use super::cover::PAGE;
use crate::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE,
    mmu_notifier_event::{self, MMU_NOTIFY_CLEAR as CLEAR, MMU_NOTIFY_UNMAP as UNMAP},
    mmu_notifier_range,
};
use crate::live::queue::{Event, Queue};
use crate::mm::WATCHED;
use crate::mm::calls::{self, Call};
use crate::sync::{self, AtomicPtr, AtomicU32, Ordering};

/// Events that may wait.
const ROOM: usize = 1024;

/// Made once, kept for ever.
static QUEUE: AtomicPtr<Queue> = AtomicPtr::new(ptr::null_mut());
static RUNS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Is this thread telling of a change that it is too late for?
    static LATE: Cell<bool> = const { Cell::new(false) };
}

/// Inside a callback: has the change been made already?
pub(in crate::live) fn is_late() -> bool {
    LATE.get()
}

/// What the thread is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Unmapped(u64, u64),
    Dropped(u64, u64),
    /// The net was carried along to this place, which nobody may watch.
    Stray(u64, u64),
    /// Some were not put: anything may be gone.
    Everything,
}

impl Told {
    const UNMAPPED: u64 = 0;
    const DROPPED: u64 = 1;
    const STRAY: u64 = 2;
    const EVERYTHING: u64 = 3;

    /// Puts it into the queue. False: there is no room. Never sleeps.
    pub(super) fn put(self, queue: &Queue) -> bool {
        let (cookie, start, end) = match self {
            Self::Unmapped(start, end) => (Self::UNMAPPED, start, end),
            Self::Dropped(start, end) => (Self::DROPPED, start, end),
            Self::Stray(start, end) => (Self::STRAY, start, end),
            Self::Everything => (Self::EVERYTHING, 0, 0),
        };
        queue.push(Event {
            cookie,
            start,
            end,
            event: 0,
        })
    }

    fn of(event: &Event) -> Self {
        let (start, end) = (event.start, event.end);
        match event.cookie {
            Self::UNMAPPED => Self::Unmapped(start, end),
            Self::DROPPED => Self::Dropped(start, end),
            Self::STRAY => Self::Stray(start, end),
            _ => Self::Everything,
        }
    }

    fn tell(self) {
        match self {
            Self::Unmapped(start, end) => pair(UNMAP, start, end),
            Self::Dropped(start, end) => pair(CLEAR, start, end),
            Self::Stray(start, end) => NET.removed(start, end - 1),
            Self::Everything => {
                if let Some((first, last)) = WATCHED.hull() {
                    let end = (last / PAGE * PAGE).saturating_add(PAGE) / PAGE * PAGE;
                    pair(UNMAP, first / PAGE * PAGE, end);
                }
            }
        }
    }
}

/// Tells whoever watches a part of the range.
fn pair(event: mmu_notifier_event, start: u64, end: u64) {
    let ranges = [mmu_notifier_range {
        mm: calls::own_mm(),
        start,
        end,
        flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
        event: event.into(),
        owner: ptr::null_mut(),
    }];
    let section = Call::enter(0);
    // Asked inside: after `disable` has waited for sections, nothing is told.
    if !WATCHED.is_enabled() || !section.is_watched(start, end) {
        return section.leave();
    }
    LATE.set(true);
    // SAFETY: Subscribers keep the contract.
    if let Some(pair) = unsafe { section.announce(|| &ranges) } {
        // SAFETY: As above.
        unsafe { pair.end() };
    }
    LATE.set(false);
}

fn queue() -> Option<&'static Queue> {
    // ORDERING: Acquire pairs with the Release in `start`.
    let queue = QUEUE.load(Ordering::Acquire);
    // SAFETY: NULL, or leaked.
    unsafe { queue.as_ref() }
}

/// Starts the thread, if it does not run. Allocates: no lock is held.
pub(super) fn start() -> Option<&'static Queue> {
    if queue().is_none() {
        let fresh = Box::into_raw(Box::new(Queue::new(ROOM).ok()?));
        // ORDERING: Release pairs with the Acquire in `queue`; Relaxed: it is loaded again there.
        let known =
            QUEUE.compare_exchange(ptr::null_mut(), fresh, Ordering::Release, Ordering::Relaxed);
        if known.is_err() {
            // SAFETY: Ours, and not published.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
    // ORDERING: Relaxed, both: who has set it starts the thread, or says that it could not.
    if RUNS.swap(1, Ordering::Relaxed) == 0 {
        // SAFETY: The entry point takes nothing.
        let thread = unsafe { sync::start(main, ptr::null_mut()) };
        if thread.is_none() {
            RUNS.store(0, Ordering::Relaxed);
            return None;
        }
    }
    queue()
}

/// In the child of a fork: there is no thread, and its queue may be half-way through a change.
pub(super) fn forget() {
    // ORDERING: Relaxed, both: there is one thread.
    QUEUE.store(ptr::null_mut(), Ordering::Relaxed);
    RUNS.store(0, Ordering::Relaxed);
}

extern "C" fn main(_: *mut c_void) -> *mut c_void {
    // SAFETY: A static, NUL-terminated name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"mmu_late".as_ptr()) };
    while let Some(event) = queue().and_then(|queue| queue.wait(None)) {
        Told::of(&event).tell();
    }
    ptr::null_mut()
}
