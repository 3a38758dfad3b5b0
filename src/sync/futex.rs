//! Two system calls.
#![expect(unsafe_code, reason = "system calls")]

use super::AtomicU32;

/// Sleeps while `word` holds `expected`. May return early: callers check again.
pub(super) fn wait(word: &AtomicU32, expected: u32) {
    let no_timeout = core::ptr::null::<libc::timespec>();
    // SAFETY: FUTEX_WAIT reads the word, which lives as long as the borrow.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            no_timeout,
        )
    };
}

/// Wakes up to `count` sleepers of the word at `word`, which is not read: it may be gone by now.
pub(super) fn wake(word: *const u32, count: i32) {
    // SAFETY: FUTEX_WAKE uses the address as a key only.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            count,
        )
    };
}
