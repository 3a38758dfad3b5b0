//! The address space: `<linux/sched/mm.h>`, `<linux/mmap_lock.h>`, `<linux/sched.h>`, `<linux/kthread.h>`,
//! `<linux/mm.h>` and `<mmu_notifier/mm.h>` (SPEC 3.15, DV-2, DV-16).

use core::ffi::{CStr, c_int, c_ulong};

use mmu_notifier::abi::mm::{mm_struct, task_struct};
use mmu_notifier::mm as core_mm;
use mmu_notifier::mm::{rmap, semaphore};
use mmu_notifier::report::{Error, Result};

use crate::convert::IntoC;

/// `struct file` of the kernel: only NULL is accepted where one is wanted.
#[derive(Debug)]
#[repr(C)]
pub struct file {
    _opaque: [u8; 0],
}

/// The calling thread's task; `current` is this. `current->mm` is the process's own address space unless something else
/// was assigned, and NULL on the library's worker. Never NULL. Callable from anywhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_current() -> *mut task_struct {
    core_mm::current()
}

/// Makes an address space that maps nothing, with mm_users 1 and mm_count 1. NULL if there is no memory. End it with
/// mmput(). Rule: ML-1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mm_alloc() -> *mut mm_struct {
    core_mm::mm_alloc()
}

/// Adds a user; the caller knows that there is one. Never sleeps. Rule: ML-1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmget(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::mmget(mm) }.into_c();
}

/// Adds a user unless there is none, and says whether it did. The caller holds a reference. Never sleeps. Rule: ML-1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmget_not_zero(mm: *mut mm_struct) -> bool {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::mmget_not_zero(mm) }.into_c()
}

/// Drops a user. The last one ends the address space before this returns: every notifier's release is called, and the
/// users' reference is dropped.
///
/// The last one sleeps; it must not be dropped with a lock of `mm` held, nor, if `mm` still has notifiers, from a callback of
/// one (DV-7). Rules: ML-2, RL-1 to RL-7.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmput(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::mmput(mm) }.into_c();
}

/// As mmput(), and legal from callbacks: there, the end of the address space is left to another thread. Rule: ML-2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmput_async(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::mmput_async(mm) }.into_c();
}

/// Adds a reference to the struct, which keeps it but not the address space. Never sleeps. Rule: ML-1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmgrab(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::mmgrab(mm) }.into_c();
}

/// Drops a reference; the last one frees the struct. Never sleeps; legal from callbacks. Rules: ML-3, DS-1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmdrop(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::mmdrop(mm) }.into_c();
}

/// The address space of `task` with one more user; NULL if it has none, or one that has ended. End with mmput().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_task_mm(task: *mut task_struct) -> *mut mm_struct {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::get_task_mm(task) }.into_c()
}

/// Makes `mm` the calling thread's address space (`current->mm`) until kthread_unuse_mm(), and takes a reference to it.
/// Does not nest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kthread_use_mm(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::kthread_use_mm(mm) }.into_c();
}

/// Gives the calling thread back the `current->mm` that it had before kthread_use_mm(), and drops the reference.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kthread_unuse_mm(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::kthread_unuse_mm(mm) }.into_c();
}

/// Takes mmap_lock for reading. Sleeps while somebody writes, or waits to write. Not recursive. Another thread may unlock
/// it. Rules: ML-5, DV-2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_read_lock(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().read_lock(mm, c"mmap_read_lock") }.into_c();
}

/// mmap_read_lock(); always returns 0, as no signal interrupts it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_read_lock_killable(mm: *mut mm_struct) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().read_lock(mm, c"mmap_read_lock_killable") }.into_c()
}

/// Takes mmap_lock for reading unless somebody writes or waits, and says whether it did. Never sleeps. Rule: ML-5.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_read_trylock(mm: *mut mm_struct) -> bool {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().try_read_lock(mm, c"mmap_read_trylock") }.into_c()
}

/// Releases mmap_lock after reading. A lock that nobody reads under is a warning. Rule: ML-5.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_read_unlock(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().read_unlock(mm, c"mmap_read_unlock") }.into_c();
}

/// Takes mmap_lock for writing. Sleeps while anybody holds it. Not recursive. Another thread may unlock it. Rule: ML-5.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_write_lock(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().write_lock(mm, c"mmap_write_lock") }.into_c();
}

/// mmap_write_lock(); always returns 0, as no signal interrupts it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_write_lock_killable(mm: *mut mm_struct) -> c_int {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().write_lock(mm, c"mmap_write_lock_killable") }.into_c()
}

/// Takes mmap_lock for writing if it is free, and says whether it did. Never sleeps. Rule: ML-5.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_write_trylock(mm: *mut mm_struct) -> bool {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().try_write_lock(mm, c"mmap_write_trylock") }.into_c()
}

/// Releases mmap_lock after writing. A lock that nobody writes under is a warning. Rule: ML-5.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_write_unlock(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().write_unlock(mm, c"mmap_write_unlock") }.into_c();
}

/// Turns mmap_lock held for writing into mmap_lock held for reading; no other writer comes between. Never sleeps. Rule: ML-5.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_write_downgrade(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { semaphore().downgrade(mm, c"mmap_write_downgrade") }.into_c();
}

/// A warning unless somebody holds mmap_lock. Rules: ML-5, DV-3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_assert_locked(mm: *const mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::assert_locked(mm) }.into_c();
}

/// A warning unless somebody holds mmap_lock for writing. Rules: ML-5, DV-3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_assert_write_locked(mm: *const mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { core_mm::assert_write_locked(mm) }.into_c();
}

/// Takes the reverse-map lock for reading: the other lock under which a range may start and end. Taken after mmap_lock.
/// Sleeps while somebody writes, or waits to write; registration is such a writer. Rule: DV-2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_rmap_read_lock(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { rmap().read_lock(mm, c"mmu_notifier_rmap_read_lock") }.into_c();
}

/// Releases the reverse-map lock after reading. Rule: DV-2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_rmap_read_unlock(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { rmap().read_unlock(mm, c"mmu_notifier_rmap_read_unlock") }.into_c();
}

/// Takes the reverse-map lock for writing. Rule: DV-2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_rmap_write_lock(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { rmap().write_lock(mm, c"mmu_notifier_rmap_write_lock") }.into_c();
}

/// Releases the reverse-map lock after writing. Rule: DV-2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_rmap_write_unlock(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the contract.
    unsafe { rmap().write_unlock(mm, c"mmu_notifier_rmap_write_unlock") }.into_c();
}

/// munmap() of `len` bytes (rounded up to pages) from `start` (page-aligned), inside an UNMAP event on `current->mm`, which
/// has to be the process's own (-EINVAL otherwise, as for all these). Takes mmap_lock for writing. Returns 0 or a negative
/// errno. Rules: DV-16, SPEC 4.4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vm_munmap(start: c_ulong, len: usize) -> c_int {
    core_mm::munmap(start, len as c_ulong).into_c()
}

/// mmap() of anonymous memory: `file` is NULL (-EINVAL otherwise), `flag` gets MAP_ANONYMOUS. With MAP_FIXED, inside an
/// UNMAP event on `current->mm`. Takes mmap_lock for writing. Returns the address, or a negative errno in the same word.
/// Rules: DV-16, SPEC 4.4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vm_mmap(
    file: *mut file,
    addr: c_ulong,
    len: c_ulong,
    prot: c_ulong,
    flag: c_ulong,
    offset: c_ulong,
) -> c_ulong {
    const FUNCTION: &CStr = c"vm_mmap";
    if !file.is_null() {
        return Result::<c_ulong>::Err(Error::Errno(libc::EINVAL)).into_c();
    }
    let flags = flag | libc::MAP_ANONYMOUS as c_ulong;
    core_mm::mmap(FUNCTION, [addr, len, prot, flags, c_ulong::MAX, offset]).into_c()
}

/// mmap(), of a file too. With MAP_FIXED, inside an UNMAP event on `current->mm` for what is replaced. Takes mmap_lock for
/// writing. Returns the address, or a negative errno in the same word. Rules: DV-16, SPEC 4.4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_mmap(
    addr: c_ulong,
    len: c_ulong,
    prot: c_ulong,
    flags: c_ulong,
    fd: c_int,
    offset: c_ulong,
) -> c_ulong {
    let fd = i64::from(fd) as c_ulong;
    core_mm::mmap(c"mmu_notifier_mmap", [addr, len, prot, flags, fd, offset]).into_c()
}

/// mremap(), inside an UNMAP event on `current->mm` for the old range if it moves, for its tail if it shrinks, and for
/// what MREMAP_FIXED replaces at `new_addr`. Lengths are bytes, rounded up to pages. Takes mmap_lock for writing. Returns the
/// address, or a negative errno in the same word. Rules: DV-16, SPEC 4.4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_mremap(
    old_addr: c_ulong,
    old_len: c_ulong,
    new_len: c_ulong,
    flags: c_ulong,
    new_addr: c_ulong,
) -> c_ulong {
    core_mm::mremap(old_addr, old_len, new_len, flags, new_addr).into_c()
}

/// mprotect() of `len` bytes (rounded up to pages) from `start` (page-aligned), inside a PROTECTION_VMA event on
/// `current->mm`. Takes mmap_lock for writing. Returns 0 or a negative errno. Rules: DV-16, SPEC 4.4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_mprotect(start: c_ulong, len: usize, prot: c_ulong) -> c_int {
    core_mm::mprotect(start, len as c_ulong, prot).into_c()
}

/// madvise() of `len` bytes (rounded up to pages) from `start` (page-aligned). If the advice takes pages away, inside a CLEAR
/// event on `current->mm`, with mmap_lock taken for reading. Returns 0 or a negative errno; -EINVAL also if `current->mm` is
/// not the process's own. Rules: DV-16, SPEC 4.4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmu_notifier_madvise(start: c_ulong, len: usize, advice: c_int) -> c_int {
    core_mm::madvise(start, len as c_ulong, advice).into_c()
}
