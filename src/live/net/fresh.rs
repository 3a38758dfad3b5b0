//! Memory that comes to lie where somebody watches already: it is put into the net before the call that maps it returns.
//!
//! Where something is replaced, `cover` does that at the end of the change. This is for calls that replace nothing.
#![expect(unsafe_code, reason = "asks the kernel")]

use super::cover::PAGE;
use super::{NET, is_spread, undisturbed};
use crate::live::look;
use crate::live::x86_64::gate::Registers;
use crate::mm::WATCHED;
use crate::sync::{syscall, words};

/// A call that may map memory, with what has to be known before it.
pub(in crate::live) struct Fresh {
    /// The end of the heap.
    heap: usize,
    wanted: bool,
}

impl Fresh {
    /// Before the call. A signal handler may have come between a lock of the library and its holder: then nothing is done.
    pub(in crate::live) fn before(call: &Registers) -> Self {
        let maps = [
            libc::SYS_mmap,
            libc::SYS_mremap,
            libc::SYS_brk,
            libc::SYS_shmat,
        ];
        let number = call.number as libc::c_long;
        let wanted = is_spread() && maps.contains(&number) && words::locks_held() == 0;
        let heap = if wanted && number == libc::SYS_brk {
            // SAFETY: Asks.
            unsafe { syscall(libc::SYS_brk as usize, [0; 6]) as usize }
        } else {
            0
        };
        Self { heap, wanted }
    }

    /// After it.
    pub(in crate::live) fn after(self, call: &Registers, result: isize) {
        let Ok(result) = usize::try_from(result) else {
            return;
        };
        if !self.wanted {
            return;
        }
        let [_, length, new_length, ..] = call.arguments;
        let (start, end) = match call.number as libc::c_long {
            libc::SYS_mmap => (result, result.saturating_add(length)),
            libc::SYS_mremap => (result, result.saturating_add(new_length)),
            libc::SYS_brk => (self.heap, result),
            _ => (result, end_of_mapping(result)),
        };
        let start = start as u64 / PAGE * PAGE;
        let end = (end as u64).next_multiple_of(PAGE);
        if start < end && WATCHED.may_reach(start, end - 1) {
            undisturbed(|| NET.mapped(start, end));
        }
    }
}

fn end_of_mapping(start: usize) -> usize {
    let mut end = start;
    look::each(start, start + 1, |mapping| {
        end = mapping.end;
        false
    });
    end
}
