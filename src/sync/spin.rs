//! The slow paths of the header's `spinlock_t`: a driver's spin lock is the same word as [`super::Lock`]'s, locked
//! inline in C, and it sleeps here, so that the wait hook sees who is blocked on it.

use super::{AtomicU32, lock};

/// Sleeps until the lock in `word` is the caller's.
pub fn spin_lock_slow(word: &AtomicU32) {
    lock::acquire_slow(word);
}

/// Wakes one sleeper of a lock that was just released with sleepers noted. The lock at `word` may be gone by now.
pub fn spin_unlock_slow(word: *const u32) {
    lock::wake_one(word);
}
