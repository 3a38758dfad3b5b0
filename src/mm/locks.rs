//! mmap_lock and the reverse-map lock (DV-2, ML-5).

use core::ffi::CStr;

use super::argument;
use crate::abi::mm::mm_struct;
use crate::report::{DV_3_LOCKED, DV_3_WRITE, ML_5, Result};
use crate::sync::hook::WaitReason;
use crate::sync::{NotHeld, rw_semaphore};

/// One of the two locks of an mm, with the name that a sleep on it has.
#[derive(Clone, Copy, Debug)]
pub struct LockKind {
    select: fn(*const mm_struct) -> *const rw_semaphore,
    reason: WaitReason,
}

/// `mm->mmap_lock`, rank 1.
pub const fn semaphore() -> LockKind {
    // SAFETY: Only computes an address.
    let select = |mm: *const mm_struct| unsafe { &raw const (*mm).mmap_lock };
    LockKind {
        select,
        reason: WaitReason::MMU_NOTIFIER_WAIT_MMAP_LOCK,
    }
}

/// The reverse-map lock, rank 2.
pub const fn rmap() -> LockKind {
    // SAFETY: Only computes an address.
    let select = |mm: *const mm_struct| unsafe { &raw const (*mm).rmap_lock };
    LockKind {
        select,
        reason: WaitReason::MMU_NOTIFIER_WAIT_RMAP_LOCK,
    }
}

impl LockKind {
    /// The lock of `mm`, which is valid.
    unsafe fn of<'a>(self, mm: *const mm_struct) -> &'a rw_semaphore {
        // SAFETY: The caller passes a valid mm.
        unsafe { &*(self.select)(mm) }
    }

    /// Waits for the lock, shared.
    ///
    /// # Errors
    /// DV-14: `mm` is NULL.
    ///
    /// # Safety
    /// `mm` is NULL or valid.
    pub unsafe fn read_lock(self, mm: *const mm_struct, function: &'static CStr) -> Result<()> {
        argument(mm, function)?;
        // SAFETY: The caller's promise.
        unsafe { self.of(mm) }.read_lock(self.reason);
        Ok(())
    }

    /// Waits for the lock, alone.
    ///
    /// # Errors
    /// DV-14: `mm` is NULL.
    ///
    /// # Safety
    /// `mm` is NULL or valid.
    pub unsafe fn write_lock(self, mm: *const mm_struct, function: &'static CStr) -> Result<()> {
        argument(mm, function)?;
        // SAFETY: The caller's promise.
        unsafe { self.of(mm) }.write_lock(self.reason);
        Ok(())
    }

    /// Takes the lock, shared, unless somebody writes or waits. Says whether it did.
    ///
    /// # Errors
    /// DV-14: `mm` is NULL.
    ///
    /// # Safety
    /// `mm` is NULL or valid.
    pub unsafe fn try_read_lock(self, mm: *const mm_struct, name: &'static CStr) -> Result<bool> {
        argument(mm, name)?;
        // SAFETY: The caller's promise.
        Ok(unsafe { self.of(mm) }.try_read_lock())
    }

    /// Takes the lock, alone, if it is free. Says whether it did.
    ///
    /// # Errors
    /// DV-14: `mm` is NULL.
    ///
    /// # Safety
    /// `mm` is NULL or valid.
    pub unsafe fn try_write_lock(self, mm: *const mm_struct, name: &'static CStr) -> Result<bool> {
        argument(mm, name)?;
        // SAFETY: The caller's promise.
        Ok(unsafe { self.of(mm) }.try_write_lock())
    }

    /// Releases one reader.
    ///
    /// # Errors
    /// DV-14; ML-5: no reader holds the lock.
    ///
    /// # Safety
    /// `mm` is NULL or valid.
    pub unsafe fn read_unlock(self, mm: *const mm_struct, function: &'static CStr) -> Result<()> {
        argument(mm, function)?;
        // SAFETY: The caller's promise.
        let result = unsafe { self.of(mm) }.read_unlock(self.reason);
        held(result, mm, function)
    }

    /// Releases the writer.
    ///
    /// # Errors
    /// DV-14; ML-5: no writer holds the lock.
    ///
    /// # Safety
    /// `mm` is NULL or valid.
    pub unsafe fn write_unlock(self, mm: *const mm_struct, function: &'static CStr) -> Result<()> {
        argument(mm, function)?;
        // SAFETY: The caller's promise.
        let result = unsafe { self.of(mm) }.write_unlock(self.reason);
        held(result, mm, function)
    }

    /// Turns the writer into a reader; no other writer comes between.
    ///
    /// # Errors
    /// DV-14; ML-5: no writer holds the lock.
    ///
    /// # Safety
    /// `mm` is NULL or valid.
    pub unsafe fn downgrade(self, mm: *const mm_struct, function: &'static CStr) -> Result<()> {
        argument(mm, function)?;
        // SAFETY: The caller's promise.
        let result = unsafe { self.of(mm) }.downgrade(self.reason);
        held(result, mm, function)
    }
}

// SPEC: ML-5
fn held(
    result: core::result::Result<(), NotHeld>,
    mm: *const mm_struct,
    function: &'static CStr,
) -> Result<()> {
    result.map_err(|NotHeld| ML_5.broken_by(function).about(mm.cast()).into())
}

/// Is mmap_lock of `mm` held for writing, by anybody?
///
/// # Safety
/// `mm` is valid.
pub(super) unsafe fn is_write_locked(mm: *const mm_struct) -> bool {
    // SAFETY: The caller's promise.
    unsafe { semaphore().of(mm) }.is_write_locked()
}

/// Asserts that somebody holds mmap_lock.
///
/// # Errors
/// DV-14; DV-3: nobody does.
///
/// # Safety
/// `mm` is NULL or valid.
// SPEC: DV-3 ML-5
pub unsafe fn assert_locked(mm: *const mm_struct) -> Result<()> {
    const FUNCTION: &CStr = c"mmap_assert_locked";
    argument(mm, FUNCTION)?;
    // SAFETY: The caller's promise.
    let locked = unsafe { semaphore().of(mm) }.is_locked();
    if locked {
        Ok(())
    } else {
        Err(DV_3_LOCKED.broken_by(FUNCTION).about(mm.cast()).into())
    }
}

/// Asserts that somebody holds mmap_lock for writing.
///
/// # Errors
/// DV-14; DV-3: nobody does.
///
/// # Safety
/// `mm` is NULL or valid.
// SPEC: DV-3 ML-5
pub unsafe fn assert_write_locked(mm: *const mm_struct) -> Result<()> {
    const FUNCTION: &CStr = c"mmap_assert_write_locked";
    argument(mm, FUNCTION)?;
    // SAFETY: The caller's promise.
    let locked = unsafe { is_write_locked(mm) };
    if locked {
        Ok(())
    } else {
        Err(DV_3_WRITE.broken_by(FUNCTION).about(mm.cast()).into())
    }
}
