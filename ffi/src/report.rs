//! `<mmu_notifier/report.h>`: who is told of WARN and BUG (DV-3).

use core::ffi::{CStr, c_char, c_ulong, c_void};

use mmu_notifier::report;
use mmu_notifier::report::{mmu_notifier_report_handler, mmu_notifier_report_kind};
use mmu_notifier::thread;

/// Sends reports to `handler`, with `data`, from now on. NULL restores the default handler, which writes one line to
/// stderr (`mmu_notifier: warning: [RS-5] function: message`) and drops information.
///
/// The handler is called on the thread that caused the report, with no lock of the library held, from any thread, possibly
/// on several at a time and possibly inside a callback. After a BUG has been handled the program is aborted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_set_report_handler(
    handler: mmu_notifier_report_handler,
    data: *mut c_void,
) {
    // SAFETY: The caller keeps the contract.
    unsafe { report::set_handler(handler, data) };
}

/// Reports that the calling thread calls `function`, a string that stays valid, if it does so inside a callback of an event,
/// where that may hang (LIVE-call). Says whether it is inside of one.
///
/// For libmmu_notifier_debug.so, and for allocators and locks that want to say it themselves. Callable from anywhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_check_call(function: *const c_char) -> bool {
    let inside = thread::inside_event();
    if inside && !function.is_null() {
        // SAFETY: The caller passes a string that stays valid.
        let function = unsafe { CStr::from_ptr(function) };
        report::LIVE_CALL.broken_by(function).report();
    }
    inside
}

/// Reports of this kind since the process began. Callable from anywhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_report_count(kind: mmu_notifier_report_kind) -> c_ulong {
    report::count(kind)
}

/// Reports since the process began that named this rule, such as "RS-5". Callable from anywhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_report_rule_count(rule: *const c_char) -> c_ulong {
    if rule.is_null() {
        return 0;
    }
    // SAFETY: The caller passes a string.
    report::rule_count(unsafe { CStr::from_ptr(rule) })
}
