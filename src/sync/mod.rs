//! The only door to atomics, futexes and locks (floor 0).
//!
//! Owns: every way in which a thread of this library sleeps or wakes another, and the queue that locks guard (`fifo`). Nothing above
//! this room names `std::sync`, `core::sync` or a futex, so that the room can be swapped for a model checker's.
//!
//! Invariants
//! * A sleep is a futex wait without a time-out: a sleeper costs nothing and no timer decides anything. The one deviation is
//!   [`WaitQueue::wait_until`], for `live::stage`: a thread that unmaps memory waits for a driver's release stage, and a driver
//!   that hangs must not hang the program. A time-out there decides nothing in silence: the epoch rises. And who reads a queue
//!   of events ([`Bell`]) may give up; `live::switch::inflight` looks again every millisecond, since nobody tells it what it looks for.
//! * Every sleep is announced by `wait_begin` and `wait_end`, every wake by `wake` ([`hook`]).
//! * Nothing here allocates.
//! * With `--cfg loom` (models/README.md) `model` stands in for core, libc and std; the locks above it stay as they are.
//!
//! Lock order: a [`Lock`] is a leaf towards user code: no callback ever runs under one.

/// In a model, threads have locals of the model. By its place before all rooms, it takes the place of std's.
#[cfg(loom)]
macro_rules! thread_local {
    ($($(#[$attribute:meta])* static $name:ident: $type:ty = const $value:block;)+) => {
        $($(#[$attribute])*
        static $name: $crate::sync::model::LocalKey<$type> =
            $crate::sync::model::LocalKey::new(|| $value);)+
    };
}

mod bell;
#[cfg(not(loom))]
pub mod fence;
mod fifo;
#[cfg(not(loom))]
mod futex;
pub mod hook;
mod lock;
#[cfg(not(loom))]
mod memcheck;
#[cfg(loom)]
pub mod model;
pub mod pages;
pub mod point;
mod rwsem;
mod spin;
mod syscall;
#[cfg(not(loom))]
mod thread;
mod wait;
pub mod words;

pub use bell::Bell;
pub use core::sync::atomic::Ordering;
pub use fifo::{Fifo, Linked};
pub use lock::{Lock, LockGuard};
pub use rwsem::{NotHeld, rw_semaphore};
pub use spin::{spin_lock_slow, spin_unlock_slow};
/// For what the faces keep on the heap.
pub use std::sync::Arc;
pub use syscall::syscall;
pub use wait::WaitQueue;

#[cfg(not(loom))]
mod door {
    pub use super::futex::Deadline;
    pub use super::thread::{Thread, is_alive, own_id, start, yield_now};
    pub(super) use core::cell::UnsafeCell;
    pub use core::sync::atomic::{
        AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize,
    };

    /// Statics whose value a model makes anew for each execution.
    macro_rules! global {
        ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $value:expr;)+) => {
            $($(#[$attribute])*
            $visibility static $name: $type = $value;)+
        };
    }
    pub(crate) use global;
}

#[cfg(loom)]
mod door {
    pub(super) use super::model::UnsafeCell;
    pub use super::model::{
        AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Deadline, Thread,
        is_alive, own_id, start, yield_now,
    };

    macro_rules! global {
        ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $value:expr;)+) => {
            $($(#[$attribute])*
            $visibility static $name: $crate::sync::model::Global<$type> =
                $crate::sync::model::Global::new(|| $value);)+
        };
    }
    pub(crate) use global;
}

use door::UnsafeCell;
pub(crate) use door::global;
pub use door::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Deadline, Thread,
    is_alive, own_id, start, yield_now,
};
#[cfg(loom)]
pub use model::fence;
#[cfg(loom)]
use model::futex;
