//! Threads: what identifies one; and the library's own, started without std, so that it may outlive everything but the process.
#![expect(unsafe_code, reason = "system calls")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a system call and its errno"
)]

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

pub use std::thread::yield_now;

/// A thread that was started and not waited for.
#[derive(Debug)]
pub struct Thread(libc::pthread_t);

/// Starts a thread, with all signals blocked so that no handler of the program runs on it. `None` if there is
/// no room for one.
///
/// # Safety
/// `main` may be called with `argument` on another thread.
pub unsafe fn start(
    main: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> Option<Thread> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut old = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: Fills the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: Both sets are ours; the first is filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: The caller's promise.
    let failed = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), main, argument) };
    // SAFETY: `old` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), ptr::null_mut()) };
    // SAFETY: Filled where the thread was started.
    (failed == 0).then(|| Thread(unsafe { thread.assume_init() }))
}

/// The calling thread's identifier. Not 0.
pub fn own_id() -> i32 {
    // SAFETY: Has no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// Does the process have a thread with this identifier? Leaves errno as it was: the caller may be anywhere.
pub fn is_alive(thread: i32) -> bool {
    // SAFETY: Signal 0 is none: it asks whether the thread exists. The place of errno is the calling thread's own.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let found = libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) == 0;
        let alive = found || *errno != libc::ESRCH;
        *errno = before;
        alive
    }
}

impl Thread {
    /// Waits for the end of the thread.
    ///
    /// # Safety
    /// This process started it: it is not the image of a forked one's.
    pub unsafe fn join(self) {
        // SAFETY: The caller's promise; a `Thread` is used up here.
        unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
    }
}
