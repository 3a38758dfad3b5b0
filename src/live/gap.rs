//! A hook for tests: runs in a call that nobody watches, between its look and its change.
#![expect(unsafe_code, reason = "a hook of C")]

use core::ffi::c_void;
use core::ptr;

use crate::mm::WATCHED;
use crate::sync::{AtomicPtr, Ordering};

/// Called by the thread that makes the call, inside its section. Must not call the library.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_live_gap {
    /// Called with `data`.
    pub run: extern "C" fn(data: *mut c_void),
    /// Its argument.
    pub data: *mut c_void,
}

static GAP: AtomicPtr<mmu_notifier_live_gap> = AtomicPtr::new(ptr::null_mut());

/// Has `gap` called from now on; NULL: nothing.
///
/// # Safety
/// `gap` is NULL, or valid for the rest of the process.
pub unsafe fn set(gap: *const mmu_notifier_live_gap) {
    let gap = gap.cast_mut();
    // ORDERING: Release pairs with the Acquire in `run`.
    GAP.store(gap, Ordering::Release);
    set_fast();
}

/// Lets machine code decide, if it may.
pub(super) fn set_fast() {
    // ORDERING: Relaxed, both: whoever does not see it takes the other way, which is right, too.
    let fast = WATCHED.is_enabled() && GAP.load(Ordering::Relaxed).is_null();
    WATCHED.fast.store(fast.into(), Ordering::Relaxed);
}

#[cfg(target_arch = "x86_64")]
pub(super) fn run() {
    // ORDERING: Acquire pairs with the Release in `set`.
    let gap = GAP.load(Ordering::Acquire);
    // SAFETY: NULL, or a hook that lives for ever.
    if let Some(gap) = unsafe { gap.as_ref() } {
        (gap.run)(gap.data);
    }
}
