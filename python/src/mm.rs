//! Address spaces and their locks.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use mmu_notifier::api::{self, AddressSpace, Change, Event, MmRef, Mode, Refused};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::calls::{self, event};
use crate::errors;
use crate::interval::IntervalNotifier;
use crate::notifier::Notifier;
use crate::range::Invalidation;

/// An address space that maps nothing; this object is a user of it until it is closed or collected.
///
/// The last user who goes ends the address space: every interval notifier hears of a RELEASE, every `release` is called. `close`
/// and the end of a `with` block do that before they return; collection leaves it to the library's worker, soon after.
///
/// It keeps the notifiers that were registered through it alive. Two objects of one address space are equal. Raises `MemoryError`.
#[pyclass(frozen, weakref, module = "mmu_notifier")]
pub(crate) struct Mm {
    hold: Mutex<Held>,
    /// The notifiers that this object keeps, by their address.
    kept: Mutex<HashMap<usize, Py<PyAny>>>,
}

enum Held {
    User(api::Mm),
    Reference(MmRef),
}

impl Held {
    fn space(&self) -> &AddressSpace {
        match self {
            Self::User(mm) => mm,
            Self::Reference(reference) => reference,
        }
    }
}

impl From<Held> for Mm {
    fn from(held: Held) -> Self {
        Self {
            hold: Mutex::new(held),
            kept: Mutex::default(),
        }
    }
}

impl From<api::Mm> for Mm {
    fn from(user: api::Mm) -> Self {
        Held::User(user).into()
    }
}

impl Mm {
    /// An object for what a callback is told, which is no user.
    pub(crate) fn reference(space: &AddressSpace) -> Self {
        Held::Reference(space.grab()).into()
    }

    fn hold(&self) -> MutexGuard<'_, Held> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address space, for what needs no user.
    pub(crate) fn space(&self) -> MmRef {
        self.hold().space().grab()
    }

    /// One more user, for a registration.
    pub(crate) fn user(&self) -> PyResult<api::Mm> {
        match &*self.hold() {
            Held::User(mm) => Ok(mm.clone()),
            Held::Reference(_) => Err(PyValueError::new_err("the Mm is closed")),
        }
    }

    /// Keeps a notifier alive.
    pub(crate) fn keep(&self, notifier: Bound<'_, PyAny>) {
        let address = notifier.as_ptr().addr();
        let before = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address, notifier.unbind());
        drop(before);
    }

    /// Keeps it no longer.
    pub(crate) fn forget(&self, notifier: &Bound<'_, PyAny>) {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&notifier.as_ptr().addr());
        drop(kept);
    }

    fn forget_all(&self) {
        let kept = mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        drop(kept);
    }

    /// Stops being a user, if it was one. The object stays a reference.
    fn leave(&self) -> Option<api::Mm> {
        let mut hold = self.hold();
        let Held::User(mm) = &*hold else { return None };
        let reference = mm.grab();
        match mem::replace(&mut *hold, Held::Reference(reference)) {
            Held::User(mm) => Some(mm),
            Held::Reference(_) => None,
        }
    }

    fn lock(slf: &Bound<'_, Self>, lock: api::Lock, mode: Mode) -> Lock {
        Lock {
            mm: slf.clone().unbind(),
            lock,
            mode,
            owner: Mutex::new(None),
        }
    }
}

#[pymethods]
impl Mm {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let mm = api::Mm::new().map_err(|error| errors::raise(py, error))?;
        Ok(Held::User(mm).into())
    }

    /// The process's own address space, as one more user of it.
    #[staticmethod]
    fn current() -> PyResult<Self> {
        api::Mm::current()
            .map(|mm| Held::User(mm).into())
            .ok_or_else(|| PyRuntimeError::new_err("this thread has no address space"))
    }

    /// Stops being a user. The last one ends the address space before this returns: every `release` is called. Ranges, locks and
    /// the ends of registrations go on working; nothing can be registered through this object any more. Closed again: nothing.
    ///
    /// Raises what a callback raised; `MisuseError` (DV-7) from a callback for whose end it would wait: it stays open then.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let Some(user) = this.leave() else {
            return Ok(());
        };
        let (result, notes) = calls::noting(py, || user.close());
        if let Err(Refused { guard, error }) = result {
            *this.hold() = Held::User(guard);
            notes.settle(py)?;
            return Err(errors::raise(py, error));
        }
        this.forget_all();
        notes.settle(py)
    }

    /// Is this object no user (any more)?
    #[getter]
    fn closed(&self) -> bool {
        matches!(&*self.hold(), Held::Reference(_))
    }

    /// A number that no other address space that is alive has.
    #[getter]
    fn id(&self) -> u64 {
        self.hold().space().id()
    }

    /// How many users the address space has (mm_users).
    #[getter]
    fn users(&self) -> i32 {
        self.hold().space().users()
    }

    /// How many references the struct has (mm_count): one for all users, one for each registration, each closed `Mm`, and each
    /// range in flight that was made by `invalidate`.
    #[getter]
    fn references(&self) -> i32 {
        self.hold().space().references()
    }

    /// The sequence number of the intervals: odd while a busy period lasts that touched one.
    #[getter]
    fn seq(&self) -> u64 {
        self.hold().space().seq_and_active().0
    }

    /// How many ranges are in flight, once there was an interval notifier.
    #[getter]
    fn active(&self) -> usize {
        self.hold().space().seq_and_active().1
    }

    /// Registers a `Notifier`; it is called before those that were registered earlier. Returns the notifier.
    ///
    /// Takes mmap_lock for writing unless this thread holds it so, and waits for it. Raises `MisuseError`: DV-9, it is registered;
    /// RG-2, it has `arch_invalidate_secondary_tlbs` and a range op; ML-5, this thread holds a lock that it would wait for.
    /// `ValueError`: the Mm is closed. `MemoryError`.
    fn register<'py>(
        slf: &Bound<'py, Self>,
        notifier: Bound<'py, Notifier>,
    ) -> PyResult<Bound<'py, Notifier>> {
        Notifier::register(&notifier, slf)?;
        Ok(notifier)
    }

    /// Inserts an `IntervalNotifier` for `length` bytes from `start`; no alignment is needed, and `start + length` may be 2**64.
    /// Returns the notifier.
    ///
    /// While a change is under way it becomes active at its end. For the first one it takes mmap_lock for writing, unless this
    /// thread holds it so. Raises `OverflowError`: the length is 0, or the end lies beyond 2**64. `MisuseError`: DV-9, it is
    /// inserted; ML-5, this thread holds a lock that it would wait for. `ValueError`: the Mm is closed. `MemoryError`.
    fn insert<'py>(
        slf: &Bound<'py, Self>,
        notifier: Bound<'py, IntervalNotifier>,
        start: u64,
        length: u64,
    ) -> PyResult<Bound<'py, IntervalNotifier>> {
        IntervalNotifier::insert(&notifier, slf, start, length)?;
        Ok(notifier)
    }

    /// A change of the bytes `[start, end)`, for a `with` block in which the pages change: `with mm.invalidate(start, end): ...`.
    ///
    /// `event` says why: an `Event` (1 is CLEAR) or another number. `blockable=False`: callbacks must not sleep, and may refuse (`BlockingError`).
    /// `owner`: a number by which a subscriber recognises its own MIGRATE or EXCLUSIVE. This thread should hold `read_lock`, or
    /// another lock of the address space, meanwhile (DV-2). `Invalidation.begin` says what is raised.
    #[pyo3(signature = (start, end, event=1, *, blockable=true, owner=0))]
    fn invalidate(
        slf: &Bound<'_, Self>,
        start: u64,
        end: u64,
        event: u32,
        blockable: bool,
        owner: usize,
    ) -> Invalidation {
        let change = Change {
            start,
            end,
            event: Event(event),
            owner,
        };
        Invalidation::new(slf.clone().unbind(), change, blockable)
    }

    /// Asks every notifier whether the bytes `[start, end)` were accessed since the last time, clears that, and flushes it: the or of
    /// all answers. Raises what a callback raised.
    fn clear_flush_young(&self, py: Python<'_>, start: u64, end: u64) -> PyResult<i32> {
        let space = self.space();
        event(py, || space.clear_flush_young(start, end))
    }

    /// As `clear_flush_young` of the bytes `[start, end)`, without the flush. Raises what a callback raised.
    fn clear_young(&self, py: Python<'_>, start: u64, end: u64) -> PyResult<i32> {
        let space = self.space();
        event(py, || space.clear_young(start, end))
    }

    /// Asks the notifiers whether the page at `address` was accessed: the first answer that is not 0, newest first, or 0. Raises what
    /// a callback raised.
    fn test_young(&self, py: Python<'_>, address: u64) -> PyResult<i32> {
        let space = self.space();
        event(py, || space.test_young(address))
    }

    /// Tells every notifier that the entry of the page at `address` becomes `pte`, a number of 64 bits; inside a range that covers
    /// it. Raises what a callback raised.
    fn change_pte(&self, py: Python<'_>, address: u64, pte: u64) -> PyResult<()> {
        let space = self.space();
        event(py, || space.change_pte(address, pte))
    }

    /// Tells every notifier that TLBs which share the CPU's page table must drop the bytes `[start, end)`. Raises what a callback
    /// raised.
    fn arch_invalidate_secondary_tlbs(&self, py: Python<'_>, start: u64, end: u64) -> PyResult<()> {
        let space = self.space();
        event(py, || space.arch_invalidate_secondary_tlbs(start, end))
    }

    /// mmap_lock, shared: a `Lock`, for a `with` block.
    fn read_lock(slf: &Bound<'_, Self>) -> Lock {
        Self::lock(slf, api::Lock::Mmap, Mode::Read)
    }

    /// mmap_lock, alone: a `Lock`, for a `with` block. Registrations inside it take no lock of their own.
    fn write_lock(slf: &Bound<'_, Self>) -> Lock {
        Self::lock(slf, api::Lock::Mmap, Mode::Write)
    }

    /// The reverse-map lock, shared: a `Lock`, for a `with` block.
    fn rmap_read_lock(slf: &Bound<'_, Self>) -> Lock {
        Self::lock(slf, api::Lock::Rmap, Mode::Read)
    }

    /// The reverse-map lock, alone: a `Lock`, for a `with` block.
    fn rmap_write_lock(slf: &Bound<'_, Self>) -> Lock {
        Self::lock(slf, api::Lock::Rmap, Mode::Write)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(slf: &Bound<'_, Self>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        Self::close(slf)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.id() == other.id()
    }

    fn __hash__(&self) -> u64 {
        self.id()
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<Mm {}{closed}>", self.id())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Somebody is changing it, and will do without a collection this time.
        let Ok(kept) = self.kept.try_lock() else {
            return Ok(());
        };
        kept.values().try_for_each(|notifier| visit.call(notifier))
    }

    fn __clear__(&self) {
        if let Some(user) = self.leave() {
            user.put_later();
        }
        self.forget_all();
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        // Here nobody can wait: the interpreter's lock is held, and who knows what else.
        if let Some(user) = self.leave() {
            user.put_later();
        }
    }
}

/// One of the two locks of an address space, in one mode: a context manager. `Mm.read_lock` and its like make it.
///
/// Not recursive, and released by the thread that acquired it. A waiting writer comes before new readers.
#[pyclass(frozen, module = "mmu_notifier")]
pub(crate) struct Lock {
    mm: Py<Mm>,
    lock: api::Lock,
    mode: Mode,
    owner: Mutex<Option<ThreadId>>,
}

impl Lock {
    fn owner(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Lock {
    /// Waits for the lock; with `blocking=False` it gives up instead. Returns whether it was acquired.
    ///
    /// Raises `MisuseError` (ML-5) if this thread holds the lock already; `RuntimeError` if this object has acquired it already.
    #[pyo3(signature = (blocking=true))]
    fn acquire(&self, py: Python<'_>, blocking: bool) -> PyResult<bool> {
        if self.owner().is_some() {
            return Err(PyRuntimeError::new_err("the lock was acquired already"));
        }
        let space = self.mm.get().space();
        let (lock, mode) = (self.lock, self.mode);
        let acquired = if blocking {
            event(py, || space.lock(lock, mode).map(|()| true))
        } else {
            event(py, || space.try_lock(lock, mode))
        }?;
        if acquired {
            *self.owner() = Some(thread::current().id());
        }
        Ok(acquired)
    }

    /// Releases the lock.
    ///
    /// Raises `RuntimeError` if this object has not acquired it, or another thread did by it.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let mut owner = self.owner();
        if *owner != Some(thread::current().id()) {
            return Err(PyRuntimeError::new_err(
                "the lock was not acquired, or by another thread",
            ));
        }
        *owner = None;
        drop(owner);
        let space = self.mm.get().space();
        event(py, || space.unlock(self.lock, self.mode))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.mm)
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().acquire(slf.py(), true)?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release(py)
    }

    fn __repr__(&self) -> String {
        let state = if self.owner().is_some() {
            "acquired"
        } else {
            "free"
        };
        format!("<Lock {:?} {:?}, {state}>", self.lock, self.mode)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Mm>()?;
    module.add_class::<Lock>()
}
