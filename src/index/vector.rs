//! Looks at, and moves, the entries of a node many at a time, where the processor can (`None` and `false`: it cannot).
//!
//! In assembly because these are relaxed atomic accesses, which Rust has no way to make more than one at a time: x86-64 loads
//! and stores the aligned words of a vector one by one or together, but none of them in part. An `asm!` names the vector
//! registers from 16 on where it can: they have no half of old, so that nothing has to be zeroed behind it.
#![cfg_attr(
    not(all(target_arch = "x86_64", not(loom), not(miri))),
    expect(unused_variables, reason = "no vectors here")
)]

use super::node::{FANOUT, Node};
#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
use crate::sync::Ordering::Relaxed;
use crate::sync::{AtomicPtr, AtomicU64};

/// Returns what the first expression gives whose level the processor is of: each may rely on its level.
macro_rules! return_where {
    ($($level:ident => $vectors:expr;)+) => {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        loop {
            // ORDERING: Relaxed: nothing else is told by it.
            let level = x86_64::LEVEL.load(Relaxed);
            $(if level >= x86_64::$level {
                // SAFETY: The processor is of this level; arrays of a node.
                return unsafe { $vectors };
            })+
            if level != x86_64::UNKNOWN {
                break;
            }
            x86_64::find_level();
        }
    };
}

/// One bit for each of `words` that is not below `bound`.
#[inline(always)]
pub(super) fn not_below(words: &[AtomicU64; FANOUT], bound: u64) -> Option<u32> {
    return_where! {
        AVX512 => Some(x86_64::compare::<{ x86_64::NOT_BELOW }>(words.as_ptr().cast(), bound));
        AVX2 => Some(!x86_64::below(words.as_ptr().cast(), bound) & ALL);
    }
    None
}

/// One bit for each of `words` that is not above `bound`.
#[inline(always)]
pub(super) fn not_above(words: &[AtomicU64; FANOUT], bound: u64) -> Option<u32> {
    return_where! {
        AVX512 => Some(x86_64::compare::<{ x86_64::NOT_ABOVE }>(words.as_ptr().cast(), bound));
        AVX2 => Some(match bound.checked_add(1) {
            Some(behind) => x86_64::below(words.as_ptr().cast(), behind),
            None => ALL,
        });
    }
    None
}

/// One bit for each of `words` that is `word`.
#[inline(always)]
pub(super) fn equal<T>(words: &[AtomicPtr<T>; FANOUT], word: *const T) -> Option<u32> {
    return_where! {
        AVX512 => {
            let words = words.as_ptr().cast();
            Some(x86_64::compare::<{ x86_64::EQUAL }>(words, word.addr() as u64))
        };
    }
    None
}

/// Gives each of `places`, not the first, what stands before it.
#[inline(always)]
pub(super) fn move_up(node: &Node, places: u32) -> bool {
    return_where! {
        AVX512 => {
            x86_64::shift::<-8>(node, places);
            true
        };
    }
    false
}

/// Gives each of `places`, not the last, what stands behind it.
#[inline(always)]
pub(super) fn move_down(node: &Node, places: u32) -> bool {
    return_where! {
        AVX512 => {
            x86_64::shift::<8>(node, places);
            true
        };
    }
    false
}

/// Runs `test` at each level that the processor has: others run at whichever it is meanwhile.
#[cfg(test)]
pub(super) fn each_level(test: impl Fn()) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        static ONE_AT_A_TIME: crate::sync::Lock<()> = crate::sync::Lock::new(());
        let _alone = ONE_AT_A_TIME.lock();
        x86_64::find_level();
        let highest = x86_64::LEVEL.load(Relaxed);
        for level in x86_64::PORTABLE..=highest {
            x86_64::LEVEL.store(level, Relaxed);
            test();
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    test();
}

/// A bit for each place of a node.
pub(super) const ALL: u32 = (1 << FANOUT) - 1;

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
mod x86_64 {
    use core::arch::asm;
    use core::mem::offset_of;
    use core::ptr;

    use super::Node;
    use crate::sync::{AtomicU32, Ordering::Relaxed};

    /// What the processor can do, once that was asked: std's macros look at more than a word each time.
    pub(super) static LEVEL: AtomicU32 = AtomicU32::new(UNKNOWN);
    pub(super) const UNKNOWN: u32 = 0;
    /// No vectors.
    pub(super) const PORTABLE: u32 = 1;
    pub(super) const AVX2: u32 = 2;
    /// AVX-512 F.
    pub(super) const AVX512: u32 = 3;

    /// Asks the processor.
    #[cold]
    pub(super) fn find_level() {
        let level = if std::is_x86_feature_detected!("avx512f") {
            AVX512
        } else if std::is_x86_feature_detected!("avx2") {
            AVX2
        } else {
            PORTABLE
        };
        // ORDERING: Relaxed: nothing else is told by it.
        LEVEL.store(level, Relaxed);
    }

    const _: () = assert!(offset_of!(Node, last) == 0 && super::FANOUT == 16);
    /// What `vpcmpuq` is to find: `bound == word`.
    pub(super) const EQUAL: u8 = 0;
    /// `bound <= word`.
    pub(super) const NOT_BELOW: u8 = 2;
    /// `bound >= word`.
    pub(super) const NOT_ABOVE: u8 = 5;

    const START: usize = offset_of!(Node, start);
    const ENTRY: usize = offset_of!(Node, entry);

    /// One bit for each of the 16 `words` that is to `bound` as `PREDICATE` says.
    ///
    /// # Safety
    /// The processor has AVX-512. `words` is an array of a node.
    #[inline(always)]
    pub(super) unsafe fn compare<const PREDICATE: u8>(words: *const u64, bound: u64) -> u32 {
        let mask;
        // SAFETY: Reads the 128 bytes of the array.
        unsafe {
            asm!(
                "vpbroadcastq zmm16, {bound}",
                "vpcmpuq k1, zmm16, zmmword ptr [{words}], {predicate}",
                "vpcmpuq k2, zmm16, zmmword ptr [{words} + 64], {predicate}",
                "kunpckbw k1, k2, k1",
                "kmovw {mask:e}, k1",
                words = in(reg) words,
                bound = in(reg) bound,
                predicate = const PREDICATE,
                mask = out(reg) mask,
                out("zmm16") _,
                out("k1") _,
                out("k2") _,
                options(nostack, readonly, preserves_flags),
            );
        }
        mask
    }

    /// One bit for each of the 16 `words` that is below `bound`.
    ///
    /// # Safety
    /// The processor has AVX2. `words` is an array of a node.
    #[inline]
    pub(super) unsafe fn below(words: *const u64, bound: u64) -> u32 {
        let (mut below, mut a, mut b, mut c): (u32, u32, u32, u32);
        // SAFETY: Reads the 128 bytes of the array, which is aligned to 32.
        unsafe {
            asm!(
                // Unsigned comparison: both sides with the sign bit turned over.
                "vpcmpeqd ymm0, ymm0, ymm0",
                "vpsllq ymm0, ymm0, 63",
                "vmovq xmm1, {bound}",
                "vpbroadcastq ymm1, xmm1",
                "vpxor ymm1, ymm1, ymm0",
                "vpxor ymm2, ymm0, ymmword ptr [{words}]",
                "vpxor ymm3, ymm0, ymmword ptr [{words} + 32]",
                "vpxor ymm4, ymm0, ymmword ptr [{words} + 64]",
                "vpxor ymm5, ymm0, ymmword ptr [{words} + 96]",
                "vpcmpgtq ymm2, ymm1, ymm2",
                "vpcmpgtq ymm3, ymm1, ymm3",
                "vpcmpgtq ymm4, ymm1, ymm4",
                "vpcmpgtq ymm5, ymm1, ymm5",
                "vmovmskpd {below:e}, ymm2",
                "vmovmskpd {a:e}, ymm3",
                "vmovmskpd {b:e}, ymm4",
                "vmovmskpd {c:e}, ymm5",
                "vzeroupper",
                words = in(reg) words,
                bound = in(reg) bound,
                // vzeroupper: all vector registers.
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                below = out(reg) below,
                a = out(reg) a,
                b = out(reg) b,
                c = out(reg) c,
                options(nostack, readonly, preserves_flags),
            );
        }
        a <<= 4;
        b <<= 8;
        c <<= 12;
        below |= a | b | c;
        below
    }

    /// Gives each place in `places` what stands `OFFSET` bytes, one place, from it in its array.
    ///
    /// # Safety
    /// The processor has AVX-512. For each place the other one is a place too. One thread writes to the node.
    #[inline(always)]
    pub(super) unsafe fn shift<const OFFSET: i32>(node: &Node, places: u32) {
        // SAFETY: Reads and writes words of the node's arrays: others are masked out.
        unsafe {
            asm!(
                "kmovw k1, {places:e}",
                "kshiftrw k2, k1, 8",
                "vmovdqu64 zmm16{{k1}}{{z}}, [{node} + {offset}]",
                "vmovdqu64 zmm17{{k2}}{{z}}, [{node} + {offset} + 64]",
                "vmovdqu64 zmm18{{k1}}{{z}}, [{node} + {offset} + {start}]",
                "vmovdqu64 zmm19{{k2}}{{z}}, [{node} + {offset} + {start} + 64]",
                "vmovdqu64 zmm20{{k1}}{{z}}, [{node} + {offset} + {entry}]",
                "vmovdqu64 zmm21{{k2}}{{z}}, [{node} + {offset} + {entry} + 64]",
                "vmovdqu64 [{node}]{{k1}}, zmm16",
                "vmovdqu64 [{node} + 64]{{k2}}, zmm17",
                "vmovdqu64 [{node} + {start}]{{k1}}, zmm18",
                "vmovdqu64 [{node} + {start} + 64]{{k2}}, zmm19",
                "vmovdqu64 [{node} + {entry}]{{k1}}, zmm20",
                "vmovdqu64 [{node} + {entry} + 64]{{k2}}, zmm21",
                node = in(reg) ptr::from_ref(node),
                places = in(reg) places,
                offset = const OFFSET,
                start = const START,
                entry = const ENTRY,
                out("zmm16") _, out("zmm17") _, out("zmm18") _,
                out("zmm19") _, out("zmm20") _, out("zmm21") _,
                out("k1") _, out("k2") _,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    const EDGES: [u64; 6] = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];

    /// Words with edges among them, others each time.
    fn words(seed: u64) -> [u64; FANOUT] {
        core::array::from_fn(|at| {
            let random = (seed * 31 + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            match random >> 60 {
                edge @ 0..6 => EDGES[edge as usize],
                _ => random % 40,
            }
        })
    }

    fn bits(is: impl Fn(usize) -> bool) -> u32 {
        (0..FANOUT).fold(0, |mask, at| mask | u32::from(is(at)) << at)
    }

    #[test]
    fn comparisons_are_those_of_the_language() {
        each_level(|| (0..500).for_each(compare));
    }

    fn compare(seed: u64) {
        let plain = words(seed);
        let array = plain.map(AtomicU64::new);
        let pointers = plain
            .map(|word| AtomicPtr::new(core::ptr::without_provenance_mut::<u8>(word as usize)));
        for bound in EDGES.into_iter().chain([7, plain[3]]) {
            let (up, down, same) = (
                bits(|at| plain[at] >= bound),
                bits(|at| plain[at] <= bound),
                bits(|at| plain[at] == bound),
            );
            assert_eq!(not_below(&array, bound).unwrap_or(up), up);
            assert_eq!(not_above(&array, bound).unwrap_or(down), down);
            let word = core::ptr::without_provenance::<u8>(bound as usize);
            assert_eq!(equal(&pointers, word).unwrap_or(same), same);
        }
    }
}
