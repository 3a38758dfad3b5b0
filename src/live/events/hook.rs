//! What a system call does that may change watched memory: `mm::calls`, at work.
//!
//! Runs with the registers and on the stack of the program's own system call: inside malloc's locks, inside the dynamic linker, in
//! a thread that is about to end. Until a callback is called nothing here allocates, waits for a lock, or calls a function of
//! libc.
//!
//! A call with subscribers has all signals blocked from before its start to after its end, and its end comes also if it
//! fails. The kernel's answer is handed back as it is, so that libc sets errno. A call of which a thread may be cancelled has at least the
//! signals for that blocked: so a cancelled thread leaves no section open. `gate` lets them through again, where an unwinder finds its way.
//!
//! A handler that leaves by longjmp() does leave a section open. The thread's next call that comes here finds out
//! (`has_left`), and closes it.
//!
//! A call made inside a callback, or by a signal handler while its thread holds a lock of the library, cannot be announced:
//! subscribers are called by this thread already, or could not be looked up. It goes to the kernel; then it is counted, and the epoch
//! rises if anybody watches what it changed. In a callback it is reported (LIVE-nested).
#![expect(unsafe_code, reason = "system calls, and callbacks of C")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "one system call")]

use super::changes::{Changes, EVERYTHING};
use super::{children, classify, count_event, count_nested, current, fork};
use crate::live::epoch::{self, Cause};
use crate::live::signals::{block_signals, restore_signals};
use crate::live::sites::{is_in_slot, probe};
use crate::live::x86_64::gate::Registers;
use crate::live::{gap, look, net};
use crate::mm::WATCHED;
use crate::mm::calls::{self, CALLS, Call, Pair};
use crate::report::LIVE_NESTED;
use crate::sync::{syscall, words};
use crate::thread;

/// Answers to `gate`: the call has been made.
const DONE: u32 = 0;
/// The slot is to make it.
const PASS: u32 = 1;
/// Added to these: `gate` is to set the mask of signals.
pub(in crate::live) const MASK: u32 = 2;
/// Added to `DONE`: this is a child that has a stack of its own, whose end is in place of the mask.
pub(in crate::live) const AWAY: u32 = 4;

/// The signals by which libc cancels a thread: glibc's, and musl's.
const CANCELLATION: u64 = 1 << 31 | 1 << 32;

/// Makes the system call.
unsafe fn make(call: &Registers) -> isize {
    // SAFETY: The program's own call.
    unsafe {
        if children::is_fork(call.number) {
            children::make(call)
        } else {
            syscall(call.number, call.arguments)
        }
    }
}

/// Makes the call, and ends the section. False: in a child that the call has made.
unsafe fn make_inside(call: &mut Registers, section: Call) -> bool {
    let number = call.number;
    let fresh = net::Fresh::before(call);
    // SAFETY: The program's own call.
    let result = unsafe { make(call) };
    fresh.after(call, result);
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
    children::is_fork(number) && result == 0
}

/// The caller's errno, put back when this goes: callbacks and what they call set it, and free() may not.
struct Errno {
    place: *mut core::ffi::c_int,
    value: core::ffi::c_int,
}

impl Errno {
    fn keep() -> Self {
        // SAFETY: The thread's own.
        unsafe {
            let place = libc::__errno_location();
            let value = place.read();
            Self { place, value }
        }
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: The thread's own.
        unsafe { self.place.write(self.value) };
    }
}

/// A section that machine code has left was awaited.
pub(in crate::live) extern "C" fn after_awaited(_call: &mut Registers) -> u32 {
    let _errno = Errno::keep();
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
pub(in crate::live) unsafe extern "C" fn hook(call: &mut Registers) -> u32 {
    let number = call.number;
    // SAFETY: The program's own call.
    let answer = unsafe { meet(call) };
    if answer & PASS != 0 || !is_in_child(number, call.number as isize) {
        return answer;
    }
    match children::own_stack(number, &call.arguments) {
        0 => answer,
        stack => {
            if answer & MASK != 0 {
                restore_signals(call.mask);
            }
            call.mask = stack as u64;
            DONE | AWAY
        }
    }
}

unsafe fn meet(call: &mut Registers) -> u32 {
    let _errno = Errno::keep();
    probe::note(call);
    if WATCHED.is_inherited() {
        return PASS;
    }
    if children::is_fork(call.number) && !children::comes_back(call) {
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
    calls::close_abandoned(|before| has_left(before, call.gate_stack()));
    let may_be_cancelled = call.number == libc::SYS_fallocate as usize;
    let mut mask = may_be_cancelled.then(|| block_signals(CANCELLATION));
    let section = Call::enter(call.gate_stack());
    let mut changes = changes_of(call);
    // SAFETY: As above.
    unsafe {
        if !is_watched(&changes, &section) {
            gap::run();
            make_inside(call, section);
        } else if let Some(result) = grow_in_place(call) {
            call.number = result as usize;
            section.leave();
        } else {
            let before = block_signals(u64::MAX);
            mask = mask.or(Some(before));
            announced(call, section, &mut changes);
        }
    }
    call.mask = mask.unwrap_or(0);
    if mask.is_some() { DONE | MASK } else { DONE }
}

/// Was a call left half-way that had `gate`'s stack at `before`, if the thread makes another one with it at `now`?
///
/// Yes if the way back from there is overwritten. Yes also if this one stands as high on the same stack: a handler that interrupted
/// the call would stand below. What was on the alternate stack for signals is over with it. (A handler on an alternate stack with
/// SS_AUTODISARM, which hides itself, and which lies above a thread's stack, is taken for another call.)
fn has_left(before: usize, now: usize) -> bool {
    let mut way_back = [0];
    if look::copy(before, &mut way_back) && !is_in_slot(way_back[0]) {
        return true;
    }
    // SAFETY: Plain numbers.
    let mut known = unsafe { core::mem::zeroed::<libc::stack_t>() };
    let arguments = [0, (&raw mut known).addr(), 0, 0, 0, 0];
    // SAFETY: The struct is ours.
    unsafe { syscall(libc::SYS_sigaltstack as usize, arguments) };
    let place = known.ss_sp.addr()..known.ss_sp.addr() + known.ss_size;
    match (place.contains(&before), place.contains(&now)) {
        (true, false) => true,
        (false, true) => false,
        _ => now >= before,
    }
}

/// What the call changes, as far as it may be watched. Asked inside its section: after `disable` has waited for sections, nothing is announced.
fn changes_of(call: &Registers) -> Changes {
    let mut changes = Changes::new(calls::own_mm());
    let announced = children::is_fork(call.number) && fork::is_announced();
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
    let [start, old, new, ..] = call.arguments;
    if result >= 0 {
        net::grown(start + old, start + new);
    }
    (result != -(libc::ENOMEM as isize)).then_some(result)
}

/// Makes the call between the start and the end of what it changes. All signals are blocked.
unsafe fn announced(registers: &mut Registers, section: Call, changes: &mut Changes) {
    current::set(registers);
    let (number, arguments) = (registers.number, registers.arguments);
    // SAFETY: Subscribers keep the contract.
    let pair = unsafe {
        section.announce(move || {
            changes.clear();
            classify::classify(number, &arguments, EVERYTHING, changes);
            changes.ranges()
        })
    };
    let mut result = 0;
    let fresh = net::Fresh::before(registers);
    net::change(pair.as_ref().map_or(&[], Pair::ranges), || {
        // SAFETY: The program's own call.
        result = unsafe { make(registers) };
    });
    fresh.after(registers, result);
    if let Some(pair) = pair {
        if is_in_child(registers.number, result) {
            pair.leave_in_child();
        } else {
            // SAFETY: As above.
            unsafe { pair.end() };
        }
    }
    current::clear();
    registers.number = result as usize;
    count_event();
}

/// Makes a call that cannot be announced, and counts it.
unsafe fn nested(call: &mut Registers, in_callback: bool) -> u32 {
    let section = Call::enter(call.gate_stack());
    let reported = in_callback && words::locks_held() == 0;
    let changes = changes_of(call);
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
    // What a handler of a signal changes is no mistake of a callback.
    if changes_memory && in_callback {
        count_nested();
    }
    if changes_memory && reported {
        words::before_lock();
        let misuse = LIVE_NESTED.broken_by(c"mmu_notifier_live");
        misuse.value(number as core::ffi::c_long).report();
        words::after_unlock();
    }
    DONE
}
