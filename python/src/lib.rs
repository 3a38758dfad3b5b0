//! The Python face (floor 7): conversions, classes and exceptions upon `mmu_notifier::api`; no logic.
//!
//! A file for each group of names: a new one gets a `mod` line here, a `register` call in [`_mmu_notifier`], and a section of
//! `_mmu_notifier.pyi`.
//!
//! Who keeps whom. An `Mm` keeps the notifiers that were registered through it; it is one user of its address space. A notifier
//! keeps its registration, which knows the notifier by a weak reference only: so what is garbage is collected, and what is
//! collected ends its registration, without a wait. Callbacks get the `Mm` that was registered through, or, if that is gone, one
//! that is no user.
//!
//! The interpreter's lock. Whatever can wait (an explorer makes every call of the contract wait), or calls back, runs detached
//! (`calls::event`); callbacks attach (`calls::callback`). No lock of this crate is held across either, nor while an object is
//! dropped. There is one interpreter: classes, and the end of callbacks, are the process's.

/// A dict of these items.
macro_rules! dict {
    ($py:expr, { $($name:literal: $value:expr),+ $(,)? }) => {{
        let dict = pyo3::types::PyDict::new($py);
        $(dict.set_item($name, $value)?;)+
        dict
    }};
}

mod calls;
mod errors;
mod explore;
mod interval;
mod live;
mod mm;
mod notifier;
mod range;
mod replay;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// Refuses a second interpreter. One is known by its module `builtins`, which nothing else in it could be taken for.
fn only_interpreter(py: Python<'_>) -> PyResult<()> {
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    let this = py.import("builtins")?.as_ptr().addr();
    match FIRST.compare_exchange(0, this, SeqCst, SeqCst) {
        Err(first) if first != this => Err(PyImportError::new_err(
            "mmu_notifier serves one interpreter of a process, and another one has imported it",
        )),
        _ => Ok(()),
    }
}

/// The compiled half of the package; its names are those of the package itself.
#[pymodule(gil_used = false)]
fn _mmu_notifier(module: &Bound<'_, PyModule>) -> PyResult<()> {
    only_interpreter(module.py())?;
    module.add("__version__", mmu_notifier::VERSION)?;
    calls::register(module)?;
    mm::register(module)?;
    range::register(module)?;
    notifier::register(module)?;
    interval::register(module)?;
    replay::register(module)?;
    explore::register(module)?;
    live::register(module)?;
    Ok(())
}
