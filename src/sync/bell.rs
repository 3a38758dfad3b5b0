//! A bell: rung by who may not lock, heard by one who sleeps.

use super::hook::{self, WaitReason};
use super::{AtomicU32, Deadline, Ordering, fence, futex};

/// Nobody sleeps, or who does was woken.
const QUIET: u32 = 0;
/// Somebody sleeps, or is about to.
const AWAITED: u32 = 1;

/// What a reader of something without locks sleeps on.
#[derive(Debug, Default)]
pub struct Bell(AtomicU32);

impl Bell {
    /// A bell that nobody waits for.
    pub const fn new() -> Self {
        Self(AtomicU32::new(QUIET))
    }

    /// Wakes who sleeps. Called after the change that they wait for. Never sleeps.
    pub fn ring(&self, reason: WaitReason) {
        // ORDERING: SeqCst: the partner of the fence in `wait`: either the sleeper sees the change, or it is seen here.
        fence::fence(Ordering::SeqCst);
        // ORDERING: Relaxed: ordered by the fence. Release pairs with the Acquire in `wait`: who comes after the sleeper is back does not
        // see this any more.
        if self.0.load(Ordering::Relaxed) == AWAITED
            && self.0.swap(QUIET, Ordering::Release) == AWAITED
        {
            hook::wake(self.0.as_ptr().cast(), reason);
            futex::wake(self.0.as_ptr(), i32::MAX);
        }
    }

    /// Sleeps until `look` finds something, or until `deadline`, if there is one.
    pub fn wait<T>(
        &self,
        reason: WaitReason,
        deadline: Option<&Deadline>,
        look: impl Fn() -> Option<T>,
    ) -> Option<T> {
        loop {
            // ORDERING: Acquire pairs with the Release in `ring`; the fence orders the rest.
            self.0.swap(AWAITED, Ordering::Acquire);
            // ORDERING: SeqCst: the partner of the fence in `ring`.
            fence::fence(Ordering::SeqCst);
            if let Some(found) = look() {
                return Some(found);
            }
            let queue = self.0.as_ptr().cast();
            let _slept = hook::wait_begin(queue, reason);
            let expired = match deadline {
                Some(deadline) => futex::wait_until(&self.0, AWAITED, deadline),
                None => {
                    futex::wait(&self.0, AWAITED);
                    false
                }
            };
            hook::wait_end(queue, reason);
            if expired {
                return look();
            }
        }
    }
}
