//! Errors of this face: those of the core, without its pointers.

use core::ffi::CStr;
use core::fmt;

use crate::report;

/// Why a call did not do what was asked.
///
/// ```
/// use mmu_notifier::api::{Error, Interval, IntervalNotifier, Mm, Range};
/// # struct Quiet;
/// # impl IntervalNotifier for Quiet {
/// #     fn invalidate(&self, _: &Interval, _: &Range<'_>, _: u64) -> bool { true }
/// # }
/// let mm = Mm::new()?;
/// let error = mm.insert(0x1000, 0, Quiet).unwrap_err();
/// assert_eq!(error.errno(), 75, "EOVERFLOW: the length is 0");
/// assert_eq!(error.rule(), None);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An errno that the contract names, positive. (A callback that answers a start with a positive number, which no driver
    /// does, makes this negative: HS-6.)
    Errno(i32),
    /// The caller broke a rule; nothing was changed beyond what the rule says.
    Misuse(Misuse),
}

/// What a call of this face returns.
pub type Result<T> = core::result::Result<T, Error>;

/// A broken rule of the specification.
///
/// ```
/// use mmu_notifier::api::{Error, Mm};
///
/// let mm = Mm::new()?;
/// let reading = mm.mmap_read_lock()?;
/// let Err(Error::Misuse(misuse)) = mm.mmap_write_lock() else { panic!("it would wait for itself") };
/// assert_eq!((misuse.rule(), misuse.function()), ("ML-5", "mmap_write_lock"));
/// # drop(reading);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misuse {
    rule: &'static CStr,
    function: &'static CStr,
    callback: Option<&'static CStr>,
    message: &'static CStr,
    errno: i32,
}

/// The library's names and sentences are ASCII.
fn text(string: &'static CStr) -> &'static str {
    string.to_str().unwrap_or("?")
}

impl Misuse {
    /// The id of the rule in SPEC.md, such as "DV-7".
    pub fn rule(&self) -> &'static str {
        text(self.rule)
    }

    /// The function that was called, by its name in C.
    pub fn function(&self) -> &'static str {
        text(self.function)
    }

    /// The callback that the call was made from, by the name of its op.
    pub fn callback(&self) -> Option<&'static str> {
        self.callback.map(text)
    }

    /// What is wrong, in a sentence.
    pub fn message(&self) -> &'static str {
        text(self.message)
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[{}] {}: {}",
            self.rule(),
            self.function(),
            self.message()
        )?;
        match self.callback() {
            Some(callback) => write!(f, " (inside the callback {callback})"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// The errno that stands for this error, positive; 0 for misuse that has none.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Errno(errno) => *errno,
            Self::Misuse(misuse) => misuse.errno,
        }
    }

    /// The id of the broken rule, if it is misuse.
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            Self::Errno(_) => None,
            Self::Misuse(misuse) => Some(misuse.rule()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "errno {errno}"),
            Self::Misuse(misuse) => misuse.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

impl From<report::Misuse> for Misuse {
    fn from(misuse: report::Misuse) -> Self {
        Self {
            rule: misuse.rule(),
            function: misuse.function(),
            callback: misuse.callback(),
            message: misuse.message(),
            errno: report::Error::Misuse(misuse).errno(),
        }
    }
}

impl From<report::Error> for Error {
    fn from(error: report::Error) -> Self {
        match error {
            report::Error::Errno(errno) => Self::Errno(errno),
            report::Error::Misuse(misuse) => Self::Misuse(misuse.into()),
        }
    }
}

/// The end of something that did not come about: it is still there, and `guard` is it.
///
/// ```
/// use mmu_notifier::api::{Error, Mm, Notifier, Ops, Range, Refusal, Refused, Subscription};
/// use std::sync::Mutex;
///
/// struct Suicidal(Mutex<Option<Subscription<Quiet>>>);
/// struct Quiet;
/// impl Notifier for Quiet { const OPS: Ops = Ops::NONE; }
/// impl Notifier for Suicidal {
///     const OPS: Ops = Ops::INVALIDATE_RANGE_START;
///     fn invalidate_range_start(&self, _: &Range<'_>) -> Result<(), Refusal> {
///         let other = self.0.lock().unwrap().take().unwrap();
///         let Err(Refused { guard, error }) = other.unregister() else { panic!("it would wait for this callback") };
///         assert_eq!(error.rule(), Some("DV-7"));
///         *self.0.lock().unwrap() = Some(guard);
///         Ok(())
///     }
/// }
/// # use mmu_notifier::api::{Change, Event};
/// let mm = Mm::new()?;
/// let other = mm.register(Quiet)?;
/// let subscription = mm.register(Suicidal(Mutex::new(Some(other))))?;
/// mm.invalidate_range_start(Change::new(0..0x1000, Event::CLEAR))?.end();
/// assert!(subscription.notifier().0.lock().unwrap().is_some());
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Refused<T> {
    /// What was to end.
    pub guard: T,
    /// Why it did not.
    pub error: Error,
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> core::error::Error for Refused<T> {}

impl<T> From<Refused<T>> for Error {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}
