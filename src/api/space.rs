//! Address spaces: who keeps one alive, and in which way (SPEC 3.15).

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;

use super::callbacks::{events, shield};
use super::{Error, Kind, Refused, Result, at};
use crate::abi::mm::mm_struct;
use crate::abi::types::{callback_head, pte_t};
use crate::mm as core_mm;
use crate::report;
use crate::sync::Ordering;

/// An address space, for as long as somebody keeps it: an [`Mm`], an [`MmRef`], or a callback that is told of it.
///
/// Ranges, young calls and locks need no more than this: they work until the last reference is gone, also when the address space
/// has no users any more (ML-4). To subscribe takes an [`Mm`].
///
/// ```
/// use mmu_notifier::api::{AddressSpace, Mm};
///
/// fn id_of(mm: &AddressSpace) -> u64 { mm.id() }
/// let (one, other) = (Mm::new()?, Mm::new()?);
/// assert_ne!(id_of(&one), id_of(&other));
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
#[repr(transparent)]
pub struct AddressSpace(UnsafeCell<mm_struct>);

// SAFETY: Everything of an mm may be called from any thread; its fields are atomics, locks, or the core's.
unsafe impl Sync for AddressSpace {}

impl AddressSpace {
    /// A valid mm as a reference.
    ///
    /// # Safety
    /// Somebody holds a reference to `mm` as long as the result is used.
    pub(super) unsafe fn from_raw<'a>(mm: *mut mm_struct) -> &'a Self {
        // SAFETY: The caller's promise; the layouts are the same.
        unsafe { &*mm.cast::<Self>() }
    }

    pub(super) fn raw(&self) -> *mut mm_struct {
        self.0.get()
    }

    /// A number that no other address space that is alive has.
    pub fn id(&self) -> u64 {
        // SAFETY: Alive; written before it was handed out.
        unsafe { (*self.raw()).context.id }
    }

    /// Users of the address space; the last one who goes ends it.
    ///
    /// ```
    /// # use mmu_notifier::api::Mm;
    /// let mm = Mm::new()?;
    /// let second = mm.clone();
    /// assert_eq!((mm.users(), mm.references()), (2, 1));
    /// # drop(second);
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    // SPEC: ML-1
    pub fn users(&self) -> i32 {
        // SAFETY: Alive.
        let users = unsafe { &(*self.raw()).mm_users };
        // ORDERING: Relaxed: a number to look at.
        users.counter.load(Ordering::Relaxed)
    }

    /// References to the struct: all users together hold one, each subscription one, each [`MmRef`] one.
    // SPEC: 3.14
    pub fn references(&self) -> i32 {
        // SAFETY: Alive.
        let count = unsafe { &(*self.raw()).mm_count };
        // ORDERING: Relaxed: a number to look at.
        count.counter.load(Ordering::Relaxed)
    }

    /// The sequence number of the intervals, and how many ranges are in flight, at one moment. `(2, 0)` before anybody subscribed.
    ///
    /// ```
    /// # use mmu_notifier::api::Mm;
    /// assert_eq!(Mm::new()?.seq_and_active(), (2, 0));
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    // SPEC: ST-1
    pub fn seq_and_active(&self) -> (u64, usize) {
        // SAFETY: Alive.
        unsafe { core_mm::interval_state(self.raw()) }
    }

    /// Keeps the struct, but not the address space, beyond this borrow.
    ///
    /// ```
    /// # use mmu_notifier::api::Mm;
    /// let mm = Mm::new()?;
    /// let reference = mm.grab();
    /// mm.close()?;
    /// assert_eq!(reference.users(), 0);
    /// assert!(reference.get().is_none());
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    // SPEC: ML-1
    pub fn grab(&self) -> MmRef {
        // SAFETY: Alive.
        let grabbed = unsafe { core_mm::mmgrab(self.raw()) };
        debug_assert!(grabbed.is_ok(), "not NULL");
        MmRef(NonNull::from(self).cast())
    }

    /// Becomes a user, unless the address space has none any more.
    // SPEC: ML-1
    pub fn get(&self) -> Option<Mm> {
        // SAFETY: Alive.
        let got = unsafe { core_mm::mmget_not_zero(self.raw()) };
        got.unwrap_or(false).then(|| Mm(NonNull::from(self).cast()))
    }

    /// Asks all notifiers whether `[start, end)` was accessed since the last time, clears that, and has it flushed from their
    /// TLBs. The or of all answers.
    ///
    /// # Errors
    /// None at present.
    // SPEC: YG-1
    pub fn clear_flush_young(&self, start: u64, end: u64) -> Result<i32> {
        // SAFETY: Alive.
        self.event(|mm| unsafe { core_mm::clear_flush_young(mm, start, end) })
    }

    /// As [`AddressSpace::clear_flush_young`], without the flush.
    ///
    /// # Errors
    /// None at present.
    // SPEC: YG-1
    pub fn clear_young(&self, start: u64, end: u64) -> Result<i32> {
        // SAFETY: Alive.
        self.event(|mm| unsafe { core_mm::clear_young(mm, start, end) })
    }

    /// Asks the notifiers, newest first, whether the page at `address` was accessed; the first answer that is not 0.
    ///
    /// # Errors
    /// None at present.
    ///
    /// ```
    /// use mmu_notifier::api::{AddressSpace, Mm, Notifier, Ops};
    /// struct Hot;
    /// impl Notifier for Hot {
    ///     const OPS: Ops = Ops::TEST_YOUNG;
    ///     fn test_young(&self, _: &AddressSpace, address: u64) -> i32 { i32::from(address == 0x1000) }
    /// }
    /// let mm = Mm::new()?;
    /// let hot = mm.register(Hot)?;
    /// assert_eq!((mm.test_young(0x1000)?, mm.test_young(0x2000)?), (1, 0));
    /// # drop(hot);
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    // SPEC: YG-2
    pub fn test_young(&self, address: u64) -> Result<i32> {
        // SAFETY: Alive.
        self.event(|mm| unsafe { core_mm::test_young(mm, address) })
    }

    /// Tells the notifiers that the entry of the page at `address` is about to become `pte`; inside a range that covers it.
    ///
    /// # Errors
    /// None at present.
    // SPEC: YG-3
    pub fn change_pte(&self, address: u64, pte: u64) -> Result<()> {
        // SAFETY: Alive.
        self.event(|mm| unsafe { core_mm::change_pte(mm, address, pte_t { pte }) })
    }

    /// Tells the notifiers that TLBs which share the CPU's page table must drop `[start, end)`.
    ///
    /// # Errors
    /// None at present.
    // SPEC: YG-3
    pub fn arch_invalidate_secondary_tlbs(&self, start: u64, end: u64) -> Result<()> {
        // SAFETY: Alive.
        self.event(|mm| unsafe { core_mm::arch_invalidate_secondary_tlbs(mm, start, end) })
    }

    fn event<T>(&self, event: impl FnOnce(*mut mm_struct) -> report::Result<T>) -> Result<T> {
        at(Kind::MMU_NOTIFIER_EXPLORE_SECONDARY, self.raw());
        Ok(events(|| event(self.raw())).or_panic()?)
    }
}

impl fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace")
            .field("id", &self.id())
            .field("users", &self.users())
            .finish_non_exhaustive()
    }
}

/// What keeps an [`AddressSpace`] alive: a borrow of one, an [`Mm`], or an [`MmRef`]. Others cannot be.
pub trait Hold: Deref<Target = AddressSpace> + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &super::AddressSpace {}
    impl Sealed for super::Mm {}
    impl Sealed for super::MmRef {}
}

impl Hold for &AddressSpace {}
impl Hold for Mm {}
impl Hold for MmRef {}

/// A user of an address space (mmget, mmput). The last one who goes ends it: every interval notifier hears of a RELEASE, every
/// `release` runs.
///
/// Dropped inside a callback, where the end might wait for that callback, the end is left to the library's worker.
///
/// ```
/// use mmu_notifier::api::{AddressSpace, Mm, Notifier, Ops};
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
///
/// #[derive(Default)]
/// struct Watcher(AtomicBool);
/// impl Notifier for Watcher {
///     const OPS: Ops = Ops::RELEASE;
///     fn release(&self, _: &AddressSpace) { self.0.store(true, Relaxed) }
/// }
///
/// let mm = Mm::new()?;
/// let watcher = mm.register(Watcher::default())?;
/// mm.close()?;
/// assert!(watcher.notifier().0.load(Relaxed));
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
pub struct Mm(pub(super) NonNull<mm_struct>);

// SAFETY: A user may go on any thread.
unsafe impl Send for Mm {}
// SAFETY: As of `AddressSpace`.
unsafe impl Sync for Mm {}

impl Mm {
    /// An address space that maps nothing, with one user.
    ///
    /// # Errors
    /// ENOMEM.
    // SPEC: ML-1
    pub fn new() -> Result<Self> {
        NonNull::new(core_mm::mm_alloc())
            .map(Self)
            .ok_or(Error::Errno(libc::ENOMEM))
    }

    /// One more user of the calling thread's address space, which is the process's own; none on the library's worker.
    ///
    /// ```
    /// # use mmu_notifier::api::Mm;
    /// let (here, there) = (Mm::current().unwrap(), std::thread::spawn(Mm::current).join().unwrap().unwrap());
    /// assert_eq!(here.id(), there.id());
    /// ```
    pub fn current() -> Option<Self> {
        // SAFETY: The thread's own task.
        let mm = unsafe { core_mm::get_task_mm(core_mm::current()) };
        mm.ok().and_then(NonNull::new).map(Self)
    }

    /// Stops being a user. If it was the last one, the address space ends before this returns: `release` of every notifier.
    ///
    /// # Errors
    /// DV-7: the end would wait for the callback that makes the call; the guard is still a user.
    // SPEC: ML-2 RL-7
    pub fn close(self) -> core::result::Result<(), Refused<Self>> {
        let guard = ManuallyDrop::new(self);
        at(Kind::MMU_NOTIFIER_EXPLORE_REFERENCE, guard.0.as_ptr());
        // SAFETY: This user is given up, unless the core refuses.
        let outcome = events(|| unsafe { core_mm::mmput(guard.0.as_ptr()) });
        outcome
            .map(|result| {
                result.map_err(|error| Refused {
                    guard: ManuallyDrop::into_inner(guard),
                    error: error.into(),
                })
            })
            .or_panic()
    }
}

/// The end of a user, queued.
#[repr(C)]
struct Later {
    work: callback_head,
    mm: Mm,
}

unsafe extern "C" fn put_on_worker(work: *mut callback_head) {
    // SAFETY: Queued by `put_later`, whose box this was; `work` is its first field.
    let later = unsafe { Box::from_raw(work.cast::<Later>()) };
    shield((), || drop(later.mm));
}

impl Mm {
    /// Stops being a user on the library's worker: if it was the last one, the address space ends there. Never waits; legal
    /// everywhere.
    ///
    /// ```
    /// # use mmu_notifier::api::Mm;
    /// let mm = Mm::new()?;
    /// let reference = mm.grab();
    /// mm.put_later();
    /// while reference.users() > 0 {
    ///     std::thread::yield_now();
    /// }
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    // SPEC: ML-2
    pub fn put_later(self) {
        let work = callback_head {
            next: core::ptr::null_mut(),
            func: Some(put_on_worker),
        };
        let later = Box::into_raw(Box::new(Later { work, mm: self }));
        // SAFETY: In no queue, and given up here.
        unsafe { core_mm::on_worker(later.cast()) };
    }
}

impl Clone for Mm {
    fn clone(&self) -> Self {
        // SAFETY: A user.
        let got = unsafe { core_mm::mmget(self.0.as_ptr()) };
        debug_assert!(got.is_ok(), "not NULL");
        Self(self.0)
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        // SAFETY: This user is given up.
        let outcome = events(|| unsafe { core_mm::mmput_async(self.0.as_ptr()) });
        warn(outcome.or_panic());
    }
}

impl Deref for Mm {
    type Target = AddressSpace;
    fn deref(&self) -> &AddressSpace {
        // SAFETY: A user keeps it.
        unsafe { AddressSpace::from_raw(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A reference to an address space (mmgrab, mmdrop): the struct stays, though it may have no users any more.
/// [`AddressSpace::grab`] has an example.
pub struct MmRef(NonNull<mm_struct>);

// SAFETY: A reference may be dropped on any thread.
unsafe impl Send for MmRef {}
// SAFETY: As of `AddressSpace`.
unsafe impl Sync for MmRef {}

impl Clone for MmRef {
    fn clone(&self) -> Self {
        self.grab()
    }
}

impl Drop for MmRef {
    fn drop(&mut self) {
        // SAFETY: This reference is given up.
        warn(unsafe { core_mm::mmdrop(self.0.as_ptr()) });
    }
}

impl Deref for MmRef {
    type Target = AddressSpace;
    fn deref(&self) -> &AddressSpace {
        // SAFETY: A reference keeps it.
        unsafe { AddressSpace::from_raw(self.0.as_ptr()) }
    }
}

impl fmt::Debug for MmRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A drop has nobody to return an error to: misuse goes to the report handler.
pub(super) fn warn(result: report::Result<()>) {
    if let Err(report::Error::Misuse(misuse)) = result {
        misuse.report();
    }
}
