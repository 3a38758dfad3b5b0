//! The process's own system calls, as far as who subscribes has to wait for them (DV-2).
//!
//! A system call that changes the address space looks who watches what it changes, and then makes the change: with a pair of
//! events round it, or, if nobody watches, without. Somebody may subscribe between the look and the change, map the pages
//! that are about to go, and never be told. Hence look and change are one read section, and whoever subscribes to the
//! process's own mm publishes first, then waits until every call that may have looked before is over.
//!
//! The look is for whoever watches now, so it may be narrow. What a pair announces is looked for once more, all of it, after the pair
//! was counted in: an insert that came before the count is in the index when that look begins, and so is what it watches mapped; one
//! that comes after makes its readers wait for the pair's end. Were the first look's answer announced, an insert between the two
//! into a part that nobody watched, or into a mapping of a file that was not there, would not be told, nor wait.
//!
//! Two kinds of sections, so that nobody waits for more than it must, and that a callback may insert:
//! * `CALLS`: from before the look to after the change of a call that nobody watches; or until it is in a pair. No callback runs
//!   inside. An insert waits for these only: a pair is counted, and an insert that meets it makes readers wait for its end.
//! * `PAIRS`: from before the start to after the end of a pair. A registration waits for these too: who was not told of the
//!   start must not be told of the end.
//!
//! A pair remembers the first notifier of the chain. It walks from there at each start and at each end, in one read section of
//! the walks, which keeps that notifier and all that follow. Newer ones are linked before it. So an end reaches who was told of
//! the start, less those that were unlinked since, as in a walk of the kernel. Intervals are counted at each start, since `live`
//! turns them on before it makes its first event; so their end is owed to each pair.
//!
//! A call that meets a busy period which is odd, or just ending, makes a pair in any case: what was inserted meanwhile is deferred,
//! the index does not show it, and its readers wait for the end of the period, which the pair puts off.
//!
//! A call made by a callback, or where a lock of the library is held (a signal handler), makes no pair: see `live`.
//!
//! A call may be left without being over: its thread is cancelled, or a signal handler leaves by longjmp(). The first closes its section
//! when it has ended (`srcu`), the second with its next call (`close_abandoned`). Until then, who subscribes waits.
//!
//! Whoever would wait for itself does not wait, and is counted: the epoch of `live` rises.

use core::ffi::{CStr, c_ulong};

use super::notifiers::{self, warn_only};
use super::registry;
use super::subscriptions::{self, Subscriptions};
use super::walk::Walk;
use super::watched::WATCHED;
use crate::abi::mm::mm_struct;
use crate::abi::notifier::mmu_notifier_range;
use crate::chain::Place;
use crate::dispatch::Range;
use crate::report::Result;
use crate::srcu::{self, Outermost, SYSTEM_CALLS, Srcu};
use crate::sync::{AtomicPtr, AtomicU64, Ordering, fence, words};
use crate::thread::{self, Record};

crate::sync::global! {
    /// Calls between their look and their change.
    pub static CALLS: Srcu<SYSTEM_CALLS> = Srcu::new();
    /// Calls inside a pair of events.
    pub static PAIRS: Srcu<{ srcu::PAIRS }> = Srcu::new();
    /// Registrations and inserts that should have waited, and could not.
    static UNWAITED: AtomicU64 = AtomicU64::new(0);
}

/// What `live` wants to be told of. Nothing of the library is held, but what the caller of a subscription holds.
#[derive(Debug)]
pub struct Observer {
    /// Somebody subscribed to the process's own mm.
    pub subscribed: fn(),
    /// An interval from the first byte to the last was inserted into it.
    pub inserted: fn(c_ulong, c_ulong),
    /// One was removed.
    pub removed: fn(c_ulong, c_ulong),
    /// The change of these ranges, which were announced, is to be made: by the function.
    pub change: fn(&[mmu_notifier_range], &mut dyn FnMut()),
    /// fork() begins. True: it makes its system call by [`super::make_fork`].
    pub fork_begins: fn() -> bool,
    /// fork() has ended, in the parent.
    pub fork_ended: fn(),
    /// fork() has ended, in the child.
    pub fork_ended_in_child: fn(),
}

static OBSERVER: AtomicPtr<Observer> = AtomicPtr::new(core::ptr::null_mut());

/// Has `observer` told from now on.
pub fn observe(observer: &'static Observer) {
    // ORDERING: Release pairs with the Acquire in `tell`.
    OBSERVER.store(core::ptr::from_ref(observer).cast_mut(), Ordering::Release);
}

fn observer() -> Option<&'static Observer> {
    // ORDERING: Acquire pairs with the Release in `observe`.
    let observer = OBSERVER.load(Ordering::Acquire);
    // SAFETY: NULL, or an observer, which lives for ever.
    unsafe { observer.as_ref() }
}

/// Tells the observer, if there is one.
pub(super) fn tell(what: impl FnOnce(&Observer) -> fn()) {
    if let Some(observer) = observer() {
        what(observer)();
    }
}

/// Tells that fork() begins. True: it makes its system call by [`super::make_fork`].
pub(super) fn fork_begins() -> bool {
    observer().is_some_and(|observer| (observer.fork_begins)())
}

/// Tells of an interval of the process's own mm that was inserted or removed, while system calls are events.
pub(super) fn tell_of_interval(
    what: impl FnOnce(&Observer) -> fn(c_ulong, c_ulong),
    start: c_ulong,
    last: c_ulong,
) {
    if let Some(observer) = observer().filter(|_| WATCHED.is_enabled()) {
        what(observer)(start, last);
    }
}

/// Makes a change of the process's own mm that was announced otherwise than by [`Call::announce`].
pub(super) fn make_change(range: &mmu_notifier_range, change: &mut dyn FnMut()) {
    match observer() {
        Some(observer) => (observer.change)(core::slice::from_ref(range), change),
        None => change(),
    }
}

/// The first and the last byte of the interval that begins first, of those of the process's own mm that reach into `[start, last]`.
pub fn first_interval(start: c_ulong, last: c_ulong) -> Option<(c_ulong, c_ulong)> {
    // SAFETY: The process's own mm is always valid.
    let subscriptions = unsafe { subscriptions::of(own_mm()) }?;
    subscriptions.intervals.first_member(start, last)
}

/// The mm whose changes are system calls of this process.
#[cfg(not(loom))]
pub fn own_mm() -> *mut mm_struct {
    registry::process_mm()
}

#[cfg(loom)]
crate::sync::global! {
    /// In a model: the mm that takes the place of the process's own.
    pub static MODEL_MM: AtomicPtr<mm_struct> = AtomicPtr::new(core::ptr::null_mut());
}

/// The mm whose changes are system calls of this process.
#[cfg(loom)]
pub fn own_mm() -> *mut mm_struct {
    let _ = registry::process_mm;
    MODEL_MM.load(Ordering::Relaxed)
}

/// Is `mm` the process's own, which is what `WATCHED` is about?
pub(super) fn is_own(mm: *mut mm_struct) -> bool {
    mm == own_mm()
}

/// Registrations and inserts that did not wait for calls because they were made by one.
pub fn unwaited() -> u64 {
    // ORDERING: Acquire pairs with the Release in `not_waited`.
    UNWAITED.load(Ordering::Acquire)
}

/// The calling thread is in the middle of a call that it would have to wait for. Counted when that call is over, for then only
/// the change has been made.
fn not_waited(thread: &Record) {
    // ORDERING: Relaxed, both: the thread's own. The second has the end of a section look at the first.
    thread.owes_epoch.store(1, Ordering::Relaxed);
    thread
        .section(SYSTEM_CALLS)
        .awaited
        .store(1, Ordering::Relaxed);
}

/// After a change: counts what `not_waited` left.
#[inline]
pub fn settle(thread: &Record) {
    // ORDERING: Relaxed, both: the thread's own.
    if thread.owes_epoch.load(Ordering::Relaxed) != 0 && !PAIRS.is_inside(thread) {
        thread.owes_epoch.store(0, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `unwaited`.
        UNWAITED.fetch_add(1, Ordering::Release);
    }
}

/// Must a subscription to `mm`, which is published, wait for system calls?
fn concerns(mm: *mut mm_struct) -> bool {
    if !is_own(mm) {
        return false;
    }
    // ORDERING: SeqCst: the partner of the fence in `enable`: whoever does not see that events are enabled has published before
    // the first call looks.
    fence::fence(Ordering::SeqCst);
    WATCHED.is_enabled()
}

/// After an insert into `mm`: waits for calls that may have looked before it.
// SPEC: DV-2
pub(super) fn wait_after_insert(mm: *mut mm_struct) {
    if !concerns(mm) {
        return;
    }
    let thread = thread::current();
    if CALLS.is_inside(thread) {
        not_waited(thread);
    } else {
        CALLS.synchronize();
    }
    tell(|observer| observer.subscribed);
}

/// After a registration on `mm`: waits for calls that may have looked before it, and for those that have begun a pair.
// SPEC: DV-2 RG-9
pub(super) fn wait_after_register(mm: *mut mm_struct) {
    if !concerns(mm) {
        return;
    }
    let thread = thread::current();
    if CALLS.is_inside(thread) || PAIRS.is_inside(thread) {
        not_waited(thread);
    } else {
        CALLS.synchronize();
        PAIRS.synchronize();
    }
    tell(|observer| observer.subscribed);
}

/// Before the first [`enable`]: gives the process's own mm its intervals, and has the kernel wipe what a child must not have.
///
/// # Errors
/// ENOMEM.
pub fn prepare() -> Result<()> {
    const FUNCTION: &CStr = c"mmu_notifier_live_enable";
    let mm = own_mm();
    // SAFETY: The process's own mm is always valid.
    unsafe {
        if !subscriptions::of(mm).is_some_and(Subscriptions::has_itree) {
            notifiers::with_mmap_lock(mm, FUNCTION, || notifiers::add_itree(mm, FUNCTION))?;
        }
    }
    WATCHED.wipe_on_fork();
    Ok(())
}

/// Turns events of system calls on. From now on, who subscribes waits.
pub fn enable() {
    WATCHED.enable(true);
    // ORDERING: SeqCst: the partner of the fence in `concerns`.
    fence::fence(Ordering::SeqCst);
}

/// Turns events of system calls off.
pub fn stop() {
    WATCHED.enable(false);
}

/// Are system calls events?
pub fn is_enabled() -> bool {
    WATCHED.is_enabled()
}

/// Waits until no call is in a section or in a pair. The calling thread is not ([`is_inside`]).
pub fn drain() {
    CALLS.synchronize();
    PAIRS.synchronize();
}

/// Is the calling thread in the middle of a call?
pub fn is_inside() -> bool {
    let thread = thread::current();
    CALLS.is_inside(thread) || PAIRS.is_inside(thread)
}

/// The calling thread is about to make a call, with its stack at `stack`. If an earlier one was left half-way, by a signal handler
/// that did not return, its section is open for no good: closes it, if `was_left` says so of the earlier stack.
pub fn close_abandoned(was_left: impl Fn(usize) -> bool) {
    let thread = thread::current();
    let stack = words::call();
    if stack != 0 && CALLS.is_inside(thread) && was_left(stack) {
        let section = Outermost::YES;
        Call { thread, section }.leave();
    }
}

/// A system call between its look and its change.
///
/// Where its stack is, is kept from before the section to after it: so who finds a section open finds its own stack, or 0 if a
/// signal handler made calls just then.
#[derive(Debug)]
pub struct Call {
    thread: &'static Record,
    section: Outermost,
}

impl Call {
    /// Before the look; the thread's stack is at `stack`.
    #[inline]
    pub fn enter(stack: usize) -> Self {
        let thread = thread::current();
        if !CALLS.is_inside(thread) {
            words::set_call(stack);
        }
        let section = CALLS.read_lock(thread);
        Self { thread, section }
    }

    /// Does anybody watch a part of `[start, end)`? If not, the change may be made before [`Call::leave`].
    #[inline]
    pub fn is_watched(&self, start: u64, end: u64) -> bool {
        let last = end.wrapping_sub(1);
        if !WATCHED.may_reach(start, last) {
            return false;
        }
        // SAFETY: The process's own mm is always valid.
        let Some(subscriptions) = (unsafe { subscriptions::of(own_mm()) }) else {
            return false;
        };
        !subscriptions.chain.is_empty() || subscriptions.intervals.may_touch(start, last)
    }

    /// After the change, or without one.
    #[inline]
    pub fn leave(self) {
        if CALLS.read_unlock(self.thread, self.section) {
            settle(self.thread);
        }
        if !CALLS.is_inside(self.thread) {
            words::set_call(0);
        }
    }

    /// As [`Call::leave`], in a child that the call has made: nobody waits there, and no lock is to be touched, for no handler of fork
    /// has run yet, if any will.
    // SPEC: DV-13
    pub fn leave_in_child(self) {
        CALLS.abandon(self.thread, self.section);
    }

    /// Begins a pair for each range that `look` finds, in their order: all that the call changes, watched or not. The call's
    /// section ends before that look: callbacks run outside it.
    ///
    /// # Safety
    /// Subscribers keep the contract. At most 32 ranges, of the process's own mm, blockable.
    pub unsafe fn announce<'a>(
        self,
        look: impl FnOnce() -> &'a [mmu_notifier_range],
    ) -> Option<Pair<'a>> {
        // SAFETY: The process's own mm is always valid.
        let subscriptions = unsafe { subscriptions::of(own_mm()) };
        let pair = subscriptions.map(|subscriptions| Pair::enter(self.thread, subscriptions));
        self.leave();
        let mut pair = pair?;
        pair.ranges = look();
        // SAFETY: The caller's promise.
        unsafe { pair.start() };
        Some(pair)
    }
}

/// A call that has announced what it changes. Ended by [`Pair::end`], once.
#[derive(Debug)]
pub struct Pair<'a> {
    thread: &'static Record,
    section: Outermost,
    subscriptions: &'a Subscriptions,
    ranges: &'a [mmu_notifier_range],
    /// Which of them the intervals count.
    counted: u32,
    walk: Walk<'a>,
    /// Where the walks of all starts and ends begin.
    first: Place,
}

impl<'a> Pair<'a> {
    fn enter(thread: &'static Record, subscriptions: &'a Subscriptions) -> Self {
        let section = PAIRS.read_lock(thread);
        // From here on an insert makes its readers wait for `end`.
        subscriptions.intervals.hold();
        let walk = Walk::enter(subscriptions, own_mm());
        let first = walk.first();
        Self {
            thread,
            section,
            subscriptions,
            ranges: &[],
            counted: 0,
            walk,
            first,
        }
    }

    /// What was announced.
    pub fn ranges(&self) -> &'a [mmu_notifier_range] {
        self.ranges
    }

    // SPEC: HS-1 HS-7 HS-9
    unsafe fn start(&mut self) {
        for (index, range) in self.ranges.iter().enumerate() {
            // SAFETY: Valid as long as the pair.
            let range = unsafe { Range::new(range) };
            // SAFETY: The caller's promise.
            let result = unsafe { self.subscriptions.intervals.start(range) };
            let counted = result.is_ok();
            warn_only(result.map_err(Into::into));
            self.counted |= u32::from(counted) << index;
            if self.walk.invalidate_start_from(self.first, &range, counted) != 0 {
                // A blockable start that fails is told its end at once, and once more in `end`.
                self.walk.invalidate_end_from(self.first, &range, counted);
            }
        }
    }

    /// Ends the pairs, the last one first.
    ///
    /// # Safety
    /// As for `announce`.
    // SPEC: RE-1
    pub unsafe fn end(self) {
        for (index, range) in self.ranges.iter().enumerate().rev() {
            if self.counted >> index & 1 != 0 {
                self.subscriptions.intervals.end_own();
            }
            // SAFETY: Valid as long as the pair.
            let range = unsafe { Range::new(range) };
            self.walk.invalidate_end_from(self.first, &range, false);
        }
        self.subscriptions.intervals.end_own();
        drop(self.walk);
        PAIRS.read_unlock(self.thread, self.section);
        settle(self.thread);
    }

    /// As [`Pair::forget`], in a child that the call itself has made, without handlers of fork: touches nothing but the thread's own.
    // SPEC: DV-13
    pub fn leave_in_child(self) {
        PAIRS.abandon(self.thread, self.section);
        self.walk.abandon();
    }

    /// In a child after fork, which has no subscribers: ends what this thread is in, and tells nobody.
    // SPEC: DV-13
    pub fn forget(self) {
        for index in 0..self.ranges.len() {
            if self.counted >> index & 1 != 0 {
                self.subscriptions.intervals.end_own();
            }
        }
        self.subscriptions.intervals.end_own();
        drop(self.walk);
        PAIRS.read_unlock(self.thread, self.section);
    }
}
