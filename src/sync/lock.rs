//! A word-sized lock around data. Sleeps when contended, never allocates, and can be held across fork().
#![expect(unsafe_code, reason = "a lock hands out exclusive access to its data")]

use core::ops::{Deref, DerefMut};

use super::hook::{self, WaitReason};
use super::{AtomicU32, Ordering, UnsafeCell, fence, futex, words};

/// The lock is free.
const FREE: u32 = 0;
/// The lock is held and nobody sleeps.
const HELD: u32 = 1;
/// The lock is held and somebody may sleep.
const CONTENDED: u32 = 2;
/// Beside either of them: a fork holds the lock, and takes malloc's locks next.
const FORK: u32 = 4;
/// How often a thread looks at a held lock before it sleeps: critical sections are far shorter than a sleep. To a model,
/// looking again is nothing but more executions.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };

/// Mutual exclusion for short sections.
#[repr(C)]
#[derive(Debug)]
pub struct Lock<T> {
    word: AtomicU32,
    data: UnsafeCell<T>,
}

// SAFETY: The lock gives one thread at a time access to the data; raw pointers in it are the user's to mind.
unsafe impl<T> Sync for Lock<T> {}
// SAFETY: As above.
unsafe impl<T> Send for Lock<T> {}

/// Access to the data of a held [`Lock`]; releases it when dropped.
#[derive(Debug)]
pub struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Lock<T> {
    /// A free lock.
    pub const fn new(data: T) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            data: UnsafeCell::new(data),
        }
    }

    /// Takes the lock.
    pub fn lock(&self) -> LockGuard<'_, T> {
        self.acquire();
        LockGuard { lock: self }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        words::before_lock();
        // ORDERING: Acquire pairs with the Release swap in `release`.
        let taken = self
            .word
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_ok() {
            return Some(LockGuard { lock: self });
        }
        words::after_unlock();
        None
    }

    /// Takes the lock, unless a fork holds it: for a thread that may hold locks of malloc, for which that fork waits.
    pub fn lock_unless_forking(&self) -> Option<LockGuard<'_, T>> {
        words::before_lock();
        if acquire_unless(&self.word, FORK) {
            return Some(LockGuard { lock: self });
        }
        words::after_unlock();
        None
    }

    /// Does a fork hold the lock? Then it will find what this thread has left for it before it asked.
    pub fn is_forking(&self) -> bool {
        // ORDERING: SeqCst: the partner of the fence in `release_after_fork`.
        fence::fence(Ordering::SeqCst);
        // ORDERING: Relaxed: ordered by the fence.
        self.word.load(Ordering::Relaxed) & FORK != 0
    }

    /// As [`Lock::acquire`], by a fork: who must not wait for that goes on.
    pub fn acquire_for_fork(&self) {
        self.acquire();
        // ORDERING: Relaxed: a mark, for who looks at this word.
        self.word.fetch_or(FORK, Ordering::Relaxed);
        let address = self.word.as_ptr();
        hook::wake(address.cast(), WaitReason::MMU_NOTIFIER_WAIT_LOCK);
        futex::wake(address, i32::MAX);
    }

    /// Takes the lock without a guard, for holders that span functions (fork).
    pub fn acquire(&self) {
        words::before_lock();
        acquire(&self.word);
    }

    /// Takes the lock from whoever has it. Its data may be half-way through a change.
    ///
    /// # Safety
    /// No other thread runs: the child of a fork.
    pub unsafe fn seize(&self) {
        words::before_lock();
        // ORDERING: Relaxed: there is one thread.
        self.word.store(HELD, Ordering::Relaxed);
    }

    /// Releases a lock that [`Lock::acquire`] took.
    ///
    /// # Safety
    /// The caller's thread (or, after fork, its image) took the lock by `acquire` and uses its data no longer.
    pub unsafe fn release(&self) {
        release(&self.word);
        words::after_unlock();
    }

    /// Releases a lock that [`Lock::acquire_for_fork`] took. Who is told by [`Lock::is_forking`] that it is held has left its word by now.
    ///
    /// # Safety
    /// As for `release`.
    pub unsafe fn release_after_fork(&self) {
        // SAFETY: The caller's promise.
        unsafe { self.release() };
        // ORDERING: SeqCst: the partner of the fence in `is_forking`.
        fence::fence(Ordering::SeqCst);
    }

    /// Makes the lock free, whoever held it.
    ///
    /// # Safety
    /// The process has one thread, as a child after fork, and it does not hold the lock.
    pub unsafe fn renew_in_child(&self) {
        // ORDERING: Relaxed: there is one thread.
        self.word.store(FREE, Ordering::Relaxed);
    }

    /// The data of a lock that [`Lock::acquire`] took.
    ///
    /// # Safety
    /// As for `release`; and no other reference to the data is alive.
    #[expect(
        clippy::mut_from_ref,
        reason = "the held lock is what makes it exclusive"
    )]
    pub unsafe fn data(&self) -> &mut T {
        // SAFETY: The caller holds the lock and has no other reference.
        unsafe { &mut *self.data.get() }
    }
}

/// Takes the lock in `word`.
pub(super) fn acquire(word: &AtomicU32) {
    // ORDERING: Acquire pairs with the Release swap in `release`.
    if word
        .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        acquire_slow(word);
    }
}

/// Spins for a moment, then sleeps until the lock in `word` is this thread's.
#[cold]
#[cfg_attr(
    loom,
    expect(clippy::reversed_empty_ranges, reason = "a model does not spin")
)]
pub(super) fn acquire_slow(word: &AtomicU32) {
    for _ in 0..SPINS {
        // ORDERING: Relaxed: only the exchange below decides.
        if word.load(Ordering::Relaxed) == FREE
            // ORDERING: Acquire pairs with the Release swap in `release`.
            && word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return;
        }
        core::hint::spin_loop();
    }
    sleep_until_free(word, 0);
}

/// Sleeps until the lock in `word` is this thread's. False: who holds it has marked it with one of these bits.
fn sleep_until_free(word: &AtomicU32, unless: u32) -> bool {
    loop {
        // ORDERING: Relaxed: only the exchange below decides.
        let seen = word.load(Ordering::Relaxed);
        if seen & unless != 0 {
            return false;
        }
        let contended = seen & FORK | CONTENDED;
        // ORDERING: Acquire pairs with the Release swap in `release`.
        let exchanged =
            word.compare_exchange(seen, contended, Ordering::Acquire, Ordering::Relaxed);
        if exchanged.is_err() {
            continue;
        }
        if seen == FREE {
            return true;
        }
        let slept = hook::wait_begin(word.as_ptr().cast(), WaitReason::MMU_NOTIFIER_WAIT_LOCK);
        if !slept {
            futex::wait(word, contended);
        }
        hook::wait_end(word.as_ptr().cast(), WaitReason::MMU_NOTIFIER_WAIT_LOCK);
    }
}

/// As [`acquire`]. False: who holds the lock has marked it with one of these bits.
fn acquire_unless(word: &AtomicU32, unless: u32) -> bool {
    // ORDERING: Acquire pairs with the Release swap in `release`.
    word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
        .is_ok()
        || sleep_until_free(word, unless)
}

/// Releases the lock in `word`.
pub(super) fn release(word: &AtomicU32) {
    let address = word.as_ptr();
    // ORDERING: Release pairs with the Acquires of `acquire` and `acquire_slow`. After it, the lock may be freed.
    if word.swap(FREE, Ordering::Release) & CONTENDED != 0 {
        wake_one(address);
    }
}

/// Wakes one sleeper of the lock at `address`, which may be gone.
#[cold]
pub(super) fn wake_one(address: *const u32) {
    hook::wake(address.cast(), WaitReason::MMU_NOTIFIER_WAIT_LOCK);
    futex::wake(address, 1);
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: The guard exists, so this thread holds the lock.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The guard exists and is borrowed exclusively.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        release(&self.lock.word);
        words::after_unlock();
    }
}

impl<'a, T> LockGuard<'a, T> {
    /// The lock that this guard holds.
    pub(super) fn lock(&self) -> &'a Lock<T> {
        self.lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes() {
        static TOTAL: Lock<u64> = Lock::new(0);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..20_000 {
                        let mut total = TOTAL.lock();
                        let old = *total;
                        std::hint::spin_loop();
                        *total = old + 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(*TOTAL.lock(), 80_000);
    }
}
