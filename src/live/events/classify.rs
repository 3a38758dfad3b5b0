//! What a system call is about to change, as ranges of events: SPEC 4.4 for calls that are made anyway.
//!
//! What the kernel refuses at once (an address that is no page's, a length of 0) is no change. A call that fails later has been
//! announced all the same: subscribers may be told too much, never too little.
#![expect(unsafe_code, reason = "asks the kernel")]

use core::ffi::c_int;

use super::changes::{Changes, Hull};
use super::{files, has, huge, segments};
use crate::abi::notifier::mmu_notifier_event::{
    MMU_NOTIFY_CLEAR as CLEAR, MMU_NOTIFY_PROTECTION_PAGE as PROTECTION_PAGE,
    MMU_NOTIFY_PROTECTION_VMA as PROTECTION_VMA, MMU_NOTIFY_UNMAP as UNMAP,
};
use crate::live::look::{self, Name};
use crate::mm;
use crate::sync::pages::PAGE;
use crate::sync::syscall;

/// ioctl of a userfaultfd: moves pages.
pub(in crate::live) const UFFDIO_MOVE: usize = 0xc028_aa05;
/// ioctl of a userfaultfd: write-protects pages.
pub(in crate::live) const UFFDIO_WRITEPROTECT: usize = 0xc018_aa06;

/// mprotect: begins where the mapping begins.
pub(in crate::live) const PROT_GROWSDOWN: c_int = 0x0100_0000;

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
        libc::SYS_madvise => advise(a, b, c, hull, changes),
        libc::SYS_brk => shrink_heap(a, changes),
        libc::SYS_shmdt => segments::detach(a, hull, changes),
        libc::SYS_shmat if has(c, libc::SHM_REMAP) => segments::attach(a, b, c, changes),
        // The kernel makes it a mapping over the old one.
        libc::SYS_remap_file_pages => changes.add(UNMAP, a & !(PAGE - 1), b),
        libc::SYS_process_madvise if is_own(a) => advise_each(b, c, d, hull, changes),
        libc::SYS_ioctl => move_pages(b, c, changes),
        libc::SYS_fallocate => files::punch(a, b, c, d, hull, changes),
        libc::SYS_ftruncate => files::truncate(files::open_as(a), b, hull, changes),
        libc::SYS_truncate => files::truncate(files::named(a), b, hull, changes),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork => fork(hull, changes),
        libc::SYS_clone | libc::SYS_clone3 => fork(hull, changes),
        _ => {}
    }
}

/// fork write-protects what parent and child share from now on.
pub(super) fn fork(hull: Hull, changes: &mut Changes) {
    changes.put_hull(PROTECTION_PAGE, hull);
}

/// An advice that takes pages away or replaces them. MADV_REMOVE takes them from the file.
fn advise(start: usize, length: usize, advice: usize, hull: Hull, changes: &mut Changes) {
    let advice = advice as c_int;
    if !mm::clears(advice) {
        return;
    }
    changes.add(CLEAR, start, length);
    if advice == libc::MADV_REMOVE {
        files::remove(start, start.saturating_add(length), hull, changes);
    }
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
    let pages = |length: usize| length.checked_next_multiple_of(PAGE);
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
    let pages = |length: usize| length.checked_next_multiple_of(PAGE).unwrap_or(0);
    let fixed = has(flags, libc::MREMAP_FIXED);
    let moves = fixed || has(flags, libc::MREMAP_DONTUNMAP);
    if start % PAGE != 0 || pages(new) == 0 {
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
    } else if let Some(tail) = start.checked_add(pages(new)) {
        changes.add(UNMAP, tail, pages(old) - pages(new));
    }
}

fn shrink_heap(new: usize, changes: &mut Changes) {
    // SAFETY: Asks.
    let old = unsafe { syscall(libc::SYS_brk as usize, [0; 6]) } as usize;
    let (Some(new), Some(old)) = (
        new.checked_next_multiple_of(PAGE),
        old.checked_next_multiple_of(PAGE),
    ) else {
        return;
    };
    if new != 0 && new < old {
        changes.put(UNMAP, new, old);
    }
}

/// Does the process of this pidfd have the calling one's address space? If in doubt, yes.
#[inline(never)]
fn is_own(pidfd: usize) -> bool {
    const SELF_THREAD: i32 = -10_000;
    const SELF_PROCESS: i32 = -10_001;
    let number = pidfd as i32;
    if number == SELF_THREAD || number == SELF_PROCESS {
        return true;
    }
    let mut room = [0; 512];
    let Some(file) = Name::new(b"/proc/thread-self/fdinfo/", number.unsigned_abs(), b"").open()
    else {
        return true;
    };
    let text = file.read(&mut room);
    number_of(text, b"Pid:").is_none_or(|other| shares_memory(other as usize))
}

/// Has this process the calling one's address space? If in doubt, yes.
fn shares_memory(other: usize) -> bool {
    const KCMP_VM: usize = 1;
    /// Ordered before, behind, and neither.
    const DIFFERENT: [isize; 3] = [1, 2, 3];
    // SAFETY: Has no arguments.
    let own = unsafe { syscall(libc::SYS_gettid as usize, [0; 6]) } as usize;
    let arguments = [own, other, KCMP_VM, 0, 0, 0];
    // SAFETY: Asks.
    let result = unsafe { syscall(libc::SYS_kcmp as usize, arguments) };
    !DIFFERENT.contains(&result)
}

/// The number in the line that begins with `label`.
fn number_of(text: &[u8], label: &[u8]) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(label))?;
    core::str::from_utf8(rest.trim_ascii()).ok()?.parse().ok()
}

fn advise_each(vectors: usize, count: usize, advice: usize, hull: Hull, changes: &mut Changes) {
    const IOV_MAX: usize = 1024;
    for index in 0..count.min(IOV_MAX) {
        let mut vector = [0; 2];
        let Some(place) = vectors.checked_add(index * size_of::<libc::iovec>()) else {
            return;
        };
        if !look::copy(place, &mut vector) {
            return;
        }
        advise(vector[0], vector[1], advice, hull, changes);
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
