//! Errors of the library as exceptions, misuse by callbacks as warnings. The classes are those of `_errors.py`.

use mmu_notifier::api::{Error, Misuse, Report};
use mmu_notifier::report;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyOverflowError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EOVERFLOW: i32 = 75;

/// A class of `mmu_notifier._errors`.
fn class<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyType>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    cell.import(py, "mmu_notifier._errors", name)
}

/// The exception for an error of the library.
pub(crate) fn raise(py: Python<'_>, error: Error) -> PyErr {
    static BLOCKING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static MISUSE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match error {
        Error::Errno(EAGAIN) => class(py, &BLOCKING, "BlockingError").map_or_else(
            |failed| failed,
            |class| PyErr::from_type(class.clone(), (EAGAIN, "a callback refused the range")),
        ),
        Error::Errno(ENOMEM) => PyMemoryError::new_err("the library has no memory"),
        Error::Errno(EOVERFLOW) => PyOverflowError::new_err(
            "the length is 0, or the end lies beyond 2**64; or there are too many gets",
        ),
        Error::Misuse(misuse) => class(py, &MISUSE, "MisuseError").map_or_else(
            |failed| failed,
            |class| PyErr::from_type(class.clone(), arguments(&misuse)),
        ),
        other => PyOSError::new_err((other.errno(), "the library or a callback refused")),
    }
}

type Arguments = (String, String, String, Option<String>, i32);

fn arguments(misuse: &Misuse) -> Arguments {
    (
        misuse.message().to_owned(),
        misuse.rule().to_owned(),
        misuse.function().to_owned(),
        misuse.callback().map(str::to_owned),
        Error::Misuse(*misuse).errno(),
    )
}

/// The exception for misuse that this crate sees itself: what is not possible to write in Rust.
pub(crate) fn misuse(py: Python<'_>, misuse: report::Misuse) -> PyErr {
    raise(py, Error::Misuse(misuse.into()))
}

/// A report, kept until it can become a warning.
pub(crate) struct Reported(Arguments);

impl From<&Report<'_>> for Reported {
    fn from(report: &Report<'_>) -> Self {
        Self((
            report.message().to_owned(),
            report.rule().to_owned(),
            report.function().to_owned(),
            report.callback().map(str::to_owned),
            0,
        ))
    }
}

impl Reported {
    /// Issues it as a warning, which may be an exception.
    pub(crate) fn warn(self, py: Python<'_>) -> PyResult<()> {
        static WARNING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let warning = class(py, &WARNING, "MisuseWarning")?.call1(self.0)?;
        py.import("warnings")?.call_method1("warn", (warning,))?;
        Ok(())
    }

    /// Writes it where nobody waits for it.
    pub(crate) fn print(&self) {
        let (message, rule, function, ..) = &self.0;
        eprintln!("mmu_notifier: warning: [{rule}] {function}: {message}");
    }
}
