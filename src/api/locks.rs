//! mmap_lock and the reverse-map lock, as guards (DV-2, ML-5).
//!
//! A thread remembers which of these locks it holds through this face, so that a call of it that would wait for its own thread is
//! an error instead: the locks are not recursive.

use core::cell::RefCell;
use core::ffi::CStr;
use core::marker::PhantomData;

use super::space::warn;
use super::{AddressSpace, Kind, Result, at};
use crate::abi::mm::mm_struct;
use crate::mm::{self as core_mm, LockKind};
use crate::report::ML_5_OWN;

/// Which of the two locks of an address space.
///
/// ```
/// use mmu_notifier::api::{Lock, Mm, Mode};
/// let mm = Mm::new()?;
/// mm.lock(Lock::Rmap, Mode::Read)?;
/// assert_eq!(mm.lock(Lock::Mmap, Mode::Write).unwrap(), ());
/// mm.unlock(Lock::Mmap, Mode::Write)?;
/// mm.unlock(Lock::Rmap, Mode::Read)?;
/// assert_eq!(mm.unlock(Lock::Rmap, Mode::Read).unwrap_err().rule(), Some("ML-5"));
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// mmap_lock, taken before the other one.
    Mmap,
    /// The reverse-map lock, which stands for the i_mmap and anon_vma locks of the kernel.
    Rmap,
}

/// Shared, or alone. [`Lock`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Shared with other readers. A waiting writer comes first.
    Read,
    /// Alone.
    Write,
}

#[derive(Clone, Copy, PartialEq)]
struct Held {
    mm: *const mm_struct,
    lock: Lock,
    mode: Mode,
}

thread_local! {
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// Looks at, or changes, what the thread holds. Beyond the thread's destructors nothing is remembered.
fn held<T>(act: impl FnOnce(&mut Vec<Held>) -> T) -> Option<T> {
    HELD.try_with(|held| act(&mut held.borrow_mut())).ok()
}

impl Lock {
    fn kind(self) -> LockKind {
        match self {
            Self::Mmap => core_mm::semaphore(),
            Self::Rmap => core_mm::rmap(),
        }
    }

    fn name(self, mode: Mode) -> &'static CStr {
        match (self, mode) {
            (Self::Mmap, Mode::Read) => c"mmap_read_lock",
            (Self::Mmap, Mode::Write) => c"mmap_write_lock",
            (Self::Rmap, Mode::Read) => c"mmu_notifier_rmap_read_lock",
            (Self::Rmap, Mode::Write) => c"mmu_notifier_rmap_write_lock",
        }
    }
}

impl AddressSpace {
    /// In which way does the calling thread hold `lock`, as far as this face knows?
    pub(super) fn held_mode(&self, lock: Lock) -> Option<Mode> {
        let of = |held: &&Held| held.mm == self.raw().cast_const() && held.lock == lock;
        held(|all| all.iter().find(of).map(|held| held.mode)).flatten()
    }

    /// Fails if `function`, which waits for `lock`, would wait for the calling thread.
    // SPEC: ML-5
    pub(super) fn refuse_own_lock(&self, lock: Lock, function: &'static CStr) -> Result<()> {
        match self.held_mode(lock) {
            None => Ok(()),
            Some(_) => Err(super::Error::Misuse(
                ML_5_OWN.broken_by(function).about(self.raw().cast()).into(),
            )),
        }
    }

    /// Waits for a lock, for callers who cannot keep a guard. Sleeps.
    ///
    /// # Errors
    /// ML-5: the calling thread holds it already, in whichever mode.
    pub fn lock(&self, lock: Lock, mode: Mode) -> Result<()> {
        let name = lock.name(mode);
        self.refuse_own_lock(lock, name)?;
        at(Kind::MMU_NOTIFIER_EXPLORE_MM_LOCK, self.raw());
        // SAFETY: Alive.
        unsafe {
            match mode {
                Mode::Read => lock.kind().read_lock(self.raw(), name),
                Mode::Write => lock.kind().write_lock(self.raw(), name),
            }
        }?;
        self.remember(lock, mode);
        Ok(())
    }

    /// Takes a lock if that needs no waiting. Says whether it did. Legal everywhere.
    ///
    /// # Errors
    /// None at present.
    pub fn try_lock(&self, lock: Lock, mode: Mode) -> Result<bool> {
        let name = lock.name(mode);
        at(Kind::MMU_NOTIFIER_EXPLORE_MM_LOCK, self.raw());
        // SAFETY: Alive.
        let taken = unsafe {
            match mode {
                Mode::Read => lock.kind().try_read_lock(self.raw(), name),
                Mode::Write => lock.kind().try_write_lock(self.raw(), name),
            }
        }?;
        if taken {
            self.remember(lock, mode);
        }
        Ok(taken)
    }

    /// Releases what [`AddressSpace::lock`] took, on the same thread: another one would go on being remembered as its holder.
    ///
    /// # Errors
    /// ML-5: nobody holds the lock in this mode.
    pub fn unlock(&self, lock: Lock, mode: Mode) -> Result<()> {
        let name = lock.name(mode);
        at(Kind::MMU_NOTIFIER_EXPLORE_MM_UNLOCK, self.raw());
        // SAFETY: Alive.
        unsafe {
            match mode {
                Mode::Read => lock.kind().read_unlock(self.raw(), name),
                Mode::Write => lock.kind().write_unlock(self.raw(), name),
            }
        }?;
        self.forget(lock, mode);
        Ok(())
    }

    fn remember(&self, lock: Lock, mode: Mode) {
        let mm = self.raw().cast_const();
        held(|all| all.push(Held { mm, lock, mode }));
    }

    fn forget(&self, lock: Lock, mode: Mode) {
        let mm = self.raw().cast_const();
        let gone = Held { mm, lock, mode };
        held(|all| {
            if let Some(at) = all.iter().rposition(|held| *held == gone) {
                all.swap_remove(at);
            }
        });
    }

    /// Waits for mmap_lock, shared. A range should run under this lock or the reverse-map lock (DV-2). Sleeps.
    ///
    /// # Errors
    /// ML-5: the calling thread holds it already.
    ///
    /// ```
    /// # use mmu_notifier::api::Mm;
    /// let mm = Mm::new()?;
    /// let reading = mm.mmap_read_lock()?;
    /// std::thread::scope(|s| s.spawn(|| mm.mmap_read_lock().map(drop)).join().unwrap())?;
    /// drop(reading);
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    pub fn mmap_read_lock(&self) -> Result<ReadGuard<'_>> {
        self.lock(Lock::Mmap, Mode::Read)?;
        Ok(ReadGuard(self, Lock::Mmap, PhantomData))
    }

    /// Waits for mmap_lock, alone. While this thread holds it, [`Mm::register`](super::Mm::register), [`Mm::insert`](super::Mm::insert)
    /// and [`Factory::get`](super::Factory::get) are their `_locked` forms. Sleeps.
    ///
    /// # Errors
    /// ML-5: the calling thread holds it already.
    ///
    /// ```
    /// # use mmu_notifier::api::{Mm, Notifier, Ops};
    /// # struct Quiet;
    /// # impl Notifier for Quiet { const OPS: Ops = Ops::NONE; }
    /// let mm = Mm::new()?;
    /// let writing = mm.mmap_write_lock()?;
    /// let subscription = mm.register(Quiet)?;
    /// drop(writing);
    /// # drop(subscription);
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    pub fn mmap_write_lock(&self) -> Result<WriteGuard<'_>> {
        self.lock(Lock::Mmap, Mode::Write)?;
        Ok(WriteGuard(self, Lock::Mmap, PhantomData))
    }

    /// Takes mmap_lock, shared, unless somebody writes or waits to: what may not sleep does.
    ///
    /// ```
    /// # use mmu_notifier::api::Mm;
    /// let mm = Mm::new()?;
    /// let writing = mm.mmap_write_lock()?;
    /// assert!(mm.mmap_try_read_lock().is_none());
    /// # drop(writing);
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    pub fn mmap_try_read_lock(&self) -> Option<ReadGuard<'_>> {
        let taken = self.try_lock(Lock::Mmap, Mode::Read).unwrap_or(false);
        taken.then_some(ReadGuard(self, Lock::Mmap, PhantomData))
    }

    /// Waits for the reverse-map lock, shared. Sleeps.
    ///
    /// # Errors
    /// ML-5: the calling thread holds it already.
    pub fn rmap_read_lock(&self) -> Result<ReadGuard<'_>> {
        self.lock(Lock::Rmap, Mode::Read)?;
        Ok(ReadGuard(self, Lock::Rmap, PhantomData))
    }

    /// Waits for the reverse-map lock, alone. Sleeps.
    ///
    /// # Errors
    /// ML-5: the calling thread holds it already.
    pub fn rmap_write_lock(&self) -> Result<WriteGuard<'_>> {
        self.lock(Lock::Rmap, Mode::Write)?;
        Ok(WriteGuard(self, Lock::Rmap, PhantomData))
    }
}

/// A lock of an address space held shared, on one thread; released when dropped.
///
/// ```compile_fail,E0277
/// # use mmu_notifier::api::Mm;
/// let mm = Mm::new().unwrap();
/// let reading = mm.mmap_read_lock().unwrap();
/// std::thread::scope(|s| { s.spawn(move || drop(reading)); }); // error: it cannot be sent between threads
/// ```
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct ReadGuard<'a>(&'a AddressSpace, Lock, PhantomData<*const ()>);

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        // Fails only where other means have unlocked it before.
        let _ = self.0.unlock(self.1, Mode::Read);
    }
}

/// A lock of an address space held alone, on one thread; released when dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct WriteGuard<'a>(&'a AddressSpace, Lock, PhantomData<*const ()>);

impl<'a> WriteGuard<'a> {
    /// Becomes a reader; no other writer comes between.
    ///
    /// ```
    /// # use mmu_notifier::api::Mm;
    /// let mm = Mm::new()?;
    /// let reading = mm.mmap_write_lock()?.downgrade();
    /// std::thread::scope(|s| s.spawn(|| assert!(mm.mmap_try_read_lock().is_some())).join().unwrap());
    /// # drop(reading);
    /// # Ok::<(), mmu_notifier::api::Error>(())
    /// ```
    pub fn downgrade(self) -> ReadGuard<'a> {
        let (mm, lock) = (self.0, self.1);
        core::mem::forget(self);
        // SAFETY: Alive.
        warn(unsafe { lock.kind().downgrade(mm.raw(), c"mmap_write_downgrade") });
        mm.forget(lock, Mode::Write);
        mm.remember(lock, Mode::Read);
        ReadGuard(mm, lock, PhantomData)
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        // Fails only where other means have unlocked it before.
        let _ = self.0.unlock(self.1, Mode::Write);
    }
}
