//! The room (`mod.rs`) on processors whose system calls cannot be taken over yet: what is told otherwise works here, too.

pub mod epoch;
pub mod gap;
pub mod queue;
pub mod stage;
mod status;

pub use status::*;

use core::ffi::c_uint;

use crate::report::{Error, Result};
use status::{KNOWN_FLAGS, Reason};

/// Cannot be.
///
/// # Errors
/// EINVAL: a flag that is not known. ENOTSUP.
pub fn enable(flags: c_uint) -> Result<()> {
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Error::Errno(libc::EINVAL));
    }
    Err(Error::Errno(libc::ENOTSUP))
}

/// Nothing is enabled.
///
/// # Errors
/// None.
pub fn disable() -> Result<()> {
    Ok(())
}

/// Says so.
pub fn status() -> mmu_notifier_live_status {
    let mut status = mmu_notifier_live_status::new();
    status.take_counts();
    status.set_reason(Reason::Machine.text());
    status
}

/// None is announced.
pub fn current_call() -> Option<mmu_notifier_live_call> {
    None
}

/// No change is noticed.
pub fn is_late() -> bool {
    false
}

/// Nothing is enabled.
///
/// # Errors
/// EINVAL.
pub fn self_test() -> Result<c_uint> {
    Err(Error::Errno(libc::EINVAL))
}
