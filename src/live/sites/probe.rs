//! Does code that is written take effect? What runs the program may translate its code first, and go on with the translation of
//! what was there before (valgrind, without --smc-check=all): then no call would ever arrive, and nothing would say so.
//!
//! A call that changes nothing is made before sites are written, so that its code is translated, and again afterwards. Its mark tells
//! whether it came by.
#![expect(unsafe_code, reason = "a system call that fails")]

use super::plan::Plan;
use crate::live::x86_64::gate::Registers;
use crate::sync::{AtomicU32, Ordering};

/// The first argument: no descriptor can have this number, so that the kernel refuses at once.
const MARK: usize = 0x4d4d_5533;

static SEEN: AtomicU32 = AtomicU32::new(0);

/// Makes the call.
pub(in crate::live) fn call() {
    // SAFETY: Changes nothing, for there is no such file.
    unsafe { libc::syscall(libc::SYS_ftruncate, MARK, 0_usize) };
}

/// `hook` got a call.
pub(in crate::live) fn note(call: &Registers) {
    if call.arguments[0] == MARK {
        // ORDERING: Relaxed: read by the thread that made the call.
        SEEN.store(1, Ordering::Relaxed);
    }
}

/// Sites were written: does the call arrive now? Who has another jump in `syscall()` is not asked.
pub(super) fn arrives(plan: &Plan) -> bool {
    if !plan.has_generic() {
        return true;
    }
    // ORDERING: Relaxed, both: this thread's.
    SEEN.store(0, Ordering::Relaxed);
    call();
    SEEN.load(Ordering::Relaxed) != 0
}
