//! What a system call does that may change watched memory: `mm::calls`, at work.
//!
//! Runs with the registers and on the stack of the program's own system call: inside malloc's locks, inside the dynamic linker, in
//! a thread that is about to end. Until a callback is called nothing here allocates, waits for a lock, or calls a function of
//! libc.
//!
//! A call with subscribers has all signals blocked from before its start to after its end, and its end comes also if it
//! fails. The kernel's answer is handed back as it is, so that libc sets errno.
//!
//! A call made inside a callback, or by a signal handler while its thread holds a lock of the library, cannot be announced:
//! subscribers are called by this thread already, or could not be looked up. It goes to the kernel; then it is counted, and the epoch
//! rises if anybody watches what it changed. In a callback it is reported (LIVE-nested).
#![expect(unsafe_code, reason = "system calls, and callbacks of C")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "one system call")]

use super::classify::{self, Changes, EVERYTHING};
use super::epoch::{self, Cause};
use super::gate::Registers;
use super::write::{block_signals, restore_signals};
use super::{call, count_event, count_nested, fork, gap};
use crate::mm::WATCHED;
use crate::mm::calls::{self, CALLS, Call};
use crate::report::LIVE_NESTED;
use crate::sync::{syscall, words};
use crate::thread;

/// Answers to `gate`: the call has been made.
const DONE: u32 = 0;
/// The slot is to make it.
const PASS: u32 = 1;

/// Makes the system call.
unsafe fn make(call: &Registers) -> isize {
    // SAFETY: The program's own call.
    unsafe { syscall(call.number, call.arguments) }
}

/// Makes the call, and ends the section. False: in a child that the call has made.
unsafe fn make_inside(call: &mut Registers, section: Call) -> bool {
    let number = call.number;
    // SAFETY: The program's own call.
    let result = unsafe { make(call) };
    call.number = result as usize;
    let in_child = is_in_child(number, result);
    if in_child {
        section.leave_in_child();
    } else {
        section.leave();
    }
    !in_child
}

/// Has this call just made the process that it returns to?
fn is_in_child(number: usize, result: isize) -> bool {
    fork::is_fork(number) && result == 0
}

/// A section that machine code has left was awaited.
pub(super) extern "C" fn after_awaited(_call: &mut Registers) -> u32 {
    wake();
    DONE
}

/// Wakes who waits for a section that machine code has left.
fn wake() {
    let thread = thread::current();
    CALLS.wake_after(thread);
    calls::settle(thread);
}

/// Everything that `gate` does not decide itself.
pub(super) unsafe extern "C" fn hook(call: &mut Registers) -> u32 {
    if WATCHED.is_inherited() {
        return PASS;
    }
    let thread = thread::current();
    if CALLS.is_awaited(thread) && !CALLS.is_inside(thread) {
        wake();
    }
    if !WATCHED.is_enabled() {
        return PASS;
    }
    let in_callback = thread::inside_event();
    if in_callback || words::locks_held() != 0 {
        // SAFETY: The program's own call.
        return unsafe { nested(call, in_callback) };
    }
    let section = Call::enter();
    let mut changes = look(call);
    // SAFETY: As above.
    unsafe {
        if !is_watched(&changes, &section) {
            gap::run();
            make_inside(call, section);
        } else if let Some(result) = grow_in_place(call) {
            call.number = result as usize;
            section.leave();
        } else {
            announced(call, section, &mut changes);
        }
    }
    DONE
}

/// What the call changes, as far as it may be watched. Asked inside its section: after `disable` has waited for sections, nothing is announced.
fn look(call: &Registers) -> Changes {
    let mut changes = Changes::new(calls::own_mm());
    let announced = fork::is_fork(call.number) && fork::is_announced();
    let wanted = WATCHED.is_enabled() && !announced;
    if let Some(hull) = WATCHED.hull().filter(|_| wanted) {
        classify::classify(call.number, &call.arguments, hull, &mut changes);
    }
    changes
}

/// Does anybody watch a part of it?
fn is_watched(changes: &Changes, section: &Call) -> bool {
    let mut ranges = changes.ranges().iter();
    ranges.any(|range| section.is_watched(range.start, range.end))
}

/// Tries whether a mapping can grow where it is, which changes nothing that anybody watches.
unsafe fn grow_in_place(call: &Registers) -> Option<isize> {
    if call.number != libc::SYS_mremap as usize || !classify::may_grow_in_place(&call.arguments) {
        return None;
    }
    let mut stay = call.arguments;
    stay[3] &= !(libc::MREMAP_MAYMOVE as usize);
    // SAFETY: The program's own call, restricted.
    let result = unsafe { syscall(call.number, stay) };
    (result != -(libc::ENOMEM as isize)).then_some(result)
}

/// Makes the call between the start and the end of what it changes.
unsafe fn announced(registers: &mut Registers, section: Call, changes: &mut Changes) {
    let signals = block_signals();
    call::set(registers);
    let (number, arguments) = (registers.number, registers.arguments);
    // SAFETY: Subscribers keep the contract.
    let pair = unsafe {
        section.announce(move || {
            changes.clear();
            classify::classify(number, &arguments, EVERYTHING, changes);
            changes.ranges()
        })
    };
    // SAFETY: The program's own call.
    let result = unsafe { make(registers) };
    if let Some(pair) = pair {
        if is_in_child(registers.number, result) {
            pair.leave_in_child();
        } else {
            // SAFETY: As above.
            unsafe { pair.end() };
        }
    }
    call::clear();
    registers.number = result as usize;
    count_event();
    restore_signals(signals);
}

/// Makes a call that cannot be announced, and counts it.
unsafe fn nested(call: &mut Registers, in_callback: bool) -> u32 {
    let section = Call::enter();
    let reported = in_callback && words::locks_held() == 0;
    let changes = look(call);
    let changes_memory = !changes.ranges().is_empty();
    let watched = is_watched(&changes, &section);
    let number = call.number;
    // SAFETY: As for `hook`.
    if !unsafe { make_inside(call, section) } {
        return DONE;
    }
    if watched {
        epoch::raise(Cause::Nested);
    }
    if changes_memory {
        count_nested();
    }
    if changes_memory && reported {
        // A handler that changes memory is not reported for that.
        words::before_lock();
        let misuse = LIVE_NESTED.broken_by(c"mmu_notifier_live");
        misuse.value(number as core::ffi::c_long).report();
        words::after_unlock();
    }
    DONE
}
