//! Ranges: as callbacks see them, and between their start and their end.

use std::sync::{Mutex, PoisonError};

use mmu_notifier::api::{self, Change, Event};
use mmu_notifier::report::DV_8;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::calls;
use crate::errors;
use crate::mm::Mm;

/// A change of an address space, as callbacks are told of it.
///
/// `start` and `end` are bytes, the end exclusive; `address in range` asks whether a byte is in it.
#[pyclass(frozen, module = "mmu_notifier")]
pub(crate) struct Range {
    /// The address space, as an `Mm` that is no user of it.
    #[pyo3(get)]
    mm: Py<Mm>,
    /// First byte.
    #[pyo3(get)]
    start: u64,
    /// One past the last byte.
    #[pyo3(get)]
    end: u64,
    event: u32,
    /// May the callback sleep? If not, it may refuse.
    #[pyo3(get)]
    blockable: bool,
    /// Who makes the change, a number; means something for MIGRATE and EXCLUSIVE only.
    #[pyo3(get)]
    owner: usize,
}

/// The member of `Event`, or the number if none has it.
fn event_object(py: Python<'_>, number: u32) -> PyResult<Bound<'_, PyAny>> {
    static EVENT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if (number as usize) < Event::NAMES.len() {
        EVENT
            .import(py, "mmu_notifier._event", "Event")?
            .call1((number,))
    } else {
        Ok(number.into_pyobject(py)?.into_any())
    }
}

impl Range {
    /// A copy of what a callback is told, with its address space as an object.
    pub(crate) fn new(range: &api::Range<'_>, mm: Py<Mm>) -> Self {
        Self {
            mm,
            start: range.start(),
            end: range.end(),
            event: range.event().0,
            blockable: range.is_blockable(),
            owner: range.owner(),
        }
    }
}

#[pymethods]
impl Range {
    /// Why: an `Event`, or an int that is none.
    #[getter]
    fn event<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        event_object(py, self.event)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.mm)
    }

    fn __contains__(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    fn __repr__(&self) -> String {
        let (event, start, end) = (Event(self.event), self.start, self.end);
        let how = if self.blockable {
            ""
        } else {
            ", non-blockable"
        };
        format!("<Range {event:?} [{start:#x}, {end:#x}){how}>")
    }
}

/// A change that is announced: a context manager, between whose beginning and end the pages change.
///
/// `Mm.invalidate` makes it. It may begin and end on different threads, and again after it has ended.
#[pyclass(frozen, module = "mmu_notifier")]
pub(crate) struct Invalidation {
    mm: Py<Mm>,
    change: Change,
    blockable: bool,
    begun: Mutex<Option<Begun>>,
}

type Begun = api::Invalidation<api::MmRef>;

impl Invalidation {
    pub(crate) fn new(mm: Py<Mm>, change: Change, blockable: bool) -> Self {
        let begun = Mutex::new(None);
        Self {
            mm,
            change,
            blockable,
            begun,
        }
    }

    fn take(&self) -> Option<Begun> {
        self.begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn start(&self, py: Python<'_>) -> PyResult<Begun> {
        let (space, change) = (self.mm.get().space(), self.change);
        let start = match self.blockable {
            true => api::Invalidation::start,
            false => api::Invalidation::start_nonblock,
        };
        let (started, notes) = calls::noting(py, || start(space, change));
        if notes.is_empty() {
            return started.map_err(|error| errors::raise(py, error));
        }
        match started {
            Ok(begun) => {
                // Callbacks have warned or raised. With a warning that is none the range goes on.
                let Err(raised) = notes.settle(py) else {
                    return Ok(begun);
                };
                let ((), later) = calls::noting(py, || begun.end());
                later.join(py, &raised);
                Err(raised)
            }
            Err(error) => {
                notes.settle(py)?;
                Err(errors::raise(py, error))
            }
        }
    }
}

#[pymethods]
impl Invalidation {
    /// Announces the change: calls the interval notifiers that it touches, then every `invalidate_range_start`. Returns the range.
    ///
    /// Waits as long as the callbacks do. Raises what a callback raised (the range is over then); `BlockingError` if one refused a
    /// range that is not blockable; `RuntimeError` if it has begun already.
    fn begin(&self, py: Python<'_>) -> PyResult<Range> {
        if self
            .begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
        {
            return Err(PyRuntimeError::new_err(
                "the invalidation has begun already",
            ));
        }
        let begun = self.start(py)?;
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        Ok(self.range(py))
    }

    /// The change is done: readers and removers that wait for it go on, then every `invalidate_range_end` is called.
    ///
    /// Raises what a callback raised; `MisuseError` (DV-8) if it has not begun.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let Some(begun) = self.take() else {
            let misuse = DV_8.broken_by(c"mmu_notifier_invalidate_range_end");
            return Err(errors::misuse(py, misuse));
        };
        let ((), notes) = calls::noting(py, || begun.end());
        notes.settle(py)
    }

    /// What is changed: a `Range`.
    #[getter]
    fn range(&self, py: Python<'_>) -> Range {
        Range {
            mm: self.mm.clone_ref(py),
            start: self.change.start,
            end: self.change.end,
            event: self.change.event.0,
            blockable: self.blockable,
            owner: self.change.owner,
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.mm)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Range> {
        self.begin(py)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _exc_info: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<()> {
        self.end(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.range(py).__repr__().replace("Range", "Invalidation")
    }
}

impl Drop for Invalidation {
    fn drop(&mut self) {
        if let Some(begun) = self.take() {
            // Ends call back, and a callback may wait for a thread that waits for the interpreter's lock.
            Python::attach(|py| py.detach(|| begun.end()));
        }
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Range>()?;
    module.add_class::<Invalidation>()
}
