//! A queue of sleepers whose condition is guarded by a [`Lock`].

use super::hook::{self, WaitReason};
use super::lock::LockGuard;
use super::{AtomicU32, Deadline, Ordering, futex};

/// Threads that wait for a state to change. All of them are woken, and each looks again.
#[derive(Debug, Default)]
pub struct WaitQueue {
    /// Counts wakes: a sleeper that has seen the current number has missed none.
    wakes: AtomicU32,
    /// Sleepers, counted under the lock that guards the condition.
    sleepers: AtomicU32,
}

impl WaitQueue {
    /// A queue with nobody in it.
    pub const fn new() -> Self {
        Self {
            wakes: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
        }
    }

    /// Releases the lock, sleeps until the next [`WaitQueue::wake_all`], takes the lock again.
    ///
    /// The caller looks at its condition in a loop, under the lock.
    pub fn wait<'a, T>(&self, guard: LockGuard<'a, T>, reason: WaitReason) -> LockGuard<'a, T> {
        self.sleep(guard, reason, |seen| {
            futex::wait(&self.wakes, seen);
            false
        })
        .0
    }

    /// As [`WaitQueue::wait`], but no longer than until `deadline`. Says whether that has passed; the caller looks at its
    /// condition all the same.
    pub fn wait_until<'a, T>(
        &self,
        guard: LockGuard<'a, T>,
        reason: WaitReason,
        deadline: &Deadline,
    ) -> (LockGuard<'a, T>, bool) {
        self.sleep(guard, reason, |seen| {
            futex::wait_until(&self.wakes, seen, deadline)
        })
    }

    /// `nap` sleeps while the number of wakes is the given one, and says whether that is enough.
    #[inline]
    fn sleep<'a, T>(
        &self,
        guard: LockGuard<'a, T>,
        reason: WaitReason,
        nap: impl Fn(u32) -> bool,
    ) -> (LockGuard<'a, T>, bool) {
        let lock = guard.lock();
        // ORDERING: Relaxed: read and changed under the lock only. A change after this read is seen by the futex, or its wake
        // finds this thread asleep.
        let seen = self.wakes.load(Ordering::Relaxed);
        // ORDERING: Relaxed: the lock orders it before the load in `announce`.
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        drop(guard);
        let queue = core::ptr::from_ref(self).cast();
        let _slept = hook::wait_begin(queue, reason);
        let mut expired = false;
        // ORDERING: Relaxed: the condition is read under the lock, which orders it.
        while !expired && self.wakes.load(Ordering::Relaxed) == seen {
            expired = nap(seen);
        }
        hook::wait_end(queue, reason);
        let guard = lock.lock();
        // ORDERING: Relaxed: under the lock.
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        (guard, expired)
    }

    /// Releases the lock, under which the state was changed, and wakes everybody.
    pub fn wake_all<T>(&self, held: LockGuard<'_, T>, reason: WaitReason) {
        let wake = self.announce(&held);
        drop(held);
        wake.go(reason);
    }

    /// Under the lock, with the state changed: all who sleep now are to wake. The queue need not outlive the lock: who is woken
    /// may free it.
    pub fn announce<T>(&self, _held: &LockGuard<'_, T>) -> Wake {
        // ORDERING: Relaxed: counted under the lock.
        if self.sleepers.load(Ordering::Relaxed) == 0 {
            return Wake {
                queue: core::ptr::null(),
                word: core::ptr::null(),
            };
        }
        // ORDERING: Relaxed: a sleeper has read the number under the lock, and waits for another one.
        self.wakes.fetch_add(1, Ordering::Relaxed);
        Wake {
            queue: core::ptr::from_ref(self).cast(),
            word: self.wakes.as_ptr(),
        }
    }

    /// In a child after fork: the sleepers were other threads, which do not exist.
    pub fn forget_sleepers(&self) {
        // ORDERING: Relaxed: the child has one thread.
        self.sleepers.store(0, Ordering::Relaxed);
    }
}

/// Sleepers that were promised a wake. Holds addresses as keys only.
#[derive(Debug)]
#[must_use]
pub struct Wake {
    queue: *const core::ffi::c_void,
    word: *const u32,
}

impl Wake {
    /// Wakes them. Called with no lock held.
    pub fn go(self, reason: WaitReason) {
        if !self.word.is_null() {
            hook::wake(self.queue, reason);
            futex::wake(self.word, i32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Lock;

    #[test]
    fn a_wake_is_never_missed() {
        static TURN: Lock<u32> = Lock::new(0);
        static QUEUE: WaitQueue = WaitQueue::new();
        let other = std::thread::spawn(|| {
            for round in 0..5_000 {
                let mut turn = TURN.lock();
                while *turn != 2 * round + 1 {
                    turn = QUEUE.wait(turn, WaitReason::MMU_NOTIFIER_WAIT_LOCK);
                }
                *turn += 1;
                QUEUE.wake_all(turn, WaitReason::MMU_NOTIFIER_WAIT_LOCK);
            }
        });
        for round in 0..5_000 {
            let mut turn = TURN.lock();
            *turn += 1;
            QUEUE.wake_all(turn, WaitReason::MMU_NOTIFIER_WAIT_LOCK);
            let mut turn = TURN.lock();
            while *turn != 2 * round + 2 {
                turn = QUEUE.wait(turn, WaitReason::MMU_NOTIFIER_WAIT_LOCK);
            }
        }
        other.join().expect("no panic");
        assert_eq!(*TURN.lock(), 10_000);
    }
}
