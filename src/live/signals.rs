//! Signals blocked and let through again by bare system calls, in the middle of one of the program's.
#![expect(unsafe_code, reason = "system calls")]

use core::ffi::c_int;

use crate::sync::syscall;

/// Blocks these signals, those that libc keeps for itself included. Returns what was blocked before.
pub(super) fn block_signals(which: u64) -> u64 {
    let mut old = 0;
    mask(libc::SIG_BLOCK, &raw const which, &raw mut old);
    old
}

/// Undoes [`block_signals`].
pub(super) fn restore_signals(old: u64) {
    mask(libc::SIG_SETMASK, &raw const old, core::ptr::null_mut());
}

fn mask(how: c_int, new: *const u64, old: *mut u64) {
    let arguments = [how as usize, new.addr(), old.addr(), size_of::<u64>(), 0, 0];
    // SAFETY: Both sets are the caller's.
    unsafe { syscall(libc::SYS_rt_sigprocmask as usize, arguments) };
}
