//! What inlines of the headers need from the library. Not for programs.

use core::ffi::{CStr, c_char, c_int, c_uint};

use mmu_notifier::report::{DV_3_DRIVER_BUG, DV_3_DRIVER_WARN, DV_14_ARGUMENT};
use mmu_notifier::sync;
use mmu_notifier::sync::AtomicU32;

use crate::convert::raise;

/// A static string of a header, as one.
unsafe fn name(string: *const c_char) -> &'static CStr {
    if string.is_null() {
        return c"?";
    }
    // SAFETY: The headers pass string literals.
    unsafe { CStr::from_ptr(string) }
}

/// The inline `function` got NULL where the contract wants an object: a BUG. Rule: DV-14.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_null_argument(function: *const c_char) -> ! {
    // SAFETY: A literal.
    let function = unsafe { name(function) };
    raise(&DV_14_ARGUMENT.broken_by(function));
    std::process::abort()
}

/// A driver's WARN_ON (`bug` 0) or BUG_ON. After a BUG this does not return. Rule: DV-3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_driver_report(
    bug: c_int,
    file: *const c_char,
    line: c_int,
    function: *const c_char,
    condition: *const c_char,
) {
    let rule = if bug == 0 {
        &DV_3_DRIVER_WARN
    } else {
        &DV_3_DRIVER_BUG
    };
    // SAFETY: A literal.
    let function = unsafe { name(function) };
    // SAFETY: A literal.
    let condition = unsafe { name(condition) };
    raise(&rule.broken_by(function).said(condition).at(file, line));
}

/// The slow path of spin_lock(): sleeps until the lock in `word` is the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_spin_lock_slow(word: *mut c_uint) {
    // SAFETY: The header passes the word of a live lock.
    sync::spin_lock_slow(unsafe { AtomicU32::from_ptr(word) });
}

/// The slow path of spin_unlock(): wakes one sleeper of the lock in `word`, which was just released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_spin_unlock_slow(word: *mut c_uint) {
    sync::spin_unlock_slow(word);
}
