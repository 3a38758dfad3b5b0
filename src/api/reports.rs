//! Reports of what callbacks did wrong, as a Rust program gets them.

use core::ffi::{CStr, c_char, c_void};
use core::fmt;

use crate::report::{
    self, mmu_notifier_report,
    mmu_notifier_report_kind::{MMU_NOTIFIER_REPORT_BUG, MMU_NOTIFIER_REPORT_INFO},
};

/// How bad what is reported is.
///
/// ```
/// use mmu_notifier::api::Severity;
/// assert!(Severity::Info < Severity::Warn);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a line in a log.
    Info,
    /// The contract was broken; the library went on as the rule says.
    Warn,
    /// The contract was broken, and the call did nothing.
    Bug,
}

/// One report, valid while the handler runs. [`set_report_handler`] has an example.
#[derive(Clone, Copy)]
pub struct Report<'a>(&'a mmu_notifier_report);

impl Report<'_> {
    fn text(&self, string: *const c_char) -> Option<&str> {
        // SAFETY: Members of a report are NULL or NUL-terminated strings that live as long as it.
        (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.to_str().unwrap_or("?"))
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self.0.kind {
            MMU_NOTIFIER_REPORT_INFO => Severity::Info,
            MMU_NOTIFIER_REPORT_BUG => Severity::Bug,
            _ => Severity::Warn,
        }
    }

    /// The rule of the specification, such as "RS-5".
    pub fn rule(&self) -> &str {
        self.text(self.0.rule).unwrap_or("")
    }

    /// The function that was called, by its name in C.
    pub fn function(&self) -> &str {
        self.text(self.0.function).unwrap_or("")
    }

    /// The callback that the thread is inside of, by the name of its op.
    pub fn callback(&self) -> Option<&str> {
        self.text(self.0.callback)
    }

    /// What is wrong, in a sentence.
    pub fn message(&self) -> &str {
        self.text(self.0.message).unwrap_or("")
    }

    /// The number that the message speaks of, or 0.
    pub fn value(&self) -> i64 {
        self.0.value
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{}] {}: {}",
            self.rule(),
            self.function(),
            self.message()
        )
    }
}

/// Sends reports to `handler` from now on, on the thread that caused them; `None` restores the default, a line on stderr for
/// each warning. It may call the library where the function that is reported might. One for the process; each that was set is kept
/// for the rest of it.
///
/// ```
/// use mmu_notifier::api::{Change, Event, Interval, IntervalNotifier, Mm, Range, set_report_handler};
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// static WARNINGS: AtomicU32 = AtomicU32::new(0);
///
/// struct Stubborn;
/// impl IntervalNotifier for Stubborn {
///     fn invalidate(&self, _: &Interval, range: &Range<'_>, _: u64) -> bool {
///         !range.is_blockable() // wrong: only a non-blockable range may be refused
///     }
/// }
///
/// set_report_handler(Some(|report| {
///     assert_eq!((report.rule(), report.callback()), ("RS-5", Some("invalidate")));
///     WARNINGS.fetch_add(1, Relaxed);
/// }));
/// let mm = Mm::new()?;
/// let stubborn = mm.insert(0, 0x1000, Stubborn)?;
/// mm.invalidate_range_start(Change::new(0..0x1000, Event::CLEAR))?.end();
/// assert_eq!(WARNINGS.load(Relaxed), 1);
/// # Ok::<(), mmu_notifier::api::Error>(())
/// ```
// SPEC: DV-3
pub fn set_report_handler(handler: Option<fn(&Report<'_>)>) {
    let Some(handler) = handler else {
        // SAFETY: No function.
        unsafe { report::set_handler(None, core::ptr::null_mut()) };
        return;
    };
    // A pointer to a function does not fit into one to data everywhere; and it has to stay until all calls have returned.
    let kept: &'static fn(&Report<'_>) = Box::leak(Box::new(handler));
    let data = core::ptr::from_ref(kept).cast_mut().cast::<c_void>();
    // SAFETY: `deliver` gets a pointer to a function of this type, which stays.
    unsafe { report::set_handler(Some(deliver), data) };
}

unsafe extern "C" fn deliver(report: *const mmu_notifier_report, data: *mut c_void) {
    // SAFETY: The core passes a valid report, and what `set_report_handler` gave it.
    let (report, handler) = unsafe { (&*report, *data.cast::<fn(&Report<'_>)>()) };
    super::callbacks::shield((), || handler(&Report(report)));
}
