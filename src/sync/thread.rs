//! The library's own thread: started without std, so that it may outlive everything but the process.
#![expect(unsafe_code, reason = "system calls")]

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

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
    let mut thread: libc::pthread_t = 0;
    // SAFETY: The caller's promise.
    let failed = unsafe { libc::pthread_create(&raw mut thread, ptr::null(), main, argument) };
    // SAFETY: `old` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), ptr::null_mut()) };
    (failed == 0).then_some(Thread(thread))
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
