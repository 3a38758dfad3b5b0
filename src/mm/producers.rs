//! Producers: system calls that change the process's own address space, between the start and the end of the right
//! event on `current->mm` (SPEC 4.4, DV-16).
//!
//! The kernel's checks of addresses and lengths are made first, so that a call that fails for them makes no event. A call
//! that fails later has made a pair all the same: subscribers may be told too much, never too little.
//!
//! Addresses and lengths are bytes; a length is rounded up to pages. Events are blockable. mmap_lock of the mm is held
//! over the pair: for writing, or for reading where the kernel does so.

use core::ffi::{CStr, c_int, c_ulong};

use super::notifiers::warn_only;
use super::{argument, calls, events, locks, registry, task};
use crate::abi::mm::mm_struct;
use crate::abi::notifier::{
    MMU_NOTIFIER_RANGE_BLOCKABLE,
    mmu_notifier_event::{
        self, MMU_NOTIFY_CLEAR as CLEAR, MMU_NOTIFY_PROTECTION_VMA as PROTECTION,
        MMU_NOTIFY_UNMAP as UNMAP,
    },
    mmu_notifier_range,
};
use crate::report::{Error, Result};
use crate::sync;

const INVALID: Error = Error::Errno(libc::EINVAL);

/// The address space that a producer changes: `current->mm`, which has to be the process's own.
fn own_mm(function: &'static CStr) -> Result<*mut mm_struct> {
    // SAFETY: The thread's own task.
    let mm = unsafe { (*task::current()).mm };
    argument(mm, function)?;
    if mm == registry::process_mm() {
        Ok(mm)
    } else {
        Err(INVALID)
    }
}

/// `length` rounded up to pages; fails if that wraps or is nothing.
fn pages(start: c_ulong, length: c_ulong) -> Result<c_ulong> {
    let page = page_size();
    let rounded = length
        .checked_next_multiple_of(page)
        .filter(|rounded| *rounded > 0);
    match rounded {
        Some(rounded) if start % page == 0 && start.checked_add(rounded).is_some() => Ok(rounded),
        _ => Err(INVALID),
    }
}

fn page_size() -> c_ulong {
    // SAFETY: No arguments that could be wrong.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    c_ulong::try_from(size).unwrap_or(4096)
}

/// Makes a system call, by an instruction of the library's own: `live` does not see it, and makes no second pair of events.
/// Its result, or the errno.
fn call(number: libc::c_long, arguments: [c_ulong; 6]) -> Result<c_ulong> {
    const LAST_ERRNO: isize = 4095;
    let arguments = arguments.map(|argument| argument as usize);
    // SAFETY: The memory calls of this module change mappings as their caller asked, which is their caller's to answer for.
    let result = unsafe { sync::syscall(number as usize, arguments) };
    if (-LAST_ERRNO..0).contains(&result) {
        return Err(Error::Errno(-result as c_int));
    }
    Ok(result as c_ulong)
}

/// Runs `change` between the start and the end of an event on `[start, start + length)`.
fn between(
    mm: *mut mm_struct,
    event: mmu_notifier_event,
    start: c_ulong,
    length: c_ulong,
    change: impl FnOnce() -> Result<c_ulong>,
) -> Result<c_ulong> {
    let mut range = mmu_notifier_range {
        mm,
        start,
        end: start + length,
        flags: MMU_NOTIFIER_RANGE_BLOCKABLE,
        event: event.into(),
        owner: core::ptr::null_mut(),
    };
    // SAFETY: The range is ours and its mm the process's own. A failing start of a blockable range is reported, not obeyed.
    unsafe { events::invalidate_range_start(&raw mut range) }?;
    let mut change = Some(change);
    let mut result = Err(INVALID);
    calls::make_change(&range, &mut || {
        if let Some(change) = change.take() {
            result = change();
        }
    });
    // SAFETY: As above.
    warn_only(unsafe { events::invalidate_range_end(&raw mut range, false) });
    result
}

/// Runs `act` with mmap_lock of the process's own mm held for writing, or for reading.
fn locked(
    function: &'static CStr,
    write: bool,
    act: impl FnOnce(*mut mm_struct) -> Result<c_ulong>,
) -> Result<c_ulong> {
    let mm = own_mm(function)?;
    let lock = locks::semaphore();
    // SAFETY: The process's own mm is always valid; what is locked here is unlocked here.
    unsafe {
        if write {
            lock.write_lock(mm, function)
        } else {
            lock.read_lock(mm, function)
        }?;
        let result = act(mm);
        let unlocked = if write {
            lock.write_unlock(mm, function)
        } else {
            lock.read_unlock(mm, function)
        };
        warn_only(unlocked);
        result
    }
}

/// munmap: UNMAP.
///
/// # Errors
/// EINVAL: `start` is not page-aligned, or the range is empty or wraps. What munmap says. DV-14: no mm.
// SPEC: 4.4
pub fn munmap(start: c_ulong, length: c_ulong) -> Result<()> {
    let length = pages(start, length)?;
    let change = || call(libc::SYS_munmap, [start, length, 0, 0, 0, 0]);
    locked(c"vm_munmap", true, |mm| {
        between(mm, UNMAP, start, length, change)
    })
    .map(drop)
}

/// mmap: UNMAP of what MAP_FIXED replaces, no event otherwise. `arguments` are mmap's six. Returns the address.
///
/// # Errors
/// EINVAL: with MAP_FIXED, as [`munmap`]. What mmap says. DV-14: no mm.
// SPEC: 4.4 DV-16
pub fn mmap(function: &'static CStr, arguments: [c_ulong; 6]) -> Result<c_ulong> {
    let [start, length, _, flags, ..] = arguments;
    let has = |flag: c_int| flags & flag as c_ulong != 0;
    let change = || call(libc::SYS_mmap, arguments);
    if !has(libc::MAP_FIXED) || has(libc::MAP_FIXED_NOREPLACE) {
        return locked(function, true, |_| change());
    }
    let length = pages(start, length)?;
    locked(function, true, |mm| {
        between(mm, UNMAP, start, length, change)
    })
}

/// PROT_GROWSDOWN and PROT_GROWSUP.
const GROWS: c_ulong = 0x0300_0000;

/// mprotect: PROTECTION_VMA.
///
/// # Errors
/// EINVAL: `start` is not page-aligned, or the range wraps, or PROT_GROWSDOWN or PROT_GROWSUP would change more than it. What mprotect says. DV-14: no mm.
// SPEC: 4.4
pub fn mprotect(start: c_ulong, length: c_ulong, protection: c_ulong) -> Result<()> {
    if protection & GROWS != 0 {
        return Err(INVALID);
    }
    if length == 0 && start % page_size() == 0 {
        return Ok(());
    }
    let length = pages(start, length)?;
    let change = || call(libc::SYS_mprotect, [start, length, protection, 0, 0, 0]);
    locked(c"mmu_notifier_mprotect", true, |mm| {
        between(mm, PROTECTION, start, length, change)
    })
    .map(drop)
}

/// Advice that takes pages away, or replaces them.
const CLEARING: [c_int; 10] = [
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_REMOVE,
    libc::MADV_PAGEOUT,
    // It replaces the zero page.
    libc::MADV_POPULATE_WRITE,
    libc::MADV_DONTNEED_LOCKED,
    COLLAPSE,
    libc::MADV_HWPOISON,
    libc::MADV_SOFT_OFFLINE,
    GUARD_INSTALL,
];
/// MADV_COLLAPSE, of Linux 6.1.
const COLLAPSE: c_int = 25;
/// MADV_GUARD_INSTALL, of Linux 6.13.
const GUARD_INSTALL: c_int = 102;

/// True if this advice makes a CLEAR.
// SPEC: 4.4
pub fn clears(advice: c_int) -> bool {
    CLEARING.contains(&advice)
}

/// madvise: CLEAR if the advice takes pages away, no event otherwise.
///
/// # Errors
/// EINVAL: `start` is not page-aligned, or the range wraps. What madvise says. DV-14: no mm.
// SPEC: 4.4
pub fn madvise(start: c_ulong, length: c_ulong, advice: c_int) -> Result<()> {
    let number = advice as c_ulong;
    let change = || call(libc::SYS_madvise, [start, length, number, 0, 0, 0]);
    if length == 0 || !clears(advice) {
        return change().map(drop);
    }
    let rounded = pages(start, length)?;
    locked(c"mmu_notifier_madvise", false, |mm| {
        between(mm, CLEAR, start, rounded, change)
    })
    .map(drop)
}

/// mremap: UNMAP of the old range if it moves, of its tail if it shrinks, and of the new range if MREMAP_FIXED names one.
/// Growing in place makes no event. Returns the address.
///
/// # Errors
/// EINVAL: an address is not page-aligned, or a range is empty or wraps. What mremap says. DV-14: no mm.
// SPEC: 4.4
pub fn mremap(
    start: c_ulong,
    old_length: c_ulong,
    new_length: c_ulong,
    flags: c_ulong,
    destination: c_ulong,
) -> Result<c_ulong> {
    const FUNCTION: &CStr = c"mmu_notifier_mremap";
    let has = |flag: c_int| flags & flag as c_ulong != 0;
    let change = || {
        call(
            libc::SYS_mremap,
            [start, old_length, new_length, flags, destination, 0],
        )
    };
    let new = pages(0, new_length)?;
    let old = if old_length == 0 {
        0
    } else {
        pages(start, old_length)?
    };
    check_remap(flags, [start, old], [destination, new])?;
    if old_length == 0 {
        // Makes a second mapping of shared pages: the old one stays.
        return locked(FUNCTION, true, |mm| {
            at_destination(mm, has, destination, new, change)
        });
    }
    locked(FUNCTION, true, |mm| {
        if has(libc::MREMAP_FIXED) || has(libc::MREMAP_DONTUNMAP) {
            let moving = || between(mm, UNMAP, start, old, change);
            at_destination(mm, has, destination, new, moving)
        } else if new < old {
            between(mm, UNMAP, start + new, old - new, change)
        } else {
            grow(mm, [start, old_length, new_length, flags], change)
        }
    })
}

/// Refuses what the kernel refuses before it changes anything: flags that do not go together, ranges that overlap.
fn check_remap(flags: c_ulong, old: [c_ulong; 2], new: [c_ulong; 2]) -> Result<()> {
    let has = |flag: c_int| flags & flag as c_ulong != 0;
    let known = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    let moves = has(libc::MREMAP_FIXED) || has(libc::MREMAP_DONTUNMAP);
    let overlap = old[0] < new[0].saturating_add(new[1]) && new[0] < old[0].saturating_add(old[1]);
    let wrong = flags & !(known as c_ulong) != 0
        || (moves && !has(libc::MREMAP_MAYMOVE))
        || (has(libc::MREMAP_DONTUNMAP) && old[1] != new[1])
        || (has(libc::MREMAP_FIXED) && overlap);
    if wrong { Err(INVALID) } else { Ok(()) }
}

/// Runs `change` inside an UNMAP of what MREMAP_FIXED replaces, if it does.
fn at_destination(
    mm: *mut mm_struct,
    has: impl Fn(c_int) -> bool,
    destination: c_ulong,
    length: c_ulong,
    change: impl FnOnce() -> Result<c_ulong>,
) -> Result<c_ulong> {
    if !has(libc::MREMAP_FIXED) {
        return change();
    }
    pages(destination, length)?;
    between(mm, UNMAP, destination, length, change)
}

/// Grows in place if that is possible, without an event; otherwise lets the range move.
fn grow(
    mm: *mut mm_struct,
    [start, old_length, new_length, flags]: [c_ulong; 4],
    change: impl FnOnce() -> Result<c_ulong>,
) -> Result<c_ulong> {
    let stay = flags & !(libc::MREMAP_MAYMOVE as c_ulong);
    match call(
        libc::SYS_mremap,
        [start, old_length, new_length, stay, 0, 0],
    ) {
        Err(Error::Errno(libc::ENOMEM)) if stay != flags => {
            between(mm, UNMAP, start, pages(start, old_length)?, change)
        }
        result => result,
    }
}
