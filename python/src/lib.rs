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
//! The interpreter's lock. Whatever can wait (an explorer makes every call of the contract wait), or calls back, runs detached (`calls::event`); callbacks attach (`calls::callback`).
//! No lock of this crate is held across either, nor while an object is dropped.

mod calls;
mod errors;
mod explore;
mod interval;
mod live;
mod mm;
mod notifier;
mod range;
mod replay;

use pyo3::prelude::*;

/// The compiled half of the package; its names are those of the package itself.
#[pymodule(gil_used = false)]
fn _mmu_notifier(module: &Bound<'_, PyModule>) -> PyResult<()> {
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
