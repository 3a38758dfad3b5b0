//! What happened in a run, as plain data.

use core::fmt;
use core::time::Duration;

use crate::sync::hook::WaitReason;
use crate::sync::point::Kind;

/// One thing that one thread did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The step in which it happened, from 0.
    pub step: usize,
    /// The thread, an index of [`Run::threads`].
    pub thread: usize,
    /// What happened.
    pub what: What,
}

/// What happened. Objects are indices of [`Run::objects`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The thread began.
    Began,
    /// It went on from a schedule point, with what it had announced there.
    Did(Kind, Option<usize>),
    /// It took or released a lock within a step.
    Noted(Kind, Option<usize>),
    /// It went to sleep in the library.
    Slept(WaitReason),
    /// It stands before a lock that another thread holds.
    WaitsFor(usize),
    /// It slept, was woken, and goes on.
    Woke,
    /// It said something ([`super::note`]).
    Said(String),
    /// It is over.
    Finished,
    /// It failed: a panic, an exception or an error of its own.
    Failed(String),
}

/// What was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An invariant does not hold.
    Invariant(String),
    /// A thread failed: a panic, an exception, an error.
    Failed {
        /// Its name.
        thread: String,
        /// What it said.
        message: String,
    },
    /// Nobody can go on: who waits for what.
    Deadlock(Vec<String>),
    /// A thread did not come back to a schedule point in time: it is blocked on something that is not ours, or loops.
    Outside {
        /// Its name.
        thread: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The library reported a broken rule.
    Report {
        /// The thread that broke it.
        thread: String,
        /// The report, which names the rule.
        text: String,
    },
    /// A thread sleeps, or may sleep, inside a callback of a range that is not blockable (SPEC 4.3-5).
    NonBlockable {
        /// Its name.
        thread: String,
        /// What it does there.
        what: String,
    },
    /// A range was started and never ended.
    Unended {
        /// Who started it.
        thread: String,
    },
    /// The run does not come to an end.
    TooLong(usize),
    /// A schedule that was to be replayed asks for a thread that cannot run.
    NotRunnable {
        /// The step, from 0.
        step: usize,
        /// The thread's name.
        thread: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invariant(message) => write!(f, "{message}"),
            Self::Failed { thread, message } => write!(f, "{thread} failed: {message}"),
            Self::Deadlock(waits) => write!(f, "deadlock: {}", waits.join("; ")),
            Self::Outside { thread, patience } => write!(
                f,
                "{thread} is blocked outside: no schedule point within {} s (a lock that is not the scenario's, or an endless loop)",
                patience.as_secs_f64()
            ),
            Self::Report { thread, text } => write!(f, "{thread}: {text}"),
            Self::NonBlockable { thread, what } => write!(
                f,
                "{thread} {what} inside a callback of a range that is not blockable (SPEC 4.3-5)"
            ),
            Self::Unended { thread } => {
                write!(
                    f,
                    "a range that {thread} started was never ended (SPEC RS-9)"
                )
            }
            Self::TooLong(steps) => write!(f, "the run does not end within {steps} steps"),
            Self::NotRunnable { step, thread } => {
                write!(f, "step {step} of the schedule: {thread} cannot run")
            }
        }
    }
}

/// One run of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Names of the threads. The first one is the library's worker.
    pub threads: Vec<String>,
    /// Names of the objects.
    pub objects: Vec<String>,
    /// Who ran, step by step; running it again gives the same trace.
    pub schedule: Vec<String>,
    /// What happened.
    pub events: Vec<Event>,
    /// The first thing that was wrong.
    pub violation: Option<Violation>,
    /// How often a thread was interrupted although it could have gone on.
    pub preemptions: u32,
    /// Were threads left asleep for ever, or ranges never ended? Then nothing was torn down.
    pub leaked: bool,
}

/// The name of an operation, as drivers spell it.
pub const fn operation(kind: Kind) -> &'static str {
    match kind {
        Kind::MMU_NOTIFIER_EXPLORE_POINT => "point",
        Kind::MMU_NOTIFIER_EXPLORE_YIELD => "yield",
        Kind::MMU_NOTIFIER_EXPLORE_LOCK => "lock",
        Kind::MMU_NOTIFIER_EXPLORE_TRYLOCK => "trylock",
        Kind::MMU_NOTIFIER_EXPLORE_TAKEN => "takes",
        Kind::MMU_NOTIFIER_EXPLORE_UNLOCK => "unlock",
        Kind::MMU_NOTIFIER_EXPLORE_LOAD => "load",
        Kind::MMU_NOTIFIER_EXPLORE_STORE => "store",
        Kind::MMU_NOTIFIER_EXPLORE_READ_BEGIN => "read_begin",
        Kind::MMU_NOTIFIER_EXPLORE_READ_RETRY => "read_retry",
        Kind::MMU_NOTIFIER_EXPLORE_CHECK_RETRY => "check_retry",
        Kind::MMU_NOTIFIER_EXPLORE_SET_SEQ => "set_seq",
        Kind::MMU_NOTIFIER_EXPLORE_INSERT => "insert",
        Kind::MMU_NOTIFIER_EXPLORE_REMOVE => "remove",
        Kind::MMU_NOTIFIER_EXPLORE_REGISTER => "register",
        Kind::MMU_NOTIFIER_EXPLORE_UNREGISTER => "unregister",
        Kind::MMU_NOTIFIER_EXPLORE_GET => "get",
        Kind::MMU_NOTIFIER_EXPLORE_PUT => "put",
        Kind::MMU_NOTIFIER_EXPLORE_SYNCHRONIZE => "synchronize",
        Kind::MMU_NOTIFIER_EXPLORE_START => "invalidate_start",
        Kind::MMU_NOTIFIER_EXPLORE_START_NONBLOCK => "invalidate_start_nonblock",
        Kind::MMU_NOTIFIER_EXPLORE_NONBLOCK_DONE => "nonblock_done",
        Kind::MMU_NOTIFIER_EXPLORE_END => "invalidate_end",
        Kind::MMU_NOTIFIER_EXPLORE_SECONDARY => "secondary",
        Kind::MMU_NOTIFIER_EXPLORE_MM_LOCK => "mm_lock",
        Kind::MMU_NOTIFIER_EXPLORE_MM_UNLOCK => "mm_unlock",
        Kind::MMU_NOTIFIER_EXPLORE_REFERENCE => "reference",
        Kind::MMU_NOTIFIER_EXPLORE_CHANGE => "change",
        Kind::MMU_NOTIFIER_EXPLORE_MIGHT_SLEEP => "might_sleep",
    }
}

/// What the objects of such operations are.
pub(super) const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::MMU_NOTIFIER_EXPLORE_LOCK
        | Kind::MMU_NOTIFIER_EXPLORE_TRYLOCK
        | Kind::MMU_NOTIFIER_EXPLORE_TAKEN
        | Kind::MMU_NOTIFIER_EXPLORE_UNLOCK => "lock",
        Kind::MMU_NOTIFIER_EXPLORE_LOAD | Kind::MMU_NOTIFIER_EXPLORE_STORE => "word",
        Kind::MMU_NOTIFIER_EXPLORE_READ_BEGIN
        | Kind::MMU_NOTIFIER_EXPLORE_READ_RETRY
        | Kind::MMU_NOTIFIER_EXPLORE_CHECK_RETRY
        | Kind::MMU_NOTIFIER_EXPLORE_SET_SEQ
        | Kind::MMU_NOTIFIER_EXPLORE_INSERT
        | Kind::MMU_NOTIFIER_EXPLORE_REMOVE => "interval",
        Kind::MMU_NOTIFIER_EXPLORE_REGISTER
        | Kind::MMU_NOTIFIER_EXPLORE_UNREGISTER
        | Kind::MMU_NOTIFIER_EXPLORE_GET
        | Kind::MMU_NOTIFIER_EXPLORE_PUT => "notifier",
        Kind::MMU_NOTIFIER_EXPLORE_POINT | Kind::MMU_NOTIFIER_EXPLORE_YIELD => "object",
        _ => "mm",
    }
}

/// What a thread that sleeps waits for.
pub(super) const fn awaited(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::MMU_NOTIFIER_WAIT_LOCK => "a spin lock",
        WaitReason::MMU_NOTIFIER_WAIT_MMAP_LOCK => "the mmap_lock",
        WaitReason::MMU_NOTIFIER_WAIT_RMAP_LOCK => "the reverse-map lock",
        WaitReason::MMU_NOTIFIER_WAIT_READ_BEGIN => "the end of a busy period, in read_begin",
        WaitReason::MMU_NOTIFIER_WAIT_REMOVE => "the end of a busy period, in remove",
        WaitReason::MMU_NOTIFIER_WAIT_GRACE_PERIOD => "a grace period",
        WaitReason::MMU_NOTIFIER_WAIT_FREE => "free_notifier calls that are owed",
        WaitReason::MMU_NOTIFIER_WAIT_IDLE => "work",
        WaitReason::MMU_NOTIFIER_WAIT_RELEASE => "the release stage of a range",
        WaitReason::MMU_NOTIFIER_WAIT_EVENT => "an event in a queue",
    }
}

impl Run {
    /// The name of an object, with a blank in front; nothing for none.
    fn object(&self, object: Option<usize>) -> String {
        object.map_or(String::new(), |object| format!(" {}", self.objects[object]))
    }

    /// An event as a few words.
    pub fn describe(&self, what: &What) -> String {
        match what {
            What::Began => "begins".to_owned(),
            // It was released before.
            What::Did(Kind::MMU_NOTIFIER_EXPLORE_UNLOCK, _) => "goes on".to_owned(),
            What::Did(kind, object) | What::Noted(kind, object) => {
                format!("{}{}", operation(*kind), self.object(*object))
            }
            What::Slept(reason) => format!("sleeps: waits for {}", awaited(*reason)),
            What::WaitsFor(lock) => format!("waits for {}", self.objects[*lock]),
            What::Woke => "wakes".to_owned(),
            What::Said(text) => text.clone(),
            What::Finished => "is over".to_owned(),
            What::Failed(message) => format!("fails: {message}"),
        }
    }
}

/// The trace for readers: a line for each step, with a column for its thread's name.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.threads.iter().map(String::len).max().unwrap_or(0);
        let mut at = None;
        for event in &self.events {
            let what = self.describe(&event.what);
            if at == Some((event.step, event.thread)) {
                write!(f, ", {what}")?;
                continue;
            }
            if at.is_some() {
                writeln!(f)?;
            }
            let name = &self.threads[event.thread];
            write!(f, "{:4}  {name:width$}  {what}", event.step)?;
            at = Some((event.step, event.thread));
        }
        if at.is_some() {
            writeln!(f)?;
        }
        match &self.violation {
            Some(violation) => writeln!(f, "violation: {violation}"),
            None => writeln!(f, "no violation"),
        }
    }
}
