//! Memory straight from the system, by pages.
//!
//! It is taken away by system calls of this library's own: nobody watches it, and live events, which meet those of libc, cannot announce
//! what is done where a lock is held.
#![expect(unsafe_code, reason = "system calls")]

use core::ptr;

use super::syscall;

/// Bytes of a page: this library speaks of pages of this size everywhere, as its C headers do.
pub const PAGE: usize = 4096;

/// `size` bytes of zeros, or NULL.
pub fn map(size: usize) -> *mut u8 {
    // SAFETY: A new mapping touches nothing that exists.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        ptr::null_mut()
    } else {
        memory.cast()
    }
}

/// Bytes of a huge page, where there are such.
pub const HUGE: usize = 2 << 20;

/// As [`map`], on huge pages if the system has them: aligned, so that the first begins with the memory.
pub fn map_huge(size: usize) -> *mut u8 {
    let end = size.next_multiple_of(PAGE);
    let wide = map(end + HUGE);
    if wide.is_null() {
        return wide;
    }
    let before = wide.addr().wrapping_neg() % HUGE;
    let memory = wide.wrapping_add(before);
    if before > 0 {
        // SAFETY: A part of the mapping that was just made, which nobody has seen.
        unsafe { unmap(wide, before) };
    }
    // SAFETY: As above.
    unsafe { unmap(memory.wrapping_add(end), HUGE - before) };
    // SAFETY: As above. A wish: without huge pages it is memory all the same.
    unsafe { libc::madvise(memory.cast(), end, libc::MADV_HUGEPAGE) };
    memory
}

/// Gives the memory back.
///
/// # Safety
/// [`map`] or [`map_huge`] returned it with this size, and nobody uses it any more.
pub unsafe fn unmap(memory: *mut u8, size: usize) {
    let arguments = [memory.addr(), size, 0, 0, 0, 0];
    // SAFETY: The caller's promise.
    unsafe { syscall(libc::SYS_munmap as usize, arguments) };
}

/// Has all of the memory but its first page read as zeros, and occupy nothing until it is written again.
///
/// # Safety
/// [`map`] or [`map_huge`] returned it with this size; what it holds is not needed any more. It may be read meanwhile, by atomics.
pub unsafe fn forget_behind_first(memory: *mut u8, size: usize) {
    if size > PAGE {
        let behind = memory.wrapping_add(PAGE).addr();
        let advice = libc::MADV_DONTNEED as usize;
        let arguments = [behind, size - PAGE, advice, 0, 0, 0];
        // SAFETY: The caller's promise.
        unsafe { syscall(libc::SYS_madvise as usize, arguments) };
    }
}
