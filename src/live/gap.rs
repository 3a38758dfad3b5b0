//! A hook for tests: runs in a call that nobody watches, between its look and its change.

use core::ptr;

use crate::mm::WATCHED;
use crate::sync::{AtomicPtr, Ordering};

/// Called by the thread that makes the call, inside its section.
pub type Gap = extern "C" fn();

static GAP: AtomicPtr<Gap> = AtomicPtr::new(ptr::null_mut());

/// Has `gap` called from now on; None: nothing. For tests: the hook lives as long as the process.
pub fn set(gap: Option<&'static Gap>) {
    let gap = gap.map_or(ptr::null_mut(), |gap| ptr::from_ref(gap).cast_mut());
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

#[expect(unsafe_code, reason = "a pointer to a static")]
pub(super) fn run() {
    // ORDERING: Acquire pairs with the Release in `set`.
    let gap = GAP.load(Ordering::Acquire);
    // SAFETY: NULL, or a hook that lives for ever.
    if let Some(gap) = unsafe { gap.as_ref() } {
        gap();
    }
}
