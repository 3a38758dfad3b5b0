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
    /// See [`fence`](super::fence).
    barrier: Rc<loom::sync::atomic::AtomicU64>,
}

impl Known {
    fn new(thread: loom::thread::ThreadId) -> Self {
        Self {
            thread,
            ended: None,
            barrier: Rc::new(atomic::anonymous().expect("inside a model")),
        }
    }
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
    let known = Known::new(thread);
    let place = with(|execution| {
        execution.known.push(known);
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
    if with(|_| ()).is_none() {
        return 1;
    }
    let own = loom::thread::current().id();
    let find = || {
        let index = with(|execution| execution.known.iter().position(|known| known.thread == own));
        index.flatten()
    };
    let index = find().unwrap_or_else(|| {
        let known = Known::new(own);
        with(|execution| execution.known.push(known));
        find().expect("just noted")
    });
    i32::try_from(index + 1).expect("few threads")
}

/// Visits the words of fences: the calling thread's, or all.
pub(super) fn each_barrier(own: bool, step: impl Fn(&loom::sync::atomic::AtomicU64) -> u64) {
    let own = own.then(own_id);
    let words = with(|execution| {
        let known = (1..).zip(&execution.known);
        let wanted = known.filter(|(id, _)| own.is_none_or(|own| own == *id));
        wanted
            .map(|(_, known)| Rc::clone(&known.barrier))
            .collect::<Vec<_>>()
    });
    for word in words.into_iter().flatten() {
        step(&word);
    }
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
