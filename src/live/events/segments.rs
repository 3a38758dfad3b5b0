//! Segments of shared memory (System V): how much of the address space one takes.
#![expect(unsafe_code, reason = "asks the kernel")]

use super::changes::{Changes, Hull};
use super::{has, huge};
use crate::abi::notifier::mmu_notifier_event::MMU_NOTIFY_UNMAP as UNMAP;
use crate::live::look;
use crate::sync::pages::PAGE;
use crate::sync::syscall;

/// Where a range ends that could be of any length.
const END: usize = usize::MAX / PAGE * PAGE;

/// The size of a segment of shared memory.
fn segment_size(identifier: usize) -> Option<usize> {
    // SAFETY: Plain numbers.
    let mut known = unsafe { core::mem::zeroed::<libc::shmid_ds>() };
    let arguments = [
        identifier,
        libc::IPC_STAT as usize,
        (&raw mut known).addr(),
        0,
        0,
        0,
    ];
    // SAFETY: The struct is ours.
    let result = unsafe { syscall(libc::SYS_shmctl as usize, arguments) };
    (result == 0).then_some(known.shm_segsz)
}

/// shmdt takes away what lies where the segment would have it, if it were attached at `start`: also if its first pages are gone, or
/// something else is mapped in the middle. Other mappings of which the same is true are told as well: inodes tell nothing, for a segment may
/// have 0.
pub(super) fn detach(start: usize, hull: Hull, changes: &mut Changes) {
    if start % PAGE != 0 {
        return;
    }
    let (first, end) = (hull.0 as usize, (hull.1 as usize).saturating_add(1));
    let known = look::each(start.max(first), end, |mapping| {
        if mapping.start.checked_sub(start) == Some(mapping.offset) {
            changes.put(UNMAP, mapping.start, mapping.end);
        }
        true
    });
    if !known {
        // It could be any length.
        changes.put(UNMAP, start, END);
    }
}

/// shmat over what is there (SHM_REMAP).
pub(super) fn attach(identifier: usize, start: usize, flags: usize, changes: &mut Changes) {
    let rounded = start & !(PAGE - 1);
    let start = if has(flags, libc::SHM_RND) {
        rounded
    } else {
        start
    };
    match segment_size(identifier) {
        Some(size) => changes.add(UNMAP, start, huge::of_segment(start, size)),
        None => changes.put(UNMAP, rounded, END),
    }
}
