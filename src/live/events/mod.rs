//! What happens at a site: a system call of the program becomes an event.
//!
//! A call that `x86_64::gate` does not decide itself comes to `hook`. `classify` says what it is about to change (`changes`), of memory
//! (`huge`, `segments`) and of files that are mapped (`files`). `current` tells callbacks which call they are called for. fork has ways
//! of its own (`fork`), and a child that comes back here (`children`).
//!
//! Nothing here allocates or waits before it calls a callback, but for fork.

mod changes;
mod children;
pub(super) mod classify;
pub(super) mod current;
pub(super) mod files;
pub(super) mod fork;
pub(super) mod hook;
pub(super) mod huge;
mod segments;

use crate::sync::{AtomicU64, Ordering};

/// Calls that were announced.
static EVENTS: AtomicU64 = AtomicU64::new(0);
/// Calls from inside of callbacks.
static NESTED: AtomicU64 = AtomicU64::new(0);

fn count_event() {
    // ORDERING: Relaxed: a counter.
    EVENTS.fetch_add(1, Ordering::Relaxed);
}

fn count_nested() {
    // ORDERING: Relaxed: a counter.
    NESTED.fetch_add(1, Ordering::Relaxed);
}

/// How many calls were announced, and how many could not be, inside of callbacks.
pub(super) fn counts() -> (u64, u64) {
    // ORDERING: Relaxed, both: counters.
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    (read(&EVENTS), read(&NESTED))
}

/// Is the flag set in a word of a call?
fn has(flags: usize, flag: core::ffi::c_int) -> bool {
    flags & flag as usize != 0
}
