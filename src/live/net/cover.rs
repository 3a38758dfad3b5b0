//! Which of watched memory the net is on: the protocol between who subscribes and calls that are announced (`net` has the rest).
//!
//! What intervals watch is armed: who changes it is noticed. A call that is announced must not be noticed as well. So what it
//! changes is disarmed from the start of its pair to the change, and what is still watched there is armed again before the end of
//! the pair. Meanwhile the net sees nothing of it, and need not: its subscribers were told, and trust nothing of it before the end.
//!
//! Who watches is asked of the intervals themselves (`mm::calls::first_interval`): so nothing here can disagree with them.
//!
//! Invariants
//! * Outside of open windows, what is watched is armed; between the publication of an interval and the return of its insert
//!   perhaps not yet. What nobody watches may be armed, for a while: that is noticed for nothing, and harmless.
//! * Inside an open window nothing is armed. Who closes the window arms what is watched then, so also what was inserted
//!   meanwhile; what lies in another open window is left to that.
//! * Windows lie on the stacks of the calls that opened them. Nothing is allocated, and nobody is called, but the kernel.
//!
//! Lock order: the lock is taken before that of the intervals, by calls in the middle of malloc, too. fork does not hold it: the
//! child begins anew.
#![expect(unsafe_code, reason = "a list through the stacks of its members")]

use core::cell::Cell;
use core::{iter, ptr};

use crate::abi::notifier::{
    mmu_notifier_event::{MMU_NOTIFY_CLEAR as CLEAR, MMU_NOTIFY_UNMAP as UNMAP},
    mmu_notifier_range,
};
use crate::mm::calls;
use crate::sync::{Lock, pages};

/// Bytes of a page.
pub(super) const PAGE: u64 = pages::PAGE as u64;

/// Has memory noticed. Both are given whole pages of `[start, end)`, mapped or not, and may find it done already.
pub trait Kernel {
    /// From now on, changes are noticed.
    fn arm(&self, start: u64, end: u64);
    /// From now on they are not.
    fn disarm(&self, start: u64, end: u64);
}

/// An announced call.
#[derive(Debug)]
struct Window {
    ranges: *const [mmu_notifier_range],
    next: Cell<*const Window>,
}

impl Window {
    /// What may be noticed.
    fn ranges(&self) -> impl Iterator<Item = &mmu_notifier_range> {
        // SAFETY: Ranges outlive the call that announced them.
        unsafe { &*self.ranges }
            .iter()
            .filter(|range| counts(range))
    }
}

#[derive(Debug)]
struct State<K> {
    /// None: there is no net.
    kernel: Option<K>,
    /// The windows that are open.
    windows: *const Window,
}

/// The net's place.
#[derive(Debug)]
pub struct Cover<K>(Lock<State<K>>);

/// May a change of the range be noticed at all? Changes of protection and fork are not.
fn counts(range: &mmu_notifier_range) -> bool {
    range.event == UNMAP.into() || range.event == CLEAR.into()
}

/// Visits the parts of the pages in `[start, end)` that somebody watches, each as long as can be, in order.
fn each_watched(start: u64, end: u64, mut visit: impl FnMut(u64, u64)) {
    let mut known: Option<(u64, u64)> = None;
    let mut at = start;
    while at < end {
        let Some((first, last)) = calls::first_interval(at, end - 1) else {
            break;
        };
        let from = (first / PAGE * PAGE).max(at);
        let to = (last / PAGE * PAGE).saturating_add(PAGE).min(end);
        known = match known {
            Some((begun, reached)) if reached == from => Some((begun, to)),
            _ => {
                known.into_iter().for_each(|(from, to)| visit(from, to));
                Some((from, to))
            }
        };
        at = to;
    }
    known.into_iter().for_each(|(from, to)| visit(from, to));
}

/// Visits the other parts.
fn each_unwatched(start: u64, end: u64, mut visit: impl FnMut(u64, u64)) {
    let mut at = start;
    each_watched(start, end, |from, to| {
        if from > at {
            visit(at, from);
        }
        at = to;
    });
    if end > at {
        visit(at, end);
    }
}

/// The pages that an interval touches, as `[start, end)`. The last page of all is nobody's.
fn pages(start: u64, last: u64) -> (u64, u64) {
    let end = (last / PAGE * PAGE).saturating_add(PAGE);
    (start / PAGE * PAGE, end / PAGE * PAGE)
}

impl<K: Kernel> State<K> {
    /// Arms what is watched of `[start, end)` and lies in no window.
    fn arm_watched(&self, start: u64, end: u64) {
        if let Some(kernel) = &self.kernel {
            each_watched(start, end, |from, to| self.arm_outside(kernel, from, to));
        }
    }

    fn arm_outside(&self, kernel: &K, start: u64, end: u64) {
        let mut at = start;
        while at < end {
            let (from, to) = self.first_open(at, end).unwrap_or((end, end));
            if from > at {
                kernel.arm(at, from);
            }
            at = to;
        }
    }

    /// The windows that are open.
    fn open(&self) -> impl Iterator<Item = &Window> {
        // SAFETY: A window is on the list only while its call is inside `change`. The lock is held.
        let at = |window: *const Window| unsafe { window.as_ref() };
        iter::successors(at(self.windows), move |window| at(window.next.get()))
    }

    /// The first part of `[start, end)` that lies in an open window.
    fn first_open(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let ranges = self.open().flat_map(Window::ranges);
        let clipped = ranges.map(|range| (range.start.max(start), range.end.min(end)));
        clipped.filter(|(from, to)| from < to).min()
    }

    fn link(&mut self, window: &Window) {
        window.next.set(self.windows);
        self.windows = window;
    }

    fn unlink(&mut self, window: &Window) {
        let mut others = self.open();
        if let Some(before) = others.find(|other| ptr::eq(other.next.get(), window)) {
            before.next.set(window.next.get());
            return;
        }
        drop(others);
        self.windows = window.next.get();
    }
}

impl<K: Kernel> Default for Cover<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kernel> Cover<K> {
    /// No net.
    pub const fn new() -> Self {
        Self(Lock::new(State {
            kernel: None,
            windows: ptr::null(),
        }))
    }

    /// Spreads the net: over what is watched, and from now on over what will be. There is none yet.
    pub fn begin(&self, kernel: K) {
        let mut state = self.0.lock();
        state.kernel = Some(kernel);
        state.arm_watched(0, u64::MAX / PAGE * PAGE);
    }

    /// Takes the net away.
    pub fn end(&self) -> Option<K> {
        let mut state = self.0.lock();
        let kernel = state.kernel.take()?;
        each_watched(0, u64::MAX / PAGE * PAGE, |from, to| {
            kernel.disarm(from, to);
        });
        Some(kernel)
    }

    /// An interval was inserted: it is published.
    pub fn inserted(&self, start: u64, last: u64) {
        let (start, end) = pages(start, last);
        self.mapped(start, end);
    }

    /// There may be new memory in `[start, end)`, whole pages.
    pub fn mapped(&self, start: u64, end: u64) {
        self.0.lock().arm_watched(start, end);
    }

    /// An interval was removed: it is not found any more.
    pub fn removed(&self, start: u64, last: u64) {
        let (start, end) = pages(start, last);
        let state = self.0.lock();
        if let Some(kernel) = &state.kernel {
            each_unwatched(start, end, |from, to| kernel.disarm(from, to));
        }
    }

    /// Runs `change`, which changes `ranges` as was announced.
    pub fn change(&self, ranges: &[mmu_notifier_range], change: impl FnOnce()) {
        if !ranges.iter().any(counts) {
            return change();
        }
        let window = Window {
            ranges,
            next: Cell::new(ptr::null()),
        };
        let mut state = self.0.lock();
        state.link(&window);
        if let Some(kernel) = &state.kernel {
            for range in window.ranges() {
                each_watched(range.start, range.end, |from, to| kernel.disarm(from, to));
            }
        }
        drop(state);
        change();
        let mut state = self.0.lock();
        state.unlink(&window);
        for range in window.ranges() {
            state.arm_watched(range.start, range.end);
        }
    }

    /// In the child of a fork: there is no net, and no call of another thread.
    ///
    /// # Safety
    /// No other thread runs, and this one is not inside `change`.
    #[cfg(not(loom))]
    pub unsafe fn begin_anew(&self) -> Option<K> {
        // SAFETY: The caller's promise.
        unsafe { self.0.seize() };
        // SAFETY: Held.
        let state = unsafe { self.0.data() };
        state.windows = ptr::null();
        let kernel = state.kernel.take();
        // SAFETY: As above.
        unsafe { self.0.release() };
        kernel
    }
}
