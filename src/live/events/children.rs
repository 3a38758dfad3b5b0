//! System calls that fork, whose child goes on in the middle of a hook.
//!
//! fork(), clone() and clone3() have a child that shares nothing. It goes on where its parent does, on its copy of the parent's stack, also if it
//! is to have a stack of its own: the kernel is not told of that, and `gate` takes the child there in the end.
#![expect(unsafe_code, reason = "system calls")]

use super::fork::may_concern;
use crate::live::epoch::{self, Cause};
use crate::live::look;
use crate::live::x86_64::gate::Registers;
use crate::mm::make_fork;
use crate::sync::syscall;

/// May this system call fork? Its clones are those that share nothing.
pub(super) fn is_fork(number: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_fork as usize {
        return true;
    }
    [libc::SYS_clone, libc::SYS_clone3].contains(&(number as libc::c_long))
}

/// What clone3() is told, as far as it is known: flags, a descriptor, two thread ids, the signal, the stack and its size, and more.
const RECORD: usize = 16;
const FLAGS: usize = 0;
const STACK: usize = 5;

/// A call that forks, as it is made.
struct Fork {
    number: usize,
    arguments: [usize; 6],
    /// Of clone3().
    record: [usize; RECORD],
    /// Where its child's stack ends. 0: it keeps the parent's.
    stack: usize,
}

impl Fork {
    /// None: the child would share memory, or have other thread-local variables, so that nothing of it could come back here.
    fn of(number: usize, arguments: &[usize; 6]) -> Option<Self> {
        let mut fork = Self {
            number,
            arguments: *arguments,
            record: [0; RECORD],
            stack: 0,
        };
        let flags = match number as libc::c_long {
            libc::SYS_clone => {
                fork.stack = core::mem::take(&mut fork.arguments[1]);
                fork.arguments[0]
            }
            libc::SYS_clone3 => {
                let known = fork.record.get_mut(..arguments[1] / size_of::<usize>())?;
                let complete = known.len() > STACK + 1 && look::copy(arguments[0], known);
                if !complete {
                    return None;
                }
                let [stack, size] = [fork.record[STACK], fork.record[STACK + 1]];
                if stack != 0 && size != 0 {
                    fork.stack = stack.checked_add(size)?;
                    fork.record[STACK..=STACK + 1].fill(0);
                }
                fork.record[FLAGS]
            }
            _ => 0,
        };
        let apart = flags & (libc::CLONE_VM | libc::CLONE_SETTLS) as usize == 0;
        apart.then_some(fork)
    }

    /// Makes it.
    unsafe fn make(&mut self) -> isize {
        if self.number == libc::SYS_clone3 as usize {
            self.arguments[0] = (&raw const self.record).addr();
        }
        // SAFETY: The program's own call.
        unsafe { syscall(self.number, self.arguments) }
    }
}

/// Does the child of this call come back where the call was made? One that should be announced and does not is counted as missed.
#[inline(never)]
pub(super) fn comes_back(call: &Registers) -> bool {
    let comes_back = Fork::of(call.number, &call.arguments).is_some();
    if !comes_back && !shares_memory(call) && may_concern() {
        epoch::raise(Cause::Missed);
    }
    comes_back
}

/// If in doubt, no.
fn shares_memory(call: &Registers) -> bool {
    let mut flags = [call.arguments[0]];
    let known = call.number != libc::SYS_clone3 as usize || look::copy(flags[0], &mut flags);
    known && flags[0] & libc::CLONE_VM as usize != 0
}

/// Makes a call that forks. The child comes back, too.
///
/// # Safety
/// It is the program's own, and [`comes_back`].
#[inline(never)]
pub(super) unsafe fn make(call: &Registers) -> isize {
    let fork = Fork::of(call.number, &call.arguments);
    // SAFETY: The caller's promise.
    make_fork(|| fork.map_or(-(libc::EINVAL as isize), |mut fork| unsafe { fork.make() }))
}

/// In the child of such a call: where the stack ends that it was given, or 0.
#[inline(never)]
pub(super) fn own_stack(number: usize, arguments: &[usize; 6]) -> usize {
    Fork::of(number, arguments).map_or(0, |fork| fork.stack)
}
