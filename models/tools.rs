// SPDX-License-Identifier: MIT OR Apache-2.0
//! What models are made of: bounds, threads, and memory that tells who may use it.

use std::rc::Rc;

use mmu_notifier::report::{self, mmu_notifier_report};
use mmu_notifier::sync::model::{self, Bounds, Thread};
use mmu_notifier::sync::{AtomicU32, Ordering};

/// One model.
pub struct Model {
    /// Protocol and case: `grace::freed`.
    pub name: &'static str,
    /// One execution.
    body: fn(),
    /// Preemptions of the short form and of the full one.
    preemptions: [Option<usize>; 2],
}

/// A model that is explored with any number of preemptions.
pub const fn exhaustive(name: &'static str, body: fn()) -> Model {
    up_to(name, body, [None, None])
}

/// A model that is explored with so many preemptions in its short form, and so many in the full one.
pub const fn up_to(name: &'static str, body: fn(), preemptions: [Option<usize>; 2]) -> Model {
    Model {
        name,
        body,
        preemptions,
    }
}

impl Model {
    /// Returns how many executions there were.
    pub fn run(&self, full: bool) -> usize {
        let bounds = Bounds {
            preemptions: self.preemptions[usize::from(full)],
            atomics: 128,
            cells: 24,
        };
        model::check(bounds, self.body)
    }

    /// The bound, as one reads it.
    pub fn bound(&self, full: bool) -> String {
        match self.preemptions[usize::from(full)] {
            Some(number) => format!("{number} preemptions"),
            None => "all".to_owned(),
        }
    }
}

/// A failure says what it is and ends the process; a report of the library is one.
pub fn prepare() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        // SAFETY: Ends the process, without destructors: those of a broken execution would fail again.
        unsafe { libc::_exit(1) };
    }));
    unsafe extern "C" fn fail(report: *const mmu_notifier_report, _data: *mut std::ffi::c_void) {
        // SAFETY: Valid during the call, with NUL-terminated strings.
        let (rule, message) = unsafe {
            let text = |string| std::ffi::CStr::from_ptr(string).to_string_lossy();
            (text((*report).rule), text((*report).message))
        };
        panic!("reported: [{rule}] {message}");
    }
    // SAFETY: The handler has no data.
    unsafe { report::set_handler(Some(fail), std::ptr::null_mut()) };
    // The first thread's task is made once in a process, hence before the first execution.
    mmu_notifier::mm::current();
}

/// Starts a thread.
pub fn spawn(run: impl FnOnce() + 'static) -> Thread {
    model::spawn(run)
}

/// Waits for threads.
pub fn join(threads: impl IntoIterator<Item = Thread>) {
    threads.into_iter().for_each(model::join);
}

/// A value that threads share for one execution.
pub fn shared<T>(value: T) -> Rc<T> {
    Rc::new(value)
}

/// Memory whose uses must be ordered: two of which one is a change, without an order between them, end the model.
///
/// Each use is a step as well: loom tries the orders of operations, and does not count a cell's uses among them.
pub struct Memory(loom::cell::UnsafeCell<u64>, AtomicU32);

impl Memory {
    pub fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(0), AtomicU32::new(0))
    }

    /// Reads it.
    pub fn read(&self) -> u64 {
        // ORDERING: Relaxed: a step that orders nothing.
        self.1.load(Ordering::Relaxed);
        // SAFETY: loom ends the model if somebody changes it meanwhile.
        self.0.with(|value| unsafe { value.read() })
    }

    /// Changes it.
    pub fn write(&self, new: u64) {
        // ORDERING: Relaxed: as in `read`; it changes nothing.
        let _ = self
            .1
            .compare_exchange(1, 1, Ordering::Relaxed, Ordering::Relaxed);
        // SAFETY: As in `read`.
        self.0.with_mut(|value| unsafe { value.write(new) });
    }
}
