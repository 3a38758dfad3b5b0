//! Which system call a callback is called for: for who wants to know the caller, such as a tracer.
//!
//! Each thread has a pointer to the registers of the call that it has announced, from before the start to after the end.

use core::cell::Cell;
use core::ffi::{c_long, c_ulong};
use core::ptr;

use crate::live::net;
use crate::live::status::mmu_notifier_live_call;
use crate::live::x86_64::gate::Registers;

thread_local! {
    static ANNOUNCED: Cell<*const Registers> = const { Cell::new(ptr::null()) };
}

/// From now on `registers` are what the thread has announced.
pub(super) fn set(registers: &Registers) {
    ANNOUNCED.set(registers);
}

/// The call is over.
pub(super) fn clear() {
    ANNOUNCED.set(ptr::null());
}

/// The call that this thread has announced.
pub fn current_call() -> Option<mmu_notifier_live_call> {
    let registers = ANNOUNCED.get();
    #[expect(unsafe_code, reason = "what `set` left")]
    // SAFETY: `set` got it, `clear` takes it away, and both are in the function whose argument it is.
    let registers = unsafe { registers.as_ref() }?;
    Some(mmu_notifier_live_call {
        number: registers.number as c_long,
        arguments: registers.arguments.map(|word| word as c_ulong),
        stack: registers.stack() as c_ulong,
    })
}

/// Inside a callback: has the change that it is called for been made already, by a call that was not announced?
pub fn is_late() -> bool {
    net::is_late()
}
