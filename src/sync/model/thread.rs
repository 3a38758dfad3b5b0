//! Threads of the model.
#![expect(unsafe_code, reason = "entry points of threads are C functions")]

use core::ffi::c_void;

use super::with;

/// A thread that was started, by its number in the execution.
#[derive(Debug)]
pub struct Thread(usize);

/// Starts a thread of a model.
pub fn spawn(run: impl FnOnce() + 'static) -> Thread {
    let handle = loom::thread::spawn(run);
    let number = with(|execution| {
        execution.threads.push(Some(handle));
        execution.threads.len() - 1
    });
    Thread(number.expect("inside a model"))
}

/// Waits for the end of a thread.
pub fn join(thread: Thread) {
    let handle = with(|execution| execution.threads[thread.0].take()).flatten();
    let handle = handle.expect("a thread is joined once");
    assert!(handle.join().is_ok());
}

/// As the real one.
///
/// # Safety
/// `main` may be called with `argument` on another thread.
pub unsafe fn start(
    main: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> Option<Thread> {
    Some(spawn(move || {
        main(argument);
    }))
}

impl Thread {
    /// Waits for the end of the thread.
    ///
    /// # Safety
    /// As the real one's.
    pub unsafe fn join(self) {
        join(self);
    }
}
