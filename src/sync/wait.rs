//! A queue of sleepers whose condition is guarded by a [`Lock`].

use super::hook::{self, WaitReason};
use super::lock::LockGuard;
use super::{AtomicU32, Ordering, futex};

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
        let lock = guard.lock();
        // ORDERING: Relaxed: written by wakers after they held the lock. If this thread took the lock before such a waker,
        // its read comes before the bump, so either the bump is seen by the futex or the wake finds it asleep.
        let seen = self.wakes.load(Ordering::Relaxed);
        // ORDERING: Relaxed: the lock orders it before the load in `wake_all`.
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        drop(guard);
        let queue = core::ptr::from_ref(self).cast();
        hook::wait_begin(queue, reason);
        // ORDERING: Relaxed: the condition is read under the lock, which orders it.
        while self.wakes.load(Ordering::Relaxed) == seen {
            futex::wait(&self.wakes, seen);
        }
        // ORDERING: Relaxed: a stale count costs a futile system call at most.
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        hook::wait_end(queue, reason);
        lock.lock()
    }

    /// Wakes everybody. Called after the state was changed under the lock, with the lock released.
    pub fn wake_all(&self, reason: WaitReason) {
        // ORDERING: Relaxed: a sleeper whom this call must wake counted itself under the lock before the caller took it.
        if self.sleepers.load(Ordering::Relaxed) == 0 {
            return;
        }
        hook::wake(core::ptr::from_ref(self).cast(), reason);
        // ORDERING: Relaxed: see `wait`.
        self.wakes.fetch_add(1, Ordering::Relaxed);
        futex::wake(self.wakes.as_ptr(), i32::MAX);
    }

    /// In a child after fork: the sleepers were other threads, which do not exist.
    pub fn forget_sleepers(&self) {
        // ORDERING: Relaxed: the child has one thread.
        self.sleepers.store(0, Ordering::Relaxed);
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
                drop(turn);
                QUEUE.wake_all(WaitReason::MMU_NOTIFIER_WAIT_LOCK);
            }
        });
        for round in 0..5_000 {
            let mut turn = TURN.lock();
            *turn += 1;
            drop(turn);
            QUEUE.wake_all(WaitReason::MMU_NOTIFIER_WAIT_LOCK);
            let mut turn = TURN.lock();
            while *turn != 2 * round + 2 {
                turn = QUEUE.wait(turn, WaitReason::MMU_NOTIFIER_WAIT_LOCK);
            }
        }
        other.join().expect("no panic");
        assert_eq!(*TURN.lock(), 10_000);
    }
}
