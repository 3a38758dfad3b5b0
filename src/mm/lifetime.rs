//! How long an mm lives (SPEC 3.13, 3.14, 3.15).

use core::alloc::Layout;
use core::ffi::{CStr, c_void};
use core::mem::offset_of;

use super::{argument, events, registry, subscriptions, worker};
use crate::abi::mm::mm_struct;
use crate::abi::types::{atomic_t, callback_head};
use crate::report::{DS_1, DV_7, ML_2, ML_3, Result};
use crate::sync::{AtomicI32, Ordering};
use crate::thread;

/// Makes an address space that maps nothing: mm_users 1, mm_count 1. NULL if there is no memory.
// SPEC: ML-1
pub fn mm_alloc() -> *mut mm_struct {
    let layout = Layout::new::<mm_struct>();
    // SAFETY: The layout is not empty.
    let mm = unsafe { std::alloc::alloc(layout) }.cast::<mm_struct>();
    if !mm.is_null() {
        // SAFETY: Fresh memory of this layout.
        unsafe { mm.write(registry::new_mm()) };
        // SAFETY: Valid until `free` takes it off the list.
        unsafe { registry::add(mm) };
    }
    mm
}

/// `mm_users` of an mm.
pub(super) unsafe fn users<'a>(mm: *const mm_struct) -> &'a AtomicI32 {
    // SAFETY: The caller passes a valid mm.
    let users: &atomic_t = unsafe { &(*mm).mm_users };
    &users.counter
}

/// `mm_count` of an mm.
pub(super) unsafe fn count<'a>(mm: *const mm_struct) -> &'a AtomicI32 {
    // SAFETY: The caller passes a valid mm.
    let count: &atomic_t = unsafe { &(*mm).mm_count };
    &count.counter
}

/// Has the address space users?
pub(super) unsafe fn has_users(mm: *const mm_struct) -> bool {
    // SAFETY: The caller passes a valid mm.
    // ORDERING: Relaxed: a caller that relies on the answer holds a user.
    unsafe { users(mm) }.load(Ordering::Relaxed) > 0
}

/// Adds a user to an address space that the caller knows to have one.
///
/// # Errors
/// DV-14: `mm` is NULL.
///
/// # Safety
/// `mm` is NULL or valid, and has a user.
// SPEC: ML-1
pub unsafe fn mmget(mm: *mut mm_struct) -> Result<()> {
    argument(mm, c"mmget")?;
    // SAFETY: The caller's promise.
    // ORDERING: Relaxed: the caller holds a user already.
    unsafe { users(mm) }.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Adds a user unless there is none. Says whether it did.
///
/// # Errors
/// DV-14: `mm` is NULL.
///
/// # Safety
/// `mm` is NULL, or the caller holds a reference to it.
// SPEC: ML-1
pub unsafe fn mmget_not_zero(mm: *mut mm_struct) -> Result<bool> {
    argument(mm, c"mmget_not_zero")?;
    let add = |users: i32| (users > 0).then(|| users.wrapping_add(1));
    // SAFETY: The caller's promise.
    // ORDERING: Acquire pairs with the Release half of other users' drops; Relaxed on failure: nothing follows.
    let result = unsafe { users(mm) }.fetch_update(Ordering::Acquire, Ordering::Relaxed, add);
    Ok(result.is_ok())
}

/// Drops a user. The last one ends the address space before this returns: `release` is called (SPEC 3.11), then the
/// users' reference is dropped.
///
/// # Errors
/// DV-14; ML-2: there are no users; DV-7: the end would wait for the callback that makes the call.
///
/// # Safety
/// `mm` is NULL, or the caller gives up a user of it.
// SPEC: ML-2 RL-7
pub unsafe fn mmput(mm: *mut mm_struct) -> Result<()> {
    argument(mm, c"mmput")?;
    let refuse = || match thread::inside_section() {
        // SAFETY: The caller holds a user.
        Some(op) if unsafe { would_synchronize(mm) } => Err(DV_7.broken_by(c"mmput").inside(op)),
        _ => Ok(()),
    };
    // SAFETY: The caller's promise.
    unsafe {
        if drop_user(mm, c"mmput", refuse)? {
            exit(mm)?;
        }
    }
    Ok(())
}

/// As [`mmput`], but if this is the last user and the thread is inside a callback, the end is left to the worker.
///
/// # Errors
/// As [`mmput`], without DV-7.
///
/// # Safety
/// As [`mmput`].
// SPEC: ML-2
pub unsafe fn mmput_async(mm: *mut mm_struct) -> Result<()> {
    argument(mm, c"mmput_async")?;
    // SAFETY: The caller's promise.
    if !unsafe { drop_user(mm, c"mmput_async", || Ok(())) }? {
        return Ok(());
    }
    if thread::inside_callback().is_none() {
        // SAFETY: That was the last user.
        return unsafe { exit(mm) };
    }
    // SAFETY: The users' reference keeps the mm; only the last user's drop queues it.
    unsafe {
        (*mm).async_work.func = Some(exit_work);
        worker::on_worker(&raw mut (*mm).async_work);
    }
    Ok(())
}

/// The worker's half of `mmput_async`.
///
/// # Safety
/// `work` is the `async_work` of an mm whose last user is gone.
unsafe extern "C" fn exit_work(work: *mut callback_head) {
    let mm = work
        .wrapping_byte_sub(offset_of!(mm_struct, async_work))
        .cast();
    // SAFETY: The caller's promise.
    if let Err(crate::report::Error::Misuse(misuse)) = unsafe { exit(mm) } {
        misuse.report();
    }
}

/// Drops a user unless `refuse` objects to a last one. Says whether it was the last.
unsafe fn drop_user(
    mm: *mut mm_struct,
    function: &'static CStr,
    refuse: impl Fn() -> core::result::Result<(), crate::report::Misuse>,
) -> Result<bool> {
    // SAFETY: The caller's promise.
    let users = unsafe { users(mm) };
    // ORDERING: Relaxed: the exchange decides.
    let mut now = users.load(Ordering::Relaxed);
    loop {
        if now <= 0 {
            return Err(ML_2
                .broken_by(function)
                .about(mm.cast())
                .value(now.into())
                .into());
        }
        if now == 1 {
            refuse()?;
        }
        // ORDERING: AcqRel: each drop happens before the end that the last one makes. Relaxed on failure: tried again.
        match users.compare_exchange(now, now - 1, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Ok(now == 1),
            Err(other) => now = other,
        }
    }
}

/// Would the end of this address space wait for a grace period?
unsafe fn would_synchronize(mm: *const mm_struct) -> bool {
    // SAFETY: The caller passes a valid mm.
    unsafe { subscriptions::of(mm) }.is_some_and(|subscriptions| !subscriptions.chain.is_empty())
}

/// The end of an address space: nobody uses it any more.
unsafe fn exit(mm: *mut mm_struct) -> Result<()> {
    // SAFETY: The users' reference is still held; it is dropped last.
    unsafe {
        events::release(mm)?;
        mmdrop(mm)
    }
}

/// Adds a reference to the struct.
///
/// # Errors
/// DV-14: `mm` is NULL.
///
/// # Safety
/// `mm` is NULL, or the caller holds a reference or a user.
// SPEC: ML-1
pub unsafe fn mmgrab(mm: *mut mm_struct) -> Result<()> {
    argument(mm, c"mmgrab")?;
    // SAFETY: The caller's promise.
    // ORDERING: Relaxed: the caller holds a reference already.
    unsafe { count(mm) }.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Drops a reference. The last one destroys the subscriptions and frees the struct.
///
/// # Errors
/// DV-14; ML-3: there are no references; DS-1: notifiers are still registered (the struct is leaked).
///
/// # Safety
/// `mm` is NULL, or the caller gives up a reference.
// SPEC: ML-3 MO-6
#[inline]
pub unsafe fn mmdrop(mm: *mut mm_struct) -> Result<()> {
    argument(mm, c"mmdrop")?;
    // SAFETY: The caller's promise.
    // ORDERING: AcqRel: everything before any drop happens before the free that the last one makes.
    let before = unsafe { count(mm) }.fetch_sub(1, Ordering::AcqRel);
    if before > 1 {
        return Ok(());
    }
    // SAFETY: As above.
    unsafe { dropped_last(mm, before) }
}

/// There was one reference, or none.
#[cold]
unsafe fn dropped_last(mm: *mut mm_struct, before: i32) -> Result<()> {
    if before <= 0 {
        // SAFETY: The caller of `mmdrop` passes a valid mm.
        // ORDERING: Relaxed: undoes a mistake.
        unsafe { count(mm) }.fetch_add(1, Ordering::Relaxed);
        return Err(ML_3
            .broken_by(c"mmdrop")
            .about(mm.cast())
            .value(before.into())
            .into());
    }
    if mm != registry::process_mm() {
        // SAFETY: That was the last reference.
        unsafe { free(mm) }?;
    }
    Ok(())
}

unsafe fn free(mm: *mut mm_struct) -> Result<()> {
    // SAFETY: The caller dropped the last reference; `mm` came from `mm_alloc`.
    unsafe {
        destroy_subscriptions(mm, c"mmdrop")?;
        registry::remove(mm);
        drop(Box::from_raw(mm));
    }
    Ok(())
}

/// Frees the subscriptions of an mm that is about to be freed, and poisons the field.
///
/// # Errors
/// DV-14; DS-1: notifiers are still registered.
///
/// # Safety
/// `mm` is NULL, or valid and used by nobody else.
// SPEC: DS-1
pub unsafe fn subscriptions_destroy(mm: *mut mm_struct) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_notifier_subscriptions_destroy";
    argument(mm, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe { destroy_subscriptions(mm, FUNCTION) }
}

unsafe fn destroy_subscriptions(mm: *mut mm_struct, function: &'static CStr) -> Result<()> {
    // SAFETY: The caller's promise.
    let subscriptions = unsafe { subscriptions::raw(mm) };
    if subscriptions.is_null() {
        return Ok(());
    }
    // SAFETY: Published, and not freed before.
    if !unsafe { (*subscriptions).chain.is_empty() } {
        return Err(DS_1.broken_by(function).about(mm.cast::<c_void>()).into());
    }
    // SAFETY: The caller's promise: nobody else looks at the mm.
    unsafe {
        registry::without_fork(|| subscriptions::poison(mm));
        subscriptions::Subscriptions::free(subscriptions);
    }
    Ok(())
}

/// The mm as the frames of a thread know it.
pub(super) fn opaque(mm: *const mm_struct) -> *const c_void {
    mm.cast()
}
