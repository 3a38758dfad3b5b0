//! Memory straight from the system, by pages.
#![expect(unsafe_code, reason = "system calls")]

use core::ptr;

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

/// Gives the memory back.
///
/// # Safety
/// [`map`] returned it with this size, and nobody uses it any more.
pub unsafe fn unmap(memory: *mut u8, size: usize) {
    // SAFETY: The caller's promise.
    unsafe { libc::munmap(memory.cast(), size) };
}

/// Has all of the memory but its first page read as zeros, and occupy nothing until it is written again.
///
/// # Safety
/// [`map`] returned it with this size; what it holds is not needed any more. It may be read meanwhile, by atomics.
pub unsafe fn forget_behind_first(memory: *mut u8, size: usize) {
    const PAGE: usize = 4096;
    if size > PAGE {
        let behind = memory.wrapping_add(PAGE).cast();
        // SAFETY: The caller's promise.
        unsafe { libc::madvise(behind, size - PAGE, libc::MADV_DONTNEED) };
    }
}
