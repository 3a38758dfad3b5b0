//! Ranges: what changes, the time between its start and its end, and what callbacks see of it (SPEC 3.1 to 3.3).

use core::ffi::c_uint;
use core::fmt;
use core::ptr;

use super::callbacks::events;
use super::space::warn;
use super::{AddressSpace, Error, Hold, Kind, Result, at};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{MMU_NOTIFIER_RANGE_BLOCKABLE, event_t, mmu_notifier_range};
use crate::mm::{self as core_mm, Started};

/// Why a range changes: a number of the contract (SPEC 1.5). Others may come from elsewhere.
///
/// ```
/// use mmu_notifier::api::Event;
/// assert_eq!(format!("{:?}", Event::MIGRATE), "MIGRATE");
/// assert_eq!(Event(6), Event::MIGRATE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event(pub u32);

impl Event {
    /// The range is unmapped: munmap, the old range of mremap, exit.
    pub const UNMAP: Self = Self(0);
    /// Page table entries are removed or replaced for any other reason.
    pub const CLEAR: Self = Self(1);
    /// Permissions change for the whole range, as mprotect does.
    pub const PROTECTION_VMA: Self = Self(2);
    /// Permissions change page by page.
    pub const PROTECTION_PAGE: Self = Self(3);
    /// Soft-dirty tracking starts over.
    pub const SOFT_DIRTY: Self = Self(4);
    /// The address space ends; made by the library, for interval notifiers only (RL-1).
    pub const RELEASE: Self = Self(5);
    /// Pages migrate to or from device memory; the owner tells whose.
    pub const MIGRATE: Self = Self(6);
    /// Pages become exclusive to a device; the owner tells whose.
    pub const EXCLUSIVE: Self = Self(7);

    /// The names of the events, by number.
    pub const NAMES: [&'static str; 8] = [
        "UNMAP",
        "CLEAR",
        "PROTECTION_VMA",
        "PROTECTION_PAGE",
        "SOFT_DIRTY",
        "RELEASE",
        "MIGRATE",
        "EXCLUSIVE",
    ];
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "Event({})", self.0),
        }
    }
}

/// A change that is to be announced.
///
/// ```
/// use mmu_notifier::api::{Change, Event};
/// let change = Change::new(0x1000..0x3000, Event::MIGRATE).owner(7);
/// assert_eq!((change.start, change.end, change.owner), (0x1000, 0x3000, 7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// First byte. No alignment is needed.
    pub start: u64,
    /// One past the last byte. What an end that is not above the start means is in RS-9.
    pub end: u64,
    /// Why.
    pub event: Event,
    /// Who makes the change, for MIGRATE and EXCLUSIVE: any number that the owner recognises.
    pub owner: usize,
}

impl Change {
    /// A change of `bytes`, without an owner.
    pub const fn new(bytes: core::ops::Range<u64>, event: Event) -> Self {
        Self {
            start: bytes.start,
            end: bytes.end,
            event,
            owner: 0,
        }
    }

    /// The same, with an owner.
    #[must_use]
    pub const fn owner(mut self, owner: usize) -> Self {
        self.owner = owner;
        self
    }

    fn announce(&self, mm: *mut mm_struct, flags: c_uint) -> mmu_notifier_range {
        mmu_notifier_range {
            mm,
            start: self.start,
            end: self.end,
            flags,
            event: event_t(self.event.0),
            owner: ptr::without_provenance_mut(self.owner),
        }
    }
}

/// A change as callbacks see it, valid while they run. The module's example has one.
#[derive(Clone, Copy)]
pub struct Range<'a>(&'a mmu_notifier_range);

impl<'a> Range<'a> {
    /// A range of a producer.
    ///
    /// # Safety
    /// `range` is valid, and its mm too, as long as the result is used.
    pub(super) unsafe fn from_raw(range: *const mmu_notifier_range) -> Self {
        // SAFETY: The caller's promise.
        Self(unsafe { &*range })
    }

    /// The address space.
    pub fn mm(&self) -> &'a AddressSpace {
        // SAFETY: As of the range.
        unsafe { AddressSpace::from_raw(self.0.mm) }
    }

    /// First byte.
    pub fn start(&self) -> u64 {
        self.0.start
    }

    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.0.end
    }

    /// Why.
    pub fn event(&self) -> Event {
        Event(self.0.event.0)
    }

    /// May the callback sleep? If not it may refuse.
    pub fn is_blockable(&self) -> bool {
        self.0.flags & MMU_NOTIFIER_RANGE_BLOCKABLE != 0
    }

    /// Who makes the change; means something for MIGRATE and EXCLUSIVE only.
    pub fn owner(&self) -> usize {
        self.0.owner.addr()
    }
}

impl fmt::Debug for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} [{:#x}, {:#x})",
            self.event(),
            self.start(),
            self.end()
        )
    }
}

/// A range between its start and its end: subscribers have dropped what they had of it, and readers of it wait. Ends when dropped,
/// on any thread.
///
/// ```
/// use mmu_notifier::api::{Change, Event, Invalidation, Mm};
/// let mm = Mm::new()?;
/// let change = Change::new(0x1000..0x2000, Event::CLEAR);
/// // One that borrows, and one that keeps the address space by itself.
/// let borrowed = mm.invalidate_range_start(change)?;
/// let kept = Invalidation::start(mm.grab(), change)?;
/// std::thread::spawn(move || kept.end()).join().unwrap();
/// borrowed.end();
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
#[must_use = "the range ends when this is dropped"]
pub struct Invalidation<M: Hold> {
    range: mmu_notifier_range,
    /// Does the address space count it among its intervals? Without a lock of DV-2 that may be otherwise at the end.
    counted: bool,
    _mm: M,
}

// SAFETY: A range may end on another thread than it started on (its pointers are the mm, which `M` keeps, and a number).
unsafe impl<M: Hold + Send> Send for Invalidation<M> {}
// SAFETY: Shared, it can be looked at only.
unsafe impl<M: Hold + Sync> Sync for Invalidation<M> {}

impl<M: Hold> Invalidation<M> {
    /// Starts a blockable range: calls the interval notifiers that it touches, then every `invalidate_range_start`. A refusal is
    /// reported (RS-5, HS-5), not obeyed. The caller holds mmap_lock or the reverse-map lock of the address space, in either mode,
    /// or keeps registrations out by its own means (DV-2). Sleeps if callbacks do.
    ///
    /// # Errors
    /// None at present.
    // SPEC: 1.3 HS-9
    pub fn start(mm: M, change: Change) -> Result<Self> {
        Self::announce(mm, change, MMU_NOTIFIER_RANGE_BLOCKABLE)
    }

    /// Starts a range whose callbacks must not sleep.
    ///
    /// # Errors
    /// EAGAIN, or what a callback answered: one refused. The pages must stay as they are, and nothing is owed (HS-8).
    // SPEC: 1.3 RS-4 HS-8
    pub fn start_nonblock(mm: M, change: Change) -> Result<Self> {
        Self::announce(mm, change, 0)
    }

    fn announce(mm: M, change: Change, flags: c_uint) -> Result<Self> {
        let mut range = change.announce(mm.raw(), flags);
        let nonblock = flags & MMU_NOTIFIER_RANGE_BLOCKABLE == 0;
        let kind = if nonblock {
            Kind::MMU_NOTIFIER_EXPLORE_START_NONBLOCK
        } else {
            Kind::MMU_NOTIFIER_EXPLORE_START
        };
        at(kind, range.mm);
        // SAFETY: The range is ours, and `mm` is alive.
        let outcome = events(|| unsafe { core_mm::invalidate_range_start_noting(&raw mut range) });
        // A panic goes on with the range already in its guard, which ends it.
        let started = outcome.map(|started| {
            let Started { answer, counted } = started?;
            if answer != 0 && nonblock {
                // Not every callback answers with a negative errno.
                return Err(Error::Errno(answer.saturating_abs()));
            }
            Ok(Self {
                range,
                counted,
                _mm: mm,
            })
        });
        started
            .map(|started| {
                let mm = started
                    .as_ref()
                    .map_or(ptr::null_mut(), |started| started.range.mm);
                if nonblock {
                    at(Kind::MMU_NOTIFIER_EXPLORE_NONBLOCK_DONE, mm);
                }
                started
            })
            .or_panic()
    }

    /// Ends the range: readers and removers go on, then every `invalidate_range_end` runs.
    // SPEC: RE-1 RE-2 RE-3
    pub fn end(self) {
        drop(self);
    }

    /// What is being changed.
    pub fn range(&self) -> Range<'_> {
        Range(&self.range)
    }
}

impl<M: Hold> Drop for Invalidation<M> {
    fn drop(&mut self) {
        at(Kind::MMU_NOTIFIER_EXPLORE_END, self.range.mm);
        let range = &raw mut self.range;
        // SAFETY: The range is ours and was started; `mm` keeps its address space.
        let outcome = events(|| unsafe { core_mm::invalidate_range_end_of(range, self.counted) });
        warn(outcome.or_panic());
    }
}

impl<M: Hold> fmt::Debug for Invalidation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.range().fmt(f)
    }
}

impl AddressSpace {
    /// As [`Invalidation::start`].
    ///
    /// # Errors
    /// As [`Invalidation::start`].
    pub fn invalidate_range_start(&self, change: Change) -> Result<Invalidation<&Self>> {
        Invalidation::start(self, change)
    }

    /// As [`Invalidation::start_nonblock`].
    ///
    /// # Errors
    /// As [`Invalidation::start_nonblock`].
    ///
    /// ```
    /// use mmu_notifier::api::{Change, Error, Event, Interval, IntervalNotifier, Mm, Range};
    /// struct Busy;
    /// impl IntervalNotifier for Busy {
    ///     fn invalidate(&self, _: &Interval, range: &Range<'_>, _: u64) -> bool { range.is_blockable() }
    /// }
    /// let mm = Mm::new()?;
    /// let busy = mm.insert(0, 0x1000, Busy)?;
    /// let change = Change::new(0..0x1000, Event::UNMAP);
    /// assert_eq!(mm.invalidate_range_start_nonblock(change).unwrap_err(), Error::Errno(11));
    /// assert_eq!(mm.seq_and_active().1, 0, "no end is owed");
    /// # drop(busy);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn invalidate_range_start_nonblock(&self, change: Change) -> Result<Invalidation<&Self>> {
        Invalidation::start_nonblock(self, change)
    }
}
