//! Two system calls.
#![expect(unsafe_code, reason = "system calls")]

use super::{AtomicU32, memcheck};

/// A moment, after which a sleep is not worth while any more.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(libc::timespec);

impl Deadline {
    /// So many milliseconds from now.
    pub fn after(milliseconds: u32) -> Self {
        const NANOSECONDS: libc::c_long = 1_000_000_000;
        let mut moment = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: The place is ours.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut moment) };
        moment.tv_sec += i64::from(milliseconds / 1000);
        moment.tv_nsec += libc::c_long::from(milliseconds % 1000) * 1_000_000;
        if moment.tv_nsec >= NANOSECONDS {
            moment.tv_sec += 1;
            moment.tv_nsec -= NANOSECONDS;
        }
        Self(moment)
    }

    /// As it lies in a struct of C.
    pub fn to_words(self) -> [u64; 2] {
        [self.0.tv_sec as u64, self.0.tv_nsec as u64]
    }

    /// From what [`Deadline::to_words`] returned.
    pub fn from_words(words: [u64; 2]) -> Self {
        let [seconds, nanoseconds] = words;
        Self(libc::timespec {
            tv_sec: seconds as i64,
            tv_nsec: nanoseconds as libc::c_long,
        })
    }
}

/// Sleeps while `word` holds `expected`. May return early: callers check again.
pub(super) fn wait(word: &AtomicU32, expected: u32) {
    let no_timeout = core::ptr::null::<libc::timespec>();
    // SAFETY: FUTEX_WAIT reads the word, which lives as long as the borrow.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            no_timeout,
        )
    };
}

/// As [`wait`], but no longer than until `deadline`. Says whether that has passed.
pub(super) fn wait_until(word: &AtomicU32, expected: u32, deadline: &Deadline) -> bool {
    // SAFETY: FUTEX_WAIT_BITSET reads the word and the time, which live as long as the borrows. The time is absolute.
    let slept = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            expected,
            &raw const deadline.0,
            core::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    if slept == 0 {
        return false;
    }
    // SAFETY: Always valid: the thread's own errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: As above.
    unsafe { *errno == libc::ETIMEDOUT }
}

/// Wakes up to `count` sleepers of the word at `word`, which is not read: it may be gone by now. Nothing of libc: the thread that
/// reads the events of `live::net` comes here.
pub(super) fn wake(word: *const u32, count: i32) {
    let command = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let arguments = [word.addr(), command as usize, count as usize, 0, 0, 0];
    // SAFETY: FUTEX_WAKE uses the address as a key only.
    memcheck::unreported(|| unsafe { super::syscall(libc::SYS_futex as usize, arguments) });
}
