//! What an event does with a range: its invalidate stage, and the wait for its release.

use core::ffi::{CStr, c_ulong};
use core::ptr;

use super::range::{FINISHING, finish_of, range_of};
use super::server::{Job, RELEASE};
use super::{Place, Range, STAGES, Stages, State};
use crate::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE, mmu_interval_notifier, mmu_notifier_range,
};
use crate::abi::versions::mmu_interval_notifier_ops_7_1;
use crate::abi::versions::{
    mmu_interval_notifier_finish,
    mmu_notifier_abi::{MMU_NOTIFIER_ABI_5_14, MMU_NOTIFIER_ABI_7_1},
};
use crate::dispatch::{self, Abi};
use crate::live::epoch::{self, Cause};
use crate::report::RS_5;
use crate::sync::{
    AtomicU32, Deadline, LockGuard, Ordering,
    hook::WaitReason::MMU_NOTIFIER_WAIT_RELEASE as WAIT_RELEASE,
};
use crate::thread;

const START: &CStr = c"mmu_notifier_invalidate_range_start";
const INVALIDATE: &CStr = c"invalidate";

/// The layout of [`OPS`]: that of the kernel which has a second pass over the notifiers of an event.
pub(super) const ABI: Abi = MMU_NOTIFIER_ABI_7_1;

/// The callbacks of the interval notifier in each range.
pub(super) const OPS: *const mmu_interval_notifier_ops_7_1 = &mmu_interval_notifier_ops_7_1 {
    invalidate: None,
    invalidate_start: Some(invalidate_start),
    invalidate_finish: Some(invalidate_finish),
};

unsafe extern "C" fn invalidate_start(
    interval: *mut mmu_interval_notifier,
    event: *const mmu_notifier_range,
    seq: c_ulong,
    finish: *mut *mut mmu_interval_notifier_finish,
) -> bool {
    let range = range_of(interval);
    // SAFETY: Called for ranges that are in the index, hence valid, with an event that is counted in.
    unsafe {
        let blockable = (*event).flags & MMU_NOTIFIER_RANGE_BLOCKABLE != 0;
        if !blockable && STAGES.would_wait(range) {
            return false;
        }
        // Before the driver's lock: who takes it after `invalidate` did sees it.
        // ORDERING: Relaxed, both: that lock orders them.
        let before = changed(range).swap(1, Ordering::Relaxed);
        let agreed = invalidate(range, event, seq);
        if !agreed && !blockable {
            changed(range).store(before, Ordering::Relaxed);
            return false;
        }
        if !agreed {
            RS_5.broken_by(START)
                .about(range.cast())
                .inside(INVALIDATE)
                .report();
        }
        *finish = STAGES.touch(range);
    }
    true
}

/// Has an event touched the range?
unsafe fn changed<'a>(range: *mut Range) -> &'a AtomicU32 {
    // SAFETY: The caller passes a range in the index; the word has the size and alignment of an AtomicU32.
    unsafe { AtomicU32::from_ptr(&raw mut (*range).changed) }
}

/// Calls the driver's invalidate stage, with the event in its layout.
unsafe fn invalidate(range: *mut Range, event: *const mmu_notifier_range, seq: c_ulong) -> bool {
    // SAFETY: The caller passes a range in the index, whose ops insert has looked at, and a valid event.
    unsafe {
        let Some(op) = (*(*range).ops).invalidate else {
            return true;
        };
        if (*range).abi == MMU_NOTIFIER_ABI_5_14 as u32 {
            dispatch::Range::new(event).with_5_14(|event| op(range, event.cast(), seq))
        } else {
            op(range, event, seq)
        }
    }
}

unsafe extern "C" fn invalidate_finish(finish: *mut mmu_interval_notifier_finish) {
    // SAFETY: What `touch` returned, for an event that is still counted in: the range is in the index, hence valid.
    unsafe {
        let range = range_of((*finish).notifier);
        let state = STAGES.lock();
        let deadline = Deadline::from_words((*range).deadline);
        let state = STAGES.wait_for_release(state, range, &deadline);
        (*range).flags &= !FINISHING;
        drop(state);
    }
}

impl Stages {
    /// Would an event that touches `range` wait for its release?
    unsafe fn would_wait(&self, range: *const Range) -> bool {
        let _state = self.lock();
        // SAFETY: The caller passes a range in the index.
        unsafe {
            let place = Place::of(range);
            (*range).timeout_ms != 0 && (place == Place::In || place.is_owed())
        }
    }

    /// An event has touched `range`. Returns what has to be finished when all notifiers were told, if anything.
    unsafe fn touch(&self, range: *mut Range) -> *mut mmu_interval_notifier_finish {
        let mut state = self.lock();
        // SAFETY: The caller passes a range in the index.
        unsafe {
            if Place::of(range) == Place::In {
                Place::Touched.note(range);
                state.releaser.queue.push(range);
                self.announce_due(state, Job::Release);
                state = self.lock();
            }
            if (*range).timeout_ms == 0 || !Place::of(range).is_owed() {
                return ptr::null_mut();
            }
            if !state.releaser.is_served || thread::inside_stage() == Some(RELEASE) {
                epoch::raise(Cause::Timeout);
                return ptr::null_mut();
            }
            let deadline = Deadline::after((*range).timeout_ms);
            if (*range).flags & FINISHING != 0 {
                // Another event is about to wait for it after its walk: this one waits now.
                drop(self.wait_for_release(state, range, &deadline));
                return ptr::null_mut();
            }
            (*range).flags |= FINISHING;
            (*range).deadline = deadline.to_words();
        }
        finish_of(range)
    }

    /// Sleeps until the release of `range` has returned, or the time is over, or nobody is there to release it.
    unsafe fn wait_for_release<'a>(
        &'a self,
        mut state: LockGuard<'a, State>,
        range: *const Range,
        deadline: &Deadline,
    ) -> LockGuard<'a, State> {
        let mut expired = false;
        // SAFETY: The caller passes a range in the index.
        while unsafe { Place::of(range) }.is_owed() {
            if expired || !state.releaser.is_served {
                epoch::raise(Cause::Timeout);
                break;
            }
            (state, expired) = self.released.wait_until(state, WAIT_RELEASE, deadline);
        }
        state
    }
}
