//! Calls into the library, and back: detached and attached, with the exceptions of callbacks in between.
//!
//! An exception in a callback is kept on its thread until the call that caused the event returns, and is raised there. One on the
//! library's worker, where nobody called, goes to `sys.unraisablehook`.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use mmu_notifier::api::{self, Report, Severity};
use mmu_notifier::live::{
    self,
    epoch::{self, Cause},
};
use pyo3::prelude::*;

use crate::errors::{self, Reported};

/// What went wrong during a call, in callbacks.
#[derive(Default)]
pub(crate) struct Notes {
    raised: Vec<PyErr>,
    reports: Vec<Reported>,
}

thread_local! {
    /// A callback of this thread asked for the end of the busy period.
    static WOKEN: Cell<bool> = const { Cell::new(false) };
    /// Of the innermost call of this thread that causes events.
    static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

impl Notes {
    pub(crate) fn is_empty(&self) -> bool {
        self.raised.is_empty() && self.reports.is_empty()
    }

    /// Issues the warnings; what is to be raised, then.
    fn errors(self, py: Python<'_>) -> impl Iterator<Item = PyErr> {
        let warned: Vec<_> = self
            .reports
            .into_iter()
            .filter_map(|report| report.warn(py).err())
            .collect();
        self.raised.into_iter().chain(warned)
    }

    /// Issues the warnings, then raises the first exception; the others become notes on it.
    pub(crate) fn settle(self, py: Python<'_>) -> PyResult<()> {
        let mut errors = self.errors(py);
        let Some(first) = errors.next() else {
            return Ok(());
        };
        for other in errors {
            add_note(py, &first, &format!("also raised: {other}"));
        }
        Err(first)
    }

    /// Makes all of it notes on `first`, which was raised before.
    pub(crate) fn join(self, py: Python<'_>, first: &PyErr) {
        for other in self.errors(py) {
            add_note(py, first, &format!("also raised: {other}"));
        }
    }
}

fn add_note(py: Python<'_>, error: &PyErr, note: &str) {
    if let Err(failed) = error.value(py).call_method1("add_note", (note,)) {
        failed.write_unraisable(py, None);
    }
}

/// Runs `call`, which may wait or cause events, detached. What callbacks raised comes beside its result.
pub(crate) fn noting<T: Send>(py: Python<'_>, call: impl FnOnce() -> T + Send) -> (T, Notes) {
    let outer = NOTES.replace(Some(Notes::default()));
    let result = py.detach(call);
    let notes = NOTES.replace(outer).unwrap_or_default();
    (result, notes)
}

/// Runs `call`, which may wait or cause events, detached. Raises what callbacks raised, or its error.
pub(crate) fn event<T: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> api::Result<T> + Send,
) -> PyResult<T> {
    let (result, notes) = noting(py, call);
    notes.settle(py)?;
    result.map_err(|error| errors::raise(py, error))
}

/// Did a callback of the call that is under way raise?
pub(crate) fn is_noted() -> bool {
    NOTES.with_borrow(|notes| notes.as_ref().is_some_and(|notes| !notes.is_empty()))
}

/// A callback wants to be asked again when the call that caused it is over: see `replay`.
pub(crate) fn wake() {
    WOKEN.set(true);
}

/// Did one, since the last time?
pub(crate) fn take_woken() -> bool {
    WOKEN.replace(false)
}

/// The interpreter is about to end: callbacks are over.
static CLOSING: AtomicBool = AtomicBool::new(false);
/// Callbacks that are running, or wait for the interpreter's lock.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts a callback.
struct Running;

impl Running {
    /// None when the interpreter is about to end.
    fn begin() -> Option<Self> {
        // Counted first: either `close` sees the count, or this sees that it closes.
        RUNNING.fetch_add(1, SeqCst);
        let running = Self;
        (!CLOSING.load(SeqCst)).then_some(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, SeqCst);
    }
}

/// Runs the Python part of a callback, attached. `otherwise` is the answer if it raises, or if there is nobody to ask.
pub(crate) fn callback<T>(
    otherwise: T,
    name: &str,
    act: impl FnOnce(Python<'_>) -> PyResult<T>,
) -> T {
    if live::current_call().is_some() {
        // Inside a system call of the process, perhaps one of Python's own allocator.
        epoch::raise(Cause::Missed);
        return otherwise;
    }
    let Some(_running) = Running::begin() else {
        return otherwise;
    };
    Python::attach(|py| {
        act(py).unwrap_or_else(|error| {
            add_note(py, &error, &format!("in the callback {name}"));
            keep(py, error);
            otherwise
        })
    })
}

/// Keeps an exception for the call that caused the event.
fn keep(py: Python<'_>, error: PyErr) {
    let homeless = NOTES.with_borrow_mut(|notes| match notes {
        Some(notes) => {
            notes.raised.push(error);
            None
        }
        None => Some(error),
    });
    if let Some(error) = homeless {
        error.write_unraisable(py, None);
    }
}

/// The library's report handler.
fn on_report(report: &Report<'_>) {
    if report.severity() < Severity::Warn {
        return;
    }
    let reported = Reported::from(report);
    let homeless = NOTES.with_borrow_mut(|notes| match notes {
        Some(notes) => {
            notes.reports.push(reported);
            None
        }
        None => Some(reported),
    });
    if let Some(reported) = homeless {
        reported.print();
    }
}

/// Before the interpreter ends: no callback begins any more. Those that run are waited for, up to a second: an interpreter that
/// ends kills threads that come back to it.
#[pyfunction]
fn _close(py: Python<'_>) {
    CLOSING.store(true, SeqCst);
    if RUNNING.load(SeqCst) == 0 {
        // Whoever detaches when a subinterpreter is ended with the process does not come back.
        return;
    }
    let patience = Instant::now() + Duration::from_secs(1);
    py.detach(|| {
        while RUNNING.load(SeqCst) > 0 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Waits until everything that a put owes now was done (free_notifier was called, and the reference to its address space was
/// dropped), and until every callback of a `Notifier` that is running now, in any address space, is over.
///
/// Raises `MisuseError` (DV-7) from such a callback, or from free_notifier: it would wait for itself.
#[pyfunction]
fn synchronize(py: Python<'_>) -> PyResult<()> {
    event(py, api::synchronize)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    api::set_report_handler(Some(on_report));
    module.add_function(wrap_pyfunction!(synchronize, module)?)?;
    let close = wrap_pyfunction!(_close, module)?;
    let atexit = module.py().import("atexit")?;
    atexit.call_method1("register", (close,))?;
    Ok(())
}
