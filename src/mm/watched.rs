//! What of the process's own address space anybody watches: a rough answer for system calls, which ask without a lock.
//!
//! Owns: the hull of the interval notifiers of the process's own mm; for each block of 2 MiB how many of them reach into it;
//! whether the mm has notifiers of everything; and the switches of `live`.
//!
//! Blocks share counters, 128 GiB apart. So a count of 0 says that nobody watches the block; any other says little.
//!
//! Invariants
//! * Hull and blocks contain an interval before the index does, and until the index does not any more; while its insert is
//!   deferred, too. Who has looked before is waited for by who inserts (`calls`).
//! * These pages are zeros where nothing is watched and nothing is enabled: a child is given zeros by the kernel
//!   (MADV_WIPEONFORK, which also reaches the children of a bare clone()), and by `fork`.
//! * The machine code of `live::x86_64::gate` reads all of it but the lock.
//!
//! Lock order: the lock is a leaf.

use core::ffi::c_ulong;

use crate::sync::{AtomicU32, AtomicU64, Lock, Ordering};

/// Bits of an address inside its block. In a model a block is a page.
pub const BLOCK_SHIFT: u32 = if cfg!(loom) { 12 } else { 21 };
/// Counters. In a model, less: its threads have small stacks.
pub const BLOCKS: usize = if cfg!(loom) { 4 } else { 1 << 16 };
/// Blocks behind the first one that a call looks at. One that reaches further asks the index.
pub const MORE_BLOCKS: c_ulong = if cfg!(loom) { 1 } else { 15 };

/// The pages.
#[cfg_attr(not(loom), repr(C, align(4096)))]
#[cfg_attr(loom, repr(C))]
#[derive(Debug)]
pub struct Watched {
    /// First byte of the hull.
    pub first: AtomicU64,
    /// Last byte of the hull. 0: there is none.
    pub last: AtomicU64,
    /// Is a notifier of the whole mm registered?
    pub everything: AtomicU32,
    /// May machine code decide without a look at anything else?
    pub fast: AtomicU32,
    /// Are system calls events?
    pub enabled: AtomicU32,
    /// Were they ever, in this process? Not in its children.
    used: AtomicU32,
    /// Interval notifiers.
    intervals: Lock<usize>,
    /// How many intervals reach into each block. A count that has reached its end stays there.
    pub blocks: [AtomicU32; BLOCKS],
}

crate::sync::global! {
    /// What is watched of the process's own mm.
    pub static WATCHED: Watched = Watched::new();
}

impl Watched {
    const fn new() -> Self {
        Self {
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            everything: AtomicU32::new(0),
            fast: AtomicU32::new(0),
            enabled: AtomicU32::new(0),
            used: AtomicU32::new(0),
            intervals: Lock::new(0),
            blocks: [const { AtomicU32::new(0) }; BLOCKS],
        }
    }

    /// Are system calls events?
    pub fn is_enabled(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `enable`.
        self.enabled.load(Ordering::Acquire) != 0
    }

    /// Turns the events of system calls on or off.
    pub fn enable(&self, on: bool) {
        if on {
            // ORDERING: Relaxed: for who comes by way of a patched site, which is written later.
            self.used.store(1, Ordering::Relaxed);
        }
        // ORDERING: Release pairs with the Acquire in `is_enabled`.
        self.enabled.store(on.into(), Ordering::Release);
    }

    /// Is this a child of the process that turned them on? Then what its threads were in the middle of is nothing to it, and whoever
    /// held a lock may not exist.
    pub fn is_inherited(&self) -> bool {
        // ORDERING: Relaxed: zero from the beginning of a child, and otherwise constant since the first patch.
        self.used.load(Ordering::Relaxed) == 0
    }

    /// Has the kernel give a child zeros for these pages. An old kernel does not know how: then only fork() sees to it.
    #[cfg(not(loom))]
    pub(super) fn wipe_on_fork(&self) {
        let page = core::ptr::from_ref(self).addr();
        let arguments = [
            page,
            size_of::<Self>(),
            libc::MADV_WIPEONFORK as usize,
            0,
            0,
            0,
        ];
        #[expect(unsafe_code, reason = "a system call")]
        // SAFETY: Changes nothing here.
        unsafe {
            crate::sync::syscall(libc::SYS_madvise as usize, arguments);
        }
    }

    /// In a model nothing forks.
    #[cfg(loom)]
    pub(super) fn wipe_on_fork(&self) {
        let _ = self;
    }

    /// May anybody watch a part of `[start, last]`?
    #[inline]
    pub fn may_reach(&self, start: c_ulong, last: c_ulong) -> bool {
        // ORDERING: Relaxed, all: ordered by the section of the call, and by who waits for it.
        self.everything.load(Ordering::Relaxed) != 0
            || (start <= self.last.load(Ordering::Relaxed)
                && last >= self.first.load(Ordering::Relaxed)
                && self.may_be_in_blocks(start, last))
    }

    fn may_be_in_blocks(&self, start: c_ulong, last: c_ulong) -> bool {
        let more = (last >> BLOCK_SHIFT).wrapping_sub(start >> BLOCK_SHIFT);
        // ORDERING: Relaxed: as in `may_reach`.
        let counts = |block: &AtomicU32| block.load(Ordering::Relaxed) != 0;
        more > MORE_BLOCKS || self.blocks_of(start, last).any(counts)
    }

    /// The counters of the blocks that `[start, last]` reaches into, each once.
    fn blocks_of(&self, start: c_ulong, last: c_ulong) -> impl Iterator<Item = &AtomicU32> {
        let blocks = start >> BLOCK_SHIFT..=last >> BLOCK_SHIFT;
        let counters = blocks.map(|block| &self.blocks[block as usize % BLOCKS]);
        counters.take(BLOCKS)
    }

    /// What anybody watches lies in here, ends included. None: nothing is watched.
    pub fn hull(&self) -> Option<(c_ulong, c_ulong)> {
        // ORDERING: Relaxed, all: as in `may_reach`.
        if self.everything.load(Ordering::Relaxed) != 0 {
            return Some((0, c_ulong::MAX));
        }
        let last = self.last.load(Ordering::Relaxed);
        (last != 0).then(|| (self.first.load(Ordering::Relaxed), last))
    }

    /// Before an interval notifier is inserted.
    pub(super) fn add(&self, start: c_ulong, last: c_ulong) {
        let mut intervals = self.intervals.lock();
        // ORDERING: Relaxed, all: as in `may_reach`. The upper end first: what is between is too wide.
        if *intervals == 0 {
            self.last.store(last, Ordering::Relaxed);
            self.first.store(start, Ordering::Relaxed);
        } else {
            let widened = self.last.load(Ordering::Relaxed).max(last);
            self.last.store(widened, Ordering::Relaxed);
            let widened = self.first.load(Ordering::Relaxed).min(start);
            self.first.store(widened, Ordering::Relaxed);
        }
        for block in self.blocks_of(start, last) {
            // ORDERING: Relaxed, both: as in `may_reach`; changed under the lock.
            block.store(
                block.load(Ordering::Relaxed).saturating_add(1),
                Ordering::Relaxed,
            );
        }
        *intervals += 1;
    }

    /// After the interval notifier of `[start, last]` was removed.
    pub(super) fn remove(&self, start: c_ulong, last: c_ulong) {
        let mut intervals = self.intervals.lock();
        for block in self.blocks_of(start, last) {
            // ORDERING: Relaxed, both: as in `add`.
            let count = block.load(Ordering::Relaxed);
            if count != u32::MAX {
                block.store(count.saturating_sub(1), Ordering::Relaxed);
            }
        }
        *intervals = intervals.saturating_sub(1);
        if *intervals == 0 {
            // ORDERING: Relaxed: as in `may_reach`.
            self.last.store(0, Ordering::Relaxed);
            self.first.store(0, Ordering::Relaxed);
        }
    }

    /// How many interval notifiers there are.
    #[cfg(not(loom))]
    pub fn intervals(&self) -> usize {
        *self.intervals.lock()
    }

    /// Whether there are notifiers of the whole mm. The chain's lock is held; before one is linked, after one was unlinked.
    pub(super) fn set_everything(&self, everything: bool) {
        // ORDERING: Relaxed: as in `may_reach`.
        self.everything.store(everything.into(), Ordering::Relaxed);
    }

    /// Before fork: nobody is half-way through a change.
    pub(super) fn hold_for_fork(&self) {
        self.intervals.acquire();
    }

    /// After fork, in the parent: undoes `hold_for_fork`.
    ///
    /// # Safety
    /// This thread called `hold_for_fork`.
    pub(super) unsafe fn release_in_parent(&self) {
        // SAFETY: Held since `hold_for_fork`.
        unsafe { self.intervals.release() };
    }

    /// After fork, in the child: nothing is watched, nothing is enabled.
    ///
    /// # Safety
    /// This thread's image in the parent called `hold_for_fork`.
    // SPEC: DV-13
    pub(super) unsafe fn release_in_child(&self) {
        // ORDERING: Relaxed: the child has one thread.
        self.fast.store(0, Ordering::Relaxed);
        self.enabled.store(0, Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        self.everything.store(0, Ordering::Relaxed);
        if let Some((first, last)) = self.hull() {
            for block in self.blocks_of(first, last) {
                block.store(0, Ordering::Relaxed);
            }
        }
        self.last.store(0, Ordering::Relaxed);
        self.first.store(0, Ordering::Relaxed);
        // SAFETY: Held since `hold_for_fork`, though the kernel may have wiped the word.
        unsafe {
            *self.intervals.data() = 0;
            self.intervals.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hull_grows_and_vanishes() {
        let watched = Watched::new();
        assert!(watched.hull().is_none());
        watched.add(0x4000, 0x4fff);
        watched.add(0x8000, 0x8fff);
        watched.add(0x1000, 0x1fff);
        assert_eq!(watched.hull(), Some((0x1000, 0x8fff)));
        assert!(watched.may_reach(0x8fff, 0x9000) && !watched.may_reach(0x9000, 0x9fff));
        assert!(watched.may_reach(0, 0x1000) && !watched.may_reach(0, 0xfff));
        watched.remove(0x4000, 0x4fff);
        watched.remove(0x1000, 0x1fff);
        assert_eq!(watched.hull(), Some((0x1000, 0x8fff)));
        watched.remove(0x8000, 0x8fff);
        assert!(watched.hull().is_none());
        watched.set_everything(true);
        assert!(watched.may_reach(0x9000, 0x9fff));
    }

    const BLOCK: u64 = 1 << BLOCK_SHIFT;

    #[test]
    fn blocks_in_the_hull_are_told_apart() {
        let watched = Watched::new();
        watched.add(10 * BLOCK, 12 * BLOCK);
        watched.add(12 * BLOCK + 1, 12 * BLOCK + 1);
        watched.add(100 * BLOCK, 100 * BLOCK);
        assert!(!watched.may_reach(13 * BLOCK, 14 * BLOCK - 1));
        assert!(watched.may_reach(13 * BLOCK - 1, 13 * BLOCK));
        assert!(
            watched.may_reach(99 * BLOCK, 100 * BLOCK)
                && !watched.may_reach(99 * BLOCK, 100 * BLOCK - 1)
        );
        assert!(
            watched.may_reach(13 * BLOCK, 99 * BLOCK),
            "too long to look at"
        );
        watched.remove(10 * BLOCK, 12 * BLOCK);
        assert!(!watched.may_reach(10 * BLOCK, 12 * BLOCK - 1));
        assert!(
            watched.may_reach(12 * BLOCK, 12 * BLOCK),
            "the other one is still there"
        );
    }

    #[test]
    fn what_is_longer_than_all_blocks_is_counted_once_in_each() {
        let watched = Watched::new();
        watched.add(0, u64::MAX);
        watched.add(BLOCK, BLOCK);
        let far = 5 * BLOCKS as u64 * BLOCK;
        assert!(watched.may_reach(far, far));
        watched.remove(0, u64::MAX);
        let counts: Vec<_> = watched
            .blocks
            .iter()
            .map(|block| block.load(Ordering::Relaxed))
            .collect();
        assert_eq!(counts.iter().sum::<u32>(), 1);
        assert_eq!(counts[1], 1);
    }

    #[test]
    fn a_count_that_has_reached_its_end_stays() {
        let watched = Watched::new();
        watched.blocks[0].store(u32::MAX - 1, Ordering::Relaxed);
        watched.add(0, 0);
        watched.add(0, 0);
        watched.remove(0, 0);
        assert_eq!(watched.blocks[0].load(Ordering::Relaxed), u32::MAX);
    }
}
