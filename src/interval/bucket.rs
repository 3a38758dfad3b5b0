//! A bucket of the set of members: a cache line of slots. Two of them are looked at in one go, many slots at a time where the
//! processor can.

/// Each slot: 0, or the address of a member.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket(pub(super) [usize; SLOTS]);

pub(super) const SLOTS: usize = 8;

/// What is in two buckets: a bit for each slot, those of the second one from bit [`SLOTS`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The address that was looked for.
    pub(super) held: u32,
    /// Nothing.
    pub(super) free: u32,
}

impl Bucket {
    pub(super) const EMPTY: Self = Self([0; SLOTS]);

    /// Looks for `address` in `self` and in `other`.
    #[inline(always)]
    pub(super) fn look(&self, other: &Self, address: usize) -> Found {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        if std::is_x86_feature_detected!("avx512f") {
            // SAFETY: The processor has the feature.
            return unsafe { self.look_by_vectors(other, address) };
        }
        self.look_one_by_one(other, address)
    }

    #[inline(never)]
    fn look_one_by_one(&self, other: &Self, address: usize) -> Found {
        let bits = |wanted| {
            let slots = (0..).zip(self.0.iter().chain(&other.0));
            slots.fold(0, |mask, (bit, slot)| {
                mask | u32::from(*slot == wanted) << bit
            })
        };
        Found {
            held: bits(address),
            free: bits(0),
        }
    }

    /// # Safety
    /// The processor has AVX-512.
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    #[inline(always)]
    unsafe fn look_by_vectors(&self, other: &Self, address: usize) -> Found {
        let (held, free);
        // SAFETY: Reads the buckets. The registers from 16 on have no half of old that would have to be zeroed behind it.
        unsafe {
            core::arch::asm!(
                "vmovdqa64 zmm16, zmmword ptr [{one}]",
                "vmovdqa64 zmm17, zmmword ptr [{other}]",
                "vpbroadcastq zmm18, {address}",
                "vptestnmq k1, zmm16, zmm16",
                "vptestnmq k2, zmm17, zmm17",
                "kunpckbw k1, k2, k1",
                "kmovw {free:e}, k1",
                "vpcmpeqq k1, zmm16, zmm18",
                "vpcmpeqq k2, zmm17, zmm18",
                "kunpckbw k1, k2, k1",
                "kmovw {held:e}, k1",
                one = in(reg) &raw const self.0,
                other = in(reg) &raw const other.0,
                address = in(reg) address,
                held = lateout(reg) held,
                free = out(reg) free,
                out("zmm16") _, out("zmm17") _, out("zmm18") _,
                out("k1") _, out("k2") _,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        Found { held, free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_buckets_are_told_apart() {
        for at in 0..2 * SLOTS {
            for hole in 0..2 * SLOTS {
                let mut slots: [usize; 2 * SLOTS] = core::array::from_fn(|slot| 88 * (slot + 1));
                let address = slots[at];
                slots[hole] = 0;
                let (one, other) = slots.split_at(SLOTS);
                let [one, other] = [one, other].map(|half| Bucket(half.try_into().expect("half")));
                let found = Found {
                    held: u32::from(at != hole) << at,
                    free: 1 << hole,
                };
                assert_eq!(one.look(&other, address), found);
                assert_eq!(one.look_one_by_one(&other, address), found);
            }
        }
    }
}
