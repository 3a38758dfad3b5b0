//! What a system call is about to change, as ranges of events: SPEC 4.4 for calls that are made anyway.
//!
//! What the kernel refuses at once (an address that is no page's, a length of 0) is no change. A call that fails later has been
//! announced all the same: subscribers may be told too much, never too little.
#![expect(unsafe_code, reason = "asks the kernel")]

use core::ffi::{c_int, c_ulong};
use core::ptr;

use super::look::{self, Name};
use super::{huge, page_size};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE,
    mmu_notifier_event::{
        self, MMU_NOTIFY_CLEAR as CLEAR, MMU_NOTIFY_PROTECTION_PAGE as PROTECTION_PAGE,
        MMU_NOTIFY_PROTECTION_VMA as PROTECTION_VMA, MMU_NOTIFY_UNMAP as UNMAP,
    },
    mmu_notifier_range,
};
use crate::mm;
use crate::sync::syscall;

/// ioctl of a userfaultfd: moves pages.
pub(super) const UFFDIO_MOVE: usize = 0xc028_aa05;
/// ioctl of a userfaultfd: write-protects pages.
pub(super) const UFFDIO_WRITEPROTECT: usize = 0xc018_aa06;

const FALLOC_MOVES: c_int = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
/// fallocate: modes that take something away from who has mapped the file.
pub(super) const FALLOC_TAKES_AWAY: c_int =
    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE | FALLOC_MOVES;

/// mprotect: begins where the mapping begins.
pub(super) const PROT_GROWSDOWN: c_int = 0x0100_0000;

/// Ranges that one call can have.
const MOST: usize = 16;

/// What a call changes.
#[derive(Debug)]
pub(super) struct Changes {
    ranges: [mmu_notifier_range; MOST],
    length: usize,
    mm: *mut mm_struct,
}

impl Changes {
    /// Nothing, of `mm`.
    pub(super) fn new(mm: *mut mm_struct) -> Self {
        let empty = mmu_notifier_range {
            mm,
            start: 0,
            end: 0,
            flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
            event: UNMAP.into(),
            owner: ptr::null_mut(),
        };
        Self {
            ranges: [empty; MOST],
            length: 0,
            mm,
        }
    }

    /// The ranges.
    pub(super) fn ranges(&self) -> &[mmu_notifier_range] {
        &self.ranges[..self.length]
    }

    /// Nothing again.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Adds `length` bytes, rounded up to pages, unless the kernel would refuse them.
    fn add(&mut self, event: mmu_notifier_event, start: usize, length: usize) {
        let page = page_size();
        let length = length.checked_next_multiple_of(page).unwrap_or(0);
        let end = start.checked_add(length);
        if let (true, Some(end)) = (start % page == 0 && length > 0, end) {
            self.put(event, start, end);
        }
    }

    /// Adds a range of pages. Where there is no room left, the last one grows over it.
    fn put(&mut self, event: mmu_notifier_event, start: usize, end: usize) {
        let (start, end) = (start as c_ulong, end as c_ulong);
        if self.length == MOST {
            let last = &mut self.ranges[MOST - 1];
            last.start = last.start.min(start);
            last.end = last.end.max(end);
            return;
        }
        self.ranges[self.length] = mmu_notifier_range {
            mm: self.mm,
            start,
            end,
            flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
            event: event.into(),
            owner: ptr::null_mut(),
        };
        self.length += 1;
    }
}

fn has(flags: usize, flag: c_int) -> bool {
    flags & flag as usize != 0
}

/// What somebody may watch: what lies outside needs no closer look.
pub(super) type Hull = (c_ulong, c_ulong);

/// All there is.
pub(super) const EVERYTHING: Hull = (0, c_ulong::MAX);

/// Adds to `changes` what the call does.
pub(super) fn classify(number: usize, arguments: &[usize; 6], hull: Hull, changes: &mut Changes) {
    let [a, b, c, d, e, _] = *arguments;
    match number as libc::c_long {
        libc::SYS_munmap => changes.add(UNMAP, a, b),
        libc::SYS_mprotect | libc::SYS_pkey_mprotect => protect(a, b, c, changes),
        libc::SYS_mmap if has(d, libc::MAP_FIXED) && !has(d, libc::MAP_FIXED_NOREPLACE) => {
            changes.add(UNMAP, a, huge::of_map(b, d, e));
        }
        libc::SYS_mremap => {
            let (old, new) = huge::of_remap(a, b, c);
            remap(a, old, new, d, e, changes);
        }
        libc::SYS_madvise => {
            if let Some(event) = event_of_advice(c) {
                changes.add(event, a, b);
            }
        }
        libc::SYS_brk => shrink_heap(a, changes),
        libc::SYS_shmdt => detach(a, changes),
        libc::SYS_shmat if has(c, libc::SHM_REMAP) => attach(a, b, c, changes),
        // The kernel makes it a mapping over the old one.
        libc::SYS_remap_file_pages => changes.add(UNMAP, a & !(page_size() - 1), b),
        libc::SYS_process_madvise if is_own(a) => advise_each(b, c, d, changes),
        libc::SYS_ioctl => move_pages(b, c, changes),
        libc::SYS_fallocate => punch(a, b, c, d, hull, changes),
        libc::SYS_ftruncate => {
            if let Some(file) = status_of_file(a) {
                truncate(&file, b, hull, changes);
            }
        }
        libc::SYS_truncate => {
            if let Some(file) = status_of_path(a) {
                truncate(&file, b, hull, changes);
            }
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork => fork(hull, changes),
        libc::SYS_clone | libc::SYS_clone3 => fork(hull, changes),
        _ => {}
    }
}

/// fork write-protects what parent and child share from now on.
pub(super) fn fork((first, last): Hull, changes: &mut Changes) {
    let page = page_size();
    let start = first as usize / page * page;
    let end = (last as usize)
        .checked_next_multiple_of(page)
        .unwrap_or(usize::MAX / page * page);
    changes.put(PROTECTION_PAGE, start, end);
}

/// The event of an advice, if it takes pages away or replaces them.
fn event_of_advice(advice: usize) -> Option<mmu_notifier_event> {
    let advice = c_int::try_from(advice as u32).ok()?;
    mm::clears(advice).then_some(CLEAR)
}

/// PROT_GROWSDOWN begins where the mapping begins.
fn protect(start: usize, length: usize, protection: usize, changes: &mut Changes) {
    if !has(protection, PROT_GROWSDOWN) {
        return changes.add(PROTECTION_VMA, start, length);
    }
    let mut begin = 0;
    look::each(start, start.saturating_add(1), |mapping| {
        begin = mapping.start.min(start);
        false
    });
    changes.add(
        PROTECTION_VMA,
        begin,
        (start - begin).saturating_add(length),
    );
}

/// Growth that may move is announced only when it has turned out not to fit: `hook` tries it in place first.
pub(super) fn may_grow_in_place(arguments: &[usize; 6]) -> bool {
    let [_, old, new, flags, ..] = *arguments;
    let moves = has(flags, libc::MREMAP_FIXED) || has(flags, libc::MREMAP_DONTUNMAP);
    let page = page_size();
    let pages = |length: usize| length.checked_next_multiple_of(page);
    old != 0 && !moves && pages(new) > pages(old)
}

fn remap(
    start: usize,
    old: usize,
    new: usize,
    flags: usize,
    destination: usize,
    changes: &mut Changes,
) {
    let page = page_size();
    let pages = |length: usize| length.checked_next_multiple_of(page).unwrap_or(0);
    let fixed = has(flags, libc::MREMAP_FIXED);
    let moves = fixed || has(flags, libc::MREMAP_DONTUNMAP);
    if start % page != 0 || pages(new) == 0 {
        return;
    }
    if fixed {
        changes.add(UNMAP, destination, new);
    }
    if moves || pages(new) > pages(old) {
        // With a length of 0, shared pages are mapped twice and stay.
        if old != 0 && (moves || has(flags, libc::MREMAP_MAYMOVE)) {
            changes.add(UNMAP, start, old);
        }
    } else {
        changes.add(UNMAP, start + pages(new), pages(old) - pages(new));
    }
}

fn shrink_heap(new: usize, changes: &mut Changes) {
    // SAFETY: Asks.
    let old = unsafe { syscall(libc::SYS_brk as usize, [0; 6]) } as usize;
    let page = page_size();
    let (Some(new), Some(old)) = (
        new.checked_next_multiple_of(page),
        old.checked_next_multiple_of(page),
    ) else {
        return;
    };
    if new != 0 && new < old {
        changes.put(UNMAP, new, old);
    }
}

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

fn detach(start: usize, changes: &mut Changes) {
    if start % page_size() != 0 {
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
        None => changes.put(UNMAP, start, usize::MAX / page_size() * page_size()),
    }
}

fn attach(identifier: usize, start: usize, flags: usize, changes: &mut Changes) {
    let rounded = start & !(page_size() - 1);
    let start = if has(flags, libc::SHM_RND) {
        rounded
    } else {
        start
    };
    match segment_size(identifier) {
        Some(size) => changes.add(UNMAP, start, size),
        None => changes.put(UNMAP, rounded, usize::MAX / page_size() * page_size()),
    }
}

/// Is the process of this pidfd the calling one? If in doubt, yes.
#[inline(never)]
fn is_own(pidfd: usize) -> bool {
    const SELF_THREAD: i32 = -10_000;
    const SELF_PROCESS: i32 = -10_001;
    let number = pidfd as i32;
    if number == SELF_THREAD || number == SELF_PROCESS {
        return true;
    }
    let mut room = [0; 512];
    let Some(file) = Name::new(b"/proc/self/fdinfo/", number.unsigned_abs(), b"").open() else {
        return true;
    };
    let text = file.read(&mut room);
    // SAFETY: Has no arguments.
    let own = unsafe { syscall(libc::SYS_getpid as usize, [0; 6]) };
    match last_number(text, b"NSpid:") {
        Some(found) => found == own as u64,
        None => true,
    }
}

/// The last number of the line that begins with `label`.
fn last_number(text: &[u8], label: &[u8]) -> Option<u64> {
    let line = text
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(label))?;
    let word = line.rsplit(|byte| byte.is_ascii_whitespace()).next()?;
    core::str::from_utf8(word).ok()?.parse().ok()
}

fn advise_each(vectors: usize, count: usize, advice: usize, changes: &mut Changes) {
    const IOV_MAX: usize = 1024;
    let Some(event) = event_of_advice(advice) else {
        return;
    };
    for index in 0..count.min(IOV_MAX) {
        let mut vector = [0; 2];
        if !look::copy(vectors + index * size_of::<libc::iovec>(), &mut vector) {
            return;
        }
        changes.add(event, vector[0], vector[1]);
    }
}

fn move_pages(request: usize, argument: usize, changes: &mut Changes) {
    let mut words = [0; 3];
    if !look::copy(argument, &mut words) {
        return;
    }
    match request as u32 as usize {
        // Destination, source, length.
        UFFDIO_MOVE => changes.add(CLEAR, words[1], words[2]),
        // Start, length.
        UFFDIO_WRITEPROTECT => changes.add(PROTECTION_VMA, words[0], words[1]),
        _ => {}
    }
}

/// What matters of a file.
struct FileStatus {
    inode: u64,
    size: usize,
}

fn status_of(number: libc::c_long, arguments: impl Fn(usize) -> [usize; 6]) -> Option<FileStatus> {
    // SAFETY: Plain numbers.
    let mut known = unsafe { core::mem::zeroed::<libc::stat>() };
    // SAFETY: The struct is ours; what is wrong with the rest is an error.
    let result = unsafe { syscall(number as usize, arguments((&raw mut known).addr())) };
    (result == 0).then(|| FileStatus {
        inode: known.st_ino,
        size: usize::try_from(known.st_size).unwrap_or(0),
    })
}

fn status_of_file(descriptor: usize) -> Option<FileStatus> {
    status_of(libc::SYS_fstat, |room| [descriptor, room, 0, 0, 0, 0])
}

fn status_of_path(name: usize) -> Option<FileStatus> {
    let here = libc::AT_FDCWD as usize;
    status_of(libc::SYS_newfstatat, |room| [here, name, room, 0, 0, 0])
}

fn truncate(file: &FileStatus, length: usize, hull: Hull, changes: &mut Changes) {
    if length < file.size {
        take_from_file(file, length, usize::MAX, hull, changes);
    }
}

fn punch(
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
    if let Some(file) = status_of_file(descriptor) {
        let end = if moves {
            usize::MAX
        } else {
            offset.saturating_add(length)
        };
        take_from_file(&file, offset, end, hull, changes);
    }
}

/// The file loses what it has from `from` to `to`: so does every mapping of it. A file is known by its inode alone: its device's
/// number is not the same in both places on all file systems. A range too many is harmless.
fn take_from_file(file: &FileStatus, from: usize, to: usize, hull: Hull, changes: &mut Changes) {
    let page = page_size();
    let from = from / page * page;
    let to = to.checked_next_multiple_of(page).unwrap_or(usize::MAX);
    let (first, end) = (hull.0 as usize, (hull.1 as usize).saturating_add(1));
    let known = look::each(first, end, |mapping| {
        let length = mapping.end - mapping.start;
        let (begins, ends) = (mapping.offset, mapping.offset.saturating_add(length));
        if mapping.inode == file.inode && from < ends && to > begins {
            let start = mapping.start + (from.max(begins) - begins);
            let end = mapping.start + (to.min(ends) - begins);
            changes.put(CLEAR, start, end);
        }
        true
    });
    if !known {
        changes.put(CLEAR, first / page * page, end / page * page);
    }
}
