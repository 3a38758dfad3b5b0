//! Replays of recorded programs: the compiled half of `_replay.py`.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mmu_notifier::api;
use mmu_notifier::replay::{
    Audience, Change, Content, Drive, Error, Event, Moment, Paint, Place, Replay as Core, Snapshot,
};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::calls;
use crate::errors;
use crate::mm::Mm;

/// Why a replay stops.
enum Stop {
    Library(api::Error),
    Raised(PyErr),
    /// A callback raised: the exception waits in the notes of the call.
    Noted,
}

impl From<api::Error> for Stop {
    fn from(error: api::Error) -> Self {
        Self::Library(error)
    }
}

/// Numbers of one kind, one for each event, as bytes in the machine's order.
#[derive(Default)]
struct Columns {
    columns: HashMap<&'static str, Vec<u8>>,
}

impl Columns {
    fn push<const BYTES: usize>(&mut self, name: &'static str, bytes: [u8; BYTES]) {
        self.columns.entry(name).or_default().extend(bytes);
    }

    fn place(&mut self, place: Place) {
        self.push("line", place.line.to_ne_bytes());
        self.push("time", place.time.unwrap_or(u64::MAX).to_ne_bytes());
        self.push("space", place.space.to_ne_bytes());
        self.push("pid", place.pid.to_ne_bytes());
    }

    fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, bytes) in &self.columns {
            dict.set_item(name, PyBytes::new(py, bytes))?;
        }
        Ok(dict)
    }
}

/// The Python object that subscribes, and what is kept for pictures.
struct Listener {
    audience: Py<PyAny>,
    mms: HashMap<u32, Py<Mm>>,
    /// The audience wants to hear of every change.
    every: bool,
    kept: Option<(Columns, Columns)>,
}

fn attached<T>(act: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T, Stop> {
    Python::attach(act).map_err(Stop::Raised)
}

impl Audience for Listener {
    type Error = Stop;

    fn created(&mut self, place: Place, parent: Option<u32>, mm: &api::Mm) -> Result<(), Stop> {
        attached(|py| {
            let object = Py::new(py, Mm::from(mm.clone()))?;
            let arguments = (&object, place.space, place.pid, parent, place.line);
            self.audience.call_method1(py, "created", arguments)?;
            self.mms.insert(place.space, object);
            Ok(())
        })
    }

    fn started(&mut self, change: &Change, mm: &api::Mm) -> Result<(), Stop> {
        if let Some((events, _)) = &mut self.kept {
            let (seq, active) = mm.seq_and_active();
            events.place(change.place);
            events.push("start", change.range.start.to_ne_bytes());
            events.push("end", change.range.end.to_ne_bytes());
            events.push("event", [change.range.event as u8]);
            events.push("seq", seq.to_ne_bytes());
            events.push("active", (active as u64).to_ne_bytes());
        }
        Ok(())
    }

    fn changed(&mut self, change: &Change, _: &api::Mm, idle: bool) -> Result<(), Stop> {
        if calls::is_noted() {
            return Err(Stop::Noted);
        }
        if idle && (self.every || calls::take_woken()) {
            let range = change.range;
            let arguments = (
                change.place.space,
                range.start,
                range.end,
                range.event as u32,
                change.call,
                change.place.line,
            );
            attached(|py| {
                self.audience
                    .call_method1(py, "changed", arguments)
                    .map(drop)
            })?;
        }
        Ok(())
    }

    fn ended(&mut self, place: Place) -> Result<(), Stop> {
        let Some(object) = self.mms.remove(&place.space) else {
            return Ok(());
        };
        attached(|py| {
            // The last user: RELEASE and `release` come now.
            object.call_method0(py, "close")?;
            self.audience
                .call_method1(py, "ended", (place.space, place.line))?;
            Ok(())
        })
    }

    fn painted(&mut self, place: Place, paint: &[Paint]) -> Result<(), Stop> {
        if let Some((_, mappings)) = &mut self.kept {
            for one in paint {
                mappings.place(place);
                mappings.push("start", one.start.to_ne_bytes());
                mappings.push("end", one.end.to_ne_bytes());
                mappings.push("look", [look(one)]);
                mappings.push("file", file(one).to_ne_bytes());
            }
        }
        Ok(())
    }
}

/// 0: nothing. 1 to 5: memory, heap, file, segment, unknown; plus 8 if it may be executed.
fn look(paint: &Paint) -> u8 {
    let Some(mapping) = paint.mapping else {
        return 0;
    };
    let content = match mapping.content {
        Content::Anonymous => 1,
        Content::Heap => 2,
        Content::File(_) => 3,
        Content::Segment => 4,
        Content::Unknown => 5,
    };
    content + if mapping.protection & 4 == 0 { 0 } else { 8 }
}

fn file(paint: &Paint) -> u32 {
    match paint.mapping.map(|mapping| mapping.content) {
        Some(Content::File(number)) => number,
        _ => 0,
    }
}

type Running = Core<BufReader<File>, Drive<Listener>>;

/// A replay under way. `audience` has the methods `created`, `changed` and `ended`.
#[pyclass(frozen, module = "mmu_notifier._mmu_notifier")]
struct Replay {
    core: Mutex<Option<Running>>,
}

impl Replay {
    fn core(&self) -> MutexGuard<'_, Option<Running>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T>(&self, look: impl FnOnce(&Running) -> PyResult<T>) -> PyResult<T> {
        self.core().as_ref().map_or_else(|| Err(busy()), look)
    }
}

fn busy() -> PyErr {
    PyRuntimeError::new_err(
        "the replay is under way on another thread, or was stopped by an exception",
    )
}

#[pymethods]
impl Replay {
    #[new]
    #[pyo3(signature = (path, audience, *, every, keep, snapshots))]
    fn new(
        path: &str,
        audience: Py<PyAny>,
        every: bool,
        keep: bool,
        snapshots: Vec<(u64, bool, String)>,
    ) -> PyResult<Self> {
        let listener = Listener {
            audience,
            mms: HashMap::new(),
            every,
            kept: keep.then(Default::default),
        };
        let input = BufReader::with_capacity(1 << 18, File::open(path)?);
        let mut core = Core::new(input, Drive::new(listener));
        if keep {
            core.watch_mappings();
        }
        core.add_snapshots(snapshots.into_iter().map(|(line, exit, text)| Snapshot {
            line,
            moment: if exit { Moment::Exit } else { Moment::Exec },
            text,
        }));
        Ok(Self {
            core: Mutex::new(Some(core)),
        })
    }

    /// Replays up to so many lines; False at the end. An exception of the audience or of a callback ends the replay.
    fn advance(&self, py: Python<'_>, lines: u64) -> PyResult<bool> {
        let mut core = self.core().take().ok_or_else(busy)?;
        let (result, notes) = calls::noting(py, || {
            for _ in 0..lines {
                if !core.step()? {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        notes.settle(py)?;
        match result {
            Ok(more) => {
                *self.core() = Some(core);
                Ok(more)
            }
            Err(Error::Input(error)) => Err(PyOSError::new_err(error)),
            Err(Error::Sink(Stop::Library(error))) => Err(errors::raise(py, error)),
            Err(Error::Sink(Stop::Raised(error))) => Err(error),
            Err(Error::Sink(Stop::Noted)) => Ok(false),
        }
    }

    /// Asks for `changed` as soon as nothing is in flight. To be called from a callback.
    #[staticmethod]
    fn wake() {
        calls::wake();
    }

    /// Lines and bytes that were read.
    fn progress(&self) -> PyResult<(u64, u64)> {
        self.look(|core| Ok(core.progress()))
    }

    /// Counts, by name.
    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.look(|core| summary(py, core))
    }

    /// Names of files by number.
    fn file(&self, number: u32) -> PyResult<Option<String>> {
        self.look(|core| Ok(core.names().name(number).map(str::to_owned)))
    }

    /// Where model and snapshots differ: pid, line, start, end, model, kernel. And how many were compared.
    #[expect(clippy::type_complexity, reason = "a row of a table")]
    fn differences(&self) -> PyResult<(Vec<(u32, u64, u64, u64, String, String)>, u64)> {
        self.look(|core| {
            let (found, compared) = core.differences();
            let rows = found.iter().map(|one| {
                let (model, kernel) = (one.model.clone(), one.kernel.clone());
                (
                    one.place.pid,
                    one.place.line,
                    one.start,
                    one.end,
                    model,
                    kernel,
                )
            });
            Ok((rows.collect(), compared))
        })
    }

    /// What was kept, as columns of numbers: events and mappings.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        self.look(|core| {
            let nothing = Default::default();
            let (events, mappings) = core.sink.audience.kept.as_ref().unwrap_or(&nothing);
            Ok((events.dict(py)?, mappings.dict(py)?))
        })
    }
}

fn summary<'py>(py: Python<'py>, core: &Running) -> PyResult<Bound<'py, PyDict>> {
    let summary = core.summary();
    let dict = PyDict::new(py);
    for (name, count) in [
        ("lines", summary.lines),
        ("calls", summary.calls),
        ("processes", summary.processes),
        ("spaces", summary.spaces),
        ("forks", summary.forks),
        ("execs", summary.execs),
        ("unreadable", summary.unreadable),
        ("unknown_lengths", summary.unknown_lengths),
        ("busy_periods", core.sink.busy_periods()),
    ] {
        dict.set_item(name, count)?;
    }
    let kinds = [
        Event::MMU_NOTIFY_UNMAP,
        Event::MMU_NOTIFY_CLEAR,
        Event::MMU_NOTIFY_PROTECTION_VMA,
        Event::MMU_NOTIFY_PROTECTION_PAGE,
    ];
    let totals = kinds.map(|kind| {
        let total = summary.total(kind);
        (kind as u32, total.events, total.bytes)
    });
    dict.set_item("totals", totals)?;
    let unread = summary
        .unread
        .iter()
        .map(|one| (one.line, one.text.clone()));
    dict.set_item("unread", unread.collect::<Vec<_>>())?;
    dict.set_item("not_followed", &summary.not_followed)?;
    let hot = summary.hottest(10).into_iter();
    dict.set_item(
        "hottest",
        hot.map(|hot| (hot.start, hot.end, hot.events))
            .collect::<Vec<_>>(),
    )?;
    Ok(dict)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Replay>()
}
