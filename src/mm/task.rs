//! `current`: what drivers see of a thread, and which address space it has.

use core::cell::{Cell, UnsafeCell};
use core::ffi::CStr;
use core::ptr;

use super::{argument, lifetime, registry};
use crate::abi::mm::{mm_struct, task_struct};
use crate::report::Result;
use crate::sync::{AtomicPtr, Ordering};

const EMPTY: task_struct = task_struct {
    mm: ptr::null_mut(),
    group_leader: ptr::null_mut(),
    pid: 0,
    tgid: 0,
    comm: [0; 16],
    personality: 0,
};

thread_local! {
    static TASK: UnsafeCell<task_struct> = const { UnsafeCell::new(EMPTY) };
    /// What `current->mm` was before kthread_use_mm().
    static BEFORE_USE: Cell<*mut mm_struct> = const { Cell::new(ptr::null_mut()) };
}

/// The task of the thread that the process started with. It outlives that thread.
struct Leader(UnsafeCell<task_struct>);
// SAFETY: Written before it is published in `LEADER`, later by its own thread only.
unsafe impl Sync for Leader {}
static FIRST_LEADER: Leader = Leader(UnsafeCell::new(EMPTY));
static LEADER: AtomicPtr<task_struct> = AtomicPtr::new(ptr::null_mut());

/// The calling thread's task. Its `mm` is the process's own unless something else was assigned.
pub fn current() -> *mut task_struct {
    let task = TASK.with(UnsafeCell::get);
    // SAFETY: The thread's own.
    unsafe {
        if (*task).pid == 0 {
            initialise(task);
        }
        // The first thread's task is the leader's, so that `current == current->group_leader` holds there.
        if (*task).pid == (*task).tgid {
            (*task).group_leader
        } else {
            task
        }
    }
}

/// Fills in a thread's task at its first use.
unsafe fn initialise(task: *mut task_struct) {
    // SAFETY: The caller passes the thread's own task.
    unsafe {
        (*task).mm = registry::process_mm();
        (*task).pid = libc::gettid();
        (*task).tgid = libc::getpid();
        libc::prctl(libc::PR_GET_NAME, (*task).comm.as_mut_ptr());
        (*task).personality = personality();
        (*task).group_leader = leader((*task).tgid);
    }
}

/// The leader's task, made by whoever needs it first.
fn leader(tgid: i32) -> *mut task_struct {
    // ORDERING: Acquire pairs with the Release below.
    let known = LEADER.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    let first = FIRST_LEADER.0.get();
    static MAKING: crate::sync::Lock<()> = crate::sync::Lock::new(());
    let making = MAKING.lock();
    // ORDERING: Relaxed: under the lock.
    if LEADER.load(Ordering::Relaxed).is_null() {
        // SAFETY: Not published yet, and this thread has the lock.
        unsafe {
            (*first).mm = registry::process_mm();
            (*first).pid = tgid;
            (*first).tgid = tgid;
            (*first).group_leader = first;
            (*first).personality = personality();
            copy_name(first);
        }
        // ORDERING: Release pairs with the Acquire above.
        LEADER.store(first, Ordering::Release);
    }
    drop(making);
    first
}

/// The process's execution domain, which a driver may look at.
fn personality() -> core::ffi::c_uint {
    const ASK: core::ffi::c_ulong = 0xffff_ffff;
    // SAFETY: Asks, and changes nothing.
    let answer = unsafe { libc::personality(ASK) };
    core::ffi::c_uint::try_from(answer).unwrap_or(0)
}

/// The process's name, cut to 15 bytes.
unsafe fn copy_name(task: *mut task_struct) {
    // SAFETY: The caller passes a task of its own; glibc keeps the name for ever.
    unsafe {
        let name = CStr::from_ptr(program_invocation_short_name);
        for (to, from) in (&mut (*task).comm)[..15].iter_mut().zip(name.to_bytes()) {
            *to = *from as core::ffi::c_char;
        }
    }
}

unsafe extern "C" {
    /// glibc: the last part of `argv[0]`.
    static program_invocation_short_name: *const core::ffi::c_char;
}

/// The worker's threads have no address space.
pub(super) fn begin_worker() {
    // SAFETY: The thread's own task.
    unsafe { (*current()).mm = ptr::null_mut() };
}

/// After fork, in the child: the forking thread leads a process of its own, with the leader's task, which outlives it.
pub(super) fn after_fork_in_child() {
    let before = current();
    let leader = FIRST_LEADER.0.get();
    // SAFETY: The thread's own task, and the leader's, which is this thread's now; there is one thread.
    unsafe {
        let own = TASK.with(UnsafeCell::get);
        (*own).pid = libc::gettid();
        (*own).tgid = libc::getpid();
        (*own).group_leader = leader;
        (*leader).mm = (*before).mm;
        (*leader).pid = (*own).pid;
        (*leader).tgid = (*own).tgid;
        (*leader).group_leader = leader;
        (*leader).comm = (*before).comm;
        (*leader).personality = (*before).personality;
    }
    // ORDERING: Release pairs with the Acquire in `leader`.
    LEADER.store(leader, Ordering::Release);
}

/// The address space of `task` with one more user, or NULL if it has none or that has no users.
///
/// # Errors
/// DV-14: `task` is NULL.
///
/// # Safety
/// `task` is NULL or valid, and does not give up its mm meanwhile.
pub unsafe fn get_task_mm(task: *mut task_struct) -> Result<*mut mm_struct> {
    argument(task, c"get_task_mm")?;
    // SAFETY: The caller's promise.
    unsafe {
        let mm = (*task).mm;
        let taken = !mm.is_null() && lifetime::mmget_not_zero(mm)?;
        Ok(if taken { mm } else { ptr::null_mut() })
    }
}

/// Makes `mm` the calling thread's address space until [`kthread_unuse_mm`]; takes a reference. Does not nest.
///
/// # Errors
/// DV-14: `mm` is NULL.
///
/// # Safety
/// `mm` is NULL, or the caller holds a user of it.
pub unsafe fn kthread_use_mm(mm: *mut mm_struct) -> Result<()> {
    argument(mm, c"kthread_use_mm")?;
    // SAFETY: The caller's promise; the thread's own task.
    unsafe {
        lifetime::mmgrab(mm)?;
        let task = current();
        BEFORE_USE.set((*task).mm);
        (*task).mm = mm;
    }
    Ok(())
}

/// Undoes [`kthread_use_mm`]: the thread has again what it had before.
///
/// # Errors
/// DV-14; ML-3: more references were dropped than taken.
///
/// # Safety
/// `mm` is NULL, or what this thread gave to `kthread_use_mm`.
pub unsafe fn kthread_unuse_mm(mm: *mut mm_struct) -> Result<()> {
    argument(mm, c"kthread_unuse_mm")?;
    // SAFETY: The caller's promise; the thread's own task.
    unsafe {
        (*current()).mm = BEFORE_USE.get();
        lifetime::mmdrop(mm)
    }
}
