//! The wait hook: who sleeps, on what, and who wakes them. Null in production.
//!
//! A test or an explorer installs one and knows at any time which of its threads are blocked in the library, without
//! a clock. The hook runs on the thread concerned. It must not call the library: an uncontended lock of it may be held.
#![expect(unsafe_code, reason = "the hook is a C struct of C functions")]
#![expect(non_camel_case_types, reason = "names of <mmu_notifier/wait.h>")]

use core::ffi::c_void;

use super::{AtomicPtr, Ordering, point};

/// What a thread sleeps for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mmu_notifier_wait_reason {
    /// A short lock inside the library, or a driver's spin lock.
    MMU_NOTIFIER_WAIT_LOCK = 0,
    /// mmap_lock.
    MMU_NOTIFIER_WAIT_MMAP_LOCK = 1,
    /// The reverse-map lock.
    MMU_NOTIFIER_WAIT_RMAP_LOCK = 2,
    /// mmu_interval_read_begin(): the end of a busy period (RB-3).
    MMU_NOTIFIER_WAIT_READ_BEGIN = 3,
    /// mmu_interval_notifier_remove(): the end of a busy period (IR-6).
    MMU_NOTIFIER_WAIT_REMOVE = 4,
    /// A grace period: unregister, mm exit, synchronize, or the worker on behalf of a put (DV-6).
    MMU_NOTIFIER_WAIT_GRACE_PERIOD = 5,
    /// mmu_notifier_synchronize(): free_notifier calls that are owed (DV-5).
    MMU_NOTIFIER_WAIT_FREE = 6,
    /// A thread of the library's own: it has nothing to do.
    MMU_NOTIFIER_WAIT_IDLE = 7,
    /// A thread that changes memory: the release stage of a range. No longer than its time-out.
    MMU_NOTIFIER_WAIT_RELEASE = 8,
    /// A reader of a queue of events (the Rust and Python faces): the next one, or its time.
    MMU_NOTIFIER_WAIT_EVENT = 9,
}
pub use mmu_notifier_wait_reason as WaitReason;

/// One of the three functions of a hook.
pub type mmu_notifier_wait_fn = Option<
    unsafe extern "C" fn(data: *mut c_void, queue: *const c_void, reason: mmu_notifier_wait_reason),
>;

/// Functions that are told of every sleep and every wake. A NULL member is skipped.
///
/// `queue` identifies what is slept on; it is a key and must not be dereferenced.
#[repr(C)]
#[derive(Debug)]
pub struct mmu_notifier_wait_hook {
    /// The calling thread is about to sleep on `queue`.
    pub wait_begin: mmu_notifier_wait_fn,
    /// The calling thread runs again. It may find that it has to sleep once more.
    pub wait_end: mmu_notifier_wait_fn,
    /// The calling thread wakes all that sleep on `queue` (for MMU_NOTIFIER_WAIT_LOCK: one of them).
    pub wake: mmu_notifier_wait_fn,
    /// Passed to the functions.
    pub data: *mut c_void,
}

static HOOK: AtomicPtr<mmu_notifier_wait_hook> = AtomicPtr::new(core::ptr::null_mut());

/// Installs `hook`, or removes it (NULL).
///
/// # Safety
/// `hook` is NULL or stays valid, and unchanged, for the rest of the process.
pub unsafe fn set_wait_hook(hook: *const mmu_notifier_wait_hook) {
    // ORDERING: Release pairs with the Acquire in `call`: whoever sees the pointer sees the struct.
    HOOK.store(hook.cast_mut(), Ordering::Release);
}

/// Is a hook installed, or does somebody explore?
pub fn is_installed() -> bool {
    // ORDERING: Relaxed: nothing is read through it.
    !HOOK.load(Ordering::Relaxed).is_null() || point::is_exploring()
}

/// Announces a sleep of this thread. True: the scheduler of an explorer has made it sleep, and it was woken.
pub(super) fn wait_begin(queue: *const c_void, reason: WaitReason) -> bool {
    call(|hook| hook.wait_begin, queue, reason);
    point::scheduler().is_some_and(|scheduler| (scheduler.wait)(queue, reason))
}

/// Announces that this thread runs again.
pub(super) fn wait_end(queue: *const c_void, reason: WaitReason) {
    call(|hook| hook.wait_end, queue, reason);
}

/// Announces that this thread wakes the sleepers of `queue`.
pub(super) fn wake(queue: *const c_void, reason: WaitReason) {
    call(|hook| hook.wake, queue, reason);
    if let Some(scheduler) = point::scheduler() {
        (scheduler.wake)(queue, reason);
    }
}

#[inline]
fn call(
    member: fn(&mmu_notifier_wait_hook) -> mmu_notifier_wait_fn,
    queue: *const c_void,
    reason: WaitReason,
) {
    if cfg!(loom) {
        // Nobody sets one there, and a look would be a step.
        return;
    }
    // ORDERING: Acquire pairs with the Release in `set_wait_hook`.
    let hook = HOOK.load(Ordering::Acquire);
    if hook.is_null() {
        return;
    }
    // SAFETY: `set_wait_hook`'s caller keeps the struct valid for ever.
    let hook = unsafe { &*hook };
    if let Some(function) = member(hook) {
        // SAFETY: The caller of `set_wait_hook` gave us functions of this type.
        unsafe { function(hook.data, queue, reason) };
    }
}
