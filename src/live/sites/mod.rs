//! The sites: which instructions make the system calls of the program, and how they are taken over while it runs.
//!
//! Owns: the plan (`plan`), found once and kept for ever: which sites there are (`x86_64::find` knows them, in loaded `objects`), in
//! `group`s that are written together, each site with a slot near by (`near`, `x86_64::slot`). How sites are written is `write`;
//! whether what is written takes effect, `probe`.
//!
//! Invariants
//! * Slots are never unmapped: a thread may be on its way through them at any time.
//! * A site is written only while it holds what it held when it was found, or what this room wrote there. Somebody else's jump is
//!   never overwritten; the object that it leads to is followed, and its sites are taken.
//! * While sites are written, all signals are blocked, and nothing of libc is called.
#![expect(unsafe_code, reason = "writes code; what is never freed")]

mod group;
mod near;
pub(super) mod objects;
pub(super) mod plan;
pub(super) mod probe;
pub(super) mod write;

use core::ptr;

use super::events::huge;
use super::status::Reason;
use super::x86_64::gate;
use crate::sync::{AtomicPtr, Ordering};
use plan::Plan;
use write::Method;

/// Made once, kept for ever.
static PLAN: AtomicPtr<Plan> = AtomicPtr::new(ptr::null_mut());

/// The plan, if it was made.
pub(super) fn plan() -> Option<&'static Plan> {
    // ORDERING: Acquire pairs with the Release in `find`.
    let plan = PLAN.load(Ordering::Acquire);
    // SAFETY: NULL, or leaked.
    unsafe { plan.as_ref() }
}

/// Is `address` in a slot?
pub(super) fn is_in_slot(address: usize) -> bool {
    plan().is_some_and(|plan| plan.has_slot_at(address))
}

/// Will the system call of libc's fork() come by?
pub(super) fn meets_fork() -> bool {
    plan().is_some_and(|plan| plan.own.meets(libc::SYS_clone))
}

/// The plan, made if there is none. Allocates: no lock is held.
pub(super) fn find() -> Result<&'static Plan, Reason> {
    if let Some(plan) = plan() {
        return Ok(plan);
    }
    if !write::prepare() {
        return Err(Reason::Barriers);
    }
    gate::prepare();
    huge::prepare();
    // Whoever finds sites that are written already has been overtaken by another thread, which has left its plan.
    let fresh = match Plan::make() {
        Ok(fresh) => Box::into_raw(Box::new(fresh)),
        Err(reason) => return plan().ok_or(reason),
    };
    // ORDERING: Release pairs with the Acquire in `plan`. Another thread's is as good: its slots are used, and ours are not.
    let known = PLAN.compare_exchange(ptr::null_mut(), fresh, Ordering::Release, Ordering::Acquire);
    if known.is_err() {
        // SAFETY: Ours, and not published.
        drop(unsafe { Box::from_raw(fresh) });
    }
    plan().ok_or(Reason::Memory)
}

/// Patches the sites of libc and of the dynamic linker that are as they were, by the first of `methods` that works. The lock of the
/// switch is held.
pub(super) fn take(plan: &Plan, methods: &[Method]) -> Result<Method, Reason> {
    let patches = plan.own.to_take();
    // SAFETY: Sites of libc and of the dynamic linker. The lock is held.
    let written =
        |method: &&Method| unsafe { write::write(**method, patches.list()) && plan.is_complete() };
    let method = methods.iter().find(written).ok_or(Reason::Writing)?;
    if !probe::arrives(plan) {
        return Err(Reason::Translated);
    }
    plan.own.note_ours();
    Ok(*method)
}

/// Patches the sites of other patchers' objects. The lock of the switch is held.
pub(super) fn take_others(plan: &Plan, method: Method) {
    for group in plan.others() {
        let patches = group.to_take();
        if !patches.list().is_empty() {
            // SAFETY: Sites of an object that stays loaded. The lock is held.
            unsafe { write::write(method, patches.list()) };
        }
        group.note_ours();
    }
}

/// Gives back the sites that are still ours. The lock of the switch is held.
pub(super) fn give_back(plan: &Plan, method: Option<Method>) {
    for group in plan.groups() {
        group.forget_ours();
        let patches = group.to_give_back();
        let mut methods = method.into_iter().chain(Method::ALL);
        // SAFETY: As in `take`. Where nothing can be written any more, the sites stay ours, and pass everything on.
        methods.any(|method| unsafe { write::write(method, patches.list()) });
    }
}
