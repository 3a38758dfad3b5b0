//! Grace periods for readers that may sleep (floor 2).
//!
//! Owns: the domains that a process has once ([`Srcu`]: walks, system calls, the process's RCU); drivers' own domains
//! ([`srcu_struct`]); and the worker that runs callbacks after a grace period.
//!
//! A domain that a process has once. Time is a number, `now`, which every grace period raises. A reader notes the number in its thread's
//! record when it enters, and 0 when it leaves; nested sections change nothing. A grace period takes the number as its ticket,
//! raises it, and waits until no record holds a number from 1 to the ticket. So it waits for exactly the readers that were
//! inside when it began (DV-6). A reader stores two words and fences nothing; the grace period pays with one heavy fence.
//!
//! Memory order
//! * Entry against update: a reader notes the number, light fence, reads links. A grace period follows an unlink: raise `now`,
//!   heavy fence, read the records. Either it sees the note and waits, or the reader sees the unlink.
//! * A note that is younger than the ticket was read from `now` after it was raised (Acquire against the SeqCst increment), so
//!   that reader sees the unlink, too.
//! * MO-5: a record's words are stored with Release and scanned with Acquire: what a reader did comes before the end of the
//!   grace period that waited for it. An entry is a Release as well: a scan that meets the thread's next section must still
//!   see what the one before it did.
//! * Exit against sleep: a reader stores 0, light fence, reads `awaited`. A sleeper stores `awaited`, heavy fence, reads the
//!   word again. Either it sees 0, or the reader sees that it is awaited, and wakes. It looks again until it meets no reader
//!   whom it has not told.
//! * One heavy fence serves all grace periods that began before it: `fenced` is the youngest of them (Release, read with
//!   Acquire); `over` saves a scan likewise.
//!
//! A thread that leaves a section open and ends keeps grace periods waiting for ever, as in the kernel. Not so the sections of
//! system calls, which a thread cannot help leaving open when it is cancelled: who waits for them looks from time to time who is
//! dead.
//!
//! Lock order: the lock of a driver's domain, then the worker's, then that of an [`Srcu`]'s sleepers, then that of its fences.

mod domain;
mod generations;
mod worker;

use core::hint::spin_loop;

pub use domain::srcu_struct;
pub use worker::{Worker, WorkerOps};

use crate::sync::{
    AtomicU64, Deadline, Lock, LockGuard, Ordering, WaitQueue, fence,
    hook::WaitReason::MMU_NOTIFIER_WAIT_GRACE_PERIOD as GRACE_PERIOD,
};
use crate::thread::{self, Record, Section, WALKS};

/// The kind of system calls between their look and their change.
pub const SYSTEM_CALLS: usize = 1;
/// The kind of system calls inside a pair of events.
pub const PAIRS: usize = 2;
/// The kind of the process's RCU domain.
pub const RCU: usize = 3;

/// How often a thread looks at readers that are still inside before it has them wake it, which costs them a lock and it another
/// heavy fence: a few microseconds. To a model, looking again is nothing but more executions.
const LOOKS: u32 = if cfg!(loom) { 0 } else { 200 };

/// Milliseconds after which who waits for system calls looks whether their threads still live.
const LOOK_FOR_DEAD: u32 = 100;

/// A domain whose readers are known by their thread's record, so that a process can have but one of each `KIND`: [`WALKS`] is
/// that of walks, [`RCU`] the process's, the others are for the process's own system calls (`mm::calls`).
#[derive(Debug)]
pub struct Srcu<const KIND: usize = WALKS> {
    /// The number that readers who come now note. Never 0.
    now: AtomicU64,
    /// Grace periods up to this one have had their heavy fence.
    fenced: AtomicU64,
    /// Grace periods up to this one are over.
    over: AtomicU64,
    /// One fence at a time: those who come meanwhile find theirs done.
    fencing: Lock<()>,
    /// Held by who is about to sleep, and by who wakes.
    sleeping: Lock<()>,
    drained: WaitQueue,
}

/// Names the end of a grace period: no reader of this number or an older one is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Was a section the outermost one of its thread?
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Outermost(bool);

impl Outermost {
    /// It was.
    pub const YES: Self = Self(true);
}

impl<const KIND: usize> Default for Srcu<KIND> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const KIND: usize> Srcu<KIND> {
    /// A domain without readers.
    pub const fn new() -> Self {
        Self {
            now: AtomicU64::new(1),
            fenced: AtomicU64::new(0),
            over: AtomicU64::new(0),
            fencing: Lock::new(()),
            sleeping: Lock::new(()),
            drained: WaitQueue::new(),
        }
    }

    /// Enters a read section of the calling `thread`. The section may sleep and may nest. The result goes to
    /// [`Srcu::read_unlock`].
    #[inline(always)]
    pub fn read_lock(&self, thread: &Record) -> Outermost {
        if self.is_inside(thread) {
            return Outermost(false);
        }
        self.read_lock_outermost(thread);
        Outermost::YES
    }

    /// As [`Srcu::read_lock`], of a thread that is in no section of this domain: [`Outermost::YES`] goes to [`Srcu::read_unlock`].
    #[inline(always)]
    pub fn read_lock_outermost(&self, thread: &Record) {
        // ORDERING: Acquire pairs with the increment in `begin`.
        let now = self.now.load(Ordering::Acquire);
        // ORDERING: Release pairs with the Acquire in `readers_up_to`.
        thread.section(KIND).number.store(now, Ordering::Release);
        // Its partner is the heavy fence in `fence_for`.
        fence::light();
    }

    /// Leaves a read section of the calling `thread`. Says whether somebody waited for that.
    #[inline(always)]
    pub fn read_unlock(&self, thread: &Record, section: Outermost) -> bool {
        if !section.0 {
            return false;
        }
        // ORDERING: Release pairs with the Acquire in `readers_up_to`.
        thread.section(KIND).number.store(0, Ordering::Release);
        // Its partner is the heavy fence in `watch`.
        fence::light();
        // ORDERING: Relaxed: ordered by the fence.
        let awaited = thread.section(KIND).awaited.load(Ordering::Relaxed) != 0;
        if awaited {
            self.wake(thread);
        }
        awaited
    }

    /// As [`Srcu::read_unlock`], in a child after fork, where nobody waits.
    pub fn abandon(&self, thread: &Record, section: Outermost) {
        if section.0 {
            // ORDERING: Relaxed, both: there is one thread.
            thread.section(KIND).number.store(0, Ordering::Relaxed);
            thread.section(KIND).awaited.store(0, Ordering::Relaxed);
        }
    }

    /// Where the number of the present grace period is, for machine code that enters sections.
    pub const NOW: usize = core::mem::offset_of!(Self, now);

    /// Is `thread`, the calling one, in a section of this domain?
    #[inline]
    pub fn is_inside(&self, thread: &Record) -> bool {
        // ORDERING: Relaxed: the thread's own.
        thread.section(KIND).number.load(Ordering::Relaxed) != 0
    }

    /// Is `thread`, the calling one, in no section of this domain, and in no frame?
    #[inline(always)]
    pub fn is_at_rest(&self, thread: &Record) -> bool {
        thread.is_at_rest(KIND)
    }

    /// Does somebody wait for a section of `thread`, the calling one?
    #[inline]
    pub fn is_awaited(&self, thread: &Record) -> bool {
        // ORDERING: Relaxed: the thread's own, or ordered by who stored it.
        thread.section(KIND).awaited.load(Ordering::Relaxed) != 0
    }

    /// The second half of a section that machine code has left: somebody waited for that.
    pub fn wake_after(&self, thread: &Record) {
        self.wake(thread);
    }

    /// As [`Srcu::read_lock`], for who keeps no result: the thread's record counts those inside of others.
    ///
    /// The first two by constants: a processor that has guessed the branch need not wait for the word that it has just stored.
    #[inline(always)]
    pub fn read_lock_counted(&self, thread: &Record) {
        if self.read_lock(thread).0 {
            return;
        }
        let section = thread.section(KIND);
        // ORDERING: Relaxed, here and below: the thread's own.
        match section.depth.load(Ordering::Relaxed) {
            0 => section.depth.store(1, Ordering::Relaxed),
            depth => section
                .depth
                .store(depth.wrapping_add(1), Ordering::Relaxed),
        }
    }

    /// Leaves a section that [`Srcu::read_lock_counted`] entered. Says whether somebody waited for that; None if there is none.
    #[inline(always)]
    pub fn read_unlock_counted(&self, thread: &Record) -> Option<bool> {
        let section = thread.section(KIND);
        // ORDERING: Relaxed, here and below: the thread's own.
        match section.depth.load(Ordering::Relaxed) {
            0 if !self.is_inside(thread) => return None,
            0 => return Some(self.read_unlock(thread, Outermost(true))),
            1 => section.depth.store(0, Ordering::Relaxed),
            depth => section
                .depth
                .store(depth.wrapping_sub(1), Ordering::Relaxed),
        }
        Some(false)
    }

    #[cold]
    fn wake(&self, thread: &Record) {
        let sleeping = self.sleeping.lock();
        // ORDERING: Relaxed: under the lock.
        thread.section(KIND).awaited.store(0, Ordering::Relaxed);
        self.drained.wake_all(sleeping, GRACE_PERIOD);
    }

    /// Begins a grace period. Never sleeps.
    pub fn begin(&self) -> Ticket {
        // ORDERING: SeqCst pairs with the Acquires in `read_lock` and `fence_for`: who sees the new number sees what the caller
        // stored before.
        Ticket(self.now.fetch_add(1, Ordering::SeqCst))
    }

    /// Is the grace period `ticket` over?
    pub fn is_over(&self, ticket: Ticket) -> bool {
        self.is_over_within(ticket, 0)
    }

    /// Is it over after so many `looks` at readers that are still inside?
    fn is_over_within(&self, ticket: Ticket, mut looks: u32) -> bool {
        // ORDERING: Acquire pairs with the Release below.
        if self.over.load(Ordering::Acquire) >= ticket.0 {
            return true;
        }
        self.fence_for(ticket);
        for reader in readers_up_to(KIND, ticket) {
            while reader.is_inside_since(ticket) {
                if looks == 0 {
                    return false;
                }
                looks -= 1;
                spin_loop();
            }
        }
        // ORDERING: Release pairs with the Acquire above. It may go back, as another thread's grace period that was over before is
        // over, too.
        self.over.store(ticket.0, Ordering::Release);
        true
    }

    /// Sleeps until the grace period `ticket` is over.
    pub fn wait(&self, ticket: Ticket) {
        if self.is_over_within(ticket, LOOKS) {
            return;
        }
        let mut sleeping = self.sleeping.lock();
        while !self.watch(ticket) {
            sleeping = self.sleep(sleeping);
        }
    }

    fn sleep<'a>(&self, sleeping: LockGuard<'a, ()>) -> LockGuard<'a, ()> {
        if KIND != SYSTEM_CALLS {
            return self.drained.wait(sleeping, GRACE_PERIOD);
        }
        let soon = Deadline::after(LOOK_FOR_DEAD);
        let (sleeping, late) = self.drained.wait_until(sleeping, GRACE_PERIOD, &soon);
        if late {
            thread::close_sections_of_the_dead(KIND);
        }
        sleeping
    }

    /// Is the grace period over? If not, the next of its readers that leaves will say that it was waited for.
    pub fn is_over_or_watched(&self, ticket: Ticket) -> bool {
        let sleeping = self.sleeping.lock();
        let over = self.watch(ticket);
        drop(sleeping);
        over
    }

    /// Has the readers that `ticket` waits for tell when they leave. Says whether there are none. The lock is held.
    ///
    /// A thread may have taken its number long before it notes it, so a scan can meet a reader that the one before it could not
    /// see. Hence the last scan is one that meets nobody who was not told before a heavy fence.
    fn watch(&self, ticket: Ticket) -> bool {
        self.fence_for(ticket);
        loop {
            let (mut any, mut untold) = (false, false);
            for reader in readers_up_to(KIND, ticket) {
                any = true;
                // ORDERING: Relaxed: under the lock, but for a thread that has just got its record, whose section orders it.
                untold |= reader.awaited.load(Ordering::Relaxed) == 0;
                // ORDERING: Relaxed: ordered by the fence below.
                reader.awaited.store(1, Ordering::Relaxed);
            }
            if !untold {
                return !any;
            }
            // Its partner is the light fence in `read_unlock`.
            fence::heavy();
        }
    }

    /// Orders the scan for `ticket` behind a heavy fence that came after it began.
    fn fence_for(&self, ticket: Ticket) {
        // ORDERING: SeqCst: the partner of the fence in `thread`'s `attach`: a thread that has no record yet sees the unlink.
        fence::fence(Ordering::SeqCst);
        if !thread::others_may_be_attached() {
            return;
        }
        // ORDERING: Acquire pairs with the Release below.
        let done = || self.fenced.load(Ordering::Acquire) >= ticket.0;
        if done() {
            return;
        }
        let _one_at_a_time = self.fencing.lock();
        if !done() {
            // ORDERING: SeqCst pairs with the increment in `begin`.
            let begun = self.now.load(Ordering::SeqCst) - 1;
            fence::heavy();
            // ORDERING: Release pairs with the Acquire above: the fence comes before others' scans.
            self.fenced.store(begun, Ordering::Release);
        }
    }

    /// Waits for all readers that are inside now.
    // SPEC: DV-6 MO-5
    pub fn synchronize(&self) {
        let ticket = self.begin();
        self.wait(ticket);
    }

    /// Before fork: no fence is half-way. The lock of who sleeps is not held: fork takes malloc's locks next, and a thread that holds
    /// one of those may leave an awaited section inside free(), which takes that lock.
    pub fn hold_for_fork(&self) {
        self.fencing.acquire();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    #[expect(unsafe_code, reason = "hands over a held lock")]
    pub unsafe fn release_in_parent(&self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.fencing.release() };
    }

    /// After fork, in the child: as in the parent, but nobody sleeps. Which readers are left, the threads' records say.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`; the child has one thread.
    // SPEC: DV-13
    #[expect(
        unsafe_code,
        reason = "hands over a held lock, and makes another one anew"
    )]
    pub unsafe fn release_in_child(&self) {
        self.drained.forget_sleepers();
        // SAFETY: One thread, which is in none of this domain's functions.
        unsafe { self.sleeping.renew_in_child() };
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.release_in_parent() };
    }
}

/// Threads in a section that began under `ticket` or earlier.
fn readers_up_to(kind: usize, ticket: Ticket) -> impl Iterator<Item = &'static Section> {
    // Mostly nobody is in a section: one branch for many threads, whose records the processor loads side by side.
    let threads = thread::attached().chunks(8).filter(move |threads| {
        let numbers = threads.iter().map(|thread| &thread.section(kind).number);
        // ORDERING: Acquire: as below.
        cfg!(loom) || numbers.fold(0, |any, number| any | number.load(Ordering::Acquire)) != 0
    });
    let sections = threads.flatten().map(move |thread| thread.section(kind));
    sections.filter(move |section| section.is_inside_since(ticket))
}

impl Section {
    /// Is it open, and began under `ticket` or earlier?
    fn is_inside_since(&self, ticket: Ticket) -> bool {
        // ORDERING: Acquire pairs with the Releases in `read_lock` and `read_unlock`.
        let number = self.number.load(Ordering::Acquire);
        number != 0 && number <= ticket.0
    }
}

#[cfg(test)]
mod tests;
