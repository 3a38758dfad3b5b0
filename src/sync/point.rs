//! Schedule points, and the scheduler that an explorer installs (`src/explore`). Null in production.
//!
//! A scheduler takes the place of futexes for the threads that it runs: each sleep of theirs is a call of `wait`, which
//! returns when the thread was woken and is to go on. So nothing but its own decisions says who runs next.
//!
//! The core has no schedule points: between two sleeps, a call of it is one step. Its faces have one in front of each call.
#![expect(non_camel_case_types, reason = "names of <mmu_notifier/explore.h>")]

use core::ffi::c_void;

use super::{AtomicPtr, Ordering, hook::WaitReason};

/// What a thread is about to do at a schedule point, or has just done. `address` names the object that it is about.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum mmu_notifier_explore_kind {
    /// Something that only the driver knows.
    MMU_NOTIFIER_EXPLORE_POINT = 0,
    /// Nothing: the thread spins and waits for others to go on.
    MMU_NOTIFIER_EXPLORE_YIELD = 1,
    /// To take the lock at `address`. The caller goes on when nobody holds it.
    MMU_NOTIFIER_EXPLORE_LOCK = 2,
    /// To take the lock at `address` if it is free.
    MMU_NOTIFIER_EXPLORE_TRYLOCK = 3,
    /// Has taken it. No schedule point.
    MMU_NOTIFIER_EXPLORE_TAKEN = 4,
    /// Has released the lock at `address`.
    MMU_NOTIFIER_EXPLORE_UNLOCK = 5,
    /// READ_ONCE().
    MMU_NOTIFIER_EXPLORE_LOAD = 6,
    /// WRITE_ONCE().
    MMU_NOTIFIER_EXPLORE_STORE = 7,
    /// mmu_interval_read_begin().
    MMU_NOTIFIER_EXPLORE_READ_BEGIN = 8,
    /// mmu_interval_read_retry().
    MMU_NOTIFIER_EXPLORE_READ_RETRY = 9,
    /// mmu_interval_check_retry().
    MMU_NOTIFIER_EXPLORE_CHECK_RETRY = 10,
    /// mmu_interval_set_seq().
    MMU_NOTIFIER_EXPLORE_SET_SEQ = 11,
    /// mmu_interval_notifier_insert() and _insert_locked().
    MMU_NOTIFIER_EXPLORE_INSERT = 12,
    /// mmu_interval_notifier_remove().
    MMU_NOTIFIER_EXPLORE_REMOVE = 13,
    /// mmu_notifier_register() and its kin.
    MMU_NOTIFIER_EXPLORE_REGISTER = 14,
    /// mmu_notifier_unregister().
    MMU_NOTIFIER_EXPLORE_UNREGISTER = 15,
    /// mmu_notifier_get() and mmu_notifier_get_locked().
    MMU_NOTIFIER_EXPLORE_GET = 16,
    /// mmu_notifier_put().
    MMU_NOTIFIER_EXPLORE_PUT = 17,
    /// mmu_notifier_synchronize(), synchronize_srcu() and the like.
    MMU_NOTIFIER_EXPLORE_SYNCHRONIZE = 18,
    /// mmu_notifier_invalidate_range_start().
    MMU_NOTIFIER_EXPLORE_START = 19,
    /// mmu_notifier_invalidate_range_start_nonblock(): until NONBLOCK_DONE, the thread must not sleep.
    MMU_NOTIFIER_EXPLORE_START_NONBLOCK = 20,
    /// It has succeeded (`address` is the mm) or failed (NULL). No schedule point.
    MMU_NOTIFIER_EXPLORE_NONBLOCK_DONE = 21,
    /// mmu_notifier_invalidate_range_end().
    MMU_NOTIFIER_EXPLORE_END = 22,
    /// Questions about accessed marks, change_pte() and secondary TLBs.
    MMU_NOTIFIER_EXPLORE_SECONDARY = 23,
    /// To take the mmap_lock or the reverse-map lock of the mm.
    MMU_NOTIFIER_EXPLORE_MM_LOCK = 24,
    /// To release one of them.
    MMU_NOTIFIER_EXPLORE_MM_UNLOCK = 25,
    /// mmget(), mmput(), mmgrab(), mmdrop() and the like.
    MMU_NOTIFIER_EXPLORE_REFERENCE = 26,
    /// vm_munmap() and other changes that the library makes by itself.
    MMU_NOTIFIER_EXPLORE_CHANGE = 27,
    /// might_sleep(). No schedule point: the thread must be allowed to.
    MMU_NOTIFIER_EXPLORE_MIGHT_SLEEP = 28,
}
pub use mmu_notifier_explore_kind as Kind;

impl Kind {
    /// All kinds, by their numbers.
    pub const ALL: [Self; 29] = [
        Self::MMU_NOTIFIER_EXPLORE_POINT,
        Self::MMU_NOTIFIER_EXPLORE_YIELD,
        Self::MMU_NOTIFIER_EXPLORE_LOCK,
        Self::MMU_NOTIFIER_EXPLORE_TRYLOCK,
        Self::MMU_NOTIFIER_EXPLORE_TAKEN,
        Self::MMU_NOTIFIER_EXPLORE_UNLOCK,
        Self::MMU_NOTIFIER_EXPLORE_LOAD,
        Self::MMU_NOTIFIER_EXPLORE_STORE,
        Self::MMU_NOTIFIER_EXPLORE_READ_BEGIN,
        Self::MMU_NOTIFIER_EXPLORE_READ_RETRY,
        Self::MMU_NOTIFIER_EXPLORE_CHECK_RETRY,
        Self::MMU_NOTIFIER_EXPLORE_SET_SEQ,
        Self::MMU_NOTIFIER_EXPLORE_INSERT,
        Self::MMU_NOTIFIER_EXPLORE_REMOVE,
        Self::MMU_NOTIFIER_EXPLORE_REGISTER,
        Self::MMU_NOTIFIER_EXPLORE_UNREGISTER,
        Self::MMU_NOTIFIER_EXPLORE_GET,
        Self::MMU_NOTIFIER_EXPLORE_PUT,
        Self::MMU_NOTIFIER_EXPLORE_SYNCHRONIZE,
        Self::MMU_NOTIFIER_EXPLORE_START,
        Self::MMU_NOTIFIER_EXPLORE_START_NONBLOCK,
        Self::MMU_NOTIFIER_EXPLORE_NONBLOCK_DONE,
        Self::MMU_NOTIFIER_EXPLORE_END,
        Self::MMU_NOTIFIER_EXPLORE_SECONDARY,
        Self::MMU_NOTIFIER_EXPLORE_MM_LOCK,
        Self::MMU_NOTIFIER_EXPLORE_MM_UNLOCK,
        Self::MMU_NOTIFIER_EXPLORE_REFERENCE,
        Self::MMU_NOTIFIER_EXPLORE_CHANGE,
        Self::MMU_NOTIFIER_EXPLORE_MIGHT_SLEEP,
    ];
}

/// What an explorer does for the threads that it runs; for others its functions do nothing.
#[derive(Debug)]
pub struct Scheduler {
    /// The calling thread is about to sleep on `queue`. True: it has slept, was woken and looks again. False: it is to sleep by
    /// itself.
    pub wait: fn(queue: *const c_void, reason: WaitReason) -> bool,
    /// The calling thread wakes all that sleep on `queue` (for MMU_NOTIFIER_WAIT_LOCK: one of them).
    pub wake: fn(queue: *const c_void, reason: WaitReason),
    /// The calling thread is at a schedule point.
    pub point: fn(kind: Kind, address: *const c_void),
    /// The process ends: nobody is to be held up any more.
    pub retire: fn(),
}

static SCHEDULER: AtomicPtr<Scheduler> = AtomicPtr::new(core::ptr::null_mut());

/// Installs a scheduler, or removes it.
pub fn set_scheduler(scheduler: Option<&'static Scheduler>) {
    let pointer = scheduler.map_or(core::ptr::null(), core::ptr::from_ref);
    // ORDERING: Release pairs with the Acquire in `scheduler`: whoever sees the pointer sees the struct.
    SCHEDULER.store(pointer.cast_mut(), Ordering::Release);
}

#[inline]
#[expect(unsafe_code, reason = "a reference that is kept in an atomic")]
pub(super) fn scheduler() -> Option<&'static Scheduler> {
    if cfg!(loom) {
        // Nobody sets one there, and a look would be a step.
        return None;
    }
    // ORDERING: Acquire pairs with the Release in `set_scheduler`.
    let pointer = SCHEDULER.load(Ordering::Acquire);
    // SAFETY: NULL, or from a `&'static Scheduler`.
    unsafe { pointer.as_ref() }
}

/// Is somebody exploring?
#[inline]
pub fn is_exploring() -> bool {
    scheduler().is_some()
}

/// A schedule point: the calling thread is about to do something that others may see.
#[inline]
pub fn point(kind: Kind, address: *const c_void) {
    if let Some(scheduler) = scheduler() {
        (scheduler.point)(kind, address);
    }
}

/// The process ends: explores no longer.
pub fn retire() {
    if let Some(scheduler) = scheduler() {
        (scheduler.retire)();
    }
}
