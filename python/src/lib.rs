//! The Python face (floor 7): conversions, classes and exceptions upon `mmu_notifier::api`; no logic.
//!
//! A file for each group of names: a new one gets a `mod` line here, a `register` call in [`_mmu_notifier`], and a section of
//! `_mmu_notifier.pyi`.

use pyo3::prelude::*;

/// The compiled half of the package; its names are those of the package itself.
#[pymodule(gil_used = false)]
fn _mmu_notifier(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", mmu_notifier::VERSION)?;
    Ok(())
}
