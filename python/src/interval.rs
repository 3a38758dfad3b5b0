//! Interval notifiers.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mmu_notifier::api::{self, Interval, LooseInterval};
use mmu_notifier::report::{DV_9_INSERT, DV_9_REMOVE, RB_1};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefReference};

use crate::calls::event;
use crate::errors;
use crate::mm::Mm;
use crate::notifier::{call_weakly, range_object};
use crate::range::Range;

/// A subscriber to an interval of an address space, to be subclassed: `invalidate` is its one op.
///
/// `Mm.insert` inserts it. It is alive as long as somebody refers to it, or the Mm through which it was inserted is open. When it is
/// collected it is removed by the library's worker. In a `with` block it is removed at the end.
#[pyclass(subclass, frozen, weakref, module = "mmu_notifier")]
pub(crate) struct IntervalNotifier {
    state: Mutex<State>,
}

/// What is named where an attribute is asked for.
const OBJECT: &CStr = c"mmu_interval_notifier";

enum State {
    /// Not inserted.
    Idle,
    /// Inserted, or about to be: callbacks may come before the insertion returns.
    Inserted(Inserted),
}

#[derive(Clone)]
struct Inserted {
    interval: Arc<LooseInterval<Callback>>,
    start: u64,
    last: u64,
}

/// What the library calls: a notifier, by a weak reference.
pub(crate) struct Callback {
    notifier: Py<PyWeakrefReference>,
    mm: Py<PyWeakrefReference>,
}

impl api::IntervalNotifier for Callback {
    fn invalidate(&self, _: &Interval, range: &api::Range<'_>, cur_seq: u64) -> bool {
        call_weakly(
            &self.notifier,
            "invalidate",
            true,
            |py| (range_object(py, &self.mm, range)?, cur_seq).into_pyobject(py),
            agreed,
        )
    }
}

/// What `invalidate` answered. The coroutine of an `async def` must not count as agreement, as any object would.
fn agreed(answer: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
    if answer.is_none() {
        return Ok(None);
    }
    match answer.extract::<bool>() {
        Ok(agreed) => Ok(Some(agreed)),
        Err(_) => Ok(Some(answer.extract::<i64>()? != 0)),
    }
}

impl IntervalNotifier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is inserted, for `function`; RB-1 if nothing is.
    fn inserted(&self, py: Python<'_>, function: &'static CStr) -> PyResult<Inserted> {
        match &*self.state() {
            State::Inserted(inserted) => Ok(inserted.clone()),
            State::Idle => {
                let misuse = RB_1.broken_by(function);
                Err(errors::misuse(
                    py,
                    misuse.said(c"the interval notifier is not inserted"),
                ))
            }
        }
    }

    pub(crate) fn insert(
        slf: &Bound<'_, Self>,
        mm: &Bound<'_, Mm>,
        start: u64,
        length: u64,
    ) -> PyResult<()> {
        let py = slf.py();
        let user = mm.get().user()?;
        let callback = Callback {
            notifier: PyWeakrefReference::new(slf)?.unbind(),
            mm: PyWeakrefReference::new(mm)?.unbind(),
        };
        let interval = Arc::new(LooseInterval::new(callback));
        {
            let mut state = slf.get().state();
            if matches!(*state, State::Inserted(_)) {
                let misuse = DV_9_INSERT.broken_by(c"mmu_interval_notifier_insert");
                return Err(errors::misuse(py, misuse));
            }
            *state = State::Inserted(Inserted {
                interval: Arc::clone(&interval),
                start,
                last: start.wrapping_add(length).wrapping_sub(1),
            });
        }
        let result = event(py, move || interval.insert(&user, start, length));
        match result {
            Ok(()) => mm.get().keep(slf.as_any().clone()),
            Err(_) => slf.get().forget(),
        }
        result
    }

    /// Nothing is inserted any more.
    fn forget(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Idle);
        drop(before);
    }
}

#[pymethods]
impl IntervalNotifier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, pyo3::types::PyDict>>) -> Self {
        Self {
            state: Mutex::new(State::Idle),
        }
    }

    /// `range` touches the interval. Takes the user lock, calls `set_seq(cur_seq)`, and drops what it has of the range.
    ///
    /// May be called several times at once. May sleep if the range is blockable; otherwise it may refuse, before it does anything, by
    /// returning False. (None and True agree. False for a blockable range is a `MisuseWarning`: RS-5.)
    fn invalidate(&self, range: &Bound<'_, Range>, cur_seq: u64) -> bool {
        let _ = (range, cur_seq);
        true
    }

    /// Notes that a change concerns the interval: in the callback, under the user lock, with its `cur_seq`, before anything else.
    ///
    /// Raises `MisuseError` (RB-1): it is not inserted.
    fn set_seq(&self, py: Python<'_>, cur_seq: u64) -> PyResult<()> {
        let interval = self.inserted(py, c"mmu_interval_set_seq")?.interval;
        py.detach(|| interval.set_seq(cur_seq));
        Ok(())
    }

    /// Begins a read of what the interval covers. Waits until no change of it is under way. Returns the number for `read_retry`; odd.
    /// Not under the user lock.
    ///
    /// Raises `MisuseError`: DV-7, from a callback for whose end it would wait; RB-1, it is not inserted.
    fn read_begin(&self, py: Python<'_>) -> PyResult<u64> {
        let interval = self.inserted(py, c"mmu_interval_read_begin")?.interval;
        event(py, move || interval.read_begin())
    }

    /// The closing step of a read, under the user lock: has the interval changed since `read_begin` returned `seq`? If False, what was
    /// read holds until that lock is released.
    ///
    /// Raises `MisuseError` (RB-1): it is not inserted.
    fn read_retry(&self, py: Python<'_>, seq: u64) -> PyResult<bool> {
        let interval = self.inserted(py, c"mmu_interval_read_retry")?.interval;
        Ok(py.detach(|| interval.read_retry(seq)))
    }

    /// As `read_retry`, without the user lock: True is definite, False a hint.
    ///
    /// Raises `MisuseError` (RB-1): it is not inserted.
    fn check_retry(&self, py: Python<'_>, seq: u64) -> PyResult<bool> {
        let interval = self.inserted(py, c"mmu_interval_check_retry")?.interval;
        Ok(py.detach(|| interval.check_retry(seq)))
    }

    /// Removes it. Waits while a change that may concern it is under way: afterwards `invalidate` is not called any more. Not under a
    /// lock that `invalidate` takes.
    ///
    /// Raises `MisuseError`: DV-7, from a callback for whose end it would wait; DV-9, it is not inserted.
    fn remove(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let Ok(inserted) = this.inserted(py, c"mmu_interval_notifier_remove") else {
            let misuse = DV_9_REMOVE.broken_by(c"mmu_interval_notifier_remove");
            return Err(errors::misuse(py, misuse));
        };
        event(py, || inserted.interval.remove())?;
        this.forget();
        let mm = &inserted.interval.notifier().mm;
        if let Ok(Some(mm)) = mm.bind(py).upgrade_as_exact::<Mm>() {
            mm.get().forget(slf.as_any());
        }
        Ok(())
    }

    /// Is it inserted?
    #[getter(inserted)]
    fn is_inserted(&self) -> bool {
        matches!(*self.state(), State::Inserted(_))
    }

    /// First byte. Raises `MisuseError` (RB-1): it is not inserted.
    #[getter]
    fn start(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.inserted(py, OBJECT)?.start)
    }

    /// Last byte, inclusive. Raises `MisuseError` (RB-1): it is not inserted.
    #[getter]
    fn last(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.inserted(py, OBJECT)?.last)
    }

    /// The number of the last change that concerned it; odd. Raises `MisuseError` (RB-1): it is not inserted.
    #[getter]
    fn seq(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.inserted(py, OBJECT)?.interval.seq())
    }

    /// The Mm that it was inserted through; None if that was collected. Raises `MisuseError` (RB-1): it is not inserted.
    #[getter]
    fn mm<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Mm>>> {
        let inserted = self.inserted(py, OBJECT)?;
        let mm = &inserted.interval.notifier().mm;
        mm.bind(py).upgrade_as_exact::<Mm>()
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(slf: &Bound<'_, Self>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        Self::remove(slf)
    }
}

impl Drop for IntervalNotifier {
    fn drop(&mut self) {
        // Here nobody can wait. A thread that is in `read_begin` keeps the object alive, so nobody else has what is inserted.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Inserted(inserted) = std::mem::replace(state, State::Idle) {
            if let Some(interval) = Arc::into_inner(inserted.interval) {
                interval.remove_later();
            }
        }
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<IntervalNotifier>()
}
