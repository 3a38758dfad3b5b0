//! A driver's lock for scenarios: the scheduler knows who holds it, and who waits.

use core::fmt;

use super::member::stop_at;
use super::state::state;
use crate::sync::point::Kind;
use crate::sync::{AtomicBool, Ordering};

/// A mutex. Outside of a session it can be taken while it is free, which is enough for a setup.
#[derive(Debug)]
pub struct Lock {
    name: String,
    taken: AtomicBool,
    /// The address of a lock is its key, and must not be shared.
    _key: u8,
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockError {
    /// The session gives up: nothing of what the thread does counts any more.
    Abandoned,
    /// It is held, and the calling thread, which is no logical thread, cannot wait for it.
    Held,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Abandoned => "the scenario gives up",
            Self::Held => "the lock is held, and only a scenario's thread can wait for it",
        })
    }
}

impl core::error::Error for LockError {}

impl Lock {
    /// A free lock. It must not move once it is used: put it in an [`crate::sync::Arc`].
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            taken: AtomicBool::new(false),
            _key: 0,
        }
    }

    fn key(&self) -> usize {
        core::ptr::from_ref(&self._key).addr()
    }

    /// Takes the lock; a schedule point. It may sleep, so it must not be called inside a callback of a range that is not blockable.
    ///
    /// # Errors
    /// [`LockError`]; the lock was not taken.
    pub fn acquire(&self) -> Result<(), LockError> {
        self.introduce();
        stop_at(Kind::MMU_NOTIFIER_EXPLORE_MIGHT_SLEEP, 0, false);
        let logical = super::is_logical();
        let granted = stop_at(Kind::MMU_NOTIFIER_EXPLORE_LOCK, self.key(), true);
        if logical && !granted {
            return Err(LockError::Abandoned);
        }
        // ORDERING: Acquire pairs with the Release in `release`.
        if self.taken.swap(true, Ordering::Acquire) {
            return Err(LockError::Held);
        }
        Ok(())
    }

    /// Takes the lock if it is free; a schedule point.
    pub fn try_acquire(&self) -> bool {
        self.introduce();
        stop_at(Kind::MMU_NOTIFIER_EXPLORE_TRYLOCK, self.key(), false);
        // ORDERING: Acquire pairs with the Release in `release`.
        let taken = !self.taken.swap(true, Ordering::Acquire);
        if taken {
            stop_at(Kind::MMU_NOTIFIER_EXPLORE_TAKEN, self.key(), false);
        }
        taken
    }

    /// Releases the lock; a schedule point afterwards. False: it was not held.
    pub fn release(&self) -> bool {
        // ORDERING: Release pairs with the Acquires above.
        let held = self.taken.swap(false, Ordering::Release);
        if held {
            stop_at(Kind::MMU_NOTIFIER_EXPLORE_UNLOCK, self.key(), false);
        }
        held
    }

    /// Is it held?
    pub fn is_held(&self) -> bool {
        // ORDERING: Relaxed: a question whose answer may be old.
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes the lock, runs `critical`, releases it.
    ///
    /// # Errors
    /// As for [`Lock::acquire`], as text; or what `critical` says.
    pub fn with<T>(&self, critical: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.acquire().map_err(|error| error.to_string())?;
        let result = critical();
        self.release();
        result
    }

    /// Tells the session its name.
    fn introduce(&self) {
        if super::is_logical() {
            state().introduce("lock", self.key(), &self.name);
        }
    }
}
