//! Scenarios and their exploration: what `scenario.py` stands upon.
//!
//! The crate of the C interface is linked in as well, for nothing but its exports: a driver in C that is loaded into this process finds
//! the functions of the library in this very module, and so the one core of the process.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mmu_notifier::explore::{
    self, Exploration, Lock, LockError, Options, Run, Scenario, Session, StartError, What,
};
use mmu_notifier_ffi as _;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

create_exception!(
    mmu_notifier,
    Abandoned,
    PyException,
    "A scenario gives up: nothing that its threads do counts any more, and they are to end."
);

thread_local! {
    /// Is this thread in a function of a driver in C? ctypes has released the interpreter, and PyO3 does not know.
    static IN_C: Cell<bool> = const { Cell::new(false) };
}

/// A waiting thread lets others have the interpreter.
fn detached(wait: &mut (dyn FnMut() + Send)) {
    if IN_C.get() {
        wait();
    } else {
        Python::attach(|py| py.detach(wait));
    }
}

/// The calling thread enters a function of a driver in C, through ctypes, or has come back.
#[pyfunction]
fn _in_c(is_inside: bool) {
    IN_C.set(is_inside);
}

/// Limits, as Python gives them: the time in seconds.
#[derive(FromPyObject)]
struct Limits {
    #[pyo3(item)]
    preemptions: Option<u32>,
    #[pyo3(item)]
    max_schedules: Option<u64>,
    #[pyo3(item)]
    max_steps: usize,
    #[pyo3(item)]
    shorten: u64,
    #[pyo3(item)]
    patience: f64,
}

impl Limits {
    fn options(&self) -> PyResult<Options> {
        let patience = Duration::try_from_secs_f64(self.patience)
            .map_err(|error| PyValueError::new_err(format!("patience: {error}")))?;
        Ok(Options {
            patience,
            around: Some(detached),
            preemptions: self.preemptions,
            max_schedules: self.max_schedules,
            max_steps: self.max_steps,
            shorten: self.shorten,
        })
    }
}

/// What a setup returns, callables: threads, by their names; invariants and conditions at the end, which return what is wrong or
/// None; the state function; what is to be called last.
#[derive(FromPyObject)]
struct Parts(
    Vec<(String, Py<PyAny>)>,
    Vec<Py<PyAny>>,
    Vec<Py<PyAny>>,
    Option<Py<PyAny>>,
    Py<PyAny>,
);

/// "ValueError: no such page".
fn describe(py: Python<'_>, error: &PyErr) -> String {
    let name = error.get_type(py).name();
    let name = name.map_or_else(|_| "?".to_owned(), |name| name.to_string());
    format!("{name}: {}", error.value(py))
}

fn body(run: Py<PyAny>) -> impl FnOnce() -> Result<(), String> + Send + 'static {
    move || {
        Python::attach(|py| {
            let result = run.bind(py).call0();
            drop(run);
            result.map(drop).map_err(|error| describe(py, &error))
        })
    }
}

fn check(py: Python<'_>, what: &Py<PyAny>) -> PyResult<Option<String>> {
    what.bind(py).call0()?.extract()
}

/// A KeyboardInterrupt that came while Python ran for the explorer: it is raised when the search, which it ends, is over.
#[derive(Clone, Default)]
struct Stopped(Arc<Mutex<Option<PyErr>>>);

impl Stopped {
    fn error(&self) -> MutexGuard<'_, Option<PyErr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an error that ends the search; gives back any other.
    fn keep(&self, py: Python<'_>, error: PyErr) -> Result<(), PyErr> {
        if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            self.error().get_or_insert(error);
            return Ok(());
        }
        Err(error)
    }
}

impl Parts {
    fn build(self, scenario: &mut Scenario, stopped: &Stopped) {
        let Self(threads, invariants, at_end, state, close) = self;
        for (name, run) in threads {
            scenario.thread(&name, body(run));
        }
        let checked = |what: Py<PyAny>| {
            let stopped = stopped.clone();
            move || {
                let said = Python::attach(|py| {
                    check(py, &what).unwrap_or_else(|error| {
                        let said = describe(py, &error);
                        drop(stopped.keep(py, error));
                        Some(said)
                    })
                });
                said.map_or(Ok(()), Err)
            }
        };
        for invariant in invariants {
            scenario.invariant(checked(invariant));
        }
        for condition in at_end {
            scenario.at_end(checked(condition));
        }
        if let Some(state) = state {
            scenario.state(move || {
                Python::attach(|py| {
                    let number = state.bind(py).call0().and_then(|number| number.extract());
                    number.unwrap_or_else(|error: PyErr| {
                        error.write_unraisable(py, None);
                        0
                    })
                })
            });
        }
        let stopped = stopped.clone();
        scenario.finally(move || {
            Python::attach(|py| {
                let closed = close.bind(py).call0();
                let closed = closed.map(drop).or_else(|error| stopped.keep(py, error));
                if let Err(error) = closed {
                    error.write_unraisable(py, None);
                }
            });
        });
    }
}

/// Runs `search` with a setup that calls `make`. An exception of it, or of a signal handler, ends the search.
fn with_setup<T: Send>(
    py: Python<'_>,
    make: &Py<PyAny>,
    search: impl FnOnce(&mut dyn FnMut(&mut Scenario) -> Result<(), String>) -> Result<T, StartError>
    + Send,
) -> PyResult<T> {
    let stopped = Stopped::default();
    let result = py.detach(|| {
        let mut setup = |scenario: &mut Scenario| {
            if stopped.error().is_some() {
                return Err("interrupted".to_owned());
            }
            Python::attach(|py| {
                py.check_signals()?;
                make.bind(py).call0()?.extract::<Parts>()
            })
            .map(|parts| parts.build(scenario, &stopped))
            .map_err(|error| {
                *stopped.error() = Some(error);
                "the setup raised".to_owned()
            })
        };
        search(&mut setup)
    });
    let raised = stopped.error().take();
    match raised {
        Some(error) => Err(error),
        None => result.map_err(|error| start_error(&error)),
    }
}

fn start_error(error: &StartError) -> PyErr {
    PyRuntimeError::new_err(match error {
        StartError::Busy => format!("{error}; one that was stepped runs until close()"),
        _ => error.to_string(),
    })
}

/// A run as plain data: events are (step, thread, state, op, object, text).
fn run_dict<'py>(py: Python<'py>, run: &Run) -> PyResult<Bound<'py, PyDict>> {
    let events: Vec<_> = run
        .events
        .iter()
        .map(|event| {
            let (state, op, object) = parts_of(run, &event.what);
            let text = run.describe(&event.what);
            (
                event.step,
                &run.threads[event.thread],
                state,
                op,
                object,
                text,
            )
        })
        .collect();
    Ok(dict!(py, {
        "threads": &run.threads,
        "schedule": &run.schedule,
        "preemptions": run.preemptions,
        "leaked": run.leaked,
        "violation": run.violation.as_ref().map(ToString::to_string),
        "text": run.to_string(),
        "events": events,
    }))
}

/// How an event counts in a trace; its operation and its object, where it has them.
fn parts_of<'a>(
    run: &'a Run,
    what: &What,
) -> (&'static str, Option<&'static str>, Option<&'a str>) {
    let name = |object: Option<usize>| object.map(|object| run.objects[object].as_str());
    match what {
        What::Began => ("running", Some("begin"), None),
        What::Did(kind, object) => ("running", Some(explore::operation(*kind)), name(*object)),
        What::Noted(kind, object) => ("noted", Some(explore::operation(*kind)), name(*object)),
        What::Slept(_) => ("blocked", None, None),
        What::WaitsFor(lock) => ("blocked", Some("lock"), name(Some(*lock))),
        What::Woke => ("woken", None, None),
        What::Said(_) => ("said", None, None),
        What::Finished => ("finished", None, None),
        What::Failed(_) => ("failed", None, None),
    }
}

#[pyfunction]
fn _explore<'py>(py: Python<'py>, make: Py<PyAny>, limits: Limits) -> PyResult<Bound<'py, PyDict>> {
    let options = limits.options()?;
    let found: Exploration = with_setup(py, &make, |setup| explore::explore(setup, &options))?;
    let run = found.violation.as_ref();
    Ok(dict!(py, {
        "violation": run.map(|run| run_dict(py, run)).transpose()?,
        "schedules": found.schedules,
        "states": found.states,
        "steps": found.steps,
        "pruned": found.pruned,
        "exhaustive": found.exhaustive,
        "unbounded": found.unbounded,
        "seconds": found.took.as_secs_f64(),
    }))
}

#[pyfunction]
fn _run<'py>(
    py: Python<'py>,
    make: Py<PyAny>,
    schedule: Vec<String>,
    limits: Limits,
) -> PyResult<Bound<'py, PyDict>> {
    let options = limits.options()?;
    let run = with_setup(py, &make, |setup| explore::run(setup, &schedule, &options))?;
    run_dict(py, &run)
}

/// A session that is stepped by hand.
#[pyclass(module = "mmu_notifier")]
struct _Session(Option<Session>);

impl _Session {
    fn session(&mut self) -> PyResult<&mut Session> {
        self.0
            .as_mut()
            .ok_or_else(|| PyRuntimeError::new_err("the session is over"))
    }
}

#[pymethods]
impl _Session {
    #[new]
    fn new(py: Python<'_>, threads: Vec<(String, Py<PyAny>)>, limits: Limits) -> PyResult<Self> {
        let options = limits.options()?;
        let session = py.detach(|| Session::begin(options));
        let session = session.map_err(|error| start_error(&error))?;
        for (name, run) in threads {
            session.spawn(&name, body(run))?;
        }
        Ok(Self(Some(session)))
    }

    /// One step of the thread of this name; how it is then.
    fn step(&mut self, py: Python<'_>, name: &str) -> PyResult<String> {
        let session = self.session()?;
        let Some(thread) = session.find(name) else {
            return Err(PyRuntimeError::new_err(format!(
                "no thread is named {name}"
            )));
        };
        py.detach(|| session.step(thread))
            .map_err(|violation| PyRuntimeError::new_err(violation.to_string()))?;
        Ok(session.describe(thread))
    }

    /// Lets everybody run on, and ends the session. Says whether threads are left that sleep for ever.
    fn close(&mut self, py: Python<'_>) -> bool {
        let session = self.0.take();
        py.detach(|| session.is_some_and(|session| session.finish().leaked))
    }

    fn describe(&mut self, name: &str) -> PyResult<String> {
        let session = self.session()?;
        let thread = session.find(name);
        Ok(thread.map_or("unknown".to_owned(), |thread| session.describe(thread)))
    }

    fn runnable(&mut self) -> PyResult<Vec<String>> {
        let session = self.session()?;
        let run = session.so_far();
        let names = session.runnable();
        Ok(names
            .into_iter()
            .map(|thread| run.threads[thread].clone())
            .collect())
    }

    fn is_over(&mut self) -> PyResult<bool> {
        Ok(self.session()?.is_over())
    }

    /// What has happened, as a run.
    fn so_far<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let run = self.session()?.so_far();
        run_dict(py, &run)
    }
}

impl Drop for _Session {
    fn drop(&mut self) {
        // Its threads need the interpreter to end.
        Python::attach(|py| self.close(py));
    }
}

/// A driver's lock in scenarios: a mutex, as `threading.Lock`, but the scheduler knows who holds it and who waits.
///
/// Outside of a scenario's threads (in a setup) it can be acquired while it is free.
#[pyclass(frozen, module = "mmu_notifier")]
struct ScenarioLock(Arc<Lock>);

#[pymethods]
impl ScenarioLock {
    #[new]
    #[pyo3(signature = (name = "lock"))]
    fn new(name: &str) -> Self {
        Self(Arc::new(Lock::new(name)))
    }

    /// Takes the lock; waits for it unless `blocking` is False. Says whether it was taken. A schedule point.
    ///
    /// Waiting is a violation in a callback of a range that is not blockable. Raises `Abandoned` when the scenario gives up;
    /// `RuntimeError` where the lock is held and no thread of a scenario asks for it.
    #[pyo3(signature = (blocking = true))]
    fn acquire(&self, py: Python<'_>, blocking: bool) -> PyResult<bool> {
        let lock = Arc::clone(&self.0);
        if !blocking {
            return Ok(py.detach(|| lock.try_acquire()));
        }
        match py.detach(|| lock.acquire()) {
            Ok(()) => Ok(true),
            Err(LockError::Abandoned) => Err(Abandoned::new_err(LockError::Abandoned.to_string())),
            Err(error) => Err(PyRuntimeError::new_err(error.to_string())),
        }
    }

    /// Releases the lock. A schedule point, afterwards. Raises `RuntimeError` if it is not held.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let lock = Arc::clone(&self.0);
        let held = py.detach(|| lock.release());
        held.then_some(())
            .ok_or_else(|| PyRuntimeError::new_err("release of a lock that is not held"))
    }

    /// Is it held by anybody?
    fn locked(&self) -> bool {
        self.0.is_held()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.acquire(slf.py(), true)?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _exc_info: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<()> {
        self.release(py)
    }
}

/// A schedule point: other threads of the scenario may run here. Outside of one, nothing.
#[pyfunction]
fn point(py: Python<'_>) {
    py.detach(explore::point);
}

/// The calling thread spins, and waits for others of the scenario to go on. Outside of one, nothing.
#[pyfunction]
fn spin(py: Python<'_>) {
    py.detach(explore::yield_now);
}

/// Writes a remark into the trace of the scenario that the calling thread belongs to. Outside of one, nothing.
#[pyfunction]
fn note(text: &str) {
    explore::note(text);
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Abandoned", module.py().get_type::<Abandoned>())?;
    module.add_class::<_Session>()?;
    module.add_class::<ScenarioLock>()?;
    module.add_function(wrap_pyfunction!(_explore, module)?)?;
    module.add_function(wrap_pyfunction!(_run, module)?)?;
    module.add_function(wrap_pyfunction!(_in_c, module)?)?;
    module.add_function(wrap_pyfunction!(point, module)?)?;
    module.add_function(wrap_pyfunction!(spin, module)?)?;
    module.add_function(wrap_pyfunction!(note, module)?)
}
