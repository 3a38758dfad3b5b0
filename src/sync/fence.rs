//! Fences: core's, and a pair of which one side is nearly free.
//!
//! A thread that stores and then loads, while another stores and then loads the other way round, needs a full fence on both
//! sides, or neither may see the other's store. Where one side runs often and the other seldom, [`light_fence`] and
//! [`heavy_fence`] pay on the seldom side only: its membarrier(2) makes every running thread of the process pass a full
//! fence, and a thread that does not run has passed one in the scheduler. The light side keeps the compiler in order.
//!
//! Either the heavy fence's interrupt comes before the light side's load: then the load sees what was stored before the heavy
//! fence. Or it comes after the light side's load, hence after its store as well: then the loads behind the heavy
//! fence see that store.
//!
//! Invariant: a light fence is a real one unless heavy fences are known to be membarriers. So it does not matter that the first
//! heavy fence finds out, and a kernel (or a filter of system calls) without membarrier costs time only.

pub use core::sync::atomic::{compiler_fence, fence};

use super::{AtomicU32, Ordering};

/// Nobody has asked yet.
const UNKNOWN: u32 = 0;
/// A heavy fence is a membarrier.
const MEMBARRIER: u32 = 1;
/// The kernel refuses: both sides are real fences.
const REFUSED: u32 = 2;

/// Which fences the two sides are.
#[derive(Debug)]
struct Pair {
    kind: AtomicU32,
}

static PAIR: Pair = Pair::new();

/// The side that runs often: orders its own earlier stores before its later loads, against a [`heavy_fence`].
#[inline]
pub fn light_fence() {
    PAIR.light();
}

/// The side that runs seldom: orders everything before it and behind it against every [`light_fence`] and every heavy one.
pub fn heavy_fence() {
    PAIR.heavy();
}

impl Pair {
    const fn new() -> Self {
        Self {
            kind: AtomicU32::new(UNKNOWN),
        }
    }

    #[inline]
    fn light(&self) {
        // ORDERING: Relaxed: MEMBARRIER is the last value there is, and any other is answered with a real fence.
        if self.kind.load(Ordering::Relaxed) == MEMBARRIER {
            // ORDERING: SeqCst pairs with the membarrier in `heavy`; only the compiler has to keep it.
            compiler_fence(Ordering::SeqCst);
        } else {
            // ORDERING: SeqCst pairs with the fence, or the membarrier, in `heavy`.
            fence(Ordering::SeqCst);
        }
    }

    fn heavy(&self) {
        // ORDERING: Relaxed: each thread that does not see the answer asks again, and gets the same one.
        let mut kind = self.kind.load(Ordering::Relaxed);
        if kind == UNKNOWN {
            kind = ask();
            // ORDERING: Relaxed: as in `light`.
            self.kind.store(kind, Ordering::Relaxed);
        }
        if kind == REFUSED {
            // ORDERING: SeqCst pairs with the real fence in `light`.
            return fence(Ordering::SeqCst);
        }
        // ORDERING: SeqCst, for the compiler, on both sides of the membarrier, which pairs with `light`.
        compiler_fence(Ordering::SeqCst);
        if !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) && !renew() {
            // Light fences rely on it already, so nothing that could follow is right.
            std::process::abort();
        }
        compiler_fence(Ordering::SeqCst);
    }
}

/// Registers the process. What kind are the fences from now on?
fn ask() -> u32 {
    if membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) {
        MEMBARRIER
    } else {
        REFUSED
    }
}

/// Registers once more, should this be the child of a fork that has lost its registration, and tries again.
#[cold]
fn renew() -> bool {
    ask() == MEMBARRIER && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

/// Did the kernel do it?
#[expect(unsafe_code, reason = "a system call")]
fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: No memory is passed.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads, each of which stores and then looks at the other's word, round by round. In no round may both miss.
    fn both_never_miss(pair: &Pair) {
        const ROUNDS: u32 = 10_000;
        let words = [const { AtomicU32::new(0) }; 2];
        let seen = [const { AtomicU32::new(0) }; 2];
        let met = [const { AtomicU32::new(0) }; 2];
        let meet = |me: usize, number: u32| {
            met[me].store(number, Ordering::Release);
            // Who has just seen the other one arrive goes on within nanoseconds; a lone CPU needs the yield.
            let mut looks = 0;
            while met[1 - me].load(Ordering::Acquire) < number {
                looks += 1;
                if looks < 2_000 {
                    core::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
            }
        };
        let play = |me: usize, barrier: &dyn Fn()| {
            for round in 1..=ROUNDS {
                meet(me, 3 * round);
                words[me].store(round, Ordering::Relaxed);
                barrier();
                seen[me].store(words[1 - me].load(Ordering::Relaxed), Ordering::Relaxed);
                meet(me, 3 * round + 1);
                let missed = seen
                    .iter()
                    .filter(|seen| seen.load(Ordering::Relaxed) < round);
                assert!(missed.count() < 2, "round {round}");
                meet(me, 3 * round + 2);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| play(0, &|| pair.light()));
            play(1, &|| pair.heavy());
        });
    }

    #[test]
    fn light_and_heavy_fences_order_stores_before_loads() {
        let pair = Pair::new();
        both_never_miss(&pair);
        assert_ne!(pair.kind.load(Ordering::Relaxed), UNKNOWN);
    }

    #[test]
    fn a_kernel_without_membarrier_costs_time_only() {
        let pair = Pair::new();
        pair.kind.store(REFUSED, Ordering::Relaxed);
        both_never_miss(&pair);
        assert_eq!(pair.kind.load(Ordering::Relaxed), REFUSED);
    }

    #[test]
    fn unregistered_fences_are_real_ones() {
        let pair = Pair::new();
        pair.light();
        assert_eq!(pair.kind.load(Ordering::Relaxed), UNKNOWN);
        heavy_fence();
        light_fence();
    }
}
