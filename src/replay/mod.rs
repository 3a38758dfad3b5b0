//! Recorded programs: reads what `strace -f -e trace=%memory,%process` prints, rebuilds the address spaces, and feeds each
//! change to a [`Sink`] as the pair of start and end that the kernel makes (floor 6, upon api).
//!
//! Rooms inside: `lines` takes lines, `line` reads one, `values` and `request` read its arguments, `space` is the model of
//! one address space, `effect` says what a call does to it, `programs` knows which thread runs in which, `maps` compares the
//! model with `/proc/PID/maps`, `run` puts them together, and `threads` finds out whose line it is. `drive` makes the
//! events on address spaces of the library. No unsafe code, no lock, no thread.
//!
//! What the trace does not tell
//! * Page faults and reclaim: their events are not replayed (SPEC 4.4: COW, THP, KSM, migration by the kernel).
//! * What the kernel maps at execve: it is learnt where the program changes it, or from a snapshot of `/proc/PID/maps`.
//! * Which pages a private mapping has of its own: fork write-protects every one that was writable at some time.
//! * With no `%process` in it, a trace is that of one process, and all its pids are threads of that.
//!
//! A thread's first line may come before the end of the clone that made it: it is then the child of the clone that is
//! under way, or, if there are several, of the one whose end names it further down.
#![expect(
    clippy::missing_errors_doc,
    reason = "errors are the input's and the sink's own"
)]

mod drive;
mod effect;
mod line;
mod lines;
mod maps;
mod names;
mod programs;
mod request;
mod run;
mod space;
mod summary;
#[cfg(test)]
mod tests;
mod threads;
mod values;

use std::io;

pub use crate::abi::notifier::mmu_notifier_event as Event;
pub use drive::{Audience, Drive};
pub use effect::Range;
pub use maps::{Difference, Moment, Snapshot};
pub use names::Names;
pub use run::Replay;
pub use space::{Content, Mapping, PAGE, Paint, Space};
pub use summary::{Hot, Summary, Total, Unread};

/// Where in the trace something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the line, from 1.
    pub line: u64,
    /// Microseconds, where the trace has times; never falls.
    pub time: Option<u64>,
    /// The process.
    pub pid: u32,
    /// The address space: numbers count from 0 and are used once.
    pub space: u32,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it begins.
    pub place: Place,
    /// The system call.
    pub call: &'static str,
    /// Why, and which bytes.
    pub range: Range,
}

/// Who is told of what happens. The first error ends the replay.
pub trait Sink {
    /// What a start hands to its end.
    type Range;
    /// What can go wrong.
    type Error;

    /// An address space comes into being: of a new process, by execve, or by a fork of `parent`.
    fn created(&mut self, place: Place, parent: Option<u32>) -> Result<(), Self::Error>;
    /// A range is about to change.
    fn start(&mut self, change: &Change) -> Result<Self::Range, Self::Error>;
    /// It has changed. Ranges of different threads overlap where the trace says so.
    fn end(&mut self, change: &Change, range: Self::Range) -> Result<(), Self::Error>;
    /// The last process that used the address space is gone, or has called execve.
    fn released(&mut self, place: Place) -> Result<(), Self::Error>;
    /// What is mapped where, after a change; only if [`Replay::watch_mappings`] asked for it.
    fn painted(&mut self, place: Place, paint: &[Paint]) -> Result<(), Self::Error> {
        let _ = (place, paint);
        Ok(())
    }
}

/// Why a replay ends early.
#[derive(Debug)]
pub enum Error<E> {
    /// The trace cannot be read.
    Input(io::Error),
    /// The sink's own.
    Sink(E),
}

impl<E> From<io::Error> for Error<E> {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}
