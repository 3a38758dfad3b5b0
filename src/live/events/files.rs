//! Files that lose a part: every mapping of that part changes.
#![expect(unsafe_code, reason = "asks the kernel")]

use core::ffi::c_int;

use super::changes::{Changes, Hull};
use super::has;
use crate::abi::notifier::mmu_notifier_event::MMU_NOTIFY_CLEAR as CLEAR;
use crate::live::look;
use crate::sync::pages::PAGE;
use crate::sync::syscall;

const FALLOC_MOVES: c_int = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
/// fallocate: modes that take something away from who has mapped the file.
pub(in crate::live) const FALLOC_TAKES_AWAY: c_int =
    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE | WRITE_ZEROES | FALLOC_MOVES;
/// FALLOC_FL_WRITE_ZEROES, of Linux 6.17.
const WRITE_ZEROES: c_int = 0x80;

/// What matters of a file.
pub(super) struct File {
    inode: u64,
    size: usize,
}

fn status_of(number: libc::c_long, arguments: impl Fn(usize) -> [usize; 6]) -> Option<File> {
    // SAFETY: Plain numbers.
    let mut known = unsafe { core::mem::zeroed::<libc::stat>() };
    // SAFETY: The struct is ours; what is wrong with the rest is an error.
    let result = unsafe { syscall(number as usize, arguments((&raw mut known).addr())) };
    (result == 0).then(|| File {
        inode: known.st_ino,
        size: usize::try_from(known.st_size).unwrap_or(0),
    })
}

/// The file of a descriptor.
pub(super) fn open_as(descriptor: usize) -> Option<File> {
    status_of(libc::SYS_fstat, |room| [descriptor, room, 0, 0, 0, 0])
}

/// The file of a name.
pub(super) fn named(name: usize) -> Option<File> {
    let here = libc::AT_FDCWD as usize;
    status_of(libc::SYS_newfstatat, |room| [here, name, room, 0, 0, 0])
}

/// truncate and ftruncate.
pub(super) fn truncate(file: Option<File>, length: usize, hull: Hull, changes: &mut Changes) {
    if let Some(file) = file.filter(|file| length < file.size) {
        take_away(file.inode, length, usize::MAX, hull, changes);
    }
}

/// fallocate.
pub(super) fn punch(
    descriptor: usize,
    mode: usize,
    offset: usize,
    length: usize,
    hull: Hull,
    changes: &mut Changes,
) {
    if !has(mode, FALLOC_TAKES_AWAY) {
        return;
    }
    let moves = has(mode, FALLOC_MOVES);
    if let Some(file) = open_as(descriptor) {
        let end = if moves {
            usize::MAX
        } else {
            offset.saturating_add(length)
        };
        take_away(file.inode, offset, end, hull, changes);
    }
}

/// MADV_REMOVE: the files that are mapped from `start` to `end` lose what is mapped there. Where there is no file the kernel refuses: inodes
/// need not tell, which they cannot, for a segment of shared memory may have 0.
pub(super) fn remove(start: usize, end: usize, hull: Hull, changes: &mut Changes) {
    let mut at = start;
    while at < end {
        let mut next = None;
        let known = look::each(at, end, |mapping| {
            next = Some(*mapping);
            false
        });
        if !known {
            return changes.put_hull(CLEAR, hull);
        }
        let Some(mapping) = next else {
            return;
        };
        let offset = |address: usize| mapping.offset.saturating_add(address - mapping.start);
        let from = offset(at.max(mapping.start));
        let to = offset(end.min(mapping.end));
        take_away(mapping.inode, from, to, hull, changes);
        at = mapping.end;
    }
}

/// The file loses what it has from `from` to `to`: so does every mapping of it. A file is known by its inode alone: its device's
/// number is not the same in both places on all file systems. A range too many is harmless.
fn take_away(inode: u64, from: usize, to: usize, hull: Hull, changes: &mut Changes) {
    let from = from / PAGE * PAGE;
    let to = to.checked_next_multiple_of(PAGE).unwrap_or(usize::MAX);
    let (first, end) = (hull.0 as usize, (hull.1 as usize).saturating_add(1));
    let known = look::each(first, end, |mapping| {
        let length = mapping.end - mapping.start;
        let (begins, ends) = (mapping.offset, mapping.offset.saturating_add(length));
        if mapping.inode == inode && from < ends && to > begins {
            let start = mapping.start + (from.max(begins) - begins);
            let end = mapping.start + (to.min(ends) - begins);
            changes.put(CLEAR, start, end);
        }
        true
    });
    if !known {
        changes.put_hull(CLEAR, hull);
    }
}
