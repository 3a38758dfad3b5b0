//! WARN and BUG (floor 1): what is reported, to whom, and the value in which misuse leaves the core (DV-3, DV-17).
//!
//! Owns: the handler, and the counters of each rule.
//!
//! Invariants
//! * The core never aborts. A call that cannot go on returns [`Error::Misuse`]; a call that goes on in spite of a fault
//!   (a callback's wrong answer, say) reports it here and continues as the rule says.
//! * A handler runs with no internal lock held. Nothing here allocates.
//!
//! Lock order: the lock around the handler is a leaf.
#![expect(unsafe_code, reason = "the handler is a C function")]

mod default;
mod rules;

use core::ffi::{CStr, c_char, c_int, c_long, c_void};

pub use rules::*;

use crate::sync::{AtomicU64, Lock, Ordering};
use crate::thread;

/// How bad it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "name of <mmu_notifier/report.h>")]
pub enum mmu_notifier_report_kind {
    /// Worth a line in a log. The default handler drops it.
    MMU_NOTIFIER_REPORT_INFO = 0,
    /// The contract was broken; the library goes on as the rule says.
    MMU_NOTIFIER_REPORT_WARN = 1,
    /// The contract was broken and the library cannot go on: the C face aborts after the handler has returned.
    MMU_NOTIFIER_REPORT_BUG = 2,
}
use mmu_notifier_report_kind::{
    MMU_NOTIFIER_REPORT_BUG as BUG, MMU_NOTIFIER_REPORT_INFO as INFO,
    MMU_NOTIFIER_REPORT_WARN as WARN,
};

/// One report. The struct and its strings are valid until the handler returns.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_report {
    /// How bad it is.
    pub kind: mmu_notifier_report_kind,
    /// The rule of the specification, such as "RS-5".
    pub rule: *const c_char,
    /// The function that was called, such as "mmu_notifier_unregister".
    pub function: *const c_char,
    /// The op that the calling thread is inside of, such as "invalidate_range_start"; or NULL.
    pub callback: *const c_char,
    /// What is wrong, in a sentence.
    pub message: *const c_char,
    /// The object or function that the message speaks of, or NULL.
    pub address: *const c_void,
    /// The number that the message speaks of, or 0.
    pub value: c_long,
    /// The file of a driver's own WARN_ON or BUG_ON, or NULL.
    pub file: *const c_char,
    /// The line in that file.
    pub line: c_int,
}

/// Receives reports, on the thread that caused them.
#[expect(non_camel_case_types, reason = "name of <mmu_notifier/report.h>")]
pub type mmu_notifier_report_handler =
    Option<unsafe extern "C" fn(report: *const mmu_notifier_report, data: *mut c_void)>;

/// A rule of the specification that somebody can break, and how often they did.
#[derive(Debug)]
pub struct Rule {
    /// The rule's id in SPEC.md.
    pub id: &'static CStr,
    kind: mmu_notifier_report_kind,
    /// WARN_ON_ONCE: only the first one reaches the handler.
    once: bool,
    message: &'static CStr,
    count: AtomicU64,
}

/// A broken rule, as a value.
#[derive(Clone, Copy, Debug)]
pub struct Misuse {
    rule: &'static Rule,
    function: &'static CStr,
    callback: Option<&'static CStr>,
    message: &'static CStr,
    address: *const c_void,
    value: c_long,
    file: *const c_char,
    line: c_int,
    errno: c_int,
}

/// Why a call of the core did not do what was asked.
#[derive(Clone, Copy, Debug)]
pub enum Error {
    /// A positive errno that the contract names.
    Errno(c_int),
    /// The caller broke a rule; nothing was changed beyond what the rule says.
    Misuse(Misuse),
}

/// What a call of the core returns.
pub type Result<T> = core::result::Result<T, Error>;

impl Rule {
    const fn new(
        id: &'static CStr,
        kind: mmu_notifier_report_kind,
        once: bool,
        message: &'static CStr,
    ) -> Self {
        Self {
            id,
            kind,
            once,
            message,
            count: AtomicU64::new(0),
        }
    }

    /// `function` was called in breach of this rule.
    pub const fn broken_by(&'static self, function: &'static CStr) -> Misuse {
        Misuse {
            rule: self,
            function,
            callback: None,
            message: self.message,
            address: core::ptr::null(),
            value: 0,
            file: core::ptr::null(),
            line: 0,
            errno: 0,
        }
    }
}

impl Misuse {
    /// Names the op that matters, if it is not the innermost one that the calling thread is inside of.
    #[must_use]
    pub const fn inside(mut self, callback: &'static CStr) -> Self {
        self.callback = Some(callback);
        self
    }

    /// Replaces the rule's sentence by the driver's own.
    #[must_use]
    pub const fn said(mut self, message: &'static CStr) -> Self {
        self.message = message;
        self
    }

    /// Names the object or function concerned.
    #[must_use]
    pub const fn about(mut self, address: *const c_void) -> Self {
        self.address = address;
        self
    }

    /// Names a line of a file, whose name is a string that lives as long as the report, or NULL.
    #[must_use]
    pub const fn at(mut self, file: *const c_char, line: c_int) -> Self {
        self.file = file;
        self.line = line;
        self
    }

    /// Names the number concerned.
    #[must_use]
    pub const fn value(mut self, value: c_long) -> Self {
        self.value = value;
        self
    }

    /// Sets the errno that the call returns although it goes on living.
    #[must_use]
    pub const fn errno(mut self, errno: c_int) -> Self {
        self.errno = errno;
        self
    }

    /// The id of the broken rule, such as "DV-7".
    pub fn rule(&self) -> &'static CStr {
        self.rule.id
    }

    /// The function that was called, such as "mmu_notifier_unregister".
    pub fn function(&self) -> &'static CStr {
        self.function
    }

    /// The op that matters, or the one that the calling thread is inside of.
    pub fn callback(&self) -> Option<&'static CStr> {
        self.callback.or_else(thread::inside_callback)
    }

    /// What is wrong, in a sentence.
    pub fn message(&self) -> &'static CStr {
        self.message
    }

    /// Is it one after which the C face aborts?
    pub fn is_bug(&self) -> bool {
        self.rule.kind == BUG
    }

    /// Counts it and tells the handler.
    // SPEC: DV-3
    pub fn report(&self) {
        // ORDERING: Relaxed: a counter; nobody concludes anything else from it.
        let before = self.rule.count.fetch_add(1, Ordering::Relaxed);
        let handler = *HANDLER.lock();
        let seen = handler.observer.is_some_and(|observer| observer(self));
        if !(seen || self.rule.once && before > 0) {
            deliver(handler, &self.as_report());
        }
    }

    /// How bad it is.
    pub fn kind(&self) -> mmu_notifier_report_kind {
        self.rule.kind
    }

    fn as_report(&self) -> mmu_notifier_report {
        mmu_notifier_report {
            kind: self.rule.kind,
            rule: self.rule.id.as_ptr(),
            function: self.function.as_ptr(),
            callback: self.callback().map_or(core::ptr::null(), CStr::as_ptr),
            message: self.message.as_ptr(),
            address: self.address,
            value: self.value,
            file: self.file,
            line: self.line,
        }
    }
}

impl core::fmt::Display for Misuse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        default::describe(&self.as_report(), f)
    }
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

impl Error {
    /// The positive errno that stands for this error; 0 for misuse that has none.
    pub fn errno(&self) -> c_int {
        match self {
            Self::Errno(errno) => *errno,
            Self::Misuse(misuse) => misuse.errno,
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "errno {errno}"),
            Self::Misuse(misuse) => misuse.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// Hears of every report before the handler does, those that a WARN_ON_ONCE keeps back included. True: it has dealt with it.
pub type Observer = fn(report: &Misuse) -> bool;

/// A handler and its argument, and who comes before it.
#[derive(Clone, Copy)]
struct Handler {
    function: mmu_notifier_report_handler,
    data: *mut c_void,
    observer: Option<Observer>,
}

static HANDLER: Lock<Handler> = Lock::new(Handler {
    function: None,
    data: core::ptr::null_mut(),
    observer: None,
});

/// Sends reports to `function` from now on; `None` restores the default handler.
///
/// # Safety
/// `function` may be called with `data`, from any thread, until another handler is set and all calls have returned.
pub unsafe fn set_handler(function: mmu_notifier_report_handler, data: *mut c_void) {
    let mut handler = HANDLER.lock();
    handler.function = function;
    handler.data = data;
}

/// Sends reports to `observer` first; `None` removes it.
pub fn set_observer(observer: Option<Observer>) {
    HANDLER.lock().observer = observer;
}

/// Reports of this kind since the process began, those that a WARN_ON_ONCE kept back included.
pub fn count(kind: mmu_notifier_report_kind) -> u64 {
    sum(|rule| rule.kind == kind)
}

/// Reports that named the rule `id`.
pub fn rule_count(id: &CStr) -> u64 {
    sum(|rule| rule.id == id)
}

fn sum(select: impl Fn(&Rule) -> bool) -> u64 {
    // ORDERING: Relaxed: counters.
    let counts = ALL
        .iter()
        .filter(|rule| select(rule))
        .map(|rule| rule.count.load(Ordering::Relaxed));
    counts.sum()
}

/// Hands a report to the handler, or to the default one.
fn deliver(handler: Handler, report: &mmu_notifier_report) {
    match handler.function {
        // SAFETY: `set_handler`'s caller vouches for the pair.
        Some(function) => unsafe { function(report, handler.data) },
        None => default::handle(report),
    }
}

/// Before fork: nobody else is half-way through changing the handler.
pub fn hold_for_fork() {
    HANDLER.acquire();
}

/// After fork, in both processes: undoes `hold_for_fork`.
///
/// # Safety
/// This thread, or its image in the parent, called `hold_for_fork`.
pub unsafe fn release_after_fork() {
    // SAFETY: Held since `hold_for_fork`.
    unsafe { HANDLER.release() };
}
