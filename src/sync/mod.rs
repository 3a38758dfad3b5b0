//! The only door to atomics, futexes and locks (floor 0).
//!
//! Owns: every way in which a thread of this library sleeps or wakes another. Nothing above this room names
//! `std::sync`, `core::sync` or a futex, so that the room can be swapped for a model checker's.
//!
//! Invariants
//! * A sleep is a futex wait without a time-out: a sleeper costs nothing and no timer decides anything.
//! * Every sleep is announced by `wait_begin` and `wait_end`, every wake by `wake` ([`hook`]).
//! * Nothing here allocates.
//!
//! Lock order: a [`Lock`] is a leaf towards user code: no callback ever runs under one.

pub mod fence;
mod futex;
pub mod hook;
mod lock;
pub mod pages;
mod rwsem;
mod spin;
mod wait;

pub use std::thread::yield_now;

pub use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
pub use lock::{Lock, LockGuard};
pub use rwsem::{NotHeld, rw_semaphore};
pub use spin::{spin_lock_slow, spin_unlock_slow};
pub use wait::WaitQueue;
