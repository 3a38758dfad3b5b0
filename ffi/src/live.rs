//! `<mmu_notifier/live.h>`: the process's own address space, live.

use core::ffi::{c_int, c_uint, c_ulong};

use mmu_notifier::live;
use mmu_notifier::live::gap::mmu_notifier_live_gap;
use mmu_notifier::live::{mmu_notifier_live_call, mmu_notifier_live_status};

use crate::convert::IntoC;

/// From now on every change that the process makes to its own address space by a system call is a start and end pair on
/// `current->mm` of its threads: before the change, by the calling thread, which goes on when the subscribers are done.
/// Waits for calls of other threads that began before, for up to a second; as long as one is left, the status has a reason, and each look
/// at the epoch finds another one.
///
/// 0; or a negative errno: -ENOTSUP if the process cannot be covered (mmu_notifier_live_status() has the reason), -ENOMEM. Calls
/// that are made while it is enabled change nothing and return 0. Sleeps and allocates; the first time it takes the mmap_lock and
/// the reverse-map lock of the process's own address space. Callable from any thread that holds no lock of these, nor one that a
/// callback takes; not from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_enable() -> c_int {
    live::enable(0).into_c()
}

/// As mmu_notifier_live_enable(), with MMU_NOTIFIER_LIVE_ flags. -EINVAL: a flag that is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_enable_with(flags: c_uint) -> c_int {
    live::enable(flags).into_c()
}

/// Ends live events. When it returns no callback runs on behalf of a system call, and the system calls are what they were,
/// but for those that somebody else has changed since. 0, also if it was not enabled; or -EDEADLK if called from such a callback.
/// Waits for callbacks that run: no lock that one takes may be held.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_disable() -> c_int {
    live::disable().into_c()
}

/// Says what is covered and what was missed so far. The caller sets `status->size` to `sizeof(*status)`, and no more than that
/// is written. 0; or -EINVAL: NULL, or a size that is too small to be one. Allocates, and asks the loader for the loaded objects:
/// callable from any thread, not from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_status(status: *mut mmu_notifier_live_status) -> c_int {
    if status.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: The caller passes a struct whose size it has set.
    let size = unsafe { (*status).size };
    let known = mmu_notifier_live_status {
        size,
        ..live::status()
    };
    let length = (size as usize).min(size_of::<mmu_notifier_live_status>());
    if length < size_of::<c_uint>() {
        return -libc::EINVAL;
    }
    let bytes = (&raw const known).cast::<u8>();
    // SAFETY: As above: that many bytes are the caller's.
    unsafe { status.cast::<u8>().copy_from_nonoverlapping(bytes, length) };
    0
}

/// Rises whenever a change of watched memory was not told, told late, or not waited for: what was validated under another
/// epoch has to be validated again before it is used. It never falls, and begins at 0. Neither allocates nor waits: callable from
/// anywhere, callbacks included.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_epoch() -> c_ulong {
    live::epoch::epoch()
}

/// Inside a callback: which system call of this thread it is called for. 0; or -EINVAL if it is not called for one, but by fork() or
/// by an explicit producer, or if there is no callback; or if `call` is NULL. Neither allocates nor takes a lock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_call(call: *mut mmu_notifier_live_call) -> c_int {
    let Some(current) = live::current_call() else {
        return -libc::EINVAL;
    };
    if call.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: The caller's struct.
    unsafe { *call = current };
    0
}

/// Inside a callback: 1 if the change that it is called for was noticed by the net, hence may be made already, and nobody waits for the
/// callback; 0 if it is announced, or if there is no callback. Neither allocates nor takes a lock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_is_late() -> c_int {
    live::is_late().into()
}

/// Tries whether events arrive in time, by real changes of memory of its own. Returns the kinds of changes of which they do not, as
/// MMU_NOTIFIER_LIVE_KIND_ bits: 0 if all do. Or a negative errno: -EINVAL if live is not enabled, -ENOMEM. Not from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_self_test() -> c_int {
    live::self_test().map(|lost| lost as c_int).into_c()
}

/// For tests: has `gap` called in each system call that nobody watches, by its thread, after it was looked who watches and before
/// the call is made. NULL: no more. The struct stays valid, unchanged, for the rest of the process; the function must not call
/// the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_live_set_gap(gap: *const mmu_notifier_live_gap) {
    // SAFETY: The caller keeps the contract.
    unsafe { live::gap::set(gap) };
}
