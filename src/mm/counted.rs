//! Notifiers that are counted: get, put, synchronize (SPEC 3.10, 3.13). The last put owes a free_notifier, which the worker calls.

use core::ffi::{CStr, c_uint};
use core::mem::offset_of;

use super::lifetime::{mmdrop, opaque};
use super::notifiers::{add, end_inherited, is_stamp, stamp, unlink};
use super::subscriptions::{self, Subscriptions};
use super::worker::WORKER;
use super::{argument, calls, locks};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{mmu_notifier, mmu_notifier_ops};
use crate::abi::types::callback_head;
use crate::chain;
use crate::dispatch::{Abi, NotifierOps};
use crate::report::{
    DV_7, DV_9_REGISTER, DV_9_UNREGISTER, DV_14_ALLOC, DV_14_ALLOC_OP, Error, GP_1, GP_5, GP_7,
    Result,
};
use crate::thread::{self, Callbacks, Frame, Kind};

const MAX_ERRNO: usize = 4095;

/// The notifier of `mm` with these `ops`, registered if there is none: `ops->alloc_notifier` makes it. mmap_lock is held
/// for writing by the caller.
///
/// # Errors
/// EOVERFLOW: `users` is at its maximum; what alloc_notifier returned; those of [`register`](super::register).
///
/// # Safety
/// As [`register`](super::register).
// SPEC: GP-1 GP-3 GP-4
pub unsafe fn get_locked(
    ops: *const mmu_notifier_ops,
    mm: *mut mm_struct,
    abi: Abi,
) -> Result<*mut mmu_notifier> {
    const FUNCTION: &CStr = c"mmu_notifier_get_locked";
    argument(ops, FUNCTION)?;
    argument(mm, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe {
        if !locks::is_write_locked(mm) {
            GP_1.broken_by(FUNCTION).about(mm.cast()).report();
        }
        if let Some(found) = subscriptions::of(mm).and_then(|known| take_listed(ops, known)) {
            return found;
        }
        let table = NotifierOps::new(ops.cast(), abi);
        let fresh = allocate_notifier(table, mm, FUNCTION)?;
        if subscriptions::of(mm).is_some_and(|known| known.chain.lock().contains(fresh)) {
            let misuse = DV_9_REGISTER.broken_by(FUNCTION).about(fresh.cast());
            return Err(misuse.errno(libc::EINVAL).into());
        }
        (*fresh).ops = ops;
        match add(fresh, mm, abi, FUNCTION) {
            Ok(()) => {
                calls::wait_after_register(mm);
                if calls::is_enabled() {
                    // Its last put may be made by a callback inside free(), where no thread can be started.
                    WORKER.kick();
                }
                Ok(fresh)
            }
            Err(error) => {
                // SPEC: GP-3
                if let Some(free) = table.free() {
                    free(fresh);
                }
                Err(error)
            }
        }
    }
}

/// Counts one more user of the newest listed notifier with these ops.
// SPEC: GP-1 GP-2
unsafe fn take_listed(
    ops: *const mmu_notifier_ops,
    subscriptions: &Subscriptions,
) -> Option<Result<*mut mmu_notifier>> {
    let chain = subscriptions.chain.lock();
    // SAFETY: Listed notifiers are valid while the lock is held.
    let found = chain.find(|listed| unsafe { (*listed).ops } == ops)?;
    // SAFETY: As above.
    let users = unsafe { &mut (*found).users };
    if *users == c_uint::MAX {
        return Some(Err(Error::Errno(libc::EOVERFLOW)));
    }
    *users += 1;
    Some(Ok(found))
}

// SPEC: GP-3 DV-14
unsafe fn allocate_notifier(
    ops: NotifierOps,
    mm: *mut mm_struct,
    function: &'static CStr,
) -> Result<*mut mmu_notifier> {
    let Some(alloc) = ops.alloc() else {
        return Err(DV_14_ALLOC_OP.broken_by(function).into());
    };
    // SAFETY: The driver's op gets a valid mm.
    let fresh = unsafe { alloc(mm) };
    if fresh.is_null() {
        return Err(DV_14_ALLOC
            .broken_by(function)
            .inside(c"alloc_notifier")
            .into());
    }
    let errno = fresh.addr().wrapping_neg();
    if errno <= MAX_ERRNO {
        return Err(Error::Errno(i32::try_from(errno).unwrap_or(libc::EINVAL)));
    }
    Ok(fresh)
}

/// Gives back one get (or the registration). After the last one `ops->free_notifier` is owed: it runs on the library's
/// worker once all present walks are over, and then the reference to the mm is dropped. Never sleeps.
///
/// # Errors
/// DV-14; GP-5: there are no users; GP-7: there is no free_notifier to call.
///
/// # Safety
/// `subscription` is NULL or valid.
// SPEC: GP-5 GP-6 GP-8 GP-9 GP-10
pub unsafe fn put(subscription: *mut mmu_notifier) -> Result<()> {
    const FUNCTION: &CStr = c"mmu_notifier_put";
    argument(subscription, FUNCTION)?;
    // SAFETY: The caller's promise.
    unsafe {
        let mm = (*subscription).mm;
        let no_users = GP_5.broken_by(FUNCTION).about(subscription.cast());
        if mm.is_null() && (*subscription).users == 0 {
            return Err(no_users.into());
        }
        argument(mm, FUNCTION)?;
        if end_inherited(subscription, mm) {
            return Ok(());
        }
        let Some(subscriptions) = subscriptions::of(mm) else {
            return Err(no_users.into());
        };
        let mut chain = subscriptions.chain.lock();
        if (*subscription).users == 0 {
            return Err(no_users.into());
        }
        if !is_stamp(stamp(subscription).read()) {
            return Err(DV_9_UNREGISTER
                .broken_by(FUNCTION)
                .about(subscription.cast())
                .into());
        }
        if (*subscription).users == 1 && NotifierOps::of(subscription).free().is_none() {
            return Err(GP_7.broken_by(FUNCTION).about(subscription.cast()).into());
        }
        (*subscription).users -= 1;
        if (*subscription).users > 0 {
            return Ok(());
        }
        unlink(&mut chain, subscription, mm);
        drop(chain);
        WORKER.call(&raw mut (*subscription).rcu);
    }
    Ok(())
}

static FREE_NOTIFIER: Callbacks = Callbacks::new(Kind::Free, c"free_notifier");

/// The worker's half of a last put.
///
/// # Safety
/// `head` is the `rcu` of a notifier whose last put was made, and all walks of that time are over.
// SPEC: GP-7
pub(super) unsafe fn free_work(head: *mut callback_head) {
    let subscription = notifier_of_rcu(head);
    // SAFETY: The caller's promise.
    unsafe {
        let mm = (*subscription).mm;
        let free = NotifierOps::of(subscription).free();
        if let Some(free) = free {
            let frame = Frame::new(&FREE_NOTIFIER, opaque(mm), false);
            frame.run(|| free(subscription));
        }
        if let Err(Error::Misuse(misuse)) = mmdrop(mm) {
            misuse.report();
        }
    }
}

/// The notifier that the worker's `head` is part of.
pub(super) fn notifier_of_rcu(head: *mut callback_head) -> *mut mmu_notifier {
    head.wrapping_byte_sub(offset_of!(mmu_notifier, rcu)).cast()
}

/// Waits until every free_notifier that is owed now has run, the drop of its mm included, and until every walk of any mm
/// that is in progress is over.
///
/// # Errors
/// DV-7: the call would wait for the callback that makes it.
// SPEC: SY-1 DV-5
pub fn synchronize() -> Result<()> {
    if let Some(op) = thread::inside_section().or_else(thread::inside_worker) {
        return Err(DV_7
            .broken_by(c"mmu_notifier_synchronize")
            .inside(op)
            .into());
    }
    let owed = WORKER.queued();
    chain::synchronize();
    WORKER.barrier(owed);
    Ok(())
}
