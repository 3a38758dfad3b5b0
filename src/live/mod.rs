//! The process's own address space, live (floor 5): makes events of the system calls that change it.
//!
//! Owns: what is known of the means (`status`); the epoch of what went wrong (`epoch`).

pub mod epoch;
mod status;

pub use status::{
    MMU_NOTIFIER_LIVE_BY_NET, MMU_NOTIFIER_LIVE_BY_SITES, MMU_NOTIFIER_LIVE_NET,
    MMU_NOTIFIER_LIVE_PAGE_SWAP, MMU_NOTIFIER_LIVE_PROC_MEM, MMU_NOTIFIER_LIVE_WRITE_MPROTECT,
    MMU_NOTIFIER_LIVE_WRITE_NONE, MMU_NOTIFIER_LIVE_WRITE_PAGE_SWAP,
    MMU_NOTIFIER_LIVE_WRITE_PROC_MEM, mmu_notifier_live_status,
};

use core::ffi::c_uint;

use crate::report::{Error, Result};

/// From now on every change of the process's own address space is an event. Idempotent.
///
/// # Errors
/// ENOTSUP: the process cannot be covered; the status has the reason.
pub fn enable(_flags: c_uint) -> Result<()> {
    Err(Error::Errno(libc::ENOTSUP))
}

/// Ends what [`enable`] began. Afterwards no callback runs on behalf of a system call.
///
/// # Errors
/// EDEADLK: called from such a callback.
pub fn disable() -> Result<()> {
    Ok(())
}

/// What is covered, and what was missed so far.
pub fn status() -> mmu_notifier_live_status {
    let mut status = mmu_notifier_live_status::new();
    status.set_reason("live events are not built yet");
    status
}
