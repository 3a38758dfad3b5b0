// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where choices come from: a seed, or the bytes of a fuzzer.

/// Where choices come from.
#[derive(Debug)]
pub(super) enum Choices<'a> {
    /// A pseudo-random sequence (xorshift64*).
    Seed(u64),
    /// Bytes; when they are used up, every choice is the first.
    Bytes(&'a [u8]),
}

impl Choices<'_> {
    /// The sequence of a seed; seeds that are neighbours have nothing in common.
    pub(super) fn of(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self::Seed((z ^ (z >> 31)) | 1)
    }

    pub(super) fn is_used_up(&self) -> bool {
        matches!(self, Self::Bytes(rest) if rest.is_empty())
    }

    pub(super) fn byte(&mut self) -> u64 {
        match self {
            Self::Bytes([first, rest @ ..]) => {
                let byte = *first;
                *self = Self::Bytes(rest);
                byte.into()
            }
            _ => 0,
        }
    }

    pub(super) fn word(&mut self) -> u64 {
        match self {
            Self::Seed(state) => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d)
            }
            Self::Bytes(_) => (0..8).fold(0, |word, _| word << 8 | self.byte()),
        }
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        let word = match self {
            Self::Seed(_) => self.word() >> 16,
            Self::Bytes(_) if limit <= 256 => self.byte(),
            Self::Bytes(_) => self.byte() << 8 | self.byte(),
        };
        usize::try_from(word % limit).unwrap_or(0)
    }

    /// True in so many cases of 100.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        percent > 0 && self.below(100) < percent as usize
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = if from.is_empty() {
            return None;
        } else {
            self.below(from.len())
        };
        from.get(at).cloned()
    }
}
