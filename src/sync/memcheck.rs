//! What valgrind is told, by a sequence of instructions that does nothing anywhere else.
#![expect(unsafe_code, reason = "the sequence")]

/// Valgrind's request to report fewer errors of the calling thread (1), or more again (-1 as a word).
const CHANGE_REPORTING: usize = 0x1801;

/// Runs `action`, of which valgrind reports no error: for a system call that is given an address as a key, and takes no memory
/// there to be anybody's.
pub(super) fn unreported<R>(action: impl FnOnce() -> R) -> R {
    request([CHANGE_REPORTING, 1, 0, 0, 0, 0]);
    let result = action();
    request([CHANGE_REPORTING, 1_usize.wrapping_neg(), 0, 0, 0, 0]);
    result
}

/// Four rotations that add up to 128 bits, and an exchange of a register with itself.
#[cfg(target_arch = "x86_64")]
fn request(words: [usize; 6]) {
    // SAFETY: The processor changes nothing but flags; valgrind reads the words and answers in rdx.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") &raw const words,
            inlateout("rdx") 0_usize => _,
            options(nostack),
        );
    }
}

/// As on x86-64.
#[cfg(target_arch = "aarch64")]
fn request(words: [usize; 6]) {
    // SAFETY: The processor changes nothing; valgrind reads the words and answers in x3.
    unsafe {
        core::arch::asm!(
            "ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61", "orr x10, x10, x10",
            in("x4") &raw const words,
            inlateout("x3") 0_usize => _,
            options(nostack),
        );
    }
}

/// Elsewhere nothing is told.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn request(_words: [usize; 6]) {}
