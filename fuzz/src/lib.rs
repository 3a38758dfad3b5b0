//! The bodies of the fuzz targets: each takes any bytes and panics if the library does what it must not.
//!
//! `fuzz_targets/` hands them to libFuzzer; `tests/corpus.rs` runs them over the committed corpus.

pub mod index;

/// A body.
pub type Body = fn(&[u8]);

/// Every target: its name, which is that of its directory in `corpus/` too, and its body.
///
/// `operations` is the whole C library against the executable model of SPEC section 3.
pub const TARGETS: &[(&str, Body)] = &[
    ("index", index::run),
    ("operations", mmu_notifier_model::run_bytes),
];
