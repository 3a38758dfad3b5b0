//! Three words that each thread has: where its record is, how many locks of the library it holds, and the stack of the system
//! call that it is in.
//!
//! They are read where nothing may be allocated and no function of libc may be called: in a system call that malloc makes with
//! its own locks held. A `thread_local!` of a shared library is found through `__tls_get_addr`, which may allocate after a
//! dlopen(). So on x86-64 the words are reached by the initial-exec model, which rustc cannot be told to use: in assembly.

use core::ffi::c_void;

#[cfg(all(target_arch = "x86_64", not(loom)))]
mod storage {
    #![expect(unsafe_code, reason = "thread-local storage in assembly")]

    use core::arch::{asm, global_asm};
    use core::ffi::c_void;

    // Hidden: the library's own, in each object that contains it.
    global_asm!(
        ".pushsection .tbss,\"awT\",@nobits",
        ".balign 16",
        ".globl mmu_notifier_thread_words",
        ".hidden mmu_notifier_thread_words",
        ".type mmu_notifier_thread_words, @object",
        ".size mmu_notifier_thread_words, 32",
        "mmu_notifier_thread_words:",
        ".zero 32",
        ".popsection",
    );

    #[inline(always)]
    pub(super) fn record() -> *mut c_void {
        let record;
        // SAFETY: Reads the thread's own word.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
                "mov {0}, qword ptr fs:[{0}]",
                out(reg) record,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        record
    }

    pub(super) fn set_record(record: *mut c_void) {
        // SAFETY: Writes the thread's own word.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
                "mov qword ptr fs:[{0}], {1}",
                out(reg) _,
                in(reg) record,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    pub(super) fn locks() -> u32 {
        let locks;
        // SAFETY: Reads the thread's own word.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
                "mov {1:e}, dword ptr fs:[{0} + 8]",
                out(reg) _,
                out(reg) locks,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        locks
    }

    #[inline(always)]
    pub(super) fn add_lock<const NUMBER: i32>() {
        // SAFETY: Changes the thread's own word, in one instruction: no signal comes between.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
                "add dword ptr fs:[{0} + 8], {1}",
                out(reg) _,
                const NUMBER,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    pub(super) fn call() -> usize {
        let call;
        // SAFETY: Reads the thread's own word.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
                "mov {0}, qword ptr fs:[{0} + 16]",
                out(reg) call,
                options(readonly, nostack, preserves_flags),
            );
        }
        call
    }

    #[inline(always)]
    pub(super) fn set_call(stack: usize) {
        // SAFETY: Writes the thread's own word.
        unsafe {
            asm!(
                "mov {0}, qword ptr [rip + mmu_notifier_thread_words@GOTTPOFF]",
                "mov qword ptr fs:[{0} + 16], {1}",
                out(reg) _,
                in(reg) stack,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(loom))))]
mod storage {
    use core::cell::Cell;
    use core::ffi::c_void;
    use core::ptr;

    thread_local! {
        static RECORD: Cell<*mut c_void> = const { Cell::new(ptr::null_mut()) };
        static LOCKS: Cell<u32> = const { Cell::new(0) };
        static CALL: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn record() -> *mut c_void {
        RECORD.get()
    }

    pub(super) fn set_record(record: *mut c_void) {
        RECORD.set(record);
    }

    pub(super) fn locks() -> u32 {
        LOCKS.get()
    }

    pub(super) fn add_lock<const NUMBER: i32>() {
        LOCKS.set(LOCKS.get().wrapping_add_signed(NUMBER));
    }

    pub(super) fn call() -> usize {
        CALL.get()
    }

    pub(super) fn set_call(stack: usize) {
        CALL.set(stack);
    }
}

/// What [`set_record`] was given on this thread, or NULL.
#[inline(always)]
pub fn record() -> *mut c_void {
    storage::record()
}

/// Has [`record`] return `record` on this thread from now on.
pub fn set_record(record: *mut c_void) {
    storage::set_record(record);
}

/// What [`set_call`] was given on this thread; 0 at first.
#[inline(always)]
pub fn call() -> usize {
    storage::call()
}

/// Has [`call`] return `stack` on this thread from now on.
#[inline(always)]
pub fn set_call(stack: usize) {
    storage::set_call(stack);
}

/// Locks of the library that this thread holds, or is about to: a signal handler that waits for one may wait for ever.
#[inline(always)]
pub fn locks_held() -> u32 {
    storage::locks()
}

/// Before a lock is taken, or before something else that a system call made inside of it must not enter.
#[inline(always)]
pub fn before_lock() {
    if !cfg!(loom) {
        storage::add_lock::<1>();
    }
}

/// Undoes [`before_lock`], after the lock was released.
#[inline(always)]
pub fn after_unlock() {
    if !cfg!(loom) {
        storage::add_lock::<-1>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Lock;

    #[test]
    fn locks_are_counted_for_each_thread() {
        static ONE: Lock<()> = Lock::new(());
        static TWO: Lock<()> = Lock::new(());
        assert_eq!(locks_held(), 0);
        let one = ONE.lock();
        TWO.acquire();
        assert_eq!(locks_held(), 2);
        std::thread::spawn(|| assert_eq!(locks_held(), 0))
            .join()
            .expect("no panic");
        drop(one);
        assert_eq!(locks_held(), 1);
        #[expect(unsafe_code, reason = "a lock without a guard")]
        // SAFETY: Taken above.
        unsafe {
            TWO.release();
        }
        assert_eq!(locks_held(), 0);
    }
}
