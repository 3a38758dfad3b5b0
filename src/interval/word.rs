//! The state of a set of intervals in one word, so that every transition is one atomic step.
//!
//! | bits | |
//! |---|---|
//! | 0 to 15 | ranges in flight; from [`CROWD`] on they are moved aside by and by ([`SPILLED`]) |
//! | 16 | [`SPILLED`]: more ranges are in flight than counted here |
//! | 17 | [`CHANGING`]: an insert or a remove is under way; ranges that come now count as come before it |
//! | 18 | [`ENDING`]: the deferred list is being applied; ranges that come now count as come after that |
//! | 19 | [`ATTENTION`]: whoever changes the parity of the sequence number takes the lock: something is deferred, or somebody sleeps |
//! | 20 to 39 | changes of the index, modulo 2^20 |
//! | 40 to 63 | the sequence number, modulo 2^24; the rest of it is elsewhere, and changes under the lock |

/// One range.
pub(super) const ONE: u64 = 1;
/// See the module comment.
pub(super) const SPILLED: u64 = 1 << 16;
/// See the module comment.
pub(super) const CHANGING: u64 = 1 << 17;
/// See the module comment.
pub(super) const ENDING: u64 = 1 << 18;
/// See the module comment.
pub(super) const ATTENTION: u64 = 1 << 19;
/// All of them.
pub(super) const FLAGS: u64 = SPILLED | CHANGING | ENDING | ATTENTION;
/// The lowest bit of the sequence number.
pub(super) const ODD: u64 = 1 << SEQ_SHIFT;

/// With so many ranges counted here, the next who comes by moves [`CROWD`]/2 of them aside. It leaves room for as many threads
/// between their count and that move as Linux has threads by default.
pub(super) const CROWD: usize = if cfg!(loom) { 2 } else { 1 << 15 };

const ACTIVE: u64 = 0xffff;
const CHANGES_SHIFT: u32 = 20;
const CHANGE: u64 = 1 << CHANGES_SHIFT;
const CHANGES: u64 = (1 << SEQ_SHIFT) - CHANGE;
const SEQ_SHIFT: u32 = 40;
/// One more than the greatest sequence number here.
const SEQS: u64 = 1 << (64 - SEQ_SHIFT);

/// A value of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// Nothing in flight, no change yet, and the lower part of a sequence number.
    pub(super) const fn idle(seq: u64) -> Self {
        Self(seq << SEQ_SHIFT)
    }

    /// The part of `seq` that the word does not hold.
    pub(super) const fn base(seq: u64) -> u64 {
        seq & !(SEQS - 1)
    }

    /// Ranges counted here.
    pub(super) fn active(self) -> usize {
        (self.0 & ACTIVE) as usize
    }

    /// Is any range in flight?
    pub(super) fn is_active(self) -> bool {
        self.0 & (ACTIVE | SPILLED) != 0
    }

    pub(super) fn is_odd(self) -> bool {
        self.0 & ODD != 0
    }

    pub(super) fn has(self, flags: u64) -> bool {
        self.0 & flags != 0
    }

    /// The lower part of the sequence number.
    pub(super) fn seq(self) -> u64 {
        self.0 >> SEQ_SHIFT
    }

    /// Can `seq` be the whole sequence number, going by its lower part?
    pub(super) fn may_be(self, seq: u64) -> bool {
        self.seq() == seq & (SEQS - 1)
    }

    /// Would the next number be 0 here, so that the rest of it changes as well?
    pub(super) fn is_last_seq(self) -> bool {
        self.seq() == SEQS - 1
    }

    /// Has the index had as many changes by now?
    pub(super) fn has_seen(self, changes: u64) -> bool {
        self.0 & CHANGES == (changes << CHANGES_SHIFT) & CHANGES
    }

    pub(super) fn with(self, flags: u64) -> Self {
        Self(self.0 | flags)
    }

    pub(super) fn without(self, flags: u64) -> Self {
        Self(self.0 & !flags)
    }

    /// One range more.
    pub(super) fn counted(self) -> Self {
        Self(self.0 + ONE)
    }

    /// One range less, of those that are counted here.
    pub(super) fn uncounted(self) -> Self {
        Self(self.0 - ONE)
    }

    /// `active` ranges counted here.
    pub(super) fn with_active(self, active: usize) -> Self {
        Self(self.0 & !ACTIVE | (active as u64 & ACTIVE))
    }

    /// The next sequence number, its lower part.
    pub(super) fn next_seq(self) -> Self {
        Self(self.0.wrapping_add(ODD))
    }

    /// A change of the index is complete.
    pub(super) fn changed(self) -> Self {
        let changes = self.0.wrapping_add(CHANGE) & CHANGES;
        Self(self.0 & !(CHANGES | CHANGING | ENDING) | changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_modulo_what_fits() {
        let mut word = Word::idle(2).counted().with(CHANGING);
        for changes in 1..=(1_u64 << 20) + 3 {
            word = word.changed();
            assert!(word.has_seen(changes) && !word.has_seen(changes + 1));
        }
        assert!(word.has_seen(u64::MAX << 20 | 3), "any number of changes");
        assert_eq!(
            (word.active(), word.seq(), word.has(CHANGING)),
            (1, 2, false)
        );
    }
}
