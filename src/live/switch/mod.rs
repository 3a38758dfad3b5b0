//! On and off.
//!
//! Owns: whether live events are on (`state`), what is covered by them (`coverage`), calls that were in the kernel before their site was
//! ours (`inflight`), and the trial whether events arrive (`selftest`).

mod coverage;
pub(super) mod inflight;
mod selftest;
pub(super) mod state;

pub use coverage::status;
pub use selftest::self_test;

use core::ffi::c_uint;

use super::events::fork;
use super::gap;
use super::net::{self, Monitor};
use super::sites::plan::Plan;
use super::sites::write::Method;
use super::sites::{self, probe};
use super::status::{
    KNOWN_FLAGS, MMU_NOTIFIER_LIVE_NET, MMU_NOTIFIER_LIVE_PAGE_SWAP, MMU_NOTIFIER_LIVE_PROC_MEM,
    Reason,
};
use crate::mm::calls::{self, Observer};
use crate::report::{Error, Result};
use state::{State, lock_state};

static OBSERVER: Observer = Observer {
    subscribed: || {
        coverage::note_lost_sites();
        inflight::note_subscription();
    },
    inserted: net::inserted,
    removed: net::removed,
    change: net::change_for,
    fork_begins: fork::begins,
    fork_ended: fork::ended,
    fork_ended_in_child: fork::ended_in_child,
};

/// From now on every change of the process's own address space is an event. Idempotent.
///
/// # Errors
/// EINVAL: a flag that is not known. ENOTSUP: the process cannot be covered; the status has the reason. ENOMEM.
pub fn enable(flags: c_uint) -> Result<()> {
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Error::Errno(libc::EINVAL));
    }
    calls::prepare()?;
    let plan = sites::find();
    if let Ok(plan) = plan {
        plan.follow();
    }
    if lock_state().enabled {
        return Ok(());
    }
    let mut net = (flags & MMU_NOTIFIER_LIVE_NET != 0).then(net::start);
    let mut state = lock_state();
    let fresh = !state.enabled;
    let result = if fresh {
        inflight::begin();
        let result = switch(&mut state, plan, flags, &mut net);
        state.show();
        result
    } else {
        Ok(())
    };
    drop(state);
    if fresh && result.is_ok() {
        inflight::suspect_all();
        inflight::settle();
    } else if fresh {
        inflight::cancel();
    }
    if let Some(Ok(unused)) = net {
        unused.stop();
    }
    result
}

/// Turns live on, with the net if there is one. The lock is held.
fn switch(
    state: &mut State,
    plan: core::result::Result<&Plan, Reason>,
    flags: c_uint,
    net: &mut Option<core::result::Result<Monitor, Reason>>,
) -> Result<()> {
    match plan.and_then(|plan| switch_on(plan, &methods(flags))) {
        Ok(method) => {
            state.method = Some(method);
            state.enabled = true;
            state.reason = Reason::None;
        }
        Err(reason) => {
            state.reason = reason;
            return Err(Error::Errno(libc::ENOTSUP));
        }
    }
    match net.take() {
        Some(Ok(monitor)) => {
            net::spread(&monitor);
            state.net = Some(monitor);
        }
        Some(Err(reason)) => state.reason = reason,
        None => {}
    }
    Ok(())
}

/// The ways of writing to try.
fn methods(flags: c_uint) -> Vec<Method> {
    if flags & MMU_NOTIFIER_LIVE_PROC_MEM != 0 {
        vec![Method::ProcMem]
    } else if flags & MMU_NOTIFIER_LIVE_PAGE_SWAP != 0 {
        vec![Method::PageSwap]
    } else {
        Method::ALL.to_vec()
    }
}

/// Has sites lead here. The lock is held.
fn switch_on(plan: &Plan, methods: &[Method]) -> core::result::Result<Method, Reason> {
    probe::call();
    calls::observe(&OBSERVER);
    calls::enable();
    gap::set_fast();
    let method = sites::take(plan, methods).inspect_err(|_| {
        sites::give_back(plan, None);
        calls::stop();
        gap::set_fast();
    })?;
    coverage::forget_lost();
    sites::take_others(plan, method);
    Ok(method)
}

/// Ends what [`enable`] began. Afterwards no callback runs on behalf of a system call.
///
/// # Errors
/// EDEADLK: called from such a callback.
pub fn disable() -> Result<()> {
    if calls::is_inside() {
        return Err(Error::Errno(libc::EDEADLK));
    }
    let mut state = lock_state();
    let net = state.net.take();
    if let (true, Some(plan)) = (state.enabled, sites::plan()) {
        state.enabled = false;
        state.show();
        // While who removes intervals still tells of it.
        net::take_in();
        calls::stop();
        gap::set_fast();
        sites::give_back(plan, state.method);
    }
    drop(state);
    // Also if another thread has just turned it off: this one promises as much.
    calls::drain();
    if let Some(net) = net {
        net.stop();
    }
    Ok(())
}
