//! Live events: changes that the process makes to its own address space, in a queue. Python cannot run inside a system call, which may
//! be one of its own allocator's, so no callback does (`calls::callback`).

use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mmu_notifier::live::{self, epoch, queue};
use mmu_notifier::report::RB_1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::calls::event;
use crate::errors;

/// Events that have happened in watched memory and were not read yet, room for a fixed number of them.
///
/// `capacity` is rounded up to a power of two. Raises `OSError` (EINVAL): it is 0 or more than 2**31; `MemoryError`.
#[pyclass(frozen, module = "mmu_notifier.live")]
pub(crate) struct Queue(queue::Queue);

/// `(cookie, start, end, event)`.
type Change = (u64, u64, u64, u32);

fn change(event: queue::Event) -> Change {
    (event.cookie, event.start, event.end, event.event)
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (capacity=1024))]
    fn new(py: Python<'_>, capacity: usize) -> PyResult<Self> {
        let queue = queue::Queue::new(capacity);
        queue
            .map(Self)
            .map_err(|error| errors::raise(py, error.into()))
    }

    /// Puts each change of `length` bytes from `start` on, of the process's own memory, into the queue from now on, with `cookie`.
    /// Returns the `Watch`, which ends that.
    ///
    /// Raises `OverflowError`: the length is 0, or the end lies beyond 2**64. `MemoryError`.
    #[pyo3(signature = (start, length, cookie=0))]
    fn watch(&self, py: Python<'_>, start: u64, length: u64, cookie: u64) -> PyResult<Watch> {
        let queue = &self.0;
        let watch = event(py, || Ok(queue.watch(start, length, cookie)?))?;
        Ok(Watch(Mutex::new(Some(Arc::new(watch)))))
    }

    /// Takes the oldest event out: `(cookie, start, end, event)`, bytes with an exclusive end and the number of an `Event`. Waits until
    /// there is one; None if there is none after `timeout` seconds, or the queue is closed. Does not hold the GIL.
    ///
    /// Raises `ValueError`: the timeout is negative, or not a number.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Change>> {
        let milliseconds = timeout.map(milliseconds).transpose()?;
        Ok(py.detach(|| self.0.wait(milliseconds)).map(change))
    }

    /// Nobody waits any more; what is in the queue can still be taken out.
    fn close(&self) {
        self.0.close();
    }

    /// How many events found no room. The epoch has risen for each.
    #[getter]
    fn lost(&self) -> u64 {
        self.0.lost()
    }
}

/// Seconds as milliseconds, rounded up; what is too long is as long as can be.
fn milliseconds(seconds: f64) -> PyResult<u32> {
    if seconds.is_infinite() && seconds > 0.0 {
        return Ok(u32::MAX);
    }
    let duration = Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX))
}

/// Memory of the process whose changes go into a queue, until this is closed or collected: `Queue.watch` makes it.
#[pyclass(frozen, module = "mmu_notifier.live")]
pub(crate) struct Watch(Mutex<Option<Arc<queue::Watch>>>);

impl Watch {
    fn open(&self, py: Python<'_>, function: &'static CStr) -> PyResult<Arc<queue::Watch>> {
        let watch = self.watch().clone();
        watch.ok_or_else(|| {
            errors::misuse(py, RB_1.broken_by(function).said(c"the watch is closed"))
        })
    }

    fn watch(&self) -> MutexGuard<'_, Option<Arc<queue::Watch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Watch {
    /// The number to validate with what is read from now on. Waits while a change of the memory is under way.
    ///
    /// Raises `MisuseError` (RB-1): it is closed.
    fn read_begin(&self, py: Python<'_>) -> PyResult<u64> {
        let watch = self.open(py, c"mmu_interval_read_begin")?;
        event(py, move || Ok(watch.read_begin()?))
    }

    /// Has the memory changed since `read_begin` returned `seq`, or is it about to?
    ///
    /// Raises `MisuseError` (RB-1): it is closed.
    fn read_retry(&self, py: Python<'_>, seq: u64) -> PyResult<bool> {
        let watch = self.open(py, c"mmu_interval_read_retry")?;
        Ok(py.detach(move || watch.read_retry(seq)))
    }

    /// Does it watch no more?
    #[getter]
    fn closed(&self) -> bool {
        self.watch().is_none()
    }

    /// Ends it. Waits while a change that may concern it is under way. Closed again: nothing.
    fn close(&self, py: Python<'_>) {
        let watch = self.watch().take();
        py.detach(|| drop(watch));
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) {
        self.close(py);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Here nobody can wait.
        let watch = self.watch().take();
        if watch.is_some() {
            std::thread::spawn(move || drop(watch));
        }
    }
}

#[pyfunction]
fn _live_enable(py: Python<'_>, flags: u32) -> PyResult<()> {
    event(py, || Ok(live::enable(flags)?))
}

#[pyfunction]
fn _live_disable(py: Python<'_>) -> PyResult<()> {
    event(py, || Ok(live::disable()?))
}

#[pyfunction]
fn _live_status(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let status = py.detach(live::status);
    let reason: Vec<u8> = status
        .reason
        .iter()
        .map(|byte| byte.to_ne_bytes()[0])
        .take_while(|byte| *byte != 0)
        .collect();
    Ok(dict!(py, {
        "enabled": status.enabled != 0,
        "mechanisms": status.mechanisms,
        "write_method": status.write_method,
        "sites": status.sites,
        "foreign_sites": status.foreign_sites,
        "lost_sites": status.lost_sites,
        "blind_objects": status.blind_objects,
        "events": status.events,
        "late": status.late,
        "missed": status.missed,
        "nested": status.nested,
        "release_timeouts": status.release_timeouts,
        "epoch": status.epoch,
        "reason": String::from_utf8_lossy(&reason),
    }))
}

#[pyfunction]
fn _live_epoch() -> u64 {
    epoch::epoch()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("LiveQueue", module.py().get_type::<Queue>())?;
    module.add("LiveWatch", module.py().get_type::<Watch>())?;
    module.add_function(wrap_pyfunction!(_live_enable, module)?)?;
    module.add_function(wrap_pyfunction!(_live_disable, module)?)?;
    module.add_function(wrap_pyfunction!(_live_status, module)?)?;
    module.add_function(wrap_pyfunction!(_live_epoch, module)?)
}
