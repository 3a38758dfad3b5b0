//! What is covered, what is not any more, and what was missed.

use core::ffi::c_uint;

use super::inflight::{self, Place};
use super::state::{STATE, Shown, shown};
use crate::live::epoch::{self, Cause};
use crate::live::events;
use crate::live::net;
use crate::live::sites::plan::Plan;
use crate::live::sites::write::Method;
use crate::live::sites::{self, objects};
use crate::live::status::{
    MMU_NOTIFIER_LIVE_BY_NET, MMU_NOTIFIER_LIVE_BY_SITES, Reason, mmu_notifier_live_status,
};
use crate::mm::calls;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Lost sites that were told of.
static LOST: AtomicU32 = AtomicU32::new(0);
/// Are there lost sites whose calls were not gone after yet?
static UNFOLLOWED: AtomicU32 = AtomicU32::new(0);
/// How many objects are blind.
static BLIND: AtomicU32 = AtomicU32::new(0);
/// Which objects were there then.
static BLIND_AT: AtomicU64 = AtomicU64::new(0);

/// All sites that are there are ours: from now on the lost ones are counted.
pub(super) fn forget_lost() {
    // ORDERING: Relaxed: under the lock of the switch.
    LOST.store(0, Ordering::Relaxed);
}

/// Raises the epoch if somebody has taken sites away since the last look, and goes after the calls that are made elsewhere now. Until
/// then they were missed.
pub(super) fn note_lost_sites() {
    let Some(plan) = sites::plan() else {
        return;
    };
    let lost = plan.lost();
    // ORDERING: Relaxed, both: numbers to compare with.
    if LOST.swap(lost, Ordering::Relaxed) < lost {
        epoch::raise(Cause::Missed);
        UNFOLLOWED.store(1, Ordering::Relaxed);
    }
    // In a callback nothing may be allocated: the next one does it.
    // ORDERING: Relaxed, both: a hint for who comes next.
    if UNFOLLOWED.load(Ordering::Relaxed) != 0 && !calls::is_inside() {
        plan.follow();
        // Who subscribes may hold what fork wants.
        if let Some(state) = STATE.try_lock() {
            UNFOLLOWED.store(0, Ordering::Relaxed);
            if let (true, Some(method)) = (state.enabled, state.method) {
                inflight::begin();
                sites::take_others(plan, method);
                drop(state);
                inflight::suspect_all();
            }
        }
    }
}

/// Objects with memory system calls that no site covers. Counted again when objects have come or gone; not in a callback, where nothing
/// may be allocated, nor the linker be waited for, whose lock is held over allocations.
fn blind_objects(plan: &Plan) -> c_uint {
    let now = if calls::is_inside() {
        None
    } else {
        objects::generation()
    };
    // ORDERING: Acquire pairs with the Release below.
    let known = BLIND_AT.load(Ordering::Acquire);
    let now = now.unwrap_or(known);
    if known != now {
        // ORDERING: Relaxed: published by the next step.
        BLIND.store(plan.blind() as u32, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire above.
        BLIND_AT.store(now, Ordering::Release);
    }
    // ORDERING: Relaxed: after the Acquire.
    BLIND.load(Ordering::Relaxed)
}

/// What is covered, and what was missed so far.
pub fn status() -> mmu_notifier_live_status {
    note_lost_sites();
    let mut status = mmu_notifier_live_status::new();
    let Shown {
        enabled,
        method,
        mut reason,
        has_net,
    } = shown();
    if let Some(plan) = sites::plan() {
        let counts = plan.count();
        status.sites = counts.sites;
        status.lost_sites = counts.lost;
        status.foreign_sites = counts.foreign;
        status.blind_objects = blind_objects(plan);
    }
    if enabled {
        status.enabled = 1;
        status.mechanisms = MMU_NOTIFIER_LIVE_BY_SITES;
        status.write_method = method.map_or(0, Method::number);
    }
    if has_net {
        match net::hole() {
            None => status.mechanisms |= MMU_NOTIFIER_LIVE_BY_NET,
            hole => reason = hole.unwrap_or(reason),
        }
    }
    if enabled && inflight::is_unknown() {
        reason = Reason::Unknown;
    } else if enabled && epoch::is_unsure() && inflight::look_again() != Place::Elsewhere {
        reason = Reason::InFlight;
    }
    (status.events, status.nested) = events::counts();
    status.take_counts();
    status.set_reason(reason.text());
    status
}
