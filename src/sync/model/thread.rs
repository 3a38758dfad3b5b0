//! Threads of the model.
#![expect(unsafe_code, reason = "entry points of threads are C functions")]

use core::ffi::c_void;
use core::sync::atomic::Ordering;
use std::rc::Rc;

use super::{atomic, with};

pub use loom::thread::yield_now;

/// A thread that was started, by its place in the execution's table.
#[derive(Debug)]
pub struct Thread(usize);

/// What is known of a thread by its identifier.
pub(super) struct Known {
    thread: loom::thread::ThreadId,
    /// 0 until the thread ends. Made when somebody asks for the first time, on behalf of the thread itself.
    ended: Option<Rc<loom::sync::atomic::AtomicU64>>,
}

/// Starts a thread of a model.
pub fn spawn(run: impl FnOnce() + 'static) -> Thread {
    // The first thread's identifier is 1.
    own_id();
    let handle = loom::thread::spawn(|| {
        run();
        let own = own_id();
        if let Some(ended) = ended(own) {
            // ORDERING: Release pairs with the Acquire in `is_alive`: the kernel's locks order the end of a thread.
            ended.store(1, Ordering::Release);
        }
    });
    let thread = handle.thread().id();
    let place = with(|execution| {
        execution.known.push(Known {
            thread,
            ended: None,
        });
        execution.threads.push(Some(handle));
        execution.threads.len() - 1
    });
    Thread(place.expect("inside a model"))
}

/// Waits for the end of a thread.
pub fn join(thread: Thread) {
    let handle = with(|execution| execution.threads[thread.0].take()).flatten();
    let handle = handle.expect("a thread is joined once");
    assert!(handle.join().is_ok());
}

/// As the real one: the threads' number in the order in which they were started, from 1 on.
pub fn own_id() -> i32 {
    let number = with(|execution| {
        let own = loom::thread::current().id();
        let mut known = execution.known.iter();
        let index = known
            .position(|known| known.thread == own)
            .unwrap_or_else(|| {
                execution.known.push(Known {
                    thread: own,
                    ended: None,
                });
                execution.known.len() - 1
            });
        i32::try_from(index + 1).expect("few threads")
    });
    number.unwrap_or(1)
}

fn ended(thread: i32) -> Option<Rc<loom::sync::atomic::AtomicU64>> {
    with(|execution| {
        let index = usize::try_from(thread - 1).expect("an identifier");
        execution.known[index].ended.clone()
    })
    .flatten()
}

/// From now on others may ask whether the calling thread is alive.
pub fn may_end() {
    let flag = Rc::new(atomic::anonymous().expect("inside a model"));
    let index = usize::try_from(own_id() - 1).expect("an identifier");
    with(|execution| execution.known[index].ended = Some(flag));
}

/// As the real one, for threads that said [`may_end`]; all others count as alive.
pub fn is_alive(thread: i32) -> bool {
    // ORDERING: Acquire pairs with the Release in `spawn`.
    ended(thread).is_none_or(|ended| ended.load(Ordering::Acquire) == 0)
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
