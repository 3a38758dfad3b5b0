//! The epoch: rises with each change of watched memory that its subscribers were not told of in time.
//!
//! A cache that cannot be sure of being told remembers the epoch with each entry. An entry of another epoch has to be
//! validated again before it is used: so nothing is stale in silence. The epoch never falls.
//!
//! Invariants
//! * Atomics only: it may be raised anywhere, inside a system call's hook and a signal handler included.
//! * Who sees the epoch risen sees its cause counted; but for the time when it is not known what happens (`set_unsure`).

use crate::mm::calls;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Why subscribers were not told in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A change was not announced at all, or not to somebody who subscribed in the middle of it.
    Missed,
    /// A change was announced after it had been made.
    Late,
    /// A change was made by a callback, or by the library inside a call of its own, and could not be announced there.
    Nested,
    /// A change was announced, but the release stage of a range that wanted to be waited for was not.
    Timeout,
    /// A change was announced to a queue that had no room for it.
    Overflow,
}

const CAUSES: usize = Cause::Overflow as usize + 1;

static COUNTS: [AtomicU64; CAUSES] = [const { AtomicU64::new(0) }; CAUSES];
static EPOCH: AtomicU64 = AtomicU64::new(0);
/// Is somebody in a call that cannot be announced, and that may change anything? One of `SURE` and so on.
static UNSURE: AtomicU32 = AtomicU32::new(SURE);
const SURE: u32 = 0;
/// It may be so.
const MAYBE: u32 = 1;
/// And somebody has asked for the epoch since.
const ASKED: u32 = 2;

/// Counts `cause` and raises the epoch.
pub fn raise(cause: Cause) {
    // ORDERING: Relaxed: published by the next step.
    COUNTS[cause as usize].fetch_add(1, Ordering::Relaxed);
    // ORDERING: Release pairs with the Acquire in `epoch`.
    EPOCH.fetch_add(1, Ordering::Release);
}

/// From now on nothing may be trusted for longer than a moment: each look at the epoch finds another one. Or no longer so.
#[cfg(all(target_arch = "x86_64", not(loom)))]
pub(super) fn set_unsure(unsure: bool) {
    let now = if unsure { MAYBE } else { SURE };
    // ORDERING: AcqRel pairs with the exchange in `epoch`: who was told an epoch while that was unsure is found here.
    let before = UNSURE.swap(now, Ordering::AcqRel);
    if before == ASKED {
        // ORDERING: Release pairs with the Acquire in `epoch`.
        EPOCH.fetch_add(1, Ordering::Release);
    }
}

/// May nothing be trusted for longer than a moment?
pub(super) fn is_unsure() -> bool {
    // ORDERING: Acquire pairs with the swap in `set_unsure`.
    UNSURE.load(Ordering::Acquire) != SURE
}

/// Makes an epoch that nobody was told before, if that is needed.
#[cold]
fn ask_unsure() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    super::switch::inflight::look_again();
    // ORDERING: AcqRel pairs with the swap in `set_unsure`; Acquire with its Release.
    let asked = UNSURE.compare_exchange(MAYBE, ASKED, Ordering::AcqRel, Ordering::Acquire);
    if !matches!(asked, Err(SURE)) {
        // ORDERING: Release pairs with the Acquire in `epoch`.
        EPOCH.fetch_add(1, Ordering::Release);
    }
}

/// The epoch, from 0 on.
pub fn epoch() -> u64 {
    if is_unsure() {
        ask_unsure();
    }
    // ORDERING: Acquire pairs with the Release in `raise`.
    EPOCH.load(Ordering::Acquire) + calls::unwaited()
}

/// How often the epoch was raised by `cause`.
pub fn count(cause: Cause) -> u64 {
    // ORDERING: Relaxed: a counter; `epoch` orders it for who asks there first.
    let raised = COUNTS[cause as usize].load(Ordering::Relaxed);
    match cause {
        Cause::Missed => raised + calls::unwaited(),
        _ => raised,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_the_sum_of_its_causes() {
        let before = (epoch(), count(Cause::Late), count(Cause::Timeout));
        raise(Cause::Late);
        raise(Cause::Timeout);
        raise(Cause::Timeout);
        assert!(epoch() >= before.0 + 3);
        assert!(count(Cause::Late) > before.1);
        assert!(count(Cause::Timeout) >= before.2 + 2);
    }
}
