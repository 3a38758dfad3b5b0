//! The C ABI of mmu-notifier. No logic: an exported function makes one call of the core and converts what it returns.
//!
//! The functions are documented for C programmers: cbindgen copies the comments into the headers.
//!
//! Misuse comes back from the core as a value (DV-17). Here it becomes a report, and for a BUG the end of the program.
#![expect(unsafe_code, reason = "exports with C linkage")]
#![expect(
    clippy::missing_safety_doc,
    reason = "the comments are C documentation: pointers are NULL or valid, as in C"
)]

mod convert;
pub mod explore;
pub mod live;
pub mod mm;
pub mod notifier;
pub mod rcu;
pub mod reference;
pub mod report;
pub mod stage;
pub mod support;
pub mod version;
pub mod versions;
pub mod wait;
