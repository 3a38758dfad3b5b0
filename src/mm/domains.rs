//! Grace periods for drivers: their own domains (`srcu_*`), and one for the process (`rcu_*`), in which readers may sleep too.
//!
//! The process's readers are known by their threads' records, as those of walks are: a section fences nothing, and one inside
//! of another is counted. What a domain owes is run by the library's worker. In the child of a fork the process's domain has the
//! forking thread's readers only; a driver's own domains are as other threads left them: a driver that goes on in the child makes new ones.

use core::ffi::{CStr, c_int, c_void};

use super::argument;
use super::worker::WORKER;
use crate::abi::types::callback_head;
use crate::report::{DV_7, RCU_CLEANUP, RCU_MEMORY, RCU_UNLOCK, Result};
use crate::srcu::{self, Srcu, srcu_struct};
use crate::thread;

/// What `call_rcu` and `call_srcu` call.
pub(super) type Callback = Option<unsafe extern "C" fn(head: *mut callback_head)>;

crate::sync::global! {
    /// The domain of `rcu_read_lock`.
    pub(super) static RCU: Srcu<{ srcu::RCU }> = Srcu::new();
}

unsafe fn domain<'a>(domain: *mut srcu_struct, function: &'static CStr) -> Result<&'a srcu_struct> {
    argument(domain, function)?;
    // SAFETY: The caller passes a valid domain.
    Ok(unsafe { &*domain })
}

/// Enters a read section of a driver's domain, which may sleep and nest. The cookie goes to [`srcu_read_unlock`].
///
/// # Errors
/// DV-14.
///
/// # Safety
/// `srcu` is NULL or a valid domain.
pub unsafe fn srcu_read_lock(srcu: *mut srcu_struct) -> Result<c_int> {
    // SAFETY: The caller's promise.
    let cookie = unsafe { domain(srcu, c"srcu_read_lock") }?.read_lock();
    Ok(c_int::try_from(cookie).unwrap_or(-1))
}

/// Leaves the section that returned `cookie`.
///
/// # Errors
/// DV-14; a warning if there is no such section.
///
/// # Safety
/// `srcu` is NULL or a valid domain.
pub unsafe fn srcu_read_unlock(srcu: *mut srcu_struct, cookie: c_int) -> Result<()> {
    const FUNCTION: &CStr = c"srcu_read_unlock";
    // SAFETY: The caller's promise.
    let srcu = unsafe { domain(srcu, FUNCTION) }?;
    if srcu.read_unlock(usize::try_from(cookie).unwrap_or(usize::MAX), &WORKER) {
        return Ok(());
    }
    Err(RCU_UNLOCK.broken_by(FUNCTION).value(cookie.into()).into())
}

/// Waits for all sections of the domain that are open now.
///
/// # Errors
/// DV-14.
///
/// # Safety
/// `srcu` is NULL or a valid domain.
pub unsafe fn synchronize_srcu(srcu: *mut srcu_struct) -> Result<()> {
    // SAFETY: The caller's promise.
    unsafe { domain(srcu, c"synchronize_srcu") }?.synchronize();
    Ok(())
}

/// Has `callback` called with `head`, on the worker, after all sections of the domain that are open now. Never sleeps.
///
/// # Errors
/// DV-14.
///
/// # Safety
/// Pointers are NULL or valid; `head` until its callback is called.
pub unsafe fn call_srcu(
    srcu: *mut srcu_struct,
    head: *mut callback_head,
    callback: Callback,
) -> Result<()> {
    const FUNCTION: &CStr = c"call_srcu";
    // SAFETY: The caller's promise.
    let srcu = unsafe { domain(srcu, FUNCTION) }?;
    // SAFETY: As above.
    unsafe {
        fill(head, callback, FUNCTION)?;
        srcu.call(head, &WORKER);
    }
    Ok(())
}

/// Notes `callback` in `head`, which the caller gives us.
unsafe fn fill(
    head: *mut callback_head,
    callback: Callback,
    function: &'static CStr,
) -> Result<()> {
    argument(head, function)?;
    argument(
        callback.map_or(core::ptr::null(), |op| op as *const c_void),
        function,
    )?;
    // SAFETY: The caller's promise.
    unsafe { (*head).func = callback };
    Ok(())
}

/// Waits until the callbacks of all earlier [`call_srcu`] on the domain have returned.
///
/// # Errors
/// DV-14; DV-7: called from such a callback.
///
/// # Safety
/// `srcu` is NULL or a valid domain.
pub unsafe fn srcu_barrier(srcu: *mut srcu_struct) -> Result<()> {
    const FUNCTION: &CStr = c"srcu_barrier";
    // SAFETY: The caller's promise.
    let srcu = unsafe { domain(srcu, FUNCTION) }?;
    if let Some(op) = thread::inside_worker() {
        return Err(DV_7.broken_by(FUNCTION).inside(op).into());
    }
    srcu.barrier(&WORKER);
    Ok(())
}

/// Ends a domain.
///
/// # Errors
/// DV-14; a warning if it still has readers or callbacks.
///
/// # Safety
/// `srcu` is NULL or a valid domain.
pub unsafe fn cleanup_srcu(srcu: *mut srcu_struct) -> Result<()> {
    const FUNCTION: &CStr = c"cleanup_srcu_struct";
    // SAFETY: The caller's promise.
    let is_idle = unsafe { domain(srcu, FUNCTION) }?.is_idle();
    if is_idle {
        Ok(())
    } else {
        Err(RCU_CLEANUP.broken_by(FUNCTION).about(srcu.cast()).into())
    }
}

/// Enters a read section of the process's domain. Nests.
#[inline]
pub fn rcu_read_lock() {
    RCU.read_lock_counted(thread::current());
}

/// Leaves a read section of the process's domain.
///
/// # Errors
/// A warning if this thread is in none.
#[inline]
pub fn rcu_read_unlock() -> Result<()> {
    match RCU.read_unlock_counted(thread::current()) {
        None => return Err(RCU_UNLOCK.broken_by(c"rcu_read_unlock").into()),
        Some(true) => WORKER.poke(),
        Some(false) => {}
    }
    Ok(())
}

/// Waits for all sections of the process's domain that are open now.
///
/// # Errors
/// DV-7: this thread is in one.
pub fn synchronize_rcu() -> Result<()> {
    if thread::own().is_some_and(|thread| RCU.is_inside(thread)) {
        return Err(DV_7.broken_by(c"synchronize_rcu").into());
    }
    RCU.synchronize();
    Ok(())
}

/// As [`call_srcu`], in the process's domain.
///
/// # Errors
/// DV-14.
///
/// # Safety
/// As [`call_srcu`].
pub unsafe fn call_rcu(head: *mut callback_head, callback: Callback) -> Result<()> {
    // SAFETY: The caller's promise.
    unsafe {
        fill(head, callback, c"call_rcu")?;
        WORKER.call_rcu(head);
    }
    Ok(())
}

/// An object that `free_rcu` frees: a head has no room for two addresses.
#[repr(C)]
struct Dead {
    head: callback_head,
    object: *mut c_void,
    free: unsafe extern "C" fn(object: *mut c_void),
}

/// Calls `free(object)` on the worker after all sections of the process's domain that are open now. Never sleeps.
///
/// # Errors
/// A warning if there is no memory: the object is leaked.
///
/// # Safety
/// The object stays valid until it is freed; `free` takes it.
pub unsafe fn free_rcu(
    object: *mut c_void,
    free: unsafe extern "C" fn(object: *mut c_void),
) -> Result<()> {
    let layout = core::alloc::Layout::new::<Dead>();
    // SAFETY: The layout is not empty.
    let dead = unsafe { std::alloc::alloc(layout) }.cast::<Dead>();
    if dead.is_null() {
        return Err(RCU_MEMORY.broken_by(c"kfree_rcu").about(object).into());
    }
    let head = callback_head {
        next: core::ptr::null_mut(),
        func: Some(free_dead),
    };
    // SAFETY: Fresh memory of this layout, freed by its callback.
    unsafe {
        dead.write(Dead { head, object, free });
        WORKER.call_rcu(dead.cast());
    }
    Ok(())
}

unsafe extern "C" fn free_dead(head: *mut callback_head) {
    // SAFETY: `free_rcu` queued the first member of a boxed `Dead`.
    let dead = unsafe { Box::from_raw(head.cast::<Dead>()) };
    // SAFETY: `free_rcu`'s caller promises that `free` takes the object.
    unsafe { (dead.free)(dead.object) };
}
