//! Fences, and the asymmetric pair: cheap on the side that is taken all the time, dear on the other.
//!
//! `light` and `heavy` order like two `fence(SeqCst)` (P1202's asymmetric fences): if one thread stores A, `light`, loads B and
//! another stores B, `heavy`, loads A, then at least one of them sees the other's store. On Linux, `light` keeps the compiler
//! from reordering and `heavy` is membarrier(2), which has every running thread of the process pass a full barrier.
//!
//! Who uses `light` calls `prepare` first, once for each thread. Where membarrier is refused (an old kernel, a seccomp
//! filter) both are real fences.
//!
//! Why a thread that takes `light` for a compiler fence never meets a `heavy` that is only `fence(SeqCst)`: `heavy` fences
//! before it reads `MODE`. If it reads FENCES although some thread has been prepared for CHEAP, then that thread's fence in
//! `prepare`, which came after CHEAP was stored, comes after this one in the order of fences, and so its later loads see
//! whatever was stored before `heavy`.
#![expect(unsafe_code, reason = "a system call")]

pub use core::sync::atomic::fence;

use core::sync::atomic::compiler_fence;

use super::{AtomicU32, Ordering};

/// Nobody has asked for membarrier yet: real fences.
const UNTRIED: u32 = 0;
/// membarrier is refused: real fences.
const FENCES: u32 = 1;
/// The process is registered for membarrier.
pub(crate) const CHEAP: u32 = 2;

pub(crate) static MODE: AtomicU32 = AtomicU32::new(UNTRIED);

/// Has the calling thread, from now on, order its `light`s with every thread's `heavy`.
pub fn prepare() {
    // ORDERING: Relaxed: the fence below orders it.
    if MODE.load(Ordering::Relaxed) == UNTRIED {
        register();
    }
    // ORDERING: SeqCst: the partner of the fence in `heavy`; see the module comment.
    fence(Ordering::SeqCst);
}

#[cold]
fn register() {
    let registered = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    let mode = if registered { CHEAP } else { FENCES };
    // ORDERING: SeqCst: before this thread's fence in `prepare`. A failure means that another thread has been here.
    let _ = MODE.compare_exchange(UNTRIED, mode, Ordering::SeqCst, Ordering::Relaxed);
}

/// The side that is taken often.
#[inline(always)]
pub fn light() {
    // ORDERING: Relaxed: `prepare` has settled it for this thread; see `refused` for the one change after that.
    if MODE.load(Ordering::Relaxed) == CHEAP {
        // ORDERING: SeqCst, for the compiler: the partner is the membarrier in `heavy`.
        compiler_fence(Ordering::SeqCst);
    } else {
        light_but_real();
    }
}

#[cold]
fn light_but_real() {
    // ORDERING: SeqCst: the partner is the fence in `heavy`.
    fence(Ordering::SeqCst);
}

/// The side that is taken seldom.
pub fn heavy() {
    // ORDERING: SeqCst: the partner is the fence in `light`, or that in `prepare`.
    fence(Ordering::SeqCst);
    // ORDERING: Relaxed: ordered by the fence.
    if MODE.load(Ordering::Relaxed) == CHEAP && !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    {
        refused();
    }
}

/// membarrier was taken away after it had been granted (a filter that was installed late). From now on fences are real.
/// Threads that are past a cheap `light` without having seen that are waited for: what they stored before it leaves their
/// store buffers in bounded time, at the latest when they are interrupted.
#[cold]
fn refused() {
    // ORDERING: SeqCst: whoever reads it fences for real.
    MODE.store(FENCES, Ordering::SeqCst);
    let ten_milliseconds = libc::timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    // Twice, for a signal may cut it short.
    for _ in 0..2 {
        // SAFETY: The time is ours; what is left of it is not asked for.
        unsafe { libc::nanosleep(&raw const ten_milliseconds, core::ptr::null_mut()) };
    }
    // ORDERING: SeqCst: loads that follow come after the wait.
    fence(Ordering::SeqCst);
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: The command takes no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;

    /// Dekker's test: both sides storing and neither seeing the other would be a failure.
    #[test]
    fn light_and_heavy_order_stores_before_loads() {
        static A: AtomicU64 = AtomicU64::new(0);
        static B: AtomicU64 = AtomicU64::new(0);
        // The other thread may be a round ahead.
        static SAW: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
        const ROUNDS: u64 = 2_000;
        let other = std::thread::spawn(|| {
            prepare();
            for round in 1..=ROUNDS {
                while B.load(Ordering::Acquire) < round - 1 {
                    std::thread::yield_now();
                }
                A.store(round, Ordering::Relaxed);
                light();
                let saw = B.load(Ordering::Relaxed) >= round;
                SAW[round as usize % 2].store(2 * round + u64::from(saw), Ordering::Release);
            }
        });
        for round in 1..=ROUNDS {
            B.store(round, Ordering::Relaxed);
            heavy();
            let saw = A.load(Ordering::Relaxed) >= round;
            let other_saw = loop {
                let seen = SAW[round as usize % 2].load(Ordering::Acquire);
                if seen / 2 == round {
                    break seen % 2 == 1;
                }
                std::thread::yield_now();
            };
            assert!(saw || other_saw, "round {round}");
        }
        other.join().expect("no panic");
    }
}
