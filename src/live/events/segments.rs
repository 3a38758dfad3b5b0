//! Segments of shared memory (System V): how much of the address space one takes.
#![expect(unsafe_code, reason = "asks the kernel")]

use super::changes::Changes;
use super::has;
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

/// shmdt.
pub(super) fn detach(start: usize, changes: &mut Changes) {
    if start % PAGE != 0 {
        return;
    }
    let mut segment: Option<look::Mapping> = None;
    let known = look::each(start, usize::MAX, |mapping| {
        let same = segment.map_or(mapping.start == start, |first| {
            mapping.inode == first.inode && mapping.start - start == mapping.offset
        });
        if same {
            segment = Some(look::Mapping {
                end: mapping.end,
                ..segment.unwrap_or(*mapping)
            });
        }
        same
    });
    match segment {
        // The number of the segment is the inode of its file.
        Some(found) => {
            let size = segment_size(found.inode as usize).unwrap_or(0);
            changes.add(UNMAP, start, size.max(found.end - start));
        }
        None if known => {}
        // It could be any length.
        None => changes.put(UNMAP, start, END),
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
        Some(size) => changes.add(UNMAP, start, size),
        None => changes.put(UNMAP, rounded, END),
    }
}
