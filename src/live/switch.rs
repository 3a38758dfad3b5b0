//! On, off, and what is covered.
#![expect(unsafe_code, reason = "writes code")]

use core::ffi::c_uint;

use super::epoch::{self, Cause};
use super::inflight::{self, Place};
use super::net::Monitor;
use super::plan::Plan;
use super::status::{
    KNOWN_FLAGS, MMU_NOTIFIER_LIVE_BY_NET, MMU_NOTIFIER_LIVE_BY_SITES, MMU_NOTIFIER_LIVE_NET,
    MMU_NOTIFIER_LIVE_PAGE_SWAP, MMU_NOTIFIER_LIVE_PROC_MEM, Reason, mmu_notifier_live_status,
};
use super::write::{self, Method};
use super::{fork, gap, net, objects, probe};
use crate::mm::calls::{self, Observer};
use crate::report::{Error, Result};
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Lock, LockGuard, Ordering};

/// What is in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    enabled: bool,
    method: Option<Method>,
    reason: Reason,
    has_net: bool,
}

/// A copy of what `STATE` guards, for the status: nobody who asks in a callback may wait for who writes sites, or for fork. Changed with
/// `STATE` held only, so it is whole in a child, whoever was reading it.
pub(super) static SHOWN: Lock<Shown> = Lock::new(Shown {
    enabled: false,
    method: None,
    reason: Reason::None,
    has_net: false,
});

/// Guarded by the lock, which fork takes.
#[derive(Debug)]
pub(super) struct State {
    enabled: bool,
    method: Option<Method>,
    reason: Reason,
    /// Who reads what the net notices.
    net: Option<Monitor>,
}

impl State {
    /// After a change.
    fn show(&self) {
        *SHOWN.lock() = Shown {
            enabled: self.enabled,
            method: self.method,
            reason: self.reason,
            has_net: self.net.is_some(),
        };
    }

    /// In a child, nothing is enabled.
    ///
    /// # Safety
    /// The child of a fork, or of a bare clone(): there is one thread.
    pub(super) unsafe fn begin_anew(&mut self) {
        self.enabled = false;
        if let Some(monitor) = self.net.take() {
            self.reason = Reason::NetFork;
            // SAFETY: The caller's promise.
            unsafe { net::forget(monitor) };
        }
        self.show();
    }
}

pub(super) static STATE: Lock<State> = Lock::new(State {
    enabled: false,
    method: None,
    reason: Reason::None,
    net: None,
});

/// The state. A child of a bare clone(), which no handler has told so, is found out here: the kernel has wiped what is watched,
/// and the lock guards what the parent left.
fn lock_state() -> LockGuard<'static, State> {
    let mut state = STATE.lock();
    if state.enabled && !calls::is_enabled() {
        // SAFETY: Both change together, under the lock.
        unsafe { state.begin_anew() };
    }
    state
}

/// A copy of the state, which waits for nobody who changes it.
fn shown() -> Shown {
    let shown = *SHOWN.lock();
    if shown.enabled && !calls::is_enabled() && !calls::is_inside() {
        // In a child of a bare clone().
        drop(lock_state());
        return *SHOWN.lock();
    }
    shown
}

/// Made once, kept for ever.
static PLAN: AtomicPtr<Plan> = AtomicPtr::new(core::ptr::null_mut());
/// Calls that were announced.
static EVENTS: AtomicU64 = AtomicU64::new(0);
/// Calls from inside of callbacks.
static NESTED: AtomicU64 = AtomicU64::new(0);
/// Lost sites that were told of.
static LOST: AtomicU32 = AtomicU32::new(0);
/// Are there lost sites whose calls were not gone after yet?
static UNFOLLOWED: AtomicU32 = AtomicU32::new(0);
/// How many objects are blind.
static BLIND: AtomicU32 = AtomicU32::new(0);
/// Which objects were there then.
static BLIND_AT: AtomicU64 = AtomicU64::new(0);

static OBSERVER: Observer = Observer {
    subscribed: || {
        note_lost_sites();
        inflight::note_subscription();
    },
    inserted: net::inserted,
    removed: net::removed,
    change: net::change_for,
    fork_begins: fork::begins,
    fork_ended: fork::ended,
    fork_ended_in_child: fork::ended_in_child,
};

pub(super) fn count_event() {
    // ORDERING: Relaxed: a counter.
    EVENTS.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn count_nested() {
    // ORDERING: Relaxed: a counter.
    NESTED.fetch_add(1, Ordering::Relaxed);
}

/// The size of a page.
pub(super) fn page_size() -> usize {
    // x86-64 has but one.
    4096
}

fn plan() -> Option<&'static Plan> {
    // ORDERING: Acquire pairs with the Release in `find_plan`.
    let plan = PLAN.load(Ordering::Acquire);
    // SAFETY: NULL, or leaked.
    unsafe { plan.as_ref() }
}

/// Is `address` in a slot?
pub(super) fn is_in_slot(address: usize) -> bool {
    plan().is_some_and(|plan| plan.has_slot_at(address))
}

/// The plan, made if there is none. Allocates: no lock is held.
fn find_plan() -> core::result::Result<&'static Plan, Reason> {
    if let Some(plan) = plan() {
        return Ok(plan);
    }
    if !write::prepare() {
        return Err(Reason::Barriers);
    }
    // Whoever finds sites that are written already has been overtaken by another thread, which has left its plan.
    let fresh = match Plan::make() {
        Ok(fresh) => Box::into_raw(Box::new(fresh)),
        Err(reason) => return plan().ok_or(reason),
    };
    // ORDERING: Release pairs with the Acquire in `plan`. Another thread's is as good: its slots are used, and ours are not.
    let known = PLAN.compare_exchange(
        core::ptr::null_mut(),
        fresh,
        Ordering::Release,
        Ordering::Acquire,
    );
    if known.is_err() {
        // SAFETY: Ours, and not published.
        drop(unsafe { Box::from_raw(fresh) });
    }
    plan().ok_or(Reason::Memory)
}

/// From now on every change of the process's own address space is an event. Idempotent.
///
/// # Errors
/// EINVAL: a flag that is not known. ENOTSUP: the process cannot be covered; the status has the reason. ENOMEM.
pub fn enable(flags: c_uint) -> Result<()> {
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Error::Errno(libc::EINVAL));
    }
    calls::prepare()?;
    let plan = find_plan();
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
    plan: core::result::Result<&'static Plan, Reason>,
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

/// Patches all sites that are as they were. The lock is held.
fn switch_on(plan: &'static Plan, methods: &[Method]) -> core::result::Result<Method, Reason> {
    probe::call();
    calls::observe(&OBSERVER);
    calls::enable();
    gap::set_fast();
    let patches = plan.own.to_take();
    // SAFETY: Sites of libc and of the dynamic linker. The lock is held.
    let written =
        |method: &&Method| unsafe { write::write(**method, patches.list()) && plan.is_complete() };
    let method = methods.iter().find(written).ok_or(Reason::Writing);
    let method = method.and_then(|method| {
        probe::arrives(plan)
            .then_some(method)
            .ok_or(Reason::Translated)
    });
    let method = method.inspect_err(|_| {
        take_back(plan, None);
        calls::stop();
        gap::set_fast();
    })?;
    plan.own.note_ours();
    // ORDERING: Relaxed: under the lock.
    LOST.store(0, Ordering::Relaxed);
    take_others(plan, *method);
    Ok(*method)
}

/// Patches the sites of other patchers' objects. The lock is held.
fn take_others(plan: &Plan, method: Method) {
    for group in plan.others() {
        let patches = group.to_take();
        if !patches.list().is_empty() {
            // SAFETY: Sites of an object that stays loaded. The lock is held.
            unsafe { write::write(method, patches.list()) };
        }
        group.note_ours();
    }
}

/// Gives back the sites that are still ours. The lock is held.
fn take_back(plan: &Plan, method: Option<Method>) {
    for group in plan.groups() {
        group.forget_ours();
        let patches = group.to_give_back();
        let mut methods = method.into_iter().chain(Method::ALL);
        // SAFETY: As in `switch_on`. Where nothing can be written any more, the sites stay ours, and pass everything on.
        methods.any(|method| unsafe { write::write(method, patches.list()) });
    }
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
    if let (true, Some(plan)) = (state.enabled, plan()) {
        state.enabled = false;
        state.show();
        // While who removes intervals still tells of it.
        net::take_in();
        calls::stop();
        gap::set_fast();
        take_back(plan, state.method);
    }
    drop(state);
    // Also if another thread has just turned it off: this one promises as much.
    calls::drain();
    if let Some(net) = net {
        net.stop();
    }
    Ok(())
}

/// Raises the epoch if somebody has taken sites away since the last look, and goes after the calls that are made elsewhere now. Until
/// then they were missed.
fn note_lost_sites() {
    let Some(plan) = plan() else {
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
                take_others(plan, method);
                drop(state);
                inflight::suspect_all();
            }
        }
    }
}

/// Will the system call of libc's fork() come by?
pub(super) fn meets_fork() -> bool {
    plan().is_some_and(|plan| plan.own.meets(libc::SYS_clone))
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
    if let Some(plan) = plan() {
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
    // ORDERING: Relaxed, both: counters.
    status.events = EVENTS.load(Ordering::Relaxed);
    status.nested = NESTED.load(Ordering::Relaxed);
    status.take_counts();
    status.set_reason(reason.text());
    status
}
