//! Loaded objects: where their code is, and where their functions begin.
#![expect(unsafe_code, reason = "reads what the dynamic linker has mapped")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "headers of one loaded object"
)]

use core::ffi::{CStr, c_int, c_void};
use core::ops::Range;
use core::slice;
use std::ffi::CString;

use crate::sync::{Lock, words};

/// Held while this library has the linker walk its list. fork takes it: glibc does not renew the lock of that list in a child, where it
/// would stay with a thread that is not there. It is taken before malloc's locks.
pub(in crate::live) static WALKING: Lock<()> = Lock::new(());

/// A number that changes when objects come or go. None: another thread walks the list just now.
pub(in crate::live) fn generation() -> Option<u64> {
    unsafe extern "C" fn note(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        counts: *mut c_void,
    ) -> c_int {
        // SAFETY: The linker's own description, valid during the call; and our words.
        unsafe { *counts.cast::<(u64, u64)>() = ((*info).dlpi_adds, (*info).dlpi_subs) };
        1
    }
    let mut counts = (0_u64, 0_u64);
    let _walking = WALKING.try_lock()?;
    // SAFETY: The callback gets our words.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut counts).cast()) };
    let (come, gone) = counts;
    Some(come << 32 | gone)
}

/// A loaded object.
#[derive(Debug)]
pub(in crate::live) struct Object {
    /// Its file; empty for the program itself.
    pub name: Vec<u8>,
    /// Where it is loaded.
    pub base: usize,
    /// Its executable segments.
    pub code: Vec<Range<usize>>,
    /// Where its functions begin, sorted; empty if the object does not say.
    pub functions: Vec<usize>,
}

/// All objects that are loaded now. Any but libc, the dynamic linker and the program may be gone a moment later.
pub(in crate::live) fn loaded() -> Vec<Object> {
    let mut objects = Vec::new();
    each(|object| objects.push(object));
    objects
}

/// Visits all objects that are loaded now. None of them is unloaded meanwhile: their code may be read.
pub(in crate::live) fn each<F: FnMut(Object)>(mut visit: F) {
    unsafe extern "C" fn call<F: FnMut(Object)>(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        visit: *mut c_void,
    ) -> c_int {
        // SAFETY: The linker's own description, valid during the call; and our function.
        unsafe { (*visit.cast::<F>())(describe(&*info)) };
        0
    }
    let walking = WALKING.lock();
    // What is given back here is an event as any other: nothing that is called in one takes this lock.
    words::after_unlock();
    // SAFETY: The callback gets our function.
    unsafe { libc::dl_iterate_phdr(Some(call::<F>), (&raw mut visit).cast()) };
    words::before_lock();
    drop(walking);
}

unsafe fn describe(info: &libc::dl_phdr_info) -> Object {
    // SAFETY: The linker's own description.
    unsafe {
        let headers = slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        let base = info.dlpi_addr as usize;
        let start = |header: &libc::Elf64_Phdr| base + header.p_vaddr as usize;
        let code = headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0);
        let table = headers
            .iter()
            .find(|header| header.p_type == libc::PT_GNU_EH_FRAME);
        Object {
            base,
            name: CStr::from_ptr(info.dlpi_name).to_bytes().to_vec(),
            code: code
                .map(|header| start(header)..start(header) + header.p_memsz as usize)
                .collect(),
            functions: table.map_or_else(Vec::new, |header| {
                functions(start(header), header.p_memsz as usize)
            }),
        }
    }
}

/// The first addresses of the search table in an `.eh_frame_hdr` of the usual form.
unsafe fn functions(table: usize, size: usize) -> Vec<usize> {
    /// Version 1; the table's own address relative to here, 4 bytes; its length, 4 bytes; entries of 4 bytes relative to the header.
    const USUAL: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    const HEADER: usize = 12;
    const ENTRY: usize = 8;
    // SAFETY: A loaded segment of that size.
    let bytes = unsafe { slice::from_raw_parts(core::ptr::with_exposed_provenance(table), size) };
    if size < HEADER || bytes[..4] != USUAL {
        return Vec::new();
    }
    let entries = bytes[HEADER..].chunks_exact(ENTRY);
    let word = |bytes: &[u8]| i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let length = usize::try_from(word(&bytes[8..])).unwrap_or(0);
    entries
        .take(length)
        .map(|entry| table.wrapping_add_signed(word(entry) as isize))
        .collect()
}

impl Object {
    /// Where the function begins that `address` is part of.
    pub(in crate::live) fn function_of(&self, address: usize) -> Option<usize> {
        let after = self.functions.partition_point(|start| *start <= address);
        self.functions.get(after.checked_sub(1)?).copied()
    }

    /// Is this the object that is loaded at `base`?
    pub(super) fn is_at(&self, base: usize) -> bool {
        self.base == base
    }

    /// Is the code at `address` part of it?
    pub(in crate::live) fn contains(&self, address: usize) -> bool {
        self.code.iter().any(|code| code.contains(&address))
    }

    /// Is it the one that contains this library?
    pub(in crate::live) fn is_own(&self) -> bool {
        self.contains(loaded as *const () as usize)
    }

    /// Has it stay loaded for ever. False: it is gone already.
    pub(super) fn pin(&self) -> bool {
        if self.name.is_empty() {
            // The program itself.
            return true;
        }
        let Ok(name) = CString::new(self.name.clone()) else {
            return false;
        };
        // SAFETY: A name; nothing is loaded.
        let handle = unsafe {
            let stay = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            libc::dlopen(name.as_ptr(), stay)
        };
        if !handle.is_null() {
            // SAFETY: Opened above. It stays.
            unsafe { libc::dlclose(handle) };
        }
        // It may have gone, and come again elsewhere.
        !handle.is_null() && loaded().iter().any(|now| now.is_at(self.base))
    }
}

/// The bytes at `range` of a loaded object's code.
///
/// # Safety
/// The object stays loaded while the result is used.
pub(in crate::live) unsafe fn bytes<'a>(range: &Range<usize>) -> &'a [u8] {
    // SAFETY: The caller's promise.
    unsafe { slice::from_raw_parts(core::ptr::with_exposed_provenance(range.start), range.len()) }
}
